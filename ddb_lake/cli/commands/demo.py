"""`ddb-lake demo` and `ddb-lake sandbox`: the complete pipeline on the embedded AWS emulator, and the emulator alone."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import command, json_option
from ddb_lake.cli.output.writers import write_document

if TYPE_CHECKING:
    from ddb_lake.sandbox import Sandbox


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
        status = run_demo(place, keep=keep or folder is not None, emit=click.echo, seed=seed)
    click.get_current_context().exit(status)


@contextmanager
def _demo_folder(folder: Path | None, keep: bool) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    elif keep:
        place = Path(tempfile.mkdtemp(prefix="ddb-lake-demo-"))
        yield place
        click.echo(f"The lake is kept in {place}", err=True)
    else:
        with tempfile.TemporaryDirectory(prefix="ddb-lake-demo-", ignore_cleanup_errors=True) as name:
            yield Path(name)


@command("sandbox", "Run the embedded AWS emulator alone.", "ddb-lake sandbox --port 4566")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=4566,
    show_default=True,
    help="Port on 127.0.0.1; 0: any free port.",
)
@click.option("--region", default="eu-west-1", show_default=True, help="The Region of the printed environment.")
@json_option
def sandbox(port: int, region: str, as_json: bool) -> None:
    """Serve the embedded AWS emulator until interrupted, and print the environment variables for its clients.

    A shell can evaluate the lines on stdout. Nothing is stored on disk. Needs the `sandbox` extra.
    """
    from ddb_lake.sandbox import serve

    def ready(served: Sandbox) -> None:
        if as_json:
            write_document(served.environment())
        else:
            click.echo("\n".join(f"export {name}={quote(value)}" for name, value in served.environment().items()))
        click.echo(f"The sandbox serves at {served.endpoint_url}; Ctrl-C ends it.", err=True)

    stop = threading.Event()
    with _stopped_by_sigterm(stop):
        serve(port, ready, region=region, stop=stop)


@contextmanager
def _stopped_by_sigterm(stop: threading.Event) -> Iterator[None]:
    """Set `stop` on SIGTERM. In another thread than the main one this does nothing, because Python forbids it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
