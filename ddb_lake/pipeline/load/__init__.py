"""Exports into the lake."""
