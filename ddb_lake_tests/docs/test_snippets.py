"""Every fenced block of the documentation is run, or parsed as its language; a block of an unknown language fails.

| language | check |
| --- | --- |
| `sh` | split by bash; each command is parsed by its program, or by a model of the program's options |
| `sh`, `ddb-lake` commands that need only the lake | also run, page by page, in one lake; those of `guides/seeds` by `test_seed_guides` |
| `python` | run in that lake |
| `yaml` | validated by the settings models |
| `toml` | read as a file of prices |
| `json` | parsed |
| `sql` | parsed in its engine's dialect |
| `text`, `usage`, `signature`, `tree`, `properties` | output, drawings, files of other programs: not checked |
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
from botocore.stub import Stubber

from ddb_lake.core.operations.prices import read_prices
from ddb_lake.errors import UsageError
from ddb_lake_tests.support import docs_settings
from ddb_lake_tests.support.docs_blocks import Block, blocks, pages
from ddb_lake_tests.support.docs_commands import calls, check
from ddb_lake_tests.support.readme_lake import folder_with_landed_files, run

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a notice of sqlglot about its own parts
    import sqlglot

BLOCKS = [block for page, text in pages().items() for block in blocks(text, page)]

SHOWN = {"text", "usage", "signature", "tree", "properties"}

COOKBOOK = "guides/cookbook.md"
"""Its queries run on the sample, in `ddb_lake_tests/integration/test_readme.py`."""

DIALECTS = {
    ("explanation/types.md", "Attributes of several types"): "duckdb",
    ("explanation/types.md", "New attributes and other types"): "duckdb",
    ("guides/aurora.md", "What the user needs"): "mysql",
    ("guides/dbt.md", "History"): "duckdb",
    ("guides/engines.md", "Athena"): "athena",
    ("guides/erase.md", "Afterwards"): "duckdb",
    ("tutorial.md", "8. A dbt mart"): "duckdb",
    ("guides/engines.md", "What Firehose delivered"): "athena",
    ("guides/engines.md", "Redshift"): "redshift",
    ("guides/engines.md", "QuickSight"): "athena",
    ("guides/engines.md", "Trino"): "trino",
    ("guides/engines.md", "Spark"): "spark",
    ("guides/engines.md", "Snowflake"): "snowflake",
    ("guides/engines.md", "DuckDB without ddb_lake"): "duckdb",
}
"""Page and heading of each SQL block: the dialect it is in."""

LOCAL = {
    "init",
    "load",
    "apply",
    "status",
    "query",
    "sync",
    "follow",
    "dump",
    "quarantine",
    "compact",
    "erase",
    "cost",
    "report",
    "init-dbt",
}
"""Commands that need nothing but the lake."""

_SAMPLE = "ddb_lake_tests/integration/test_readme.py runs it"

ELSEWHERE = {
    "ddb-lake init --sample": _SAMPLE,
    "ddb-lake load orders --export sample/exports/orders": _SAMPLE,
    "ddb-lake apply orders sample/landing/orders": _SAMPLE,
    "ddb-lake query 'SELECT id, name, Designation FROM orders'": "of a table with the key `id`",
    "ddb-lake load orders URI --recreated": "of a table that was deleted and created again: ddb_lake_tests/trust/test_local_faults.py",
    "ddb-lake quarantine replay orders --from corrected.json": "ddb_lake_tests/cli/commands/test_quarantine_replay.py runs it",
    'ddb-lake quarantine discard orders --object landing/test/1.gz --why "a load test"': (
        "of entries that this lake lacks: ddb_lake_tests/cli/commands/test_quarantine_discard.py"
    ),
    'ddb-lake query "SELECT _day, count(*), sum(total) FROM orders_daily GROUP BY _day ORDER BY _day"': (
        "of days that Dagster keeps: ddb_lake_tests/orchestration/assets/test_daily_snapshots.py"
    ),
    "ddb-lake erase orders --keys keys.jsonl --yes": "ddb_lake_tests/cli/commands/test_erase.py runs it",
    "ddb-lake follow": "runs until it is stopped: ddb_lake_tests/cli/commands/test_follow.py does",
    "ddb-lake follow --metrics :9464": "the same: ddb_lake_tests/pipeline/test_metrics.py serves metrics",
    "ddb-lake follow --dagster": "the same: ddb_lake_tests/orchestration/test_follower_reports.py reads what it reports",
    "ddb-lake follow orders customers --interval 2s": "the same, and the lake has no `customers`",
    **dict.fromkeys(
        (
            "ddb-lake init exports/app --discover --key PK,SK",
            "ddb-lake load app --export exports/app",
            'ddb-lake query "SELECT user_id, created, email FROM app_user ORDER BY user_id"',
            'ddb-lake query "SELECT user_id, order_id, created, total FROM app_order ORDER BY order_id"',
            "ddb-lake status app",
        ),
        "of a single-table design: ddb_lake_tests/docs/test_single_table_guide.py",
    ),
    **dict.fromkeys(
        (
            "ddb-lake load customers --export exports/customers",
            "ddb-lake apply customers landing/customers",
            'ddb-lake query "SELECT id, left(email, 12) AS email, card, address__city AS city FROM customers ORDER BY id"',
            "ddb-lake compact customers",
        ),
        "of a lake with protected attributes: ddb_lake_tests/docs/test_governance_guide.py",
    ),
    "ddb-lake status --watch 5": "runs until it is interrupted: ddb_lake_tests/cli/commands/test_watch_and_open.py does",
}
"""Commands of `LOCAL` that are not run here, and why."""


def of(*languages: str) -> list[Any]:
    return [pytest.param(block, id=block.name) for block in BLOCKS if block.language in languages]


def test_every_block_is_of_a_class() -> None:
    classes = {"sh", "python", "yaml", "toml", "json", "sql", *SHOWN}
    assert [f"{block.name} {block.language!r}" for block in BLOCKS if block.language not in classes] == []


@pytest.mark.parametrize("block", of("sh"))
def test_commands_are_understood(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("report.json", "corrected.json", "keys.jsonl", "infra.yaml", "eu-west-1.toml"):
        Path(name).touch()  # what commands ask to exist
    above = "\n".join(b.text for b in BLOCKS if b.page == block.page and b.number < block.number and b.language == "sh")
    functions = "".join(re.findall(r"^\w+\(\) \{.*\}\n", above, re.MULTILINE))
    assigned = [*re.findall(r"^(\w+)=", above, re.MULTILINE), *_names_read(above)]
    found = calls("".join(f"{name}=x\n" for name in assigned) + functions + block.text, tmp_path)
    assert found
    for call in found:
        check(call)


def _names_read(text: str) -> list[str]:
    """The variables that `read -r` sets."""
    return [name for names in re.findall(r"^read -r ([\w ]+) <<<", text, re.MULTILINE) for name in names.split()]


@pytest.mark.parametrize("block", of("yaml"))
def test_yaml_is_of_the_settings(block: Block) -> None:
    docs_settings.check(block.text, block.name)


@pytest.mark.parametrize("block", of("toml"))
def test_toml_is_a_file_of_prices(block: Block) -> None:
    assert read_prices(block.text, block.name).prices


@pytest.mark.parametrize("block", of("json"))
def test_json_is_json(block: Block) -> None:
    for line in block.text.splitlines():
        json.loads(line)


@pytest.mark.parametrize("block", of("sql"))
def test_sql_is_of_its_dialect(block: Block) -> None:
    text = re.sub(r"\{\{ ref\('(\w+)'\) \}\}", r"\1", block.text)
    text = re.sub(r"\{\{ .*? \}\}", "true", text)
    dialect = "duckdb" if block.page == COOKBOOK else DIALECTS[block.page, block.heading]
    assert sqlglot.parse(text, dialect=dialect)


# --- what is run


def local_commands(page: str) -> list[str]:
    """The commands of a page that need nothing but the lake, one a line."""
    found = []
    for block in BLOCKS:
        if block.page == page and block.language == "sh":
            for line in block.command_lines:
                plain = line.partition(" #")[0].strip()
                words = shlex.split(plain) if plain.startswith("ddb-lake ") else ["", ""]
                remote = {"aws.yaml", "--scan"} & {*words} or any(word.startswith("s3://") for word in words)
                if words[1] in LOCAL and not remote and plain not in ELSEWHERE:
                    found.append(plain)
    return found


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the README's landed files, as the working folder."""
    folder = folder_with_landed_files(tmp_path)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("LAKE_HASH_KEY", "an example of a key, not for use")
    return folder


