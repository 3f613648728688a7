"""The README agrees with the code: its commands run and print its output, and its settings and commands exist.

A command in a `sh` block runs here, unless `ELSEWHERE` names the test that runs it. A `text` block is the output of the last
command before it.
"""

from __future__ import annotations

import json
import re
import shlex
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import click
import duckdb
import pytest
import yaml
from pydantic_core import PydanticUndefined

from ddb_lake.cli.app import COMMANDS, cli
from ddb_lake.config import DEFAULT_FILES, parse_settings
from ddb_lake.engine.session import load_extension
from ddb_lake_tests.support import docs_blocks
from ddb_lake_tests.support.docs_blocks import ROOT, Block
from ddb_lake_tests.support.docs_settings import settings
from ddb_lake_tests.support.landed_files import EXPORT_ID
from ddb_lake_tests.support.readme_lake import DAGSTER_PROJECT, folder_with_landed_files, run

TESTS = ROOT / "ddb_lake_tests"
COOKBOOK = ROOT / "ddb_lake/docs/guides/cookbook.md"
README = (ROOT / "README.md").read_text(encoding="utf-8")

SAMPLE = "A first query in one minute"
LOCAL = "Your own table in five minutes"
DAGSTER = "Under Dagster"
"""The headings whose commands are run here."""

ELSEWHERE = {
    "make demo": (".ci/run", "make demo"),
    "make test": (".ci/run", "make test"),
    "make setup": (".ci/run", "make setup"),
    "make check": (".ci/run", "make check"),
    "make bench SIZE=small": (".ci/run", "make bench SIZE=small"),
    "ddb-lake doctor --config aws.yaml": (
        "ddb_lake_tests/cli/commands/test_with_aws.py",
        "def test_doctor_of_a_lake_on_s3(",
    ),
    "ddb-lake export orders --config aws.yaml": (
        "ddb_lake_tests/cli/commands/test_with_aws.py",
        "def test_export_waits_and_loads(",
    ),
    "ddb-lake sync --config aws.yaml": (
        "ddb_lake_tests/cli/commands/test_with_aws.py",
        "def test_export_that_is_not_waited_for_is_loaded_by_sync(",
    ),
    "dg dev": ("ddb_lake_tests/browser/test_ui.py", "def test_graph_shows_the_stages_of_the_table("),
}
"""Commands that need AWS or a package index, that CI runs, or that do not end: the file and text that run them."""


def blocks(heading: str | None = None, *languages: str) -> list[Block]:
    """The fenced blocks of the README in order, optionally of one heading and of some languages."""
    return [
        block
        for block in docs_blocks.blocks(README, "README.md")
        if heading in (None, block.heading) and (not languages or block.language in languages)
    ]


def section(title: str) -> str:
    """The text below a heading of the second rank."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without headings."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not set(line) <= set("| -")]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


# --- commands


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the export and the change objects that the README names."""
    return folder_with_landed_files(tmp_path)


def test_every_command_is_run_somewhere() -> None:
    here = {
        command for heading in (SAMPLE, LOCAL, DAGSTER) for block in blocks(heading, "sh") for command in block.commands
    }
    documented = {command for block in blocks(None, "sh") for command in block.commands}
    assert documented - here - set(ELSEWHERE) == set(), "neither run by this module nor in ELSEWHERE"
    assert set(ELSEWHERE) - documented == set(), "in ELSEWHERE and not in the README"


@pytest.mark.parametrize("command", ELSEWHERE)
def test_command_that_is_run_elsewhere_is_run_there(command: str) -> None:
    path, text = ELSEWHERE[command]
    assert text in (ROOT / path).read_text()


