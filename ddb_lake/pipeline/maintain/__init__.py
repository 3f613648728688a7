"""Maintenance: compaction, quarantine, restore, daily snapshots."""
