"""The progress of a scan that is written in the form of an export: two kinds of small files beside the data files.

    <place>/AWSDynamoDB/<id>/scan.json                     the table and the options, written before the first page
    <place>/AWSDynamoDB/<id>/data/<segment>-<number>-….json.gz   items, in lines as in a full export
    <place>/AWSDynamoDB/<id>/scan/<segment>-<number>.json  one for each data file: its digest, and where the segment goes on
    <place>/AWSDynamoDB/<id>/manifest-summary.json         last, as in an export

Pure: builds and reads the contents, and does not read files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from ddb_lake.core.layout.export_manifest import MARKER
from ddb_lake.core.values.change_record import Item
from ddb_lake.errors import ExportError

START: Final = "scan.json"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class ScanStart:
    """A scan as it began. `started_us`: every page was read after this time, UTC microseconds. `id`: as of an export."""

    id: str
    table_arn: str
    table_id: str
    segments: int
    consistent: bool
    started_us: int

    @property
    def folder(self) -> str:
        """The folder of the scan, relative to the place of exports, with a final slash."""
        return f"{MARKER}{self.id}/"

    def to_json(self) -> bytes:
        """The contents of `scan.json`."""
        return _dump({"version": _VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, data: bytes, where: str) -> ScanStart:
        """Read a `scan.json`. `where` names it in errors. Raises ExportError."""
        return cls(**_load(data, where, cls.__annotations__))


@dataclass(frozen=True, slots=True)
class ScanPart:
    """One data file of a scan.

    Attributes:
        segment, number: the place of the file in its segment; numbers begin with 0.
        items: the number of lines.
        name: the name of the data file, relative to the scan's folder.
        md5: base64 of the MD5 of the compressed bytes.
        next_key: the key after which the segment goes on, in DynamoDB JSON; None for the last file of a segment.
        read_units: the capacity units of the pages in the file.
    """

    segment: int
    number: int
    items: int
    name: str
    md5: str
    next_key: Item | None
    read_units: float

    @property
    def progress_name(self) -> str:
        """The name of this description, relative to the scan's folder."""
        return f"scan/{self.segment:06d}-{self.number:06d}.json"

    def to_json(self) -> bytes:
        """The contents of this description."""
        return _dump({"version": _VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, data: bytes, where: str) -> ScanPart:
        """Read a description. `where` names it in errors. Raises ExportError."""
        return cls(**_load(data, where, cls.__annotations__))


def is_progress(name: str) -> bool:
    """Whether a name, relative to the scan's folder, is that of a part's description."""
    return name.startswith("scan/") and name.endswith(".json")


def last_parts(parts: Iterable[ScanPart], segments: int, where: str) -> dict[int, ScanPart]:
    """The last part of each segment that has begun.

    Raises:
        ExportError: the numbers of a segment have a hole, or a part follows the last one: a file is missing or foreign.
    """
    found: dict[int, dict[int, ScanPart]] = {}
    for part in parts:
        found.setdefault(part.segment, {})[part.number] = part
    for segment, numbered in found.items():
        complete = sorted(numbered) == list(range(len(numbered)))
        ended = [number for number, part in numbered.items() if part.next_key is None]
        if segment >= segments or not complete or any(number != len(numbered) - 1 for number in ended):
            raise ExportError(
                f"the files of segment {segment} of the scan are not complete",
                uri=where,
                hint="begin a new scan: --restart",
            )
    return {segment: numbered[len(numbered) - 1] for segment, numbered in found.items()}


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _load(data: bytes, where: str, names: Mapping[str, Any]) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("version") != _VERSION or not names.keys() <= document.keys():
        raise ExportError(
            "no description of a scan that this version reads", uri=where, hint="begin a new scan: --restart"
        )
    return {name: document[name] for name in names}