def test_pages_run_in_one_lake(lake: Path) -> None:
    elsewhere = ("reference/", "guides/seeds/")
    written = [page for page in dict.fromkeys(block.page for block in BLOCKS) if not page.startswith(elsewhere)]
    tutorial = local_commands("tutorial.md")
    guides = [command for page in written if page != "tutorial.md" for command in local_commands(page)]
    assert {"ddb-lake report", "ddb-lake init-dbt orders"} <= set(guides)
    verify = "ddb-lake verify orders --full --export exports/orders"

    commands = [*tutorial, verify, *guides]
    printed, _ = run(commands, lake)

    outputs = dict(zip(commands, printed, strict=True))
    assert outputs[verify].startswith("orders: equal: 3 keys compared")
    (told,) = (b.text for b in BLOCKS if b.page == "guides/ways-in.md" and b.language == "text")
    assert outputs["ddb-lake cost --items 10000000 --item-bytes 800 --changes-per-second 50"].strip() == told.strip()
    for block in (block for block in BLOCKS if block.language == "python"):
        run_python(block)


def run_python(block: Block) -> None:
    """Run a block, with what its page says is there; what it defines for Dagster is materialized."""
    with prepared() as names, without_polars(block):
        exec(compile(block.text, block.name, "exec"), names)
    assets = [value for value in names.values() if isinstance(value, dg.AssetsDefinition)]
    if assets:
        with dg.DagsterInstance.ephemeral() as instance:
            assert dg.materialize(assets, instance=instance).success


@contextlib.contextmanager
def prepared() -> Iterator[dict[str, Any]]:
    """`line`, one of a Firehose error object, and `firehose`, a client that takes one record."""
    client = boto3.client("firehose", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(client) as stub:
        stub.add_response("put_record", {"RecordId": "1"})
        line = json.dumps({"rawData": base64.b64encode(b"{}").decode()})
        import ddb_lake

        yield {"base64": base64, "json": json, "ddb_lake": ddb_lake, "firehose": client, "line": line}


@contextlib.contextmanager
def without_polars(block: Block) -> Iterator[None]:
    """polars is the user's to install: without it, `.pl()` says so."""
    try:
        yield
    except (ModuleNotFoundError, UsageError) as error:
        assert "polars" in str(error) and ".pl()" in block.text


def test_nothing_is_kept_from_running_without_need() -> None:
    everything = "\n".join(block.text for block in BLOCKS if block.language == "sh")
    assert [command for command in ELSEWHERE if command not in everything] == []
    assert os.environ.get("DDB_LAKE_CONFIG") is None
