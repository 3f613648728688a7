"""Read a group of landed objects by several processes, because Python parses JSON on one processor at a time.

The processes are started for one group and end with it. Each fetches and reads a share of the objects, stages rows in a folder
of its own, and leaves a description of them in a file; none commits anything. A group with records of a second configured
table is not read this way, because only the calling process can get that table's key from the lake.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import Any

from ddb_lake.aws.objects import ObjectRef, ObjectStore
from ddb_lake.aws.session import expect_bucket_owners, expected_owners
from ddb_lake.core.operations.system import cpu_count
from ddb_lake.engine.import_hook import hide_pandas
from ddb_lake.errors import TransientError
from ddb_lake.pipeline.apply.object_reader import (
    GroupReader,
    IngestedObject,
    ReadOptions,
    StagedGroup,
    StagedTable,
    TableDefinition,
    UnknownTableError,
    Unreadable,
    fetch,
    only,
)

PARALLEL_BYTES = 3 * 1024 * 1024
"""The compressed size of a group from which starting processes takes less time than it saves."""

MAX_READERS = 4
"""The most processes. Each takes about 150 MB."""

_SWITCH_S = 0.0002
"""How long a thread that fetches waits for the one that parses: it needs the interpreter several times an object."""

_TASK = "task.pickle"
_RESULT = "result.pickle"

Numbered = tuple[int, ObjectRef]
"""An object and its number in the group."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """How a group is read.

    Attributes:
        folder: for the staged rows.
        options: how the objects are read.
        definition: of the table `options.table`.
        copies: local files that are read in place of all objects; empty to read the objects.
        most: the most processes.
        owners: of buckets.
    """

    folder: Path
    options: ReadOptions
    definition: TableDefinition
    copies: Mapping[ObjectRef, Path] = field(default_factory=dict)
    most: int = MAX_READERS
    owners: Mapping[str, str] = field(default_factory=expected_owners)


@dataclass(frozen=True, slots=True)
class ReadShare:
    """The result of one process: the objects by their numbers, and the numbers of rows in its folder.

    `changes`, `quarantined`: None if nothing was staged. `records`: as in `StagedTable`.
    """

    objects: list[tuple[int, IngestedObject]]
    other_tables: Counter[str]
    changes: int | None
    quarantined: int | None
    records: Counter[int]
    unreadable: Unreadable


# --- the calling process


def read_parallel(plan: ReadPlan, refs: Sequence[ObjectRef]) -> StagedGroup | None:
    """Read a group by several processes.

    Returns None if one process must read it, or reads it faster: the group is small, it has records of a second configured
    table, or the table's key is not known (then the first record decides it, and several processes could disagree).

    Raises:
        TransientError: a process died. Errors of fetching an object are raised as they are.
    """
    count = min(cpu_count(), plan.most, len(refs))
    if not plan.definition.key or count < 2 or sum(ref.size_bytes for ref in refs) < PARALLEL_BYTES:
        return None
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number, objects in enumerate(_shares(refs, count)):
            processes.append(_start(replace(plan, folder=_folder(plan, number)), objects))
        shares = [_result(plan, number, process) for number, process in enumerate(processes)]
    except UnknownTableError:
        return None
    finally:
        for process in processes:
            with process:
                process.kill()
    return _merged(plan, shares)


def _shares(refs: Sequence[ObjectRef], count: int) -> list[list[Numbered]]:
    """The objects in `count` shares of about equal size, each in the group's order."""
    shares: list[list[Numbered]] = [[] for _ in range(count)]
    sizes = [0] * count
    for entry in sorted(enumerate(refs), key=lambda entry: entry[1].size_bytes, reverse=True):
        least = sizes.index(min(sizes))
        shares[least].append(entry)
        sizes[least] += entry[1].size_bytes
    return [sorted(share, key=lambda entry: entry[0]) for share in shares]


def _folder(plan: ReadPlan, number: int) -> Path:
    return plan.folder / f"reader-{number}"


def _start(plan: ReadPlan, objects: list[Numbered]) -> subprocess.Popen[bytes]:
    """Start a process that reads some objects into `plan.folder`."""
    plan.folder.mkdir()
    (plan.folder / _TASK).write_bytes(pickle.dumps((plan, objects)))
    command = [sys.executable, "-c", f"from {__name__} import main; main()", str(plan.folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)


def _result(plan: ReadPlan, number: int, process: subprocess.Popen[bytes]) -> ReadShare:
    """Wait for a process. Raises the exception that it left as its result."""
    status = process.wait()
    file = _folder(plan, number) / _RESULT
    if status or not file.exists():
        table = plan.options.table
        raise TransientError(f"a reading process ended with status {status}", table=table, hint="run it again")
    share = pickle.loads(file.read_bytes())
    if isinstance(share, BaseException):
        raise share
    return share  # type: ignore[no-any-return]


def _merged(plan: ReadPlan, shares: Sequence[ReadShare]) -> StagedGroup:
    numbered = sorted((entry for share in shares for entry in share.objects), key=lambda entry: entry[0])
    group = StagedGroup([entry for _, entry in numbered], {}, sum((s.other_tables for s in shares), Counter()))
    for share in shares:
        group.unreadable.merge(share.unreadable)
    staged = [share for share in shares if share.changes is not None]
    if staged:
        changes, quarantined = sum(s.changes or 0 for s in staged), sum(s.quarantined or 0 for s in staged)
        records = sum((s.records for s in staged), Counter[int]())
        group.tables[plan.options.table] = StagedTable.at(plan.folder / "reader-*" / "0", changes, quarantined, records)
    return group


# --- a reading process


def main() -> None:
    """Read a share, and leave the result or the exception in a file. Ends with the calling process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the calling process gets it too, and ends this one
    # the calling process holds the other end of standard input: when it ends, the read returns
    Thread(target=lambda: (os.read(sys.stdin.fileno(), 1), os._exit(1)), daemon=True).start()
    hide_pandas(None)
    sys.setswitchinterval(_SWITCH_S)
    folder = Path(sys.argv[1])
    try:
        result: Any = _read(*pickle.loads((folder / _TASK).read_bytes()))
    except Exception as error:  # the calling process raises it
        result = error
    (folder / _RESULT).write_bytes(pickle.dumps(result))


def _read(plan: ReadPlan, objects: list[Numbered]) -> ReadShare:
    table = plan.options.table
    reader = GroupReader(plan.folder, plan.options, only({table: plan.definition}))
    numbers = [number for number, _ in objects]
    expect_bucket_owners(plan.owners)
    fetched = fetch(ObjectStore(), [ref for _, ref in objects], plan.copies)
    group = reader.read_numbered(zip(numbers, fetched, strict=True))
    staged = group.tables.get(table)
    return ReadShare(
        list(zip(numbers, group.objects, strict=True)),
        group.other_tables,
        staged.changes.rows if staged else None,
        staged.quarantine.rows if staged else None,
        staged.records if staged else Counter(),
        group.unreadable,
    )
