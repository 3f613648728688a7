"""Verdicts about differences between the lake and its source."""