def test_own_table_works_as_documented(place: Path) -> None:
    (python,) = blocks("From other engines", "python")
    (place / "reading.py").write_text(python.text)
    commands = [c for block in blocks(LOCAL, "sh") for c in block.commands if c not in ELSEWHERE]
    printed, _ = run([*commands, "python -W ignore reading.py"], place)

    documented = dict(zip(commands, printed, strict=False))
    last = ""
    for block in blocks(LOCAL, "sh", "text"):
        if block.language == "text":
            assert sorted(documented[last].splitlines()) == sorted(block.text.splitlines())
        last = block.commands[-1]
    (written,) = blocks(LOCAL, "yaml")
    assert yaml.safe_load(written.text) == yaml.safe_load((place / "ddb_lake.yaml").read_text())
    assert (place / "orders-before-noon.jsonl").read_text().count("\n") == 3
    assert "10.50" in printed[-1]
    assert _read_by_duckdb(printed[-1].splitlines()[-1]) == {"paid": 1, "placed": 1, None: 1}


def test_first_query_works_as_documented(tmp_path: Path) -> None:
    (commands,), (output,) = blocks(SAMPLE, "sh"), blocks(SAMPLE, "text")
    cookbook = docs_blocks.blocks(COOKBOOK.read_text(encoding="utf-8"), "cookbook")
    queries = [f"ddb-lake query --csv {shlex.quote(block.text)}" for block in cookbook if block.language == "sql"]
    printed, _ = run([*commands.commands, *queries], tmp_path)
    assert printed[3].strip() == output.text.strip()
    assert [query for query, rows in zip(queries, printed[4:], strict=True) if rows.count("\n") < 2] == []


def _read_by_duckdb(location: str) -> dict[str | None, int]:
    """Rows by status, by the README's SQL."""
    (sql,) = blocks("From other engines", "sql")
    statements = sql.text.replace("METADATA_LOCATION", location)
    with duckdb.connect() as con:
        for name in ("avro", "iceberg"):
            install = f"INSTALL {name}; LOAD {name};\n"
            assert install in statements
            statements = statements.replace(install, "")
            load_extension(con, name)  # what INSTALL would fetch
        return {status: int(count) for status, count, _ in con.execute(statements).fetchall()}


def test_dagster_works_as_documented(place: Path) -> None:
    for name, text in DAGSTER_PROJECT.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    commands = [c for block in blocks(DAGSTER, "sh") for c in block.commands if c not in ELSEWHERE]
    (place / "home").mkdir()

    printed, logged = run(commands, place, DAGSTER_HOME=str(place / "home"), DAGSTER_DISABLE_TELEMETRY="yes")

    assert "orders: 3 new of 4 records" in "".join(printed)
    assert logged.count("ASSET_MATERIALIZATION - Materialized value current orders") == 2


# --- settings, commands and names


def _choices(annotation: Any) -> Iterator[str]:
    if typing.get_origin(annotation) is Literal:
        yield from typing.get_args(annotation)
    for part in typing.get_args(annotation):
        yield from _choices(part)


def test_default_files_are_named() -> None:
    assert [name for name in DEFAULT_FILES if f"`{name}`" not in section("Configuration")] == []


DOCUMENTED = [cells[0].strip("`") for cells in rows(section("Configuration"))[1:]]
"""The settings in the README; the reference has all of them."""


def test_settings_are_of_the_code_in_its_order() -> None:
    assert [path for path, _, _ in settings() if path in DOCUMENTED] == DOCUMENTED


@pytest.mark.parametrize(
    ("path", "annotation", "default"), [pytest.param(*one, id=one[0]) for one in settings() if one[0] in DOCUMENTED]
)
def test_setting_has_its_default_and_choices(path: str, annotation: Any, default: Any) -> None:
    (cells,) = [cells for cells in rows(section("Configuration")) if cells[0] == f"`{path}`"]
    _, documented, about = cells
    if default is PydanticUndefined or path == "tables[].name":  # only an entry with `match` may lack a name
        assert documented == "required"
    elif default in (None, ()):
        assert documented in ("none", "by warehouse", "from the source", "AWS variables", "`name`")
    else:
        written = (
            default if isinstance(default, str) and default else json.dumps(default, default=str).strip('"') or '""'
        )
        assert documented == f"`{written}`"
    assert [choice for choice in _choices(annotation) if f"`{choice}`" not in documented + about] == []


