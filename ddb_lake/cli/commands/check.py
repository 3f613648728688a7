"""`ddb-lake check`: evaluate the checks of the lake now, without Dagster."""

from __future__ import annotations

import click

from ddb_lake.cli.command import command, json_option, tables_argument
from ddb_lake.cli.failures import ADD_A_TABLE
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.checks import checks_document, print_result
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.errors import ConfigError


@command(
    "check",
    "Evaluate the checks of the lake.",
    "ddb-lake check",
    "ddb-lake check orders --json",
    "ddb-lake check --strict",
)
@tables_argument
@click.option("--strict", is_flag=True, help="Exit status 1 if a check is yellow too.")
@json_option
@pass_invocation
def check(invocation: Invocation, tables: tuple[str, ...], strict: bool, as_json: bool) -> None:
    """Evaluate the checks of the TABLEs (default: all), as Dagster does every hour, and print them, the worst first.

    A check is green if what it compared is equal or within its limits, red if it found a fault, and yellow if it is a
    warning, may be explained by a change under way, or could not look: then its text begins with `unknown` and states
    what is unknown and why. The results are kept for `ddb-lake status` and `report`. Only Dagster evaluates the checks of
    its sensor, which `ddb-lake doctor` examines, and of what a run has just written (such as `unique_keys`). The exit
    status is 1 if a check is red; with --strict, also if one is yellow.
    """
    from ddb_lake.checks.check import Subject
    from ddb_lake.checks.kept import evaluate_checks
    from ddb_lake.pipeline.read.check_results import summary_text

    with invocation.lake(*tables) as lake:
        if not lake.settings.tables:
            raise ConfigError("no table is configured, so that nothing can be checked", hint=ADD_A_TABLE)
        results = {}
        for name in tables or [table.name for table in lake.settings.tables]:
            results[name] = evaluate_checks(Subject(lake, lake.table(name)))
            if not as_json:
                for result in results[name]:
                    print_result(name, result)
                echo(f"{name}: {summary_text(results[name])}.")
    if as_json:
        write_document({"tables": [{"table": name} | checks_document(found) for name, found in results.items()]})
    colors = {result.color for found in results.values() for result in found}
    if "red" in colors or (strict and "yellow" in colors):
        raise click.exceptions.Exit(1)
