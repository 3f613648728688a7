"""What a person reads after a mistake in the configuration: the file, the line, and the name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from ddb_lake.config import LakeSettings, find_file, load_settings, parse_settings, seconds
from ddb_lake.errors import ConfigError

TYPE = "type: ddb_lake.DynamoDBLakeComponent\n"


def fault(folder: Path, text: str) -> str:
    path = folder / "lake.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_settings(path, {})
    assert str(path) in str(raised.value)
    return str(raised.value)


def test_missing_file_in_a_dagster_project_names_its_lakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DDB_LAKE_CONFIG", raising=False)
    for name, text in (("lake", TYPE), ("other", "type: dagster.DefsFolderComponent\n")):
        folder = tmp_path / "src/acme/defs" / name
        folder.mkdir(parents=True)
        (folder / "defs.yaml").write_text(text)

    with pytest.raises(ConfigError) as raised:
        find_file(tmp_path)

    assert str(raised.value).endswith("; name it: --config src/acme/defs/lake/defs.yaml")


def settings_of(
    model: type[BaseModel], path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Each setting below a model: the path of its mapping, and its name."""
    for name, field in model.model_fields.items():
        written = field.alias or name
        yield path, written
        for inner in models_in(field.annotation):
            inside: tuple[str | int, ...] = {"tables": (0,), "entities": (0,), "columns": ("attribute",)}.get(
                written, ()
            )
            yield from settings_of(inner, (*path, written, *inside))


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in models_in(inner)]


def document_with(path: tuple[str | int, ...], name: str) -> dict[str, Any]:
    """A lake that has one setting, at a path."""
    value: Any = {name: "?"}
    for step in reversed(path):
        value = [value] if isinstance(step, int) else {step: value}
    return {"warehouse": "w", **value}


@pytest.mark.parametrize(("path", "name"), list(settings_of(LakeSettings)), ids=str)
def test_every_misspelled_setting_is_reported_with_its_line_and_the_name_that_was_meant(
    tmp_path: Path, path: tuple[str | int, ...], name: str
) -> None:
    misspelled = f"{name}x"
    text = TYPE + yaml.safe_dump({"attributes": document_with(path, misspelled)}, sort_keys=False)
    line = next(number for number, content in enumerate(text.splitlines(), 1) if f"{misspelled}:" in content)
    said = fault(tmp_path, text)
    assert f"line {line}: " in said
    assert f"unknown setting '{misspelled}' (did you mean '{name}'?)" in said


def test_name_that_resembles_none_is_reported_with_the_names_there_are(tmp_path: Path) -> None:
    said = fault(tmp_path, "warehouse: w\nsnapshots:\n  frobnicate: 1\n")
    assert "line 3: snapshots: unknown setting 'frobnicate' (the settings here: keep, keep_for)" in said


def test_faults_are_reported_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = f"{TYPE}attributes:\n  tables:\n    - key: [a, a]\n      nested: flaten\n    - name: b\n      kee: [x]\n"
    said = fault(tmp_path, text)
    places = [
        said.index(place)
        for place in ("line 2: warehouse", "line 4: tables.0.key", "line 5: tables.0.nested", "line 7: ")
    ]
    assert places == sorted(places)


@pytest.mark.parametrize("text", ["warehouse: w\ntables: &a [*a]\n", "a: &a {b: *a}\nwarehouse: w\n"])
def test_alias_that_contains_itself_is_an_error(tmp_path: Path, text: str) -> None:
    assert "an alias of YAML contains itself" in fault(tmp_path, text)


@pytest.mark.parametrize(
    ("given", "key"), [("id", ("id",)), (["id", "at"], ("id", "at")), ("a, b", ("a, b",))], ids=str
)
def test_one_text_is_a_list_of_it(given: object, key: tuple[str, ...]) -> None:
    settings = parse_settings({"warehouse": "w", "tables": [{"name": "t", "key": given, "mask": "email"}]}, "test")
    assert (settings.tables[0].key, settings.tables[0].mask) == (key, ("email",))


@pytest.mark.parametrize(
    ("text", "length_s"),
    [
        ("90s", 90),
        ("5 minutes", 300),
        ("1h30m", 5400),
        ("1 hour, 30 min", 5400),
        ("1.5h", 5400),
        ("2 Weeks", 1_209_600),
    ],
)
def test_duration_is_read_as_people_write_it(text: str, length_s: int) -> None:
    settings = parse_settings({"warehouse": "w", "snapshots": {"keep_for": text}}, "test")
    assert settings.snapshots.keep_for_s == seconds(text) == length_s


@pytest.mark.parametrize("given", [300, "300", "", "-5m", "5 parsecs", "0.5s", "1,000s", "5m;", True])
def test_duration_without_a_unit_or_a_whole_number_of_seconds_is_an_error(given: object) -> None:
    with pytest.raises(ConfigError, match=r"snapshots\.keep_for: "):
        parse_settings({"warehouse": "w", "snapshots": {"keep_for": given}}, "test")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lake.yaml").write_bytes(b"warehouse: l\xfc\n")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load_settings(tmp_path / "lake.yaml")
