"""Typed columns for items that have no schema."""
