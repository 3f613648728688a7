"""Dagster assets and jobs."""
