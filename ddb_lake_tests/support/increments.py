"""An incremental export of several data files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from ddb_lake_tests.support.export_files import T0_US, Export, item

HOUR_US = 3_600_000_000
FILES = 5
END_US = T0_US + HOUR_US


def write_export(folder: Path, bad: tuple[tuple[int, str], ...] = (), **settings: Any) -> str:
    """Write an export with upserts, deletes and an empty file. Returns its folder.

    `bad`: file numbers and lines without a record. `settings`: of `support.export_files.Export`.
    """
    rng = random.Random(5)
    files: list[list[Any]] = [[] for _ in range(FILES)]
    for number in range(120):
        key = {"id": {"S": f"key {number}"}}
        line: dict[str, Any] = {
            "Metadata": {"WriteTimestampMicros": {"N": str(T0_US + rng.randrange(HOUR_US))}},
            "Keys": key,
        }
        if rng.random() < 0.8:
            line["NewImage"] = item(key["id"]["S"], n=rng.randrange(10)) | {
                "t": rng.choice([{"S": "x"}, {"N": "1.50"}])
            }
        files[number % (FILES - 1)].append(line)
    for number, text in bad:
        files[number].insert(3, text)
    return str(Export(files, at_us=END_US, window=T0_US, **settings).write(folder))
