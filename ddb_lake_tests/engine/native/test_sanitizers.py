"""Under the sanitizers of addresses and undefined behaviour, the record kernel reads the same rows of changed objects."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ddb_lake.engine.native.compiler import compiler
from ddb_lake.engine.native.library import load
from ddb_lake.engine.native.reader import NativeReader
from ddb_lake_tests.support.kernel_objects import mutated_objects
from ddb_lake_tests.support.staged_objects import record_kernel

HARNESS = Path(__file__).with_name("harness.c")
SANITIZERS = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-g",
    "-O1",
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Werror",
)


def rows_of(objects: list[bytes]) -> int:
    """How many rows the kernel reads if the rest of a line at which it stops is skipped."""
    reader = NativeReader(load().library, "orders", ("id",))
    found = 0
    for number, data in enumerate(objects):
        reader.begin_object("object", number, 1 << 62)
        start = 0
        while start < len(data):
            run = reader.read_run(data, start)
            found += 0 if run is None else run.rows
            start = start if run is None else run.end
            if reader.is_full:
                reader.take()
                continue
            line_end = data.find(b"\n", start)
            start = len(data) if line_end < 0 else line_end + 1
    return found


@pytest.mark.exhaustive
def test_it_reads_changed_objects_without_a_fault(tmp_path: Path) -> None:
    command = compiler()
    if command is None:
        pytest.skip("no C compiler")
    program = tmp_path / "harness"
    subprocess.run([*command, *SANITIZERS, "-o", str(program), str(HARNESS)], check=True)
    objects = [data for seed in range(20) for data in mutated_objects(1_000 + seed, 1_000)]
    text = b"".join(len(data).to_bytes(4, "little") + data for data in objects)
    done = subprocess.run([str(program)], input=text, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    with record_kernel("on"):
        expected = rows_of(objects)
    rows, tiny_rows, cut_rows = map(int, done.stdout.split())
    assert rows == expected > len(objects) / 4
    assert 0 < tiny_rows < rows
    assert cut_rows > rows
