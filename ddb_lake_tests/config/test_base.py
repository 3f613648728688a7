"""Tests of what all settings have in common."""

from __future__ import annotations

from ddb_lake.config import TableSettings, parse_settings


def test_copy_with_other_fields_derives_its_own_values() -> None:
    table = TableSettings(name="orders", key=("id",), snapshot_margin="1m")
    assert (table.iceberg_names[0], table.clock_skew_us) == ("orders", 60_000_000)
    other = table.model_copy(update={"name": "other", "snapshot_margin": "2m"})
    assert (other.iceberg_names[0], other.identity.name, other.clock_skew_us) == ("other", "other", 120_000_000)


def test_derived_values_do_not_distinguish_settings() -> None:
    used, fresh = (parse_settings({"warehouse": "lake", "tables": [{"name": "a"}]}, "test") for _ in range(2))
    assert used.memory_bytes == 10**9 and used.tables[0].schema_options.depth == fresh.tables[0].flatten_depth
    assert used == fresh
