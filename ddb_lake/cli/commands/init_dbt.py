"""`ddb-lake init-dbt`: write dbt models of the lake's tables."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ddb_lake.cli.command import command, json_option, tables_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document


@command(
    "init-dbt",
    "Write dbt models of the lake's tables.",
    "ddb-lake init-dbt orders",
    "ddb-lake init-dbt --project analytics/dbt",
)
@tables_argument
@click.option(
    "--project",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("dbt_project"),
    show_default=True,
    help="Folder of the dbt project; a new project is created if it has no dbt_project.yml.",
)
@click.option("--force", is_flag=True, help="Replace files that this command did not write.")
@json_option
@pass_invocation
def init_dbt(invocation: Invocation, tables: tuple[str, ...], project: Path, force: bool, as_json: bool) -> None:
    """Write dbt models of TABLEs (default: all): staging, history and daily changes, with documentation and tests.

    The columns are the current ones of the lake. Running the command again updates its files; files that it did not
    write stay, unless --force is given.
    """
    from ddb_lake.dbt.project import former_references, remove_former, table_models, write_frame, write_models

    with invocation.lake(*tables, bars=False) as lake:
        names = tables or tuple(table.name for table in lake.settings.tables)
        models = [table_models(lake, name) for name in names]
    written = write_frame(project)
    for models_of_table in models:
        written += write_models(project, models_of_table, force)
    removed = [path for models_of_table in models for path in remove_former(project, models_of_table)]
    former = [found for models_of_table in models for found in former_references(project, models_of_table)]
    step = f"dbt build --project-dir {shlex.quote(str(project))} --profiles-dir {shlex.quote(str(project))}"
    if as_json:
        document = {
            "project": str(project),
            "tables": names,
            "written": [str(path) for path in written],
            "removed": [str(path) for path in removed],
            "former_names": [{"path": str(path), "former": name, "now": now} for path, name, now in former],
            "next": [step],
        }
        write_document(document)
        return
    for path in written:
        echo(f"Wrote {path}.")
    for path in removed:
        echo(f"Removed {path}: its model has another name now.")
    for path, name, now in former:
        echo(f"{path} names the model {name}, which is {now} now: change it there.")
    if not written and not removed:
        echo("Nothing to write: the models are up to date.")
    echo(f"Next: {step}")
