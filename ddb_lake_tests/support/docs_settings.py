"""The settings of the configuration, and a check of YAML examples: the names in a document decide which settings it has."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import yaml
from pydantic import BaseModel

from ddb_lake.config import COMPONENT_TYPE, ChangesSettings, LakeSettings, TableSettings, parse_entries
from ddb_lake.infra.config import EnrichmentSettings, InfraSettings
from ddb_lake_tests.support.docs_blocks import DOCS

ACCOUNTS = {"producer_account": "111122223333", "consumer_account": "444455556666"}
SCHEMA = DOCS / "examples/web_analytics/schema.json"


def settings(model: type[BaseModel] = LakeSettings, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the path of each setting, as documentation writes it, with its annotation and default."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        inner = next(_models(field.annotation), None)
        default = field.get_default(call_default_factory=True)
        if inner is None or not isinstance(default, BaseModel):
            yield path, field.annotation, default
        if inner is not None:
            many = "[]" if isinstance(default, tuple) else ".<name>" if isinstance(default, dict) else ""
            yield from settings(inner, f"{path}{many}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models(part)


def check(text: str, where: str) -> None:
    """Raise AssertionError, ConfigError or pydantic's ValidationError if the document is no example of anything."""
    document = yaml.safe_load(text)
    names = set(document)
    if names == {"enrich"}:
        EnrichmentSettings.model_validate(document["enrich"])
    elif "type" in names:
        assert document["type"] == COMPONENT_TYPE
        parse_entries(document["attributes"], where)
    elif "lake" in names or isinstance(document.get("tables"), dict):
        InfraSettings.model_validate({"lake": "lake.yaml", **ACCOUNTS, **document})
    elif "tables" in names:
        parse_entries({"warehouse": "lake", **document, "tables": [_own(table) for table in document["tables"]]}, where)
    elif names <= set(TableSettings.model_fields):
        parse_entries({"warehouse": "lake", "tables": [{"name": "orders", **document}]}, where)
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
