"""The models for Amazon Athena, as far as they can be tried without it: `python -m ddb_lake_tests.dbt.athena`.

dbt-athena (in an environment of its own, by uv: it is no dependency of ours) compiles the project against the embedded
emulator's Glue; the result must parse as Athena's SQL. Then each model's SQL is translated to DuckDB's and executed
over a real lake: it must give the rows that the DuckDB models give. What Athena itself does is not tried by this.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import sqlglot
from sqlglot import exp

from ddb_lake.dbt.project import install_package
from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.support.dbt_lake import PROJECT, ROOT, TABLES, dbt, environment, prepare

REQUIREMENTS = ("dbt-core>=1.11,<1.12", "dbt-athena-community>=1.11,<1.12")
ORDER = ("stg_", "_history", "_daily_changes", "fct_orders", "fct_web_clicks", "")
"""Parts of names in the order in which models build on each other."""


def main() -> int:
    """Compile, parse, execute, compare; 1 if a model differs."""
    with tempfile.TemporaryDirectory() as work, Sandbox() as sandbox:
        folder = Path(work)
        compiled = compile_models(folder, sandbox)
        print(f"{len(compiled)} models compile for Athena, built first and again, and parse as its SQL")
        prepare(folder)
        dbt(folder, "run")
        different = list(differing(folder, compiled))
    print(
        "differing: " + ", ".join(different)
        if different
        else "executed over a lake they give what DuckDB's models give"
    )
    return 1 if different else 0


def compile_models(folder: Path, sandbox: Sandbox) -> dict[str, str]:
    """Name of each model to its SQL for Athena, as it is first built. Raises sqlglot's ParseError if one is no SQL."""
    glue = sandbox.client("glue")
    for database in ("ddb_lake", "marts"):
        glue.create_database(DatabaseInput={"Name": database})
    first = _compiled(folder, sandbox, "first")
    for name in first:
        if name.endswith(("_history", "_daily_changes")):
            table = {"Name": name, "TableType": "EXTERNAL_TABLE", "Parameters": {"table_type": "ICEBERG"}}
            glue.create_table(DatabaseName="marts", TableInput={**table, "StorageDescriptor": {"Columns": []}})
    again = _compiled(folder, sandbox, "again")
    again_only = {"_history": " not in (select ", "_daily_changes": " left join "}
    assert all(
        part in sql.replace("\n", " ")
        for name, sql in again.items()
        for end, part in again_only.items()
        if name.endswith(end)
    )
    return first


def _compiled(folder: Path, sandbox: Sandbox, build: str) -> dict[str, str]:
    install_package(PROJECT)
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    command = [uv, "run", "--isolated", "--no-project", "--python", sys.executable]
    for requirement in REQUIREMENTS:
        command += ["--with", requirement]
    command += ["dbt", "--no-use-colors", "compile", "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
    command += ["--target-path", str(folder / build), "--vars", json.dumps(TABLES)]
    told = {"DDB_LAKE_DBT_TARGET": "athena", "DBT_LOG_PATH": str(folder / "logs"), "UV_PYTHON_DOWNLOADS": "never"}
    surroundings = {**os.environ, **sandbox.environment(), **told}
    done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    found = {path: path.read_text() for path in (folder / build / "compiled").rglob("*.sql")}
    for sql in found.values():
        sqlglot.parse_one(sql, dialect="athena", error_level=sqlglot.ErrorLevel.RAISE)
    return {path.stem: sql for path, sql in found.items() if path.parent.suffix != ".yml"}


def differing(folder: Path, compiled: dict[str, str]) -> Iterator[str]:
    """The models whose Athena SQL gives other rows than the model built by DuckDB."""
    from ddb_lake.dbt import plugin  # the import of dbt takes a second

    os.environ |= {name: value for name, value in environment(folder).items() if name.startswith("DDB_LAKE")}
    with duckdb.connect(str(folder / "lake_marts.duckdb")) as con:
        lake = plugin.Plugin("lake", {"config": str(folder / "lake.json")})
        lake.configure_connection(con)
        for function in FUNCTIONS:
            con.execute(f"CREATE OR REPLACE TEMP MACRO {function}")
        con.execute("ATTACH ':memory:' AS awsdatacatalog")
        con.execute("CREATE SCHEMA awsdatacatalog.marts")
        for name in sorted(compiled, key=_rank):
            con.execute(f'CREATE TABLE awsdatacatalog.marts."{name}" AS {translated(compiled[name])}')
            rows = con.execute(
                f'(FROM awsdatacatalog.marts."{name}" EXCEPT FROM lake_marts.marts."{name}")'
                f' UNION ALL (FROM lake_marts.marts."{name}" EXCEPT FROM awsdatacatalog.marts."{name}")'
            ).fetchall()
            if rows:
                yield f"{name} ({len(rows)} rows)"


FUNCTIONS = (
    "all_matching(l) AS coalesce(list_bool_and(l), true)",
    "sorted_document(x) AS ddb_canonical_document(x)",  # json_parse sorts the members of a document
    "valid_document(x) AS CASE WHEN json_valid(x) THEN x END",
    "iso_nanos(x) AS try_cast(x AS timestamp)",
)
"""What Athena has and DuckDB has not, as far as our macros use it."""


def translated(sql: str) -> str:
    """Athena's SQL in DuckDB's, its sources in the lake's database."""
    tree = sqlglot.parse_one(sql, dialect="athena").transform(_as_duckdb)
    for table in tree.find_all(exp.Table):
        if table.db == "ddb_lake":
            table.set("catalog", exp.to_identifier("lake", quoted=True))
    return tree.sql(dialect="duckdb")


def _as_duckdb(node: exp.Expression) -> exp.Expression:
    if isinstance(node, exp.Anonymous):
        name, arguments = node.name.lower(), node.expressions
        if name == "all_match":
            return exp.func("all_matching", exp.func("list_transform", *arguments))
        if name == "at_timezone":
            return arguments[0]
    if isinstance(node, exp.JSONFormat):
        return exp.cast(node.this.transform(_as_duckdb), "varchar")  # transform leaves what it gets as it is
    if isinstance(node, exp.ParseJSON):
        return exp.func("sorted_document", node.this)
    if isinstance(node, exp.FromISO8601TimestampNanos):
        return exp.func("iso_nanos", node.this)
    if isinstance(node, exp.Try):
        return exp.func("valid_document", node.this.this) if isinstance(node.this, exp.ParseJSON) else node.this
    return node


def _rank(name: str) -> tuple[int, str]:
    return next(place for place, part in enumerate(ORDER) if part in name), name


if __name__ == "__main__":
    sys.exit(main())
