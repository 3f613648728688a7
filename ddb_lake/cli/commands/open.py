"""`ddb-lake open`: Dagster's UI on the configured lake."""

from __future__ import annotations

from pathlib import Path

import click

from ddb_lake.cli.command import command
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.terminal import echo


@command("open", "Start Dagster's UI on the lake.", "ddb-lake open", "ddb-lake open --port 8080 --config aws.yaml")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=3000,
    show_default=True,
    help="Port on 127.0.0.1; 0: any free port.",
)
@pass_invocation
def open_(invocation: Invocation, port: int) -> None:
    """Start Dagster's UI and daemon on the configured lake and print the address; Ctrl-C ends both.

    Runs, checks and the sensor's cursor are stored in $DAGSTER_HOME, else in .dagster below the working folder. The
    daemon updates the lake as long as it runs. Needs dagster-webserver.
    """
    file = invocation.file()
    invocation.settings()  # a fault in it is reported here in one line, before Dagster starts
    from ddb_lake.orchestration.open_project import dagster_home, write_code
    from ddb_lake.orchestration.web_server import require_ui, serve_ui

    require_ui()

    home = dagster_home(Path.cwd())
    echo(f"Dagster starts on {file}, with its records in {home}; this takes a few seconds.", err=True)
    code = ["--python-file", str(write_code(home, file)), "--log-level", "warning"]
    environment = {"DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "yes"}
    status = serve_ui(code, port, environment, ready=_ready)
    if status:
        click.get_current_context().exit(1)


def _ready(url: str) -> None:
    echo(url)
    echo(
        "Assets show the results of Dagster's runs: materialize the asset of the group `overview` to see the present"
        " contents of the lake. Ctrl-C ends both.",
        err=True,
    )
