"""Read a group of landed objects by several readers at once: threads or processes.

Each reader fetches and reads a share of the objects, and stages rows in a folder of its own; none commits anything. They are
started for one group and end with it. A group with records of a second configured table is not read this way, because only
the calling thread can get that table's key from the lake.

The record kernel (`engine.native`) does not need the interpreter, so with it the readers are threads. Python parses JSON on one
processor at a time, so without it, or if it leaves many records to Python, they are processes.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

from ddb_lake.aws.objects import ObjectRef, ObjectStore
from ddb_lake.aws.session import expect_bucket_owners, expected_owners
from ddb_lake.core.operations.system import cpu_count
from ddb_lake.engine.import_hook import hide_pandas
from ddb_lake.engine.native.library import load
from ddb_lake.errors import TransientError
from ddb_lake.pipeline.apply.changelog_files import ChangelogFile, ChangelogFormat
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

THREADS_BYTES = 256 * 1024
"""The compressed size of a group from which several threads are faster than one."""

MAX_READERS = 4
"""The most readers. A process takes about 150 MB, a thread 40 MB."""

FEW_RECORDS = 1_000
MOST_LEFT = 0.1
"""Threads stop, and processes read the group, once the kernel left more than so many records and this share to Python."""

_SWITCH_S = 0.0002
"""How long a thread that fetches waits for the one that parses: it needs the interpreter several times an object."""

_TASK = "task.pickle"
_RESULT = "result.pickle"

Numbered = tuple[int, ObjectRef]
"""An object and its number in the group."""

T = TypeVar("T")


class _LeftToPythonError(Exception):
    """The record kernel leaves many of the group's records to Python."""


class _StoppedError(Exception):
    """Another reader failed."""


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
    """The result of one reader: the objects by their numbers, and the numbers of rows in its folder.

    `changes`, `quarantined`: None if nothing was staged. `records`, `files`: as in `StagedTable`. `left_out`: as in
    `StagedGroup`.
    """

    objects: list[tuple[int, IngestedObject]]
    other_tables: Counter[str]
    changes: int | None
    quarantined: int | None
    records: Counter[int]
    unreadable: Unreadable
    files: tuple[ChangelogFile, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)


# --- the calling process


def read_parallel(
    plan: ReadPlan, refs: Sequence[ObjectRef], changelog: Callable[[], ChangelogFormat | None] = lambda: None
) -> StagedGroup | None:
    """Read a group by several readers.

    Args:
        plan: how the group is read.
        refs: the objects.
        changelog: returns the format of the table's changelog, if threads may write its files; asked if threads read.

    Returns:
        None if one reader must read it, or reads it faster: the group is small, it has records of a second configured
        table, or the table's key is not known (then the first record decides it, and several readers could disagree).

    Raises:
        TransientError: a process died. Errors of fetching an object are raised as they are.
    """
    count = min(cpu_count(), plan.most, len(refs))
    size_bytes = sum(ref.size_bytes for ref in refs)
    if not plan.definition.key or count < 2:
        return None
    shares = _shares(refs, count)
    try:
        if size_bytes >= THREADS_BYTES and _is_for_kernel(plan):
            try:
                are_distinct = len({ref.uri for ref in refs}) == len(refs)  # the rows of its files have names alone
                return _merged(plan, _read_by_threads(plan, shares, changelog() if are_distinct else None))
            except _LeftToPythonError:
                for number in range(count):
                    shutil.rmtree(_folder(plan, number))
        return _merged(plan, _read_by_processes(plan, shares)) if size_bytes >= PARALLEL_BYTES else None
    except UnknownTableError:
        return None


def _is_for_kernel(plan: ReadPlan) -> bool:
    """Whether the record kernel may read the records, as far as is known before reading."""
    return (
        load().library is not None
        and not plan.definition.requires_strict_reading
        and plan.options.kernel_source() is not None
    )


def _read_by_processes(plan: ReadPlan, shares: Sequence[list[Numbered]]) -> list[ReadShare]:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number, objects in enumerate(shares):
            processes.append(_start(replace(plan, folder=_folder(plan, number)), objects))
        return [_result(plan, number, process) for number, process in enumerate(processes)]
    finally:
        for process in processes:
            with process:
                process.kill()


def _read_by_threads(
    plan: ReadPlan, shares: Sequence[list[Numbered]], changelog: ChangelogFormat | None
) -> list[ReadShare]:
    """Raises what the first reader that failed raised; the others stop before their next object."""
    stop = Event()
    with ThreadPoolExecutor(len(shares), thread_name_prefix="read") as pool:
        futures = []
        for number, objects in enumerate(shares):
            own = replace(plan, folder=_folder(plan, number))
            own.folder.mkdir()
            futures.append(pool.submit(_read, own, objects, partial(_watched, stop), changelog))
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
        for future in done:
            if (error := future.exception()) is not None:
                raise error
    return [future.result() for future in futures]


def _watched(stop: Event, reader: GroupReader, objects: Iterator[T]) -> Iterator[T]:
    """The objects, until another reader fails or the record kernel leaves many records to Python."""
    for each in objects:
        if stop.is_set():
            raise _StoppedError
        yield each
        left = reader.records - reader.records_of_kernel
        if left > FEW_RECORDS and left > MOST_LEFT * reader.records:
            raise _LeftToPythonError


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
        group.left_out.update(share.left_out)
    staged = [share for share in shares if share.changes is not None]
    if staged:
        changes, quarantined = sum(s.changes or 0 for s in staged), sum(s.quarantined or 0 for s in staged)
        records = sum((s.records for s in staged), Counter[int]())
        rows = StagedTable.at(plan.folder / "reader-*" / "0", changes, quarantined, records)
        group.tables[plan.options.table] = replace(rows, files=tuple(file for s in staged for file in s.files))
    return group


# --- a reader


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


Watch = Callable[[GroupReader, Iterator[Any]], Iterator[Any]]


def _read(
    plan: ReadPlan,
    objects: list[Numbered],
    watch: Watch = lambda _reader, objects: objects,
    changelog: ChangelogFormat | None = None,
) -> ReadShare:
    """Read a share. `watch`: is passed the objects on their way to the reader. `changelog`: as in `GroupReader`."""
    table = plan.options.table
    reader = GroupReader(plan.folder, plan.options, only({table: plan.definition}), changelog)
    numbers = [number for number, _ in objects]
    expect_bucket_owners(plan.owners)
    fetched = fetch(ObjectStore(), [ref for _, ref in objects], plan.copies)
    group = reader.read_numbered(watch(reader, zip(numbers, fetched, strict=True)))
    staged = group.tables.get(table)
    return ReadShare(
        list(zip(numbers, group.objects, strict=True)),
        group.other_tables,
        staged.changes.rows if staged else None,
        staged.quarantine.rows if staged else None,
        staged.records if staged else Counter(),
        group.unreadable,
        staged.files if staged else (),
        group.left_out,
    )
