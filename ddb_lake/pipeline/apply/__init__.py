"""Landed change objects into the changelog."""
