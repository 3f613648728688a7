"""A group of landed objects read by several processes, because Python parses JSON on one processor at a time.

The processes are started for one group and end with it. They are given objects over a pipe, stage rows into folders of
their own, and say in the end what they did; nothing is committed by them. A group that holds records of a second
configured table is read again by this process alone: only it can ask the lake for that table's key.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from queue import Queue
from typing import IO, Any

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.core.machine import cpu_count
from ddb_lake.core.validation import Validator
from ddb_lake.engine.light import spare_pandas
from ddb_lake.errors import TransientError
from ddb_lake.stages.read import GroupReader, IngestedObject, StagedGroup, StagedTable

SHARED_BYTES = 3 * 1024 * 1024
"""Compressed size from which starting processes takes less time than they save."""

MAX_READERS = 4
"""Each takes about 150 MB."""

Objects = Iterable[tuple[ObjectRef, bytes]]


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What a reader must know. `key`: of `table`, empty if the lake does not know it yet."""

    folder: Path
    table: str
    routes: dict[str, str]
    key: tuple[str, ...]
    validator: Validator | None


@dataclass(frozen=True, slots=True)
class ReadShare:
    """What one process read: objects by their number in the group, and its rows, which are on disk."""

    objects: list[tuple[int, IngestedObject]]
    other_tables: Counter[str]
    key: tuple[str, ...]
    staged: bool
    changes: int
    quarantined: int
    records: Counter[int]


class ElsewhereError(Exception):
    """A record belongs to another configured table than the group's."""


def read_shared(
    plan: ReadPlan, fetch: Callable[[], Objects], refs: Sequence[ObjectRef]
) -> tuple[StagedGroup, tuple[str, ...]] | None:
    """The group's rows, and the key of `plan.table`; None if one process had better read it.

    Raises TransientError if a reader dies.
    """
    readers = min(cpu_count(), MAX_READERS, len(refs))
    if readers < 2 or sum(ref.size_bytes for ref in refs) < SHARED_BYTES:
        return None
    waiting: Queue[tuple[int, ObjectRef, bytes] | None] = Queue(2 * readers)
    with ThreadPoolExecutor(readers, thread_name_prefix="reader") as pool:
        shares = [pool.submit(_share, plan, number, waiting) for number in range(readers)]
        try:
            for number, (ref, data) in enumerate(fetch()):
                waiting.put((number, ref, data))
        finally:
            for _ in shares:
                waiting.put(None)
        try:
            done = [share.result() for share in shares]
        except ElsewhereError:
            return None
    return _together(plan, done), next((share.key for share in done if share.key), ())


def _together(plan: ReadPlan, shares: Sequence[ReadShare]) -> StagedGroup:
    numbered = sorted((entry for share in shares for entry in share.objects), key=lambda entry: entry[0])
    group = StagedGroup([entry for _, entry in numbered], {}, sum((s.other_tables for s in shares), Counter()))
    staged = [share for share in shares if share.staged]
    if staged:
        stem = plan.folder / "reader-*" / "0"
        records = sum((s.records for s in staged), Counter[int]())
        rows = StagedTable.at(stem, sum(s.changes for s in staged), sum(s.quarantined for s in staged), records)
        group.tables[plan.table] = rows
    return group


def _share(plan: ReadPlan, number: int, waiting: Queue[Any]) -> ReadShare:
    """Run one reader, feed it with what waits, and take its answer. Takes its share to the end even if it fails."""
    folder = plan.folder / f"reader-{number}"
    folder.mkdir()
    command = [sys.executable, "-c", f"from {__name__} import main; main()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None and process.stdout is not None
        share = iter(waiting.get, None)
        with suppress(BrokenPipeError), process.stdin as pipe:
            for message in chain([replace(plan, folder=folder)], share, [None]):
                pickle.dump(message, pipe, pickle.HIGHEST_PROTOCOL)
        for _ in share:  # of a reader that gave up: else whoever fills the queue would wait for it
            pass
        answer = process.stdout.read()
    if not answer:
        raise TransientError(f"{plan.table}: a reading process ended with status {process.returncode}; run it again")
    share = pickle.loads(answer)
    if isinstance(share, BaseException):
        raise share
    return share  # type: ignore[no-any-return]


def _read(source: IO[bytes]) -> ReadShare:
    """A reader's work: the plan, then objects until there are no more."""
    plan: ReadPlan = pickle.load(source)

    def key_of(table: str) -> tuple[str, ...]:
        if table != plan.table:
            raise ElsewhereError(table)
        return plan.key

    numbers: list[int] = []

    def objects() -> Iterable[tuple[int, tuple[ObjectRef, bytes]]]:
        while (message := pickle.load(source)) is not None:
            number, ref, data = message
            numbers.append(number)
            yield number, (ref, data)

    reader = GroupReader(plan.folder, plan.table, plan.routes, key_of, validators=lambda _table: plan.validator)
    group = reader.read_numbered(objects())
    staged = group.tables.get(plan.table)
    return ReadShare(
        list(zip(numbers, group.objects, strict=True)),
        group.other_tables,
        reader.keys.get(plan.table, ()),
        staged is not None,
        staged.changes.rows if staged else 0,
        staged.quarantine.rows if staged else 0,
        staged.records if staged else Counter(),
    )


def main() -> None:
    """A reading process, from standard input to standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asked ends us by closing the pipe
    spare_pandas(None)
    try:
        answer: Any = _read(sys.stdin.buffer)
    except Exception as error:  # told to the process that asked, which raises it
        answer = error
    pickle.dump(answer, sys.stdout.buffer)
