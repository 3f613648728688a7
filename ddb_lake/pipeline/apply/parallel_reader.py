"""A group of landed objects read by several processes, because Python parses JSON on one processor at a time.

The processes are started for one group and end with it. Each is given a share of the objects, fetches them itself, stages
rows into a folder of its own, and says in the end what it did; nothing is committed by them. A group that holds records
of a second configured table is read again by this process alone: only it can ask the lake for that table's key.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

from ddb_lake.aws.objects import ObjectRef, ObjectStore
from ddb_lake.core.decode.routing import SharedNames
from ddb_lake.core.operations.system import cpu_count
from ddb_lake.core.values.json_schema import Validator
from ddb_lake.engine.import_hook import spare_pandas
from ddb_lake.errors import TransientError
from ddb_lake.pipeline.apply.object_reader import (
    NO_SHARED_NAMES,
    GroupReader,
    IngestedObject,
    StagedGroup,
    StagedTable,
    fetch,
)

SHARED_BYTES = 3 * 1024 * 1024
"""Compressed size from which starting processes takes less time than they save."""

MAX_READERS = 4
"""Each takes about 150 MB."""

_SWITCH_S = 0.0002
"""How long a thread that fetches waits for the one that parses: it needs the interpreter several times an object."""

_TASK = "task.pickle"
_ANSWER = "answer.pickle"

Numbered = tuple[int, ObjectRef]
"""An object and its number in the group."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What a reader must know. `key`: of `table`, empty while nobody knows it."""

    folder: Path
    table: str
    routes: dict[str, str]
    key: tuple[str, ...]
    validator: Validator | None
    shared: SharedNames = NO_SHARED_NAMES


@dataclass(frozen=True, slots=True)
class ReadShare:
    """What one process read: objects by their number in the group, and its rows, which are on disk."""

    objects: list[tuple[int, IngestedObject]]
    other_tables: Counter[str]
    staged: bool
    changes: int
    quarantined: int
    records: Counter[int]


class ElsewhereError(Exception):
    """A record belongs to another configured table than the group's."""


def read_shared(plan: ReadPlan, refs: Sequence[ObjectRef]) -> StagedGroup | None:
    """The group's rows; None if one process had better read it.

    It had if the key is not known: the first record of all says what it is, and several readers could disagree.
    Raises TransientError if a reader dies, and what fetching an object raises.
    """
    count = min(cpu_count(), MAX_READERS, len(refs))
    if not plan.key or count < 2 or sum(ref.size_bytes for ref in refs) < SHARED_BYTES:
        return None
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number, objects in enumerate(_shares(refs, count)):
            processes.append(_start(replace(plan, folder=_folder(plan, number)), objects))
        done = [_answer(plan, number, process) for number, process in enumerate(processes)]
    except ElsewhereError:
        return None
    finally:
        for process in processes:
            with process:
                process.kill()
    return _together(plan, done)


def _shares(refs: Sequence[ObjectRef], count: int) -> list[list[Numbered]]:
    """The objects in `count` shares of about equal size, each in the group's order."""
    shares: list[list[Numbered]] = [[] for _ in range(count)]
    sizes = [0] * count
    for entry in sorted(enumerate(refs), key=lambda entry: entry[1].size_bytes, reverse=True):
        least = sizes.index(min(sizes))
        shares[least].append(entry)
        sizes[least] += entry[1].size_bytes
    return [sorted(share, key=lambda entry: entry[0]) for share in shares]


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


def _folder(plan: ReadPlan, number: int) -> Path:
    return plan.folder / f"reader-{number}"


def _start(plan: ReadPlan, objects: list[Numbered]) -> subprocess.Popen[bytes]:
    """A process that reads some objects into `plan.folder`, and leaves its answer there."""
    plan.folder.mkdir()
    (plan.folder / _TASK).write_bytes(pickle.dumps((plan, objects)))
    command = [sys.executable, "-c", f"from {__name__} import main; main()", str(plan.folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)


def _answer(plan: ReadPlan, number: int, process: subprocess.Popen[bytes]) -> ReadShare:
    status = process.wait()
    answer = _folder(plan, number) / _ANSWER
    if status or not answer.exists():
        raise TransientError(f"a reading process ended with status {status}", table=plan.table, hint="run it again")
    share = pickle.loads(answer.read_bytes())
    if isinstance(share, BaseException):
        raise share
    return share  # type: ignore[no-any-return]


def _read(plan: ReadPlan, objects: list[Numbered]) -> ReadShare:
    """A reader's work."""

    def key_of(table: str) -> tuple[str, ...]:
        if table != plan.table:
            raise ElsewhereError(table)
        return plan.key

    reader = GroupReader(
        plan.folder, plan.table, plan.routes, key_of, validators=lambda _table: plan.validator, shared=plan.shared
    )
    numbers = [number for number, _ in objects]
    fetched = fetch(ObjectStore(), [ref for _, ref in objects])
    group = reader.read_numbered(zip(numbers, fetched, strict=True))
    staged = group.tables.get(plan.table)
    return ReadShare(
        list(zip(numbers, group.objects, strict=True)),
        group.other_tables,
        staged is not None,
        staged.changes.rows if staged else 0,
        staged.quarantine.rows if staged else 0,
        staged.records if staged else Counter(),
    )


def main() -> None:
    """A reading process. It ends with the process that asked, which holds the other end of its standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked is told of it too, and ends us
    Thread(target=lambda: (os.read(sys.stdin.fileno(), 1), os._exit(1)), daemon=True).start()
    spare_pandas(None)
    sys.setswitchinterval(_SWITCH_S)
    folder = Path(sys.argv[1])
    try:
        answer: Any = _read(*pickle.loads((folder / _TASK).read_bytes()))
    except Exception as error:  # told to the process that asked, which raises it
        answer = error
    (folder / _ANSWER).write_bytes(pickle.dumps(answer))
