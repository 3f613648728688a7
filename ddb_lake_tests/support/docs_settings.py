"""YAML blocks, each held to the settings it is an example of: which ones is told by its names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import botocore.session
import yaml

from ddb_lake.config import COMPONENT_TYPE, ChangesSettings, TableSettings, parse_settings
from ddb_lake.infra.config import InfraSettings
from ddb_lake_tests.support.docs_blocks import DOCS

ACCOUNTS = {"producer_account": "111122223333", "consumer_account": "444455556666"}
SCHEMA = DOCS / "examples/web_analytics/schema.json"


def check(text: str, where: str) -> None:
    """Raise AssertionError, ConfigError or pydantic's ValidationError if the document is no example of anything."""
    document = yaml.safe_load(text)
    names = set(document)
    if "type" in names:
        assert document["type"] == COMPONENT_TYPE
        parse_settings(document["attributes"], where)
    elif "lake" in names or isinstance(document.get("tables"), dict):
        InfraSettings.model_validate({"lake": "lake.yaml", **ACCOUNTS, **document})
    elif "tables" in names:
        parse_settings(
            {"warehouse": "lake", **document, "tables": [_own(table) for table in document["tables"]]}, where
        )
    elif names <= set(TableSettings.model_fields):
        parse_settings({"warehouse": "lake", "tables": [{"name": "orders", **document}]}, where)
    elif names <= set(ChangesSettings.model_fields):
        ChangesSettings.model_validate(document)
    else:
        _event_source_mapping(names)


def _own(table: dict[str, Any]) -> dict[str, Any]:
    """A schema's file is where the documentation has it."""
    if "validate" not in table:
        return table
    assert Path(table["validate"]["schema"]).suffix == ".json"
    return {**table, "validate": {**table["validate"], "schema": str(SCHEMA)}}


def _event_source_mapping(names: set[str]) -> None:
    model = botocore.session.get_session().get_service_model("lambda")
    shape = model.operation_model("CreateEventSourceMapping").input_shape
    assert shape is not None and names <= set(shape.members), names - set(shape.members)
