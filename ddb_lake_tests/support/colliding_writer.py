"""A process that applies change objects, and whose first commit to a table waits for the same commit of another process.

`python -m ddb_lake_tests.support.colliding_writer CONFIG TABLE URI TABLE_OF_COMMIT FOLDER`, twice with one FOLDER. Prints the
number of its conflicts.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from ddb_lake.config.files import load_settings
from ddb_lake.errors import CommitConflict
from ddb_lake.executors import open_lake
from ddb_lake.lake.commit import Commit
from ddb_lake.pipeline.apply.apply import apply_objects

MEET_WITHIN_S = 300


def main(config: str, table: str, uri: str, committed: str, folder: str) -> None:
    """Apply the objects below `uri`, and print the number of conflicts."""
    conflicts: list[str] = []
    original: Callable[[Commit], Any] = Commit.run
    met: list[bool] = []

    def run(commit: Commit) -> Any:
        name = commit._table.name()[-1]
        if name == committed and not met:
            met.append(True)
            _meet(Path(folder))
        try:
            return original(commit)
        except CommitConflict:
            conflicts.append(name)
            raise

    with mock.patch.object(Commit, "run", run), open_lake(load_settings(Path(config))) as lake:
        apply_objects(lake, table, [uri])
    assert met, f"no commit to {committed}"
    print(conflicts.count(committed))


def _meet(folder: Path) -> None:
    """Wait until two processes are here."""
    (folder / uuid.uuid4().hex).touch()
    until = time.monotonic() + MEET_WITHIN_S
    while len(list(folder.iterdir())) < 2:
        if time.monotonic() > until:
            raise TimeoutError("the other process does not come")
        time.sleep(0.01)


if __name__ == "__main__":
    main(*sys.argv[1:])
