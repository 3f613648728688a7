"""Comparing the lake with its source, and repairing it."""
