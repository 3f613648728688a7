"""Tests of what all settings have in common."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddb_lake.config import TableSettings, load_settings, parse_settings
from ddb_lake.errors import ConfigError


def test_copy_with_other_fields_derives_its_own_values() -> None:
    table = TableSettings(name="orders", key=("id",), snapshot_margin="1m")
    assert (table.iceberg_names[0], table.clock_skew_us) == ("orders", 60_000_000)
    other = table.model_copy(update={"name": "other", "snapshot_margin": "2m"})
    assert (other.iceberg_names[0], other.identity.name, other.clock_skew_us) == ("other", "other", 120_000_000)


def test_derived_values_do_not_distinguish_settings() -> None:
    used, fresh = (parse_settings({"warehouse": "lake", "tables": [{"name": "a"}]}, "test") for _ in range(2))
    assert used.memory_bytes == 10**9 and used.tables[0].schema_options.depth == fresh.tables[0].flatten_depth
    assert used == fresh


@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_configuration_in_json_has_the_characters_that_it_spells(tmp_path: Path, ascii_only: bool) -> None:
    """Guards against escapes of surrogate pairs, which YAML reads as two code points that no item has."""
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"required": ["😀"]}, ensure_ascii=ascii_only), encoding="utf-8")
    table = {"name": "a", "key": ["🔑"], "columns": {"m.😀": {"drop": True}}}
    file = tmp_path / "ddb_lake.yaml"
    validated = table | {"validate": {"schema": str(schema)}}
    file.write_text(json.dumps({"warehouse": "lake", "tables": [validated]}, ensure_ascii=ascii_only), encoding="utf-8")
    read = load_settings(file).tables[0]
    assert read.key == ("🔑",) and list(read.columns) == ["m.😀"]
    assert read.validator is not None and read.validator.fault_of({"😀": {"S": "x"}}) is None


def test_a_lone_surrogate_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"'\\ud83d' has a lone surrogate"):
        parse_settings({"warehouse": "lake", "tables": [{"name": "a", "key": ["\ud83d"]}]}, "test")
