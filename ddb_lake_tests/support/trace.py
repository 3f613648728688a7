"""How many files of `ddb_lake` a command enters, and how often it goes from one to another.

Run `python -m ddb_lake_tests.support.trace`. It loads an export of two items, applies one change and runs `SELECT *`, each
in this process: from opening the lake with parsed settings to the last row. Everything runs once before it is measured,
so that imports and the loading of DuckDB's extensions do not count. Add `-v` for the files and the calls between them.

A *file* counts if a function that is defined in it is called. A *hop* is a call of a function whose direct caller is in
another file of `ddb_lake`; each resumption of a generator counts. A call through a library (pydantic, a thread pool,
DuckDB that calls back) is no hop.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import ddb_lake
from ddb_lake.config import LakeSettings, parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.query import run_query
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, change, full, item, land

ROOT = f"{Path(ddb_lake.__file__).parent}/"
TABLE = "orders"


@dataclass(slots=True)
class Trace:
    """The files that were entered, and the number of hops by (caller's file, callee's file)."""

    files: set[str] = field(default_factory=set)
    hops: Counter[tuple[str, str]] = field(default_factory=Counter)

    def text(self) -> str:
        """The two figures."""
        return f"{len(self.files)} files, {self.hops.total()} hops"

    def details(self) -> str:
        """The files, and the calls between them, the most frequent first."""
        calls = (f"  {count:4} {source} -> {target}" for (source, target), count in self.hops.most_common())
        return "\n".join([*(f"  {file}" for file in sorted(self.files)), *calls])


@contextmanager
def traced() -> Iterator[Trace]:
    """Record the calls of this thread."""
    trace = Trace()

    def record(frame: FrameType, event: str, _argument: Any) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(ROOT):
            return
        file, caller = frame.f_code.co_filename, frame.f_back
        trace.files.add(file.removeprefix(ROOT))
        if caller is not None and caller.f_code.co_filename.startswith(ROOT) and caller.f_code.co_filename != file:
            trace.hops[caller.f_code.co_filename.removeprefix(ROOT), file.removeprefix(ROOT)] += 1

    sys.setprofile(record)
    try:
        yield trace
    finally:
        sys.setprofile(None)


def read_all(lake: Lake) -> None:
    """Run the query."""
    with run_query(lake, f"SELECT * FROM {TABLE}") as result:
        for _ in result.batches():
            pass


def run_commands(folder: Path) -> dict[str, Trace]:
    """Load, apply and query a new lake in `folder`; gives the trace of each."""
    export = str(full([item("a", v=1), item("b", v=2)]).write(folder / "export"))
    landed = land(folder / "object", change(T0_US + MINUTE_US, item("a", v=3), item("a", v=1)))
    settings = parse_settings({"warehouse": str(folder / "lake"), "tables": [{"name": TABLE, "key": ["id"]}]}, "trace")
    commands: dict[str, Callable[[Lake], object]] = {
        "load": lambda lake: load_export(lake, TABLE, export),
        "apply": lambda lake: apply_objects(lake, TABLE, [landed]),
        "query": read_all,
    }
    return {name: trace_command(settings, command) for name, command in commands.items()}


def trace_command(settings: LakeSettings, command: Callable[[Lake], object]) -> Trace:
    """Open a lake and run one command against it."""
    with traced() as trace, open_lake(settings) as lake:
        command(lake)
    return trace


def main(verbose: bool) -> None:
    """Print the figures."""
    for measured in (False, True):
        with TemporaryDirectory() as folder:
            traces = run_commands(Path(folder))
        for name, trace in traces.items() if measured else ():
            print(f"{name}: {trace.text()}")
            if verbose:
                print(trace.details())


if __name__ == "__main__":
    main("-v" in sys.argv[1:])
