"""`ddb-lake demo`: the complete pipeline on the embedded AWS emulator."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ddb_lake.cli.command import command
from ddb_lake.cli.output.terminal import echo


@command(
    "demo",
    "Run the complete pipeline on the embedded AWS emulator.",
    "ddb-lake demo",
    "ddb-lake demo --folder demo-lake",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the lake, which is kept. Default: a temporary folder, removed at the end.",
)
@click.option("--keep", is_flag=True, help="Keep the temporary folder, and print its path.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the generated orders.")
def demo(folder: Path | None, keep: bool, seed: int) -> None:
    """Run the complete pipeline on the embedded AWS emulator: table, export, changes, lake, checks.

    It needs no AWS account and no network, but the `sandbox` extra.
    """
    from ddb_lake.cli.demo_run import run_demo

    with _demo_folder(folder, keep) as place:
        status = run_demo(place, keep=keep or folder is not None, emit=echo, seed=seed)
    click.get_current_context().exit(status)


@contextmanager
def _demo_folder(folder: Path | None, keep: bool) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    elif keep:
        place = Path(tempfile.mkdtemp(prefix="ddb-lake-demo-"))
        yield place
        echo(f"The lake is kept in {place}", err=True)
    else:
        with tempfile.TemporaryDirectory(prefix="ddb-lake-demo-", ignore_cleanup_errors=True) as name:
            yield Path(name)