@pytest.mark.parametrize("block", blocks(None, "yaml"), ids=lambda block: block.heading)
def test_yaml_is_a_configuration(block: Block) -> None:
    document = yaml.safe_load(block.text)
    assert document["type"] == "ddb_lake.DynamoDBLakeComponent"
    assert parse_settings(document["attributes"], block.heading).tables


def _commands() -> dict[str, click.Command]:
    context = click.Context(cli)
    found: dict[str, click.Command] = {}
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        members = dict(command.commands) if isinstance(command, click.Group) else {"": command}
        if isinstance(command, click.Group) and command.invoke_without_command:
            members = {"": command, **members}
        found |= {f"{name} {member}".strip(): one for member, one in members.items()}
    return found


def test_commands_are_those_of_the_code() -> None:
    documented = [cells[0].strip("`").removeprefix("ddb-lake ") for cells in rows(section("Command line"))]
    names = [re.split(r" [-A-Z\[]", one)[0] for one in documented if f"`ddb-lake {one}`" in README]
    assert list(dict.fromkeys(names)) == list(_commands())  # a command may have several rows


def test_documented_options_exist() -> None:
    known: Mapping[str, click.Command] = _commands()
    for cells in rows(section("Command line")):
        name = re.split(r" [-A-Z\[]", cells[0].strip("`").removeprefix("ddb-lake "))[0]
        if name in known:
            options = {option for parameter in known[name].params for option in parameter.opts}
            assert set(re.findall(r"--[a-z-]+", " ".join(cells))) <= options, name


def test_assets_and_checks_are_those_of_the_deployment() -> None:
    defs = json.loads((TESTS / "orchestration/definitions.json").read_text())
    documented = {cells[0].strip("`") for cells in rows(section(LOCAL)) if cells[0].startswith("`")}
    assert documented == set(defs["assets"])
    checks = README.partition("These are the main checks")[2].partition("If you materialize")[0]
    assert set(re.findall(r"`(\w+)`", checks)) <= {check.rpartition(":")[2] for check in defs["checks"]}


def test_links_and_named_tests_exist() -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
    named = re.findall(r"`((?:ddb_lake_tests/)?[a-z_]+(?:/[a-z_]+)*/test_\w+\.py)`", README)
    assert named
    assert [path for path in named if not (TESTS / path.removeprefix("ddb_lake_tests/")).exists()] == []


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", README, re.MULTILINE)) <= targets


def test_export_of_the_folders_is_the_one_we_write() -> None:
    assert EXPORT_ID in section(LOCAL)


MAY_READ_ITEMS = {
    "pipeline/maintain/restore.py",
    "pipeline/load/scan.py",
    "pipeline/verify/compare.py",
    "pipeline/verify/full.py",
    "pipeline/verify/repair.py",
    "pipeline/verify/sample.py",
}
"""The modules that may import `aws.items`, the only module that reads items of the source."""


def test_items_are_read_on_request_only() -> None:
    """G9: only `aws.items` has the calls that consume read capacity of the source table."""
    reading = re.compile(
        r"\.(scan|query|get_item|batch_get_item|transact_get_items|execute_statement)\(|\"(scan|query)\""
    )
    product = ROOT / "ddb_lake"
    sources = {path.name: path.read_text() for path in (product / "aws").glob("*.py")}
    modules = {str(path.relative_to(product)): path.read_text() for path in product.rglob("*.py")}
    assert {name for name, text in sources.items() if reading.search(text)} == {"items.py"}
    assert {name for name, text in modules.items() if "ddb_lake.aws.items" in text} == MAY_READ_ITEMS
