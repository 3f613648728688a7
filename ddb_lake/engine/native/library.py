"""Load the record kernel, which is built when the package is built (`.ci/build_kernel.py`); a package without it works too."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

SWITCH: Final = "DDB_LAKE_NATIVE"
"""The environment variable that turns the kernel off (`off`). Empty or `on`: it is used if it was built."""

LIBRARY: Final = Path(__file__).with_name("record_kernel.so")
"""The compiled kernel, with the same name on every platform."""

VERSION: Final = 3
"""The version of the kernel's interface, as in `record_kernel.c`. A library of another version is not used."""

TEXT_COLUMNS: Final = ("event_id", "keys", "new_image", "old_image", "kinesis_sequence", "shard", "_key")
"""The columns of `STAGED_CHANGES` that the kernel writes as text, in its order."""

TAGS: Final = ("S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "M", "L")
"""The type tags of DynamoDB, in the kernel's order."""

ENDED, UNKNOWN, FULL, NO_MEMORY = range(4)
"""Why the kernel stopped: the object ended, a byte that it does not recognise, no room, no memory."""

_I64: Final = ctypes.c_int64
_POINTER: Final = ctypes.c_void_p


class TextColumn(ctypes.Structure):
    """`TextColumn` of record_kernel.c."""

    _fields_ = (("bytes", _POINTER), ("offsets", _POINTER), ("valid", _POINTER), ("capacity", _I64))


class Batch(ctypes.Structure):
    """`Batch` of record_kernel.c, where the members are described."""

    _fields_ = (
        ("data", ctypes.c_char_p),
        ("size", _I64),
        ("start", _I64),
        ("place", _I64),
        ("latest_us", _I64),
        ("after_arrival_us", _I64),
        ("table", ctypes.c_char_p),
        ("table_length", _I64),
        ("key", ctypes.c_char_p * 2),
        ("key_length", _I64 * 2),
        ("resume", _I64),
        ("reason", _I64),
        ("earliest_us", _I64),
        ("rows", _I64),
        ("row_capacity", _I64),
        ("record_id", _POINTER),
        ("event", _POINTER),
        ("changed_us", _POINTER),
        ("ttl", _POINTER),
        ("arrived_us", _POINTER),
        ("arrived_valid", _POINTER),
        ("offset", _POINTER),
        ("key_hash", _POINTER),
        ("object_place", _POINTER),
        ("text", TextColumn * len(TEXT_COLUMNS)),
    )


class Attribute(ctypes.Structure):
    """`Attribute` of record_kernel.c."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("name_length", _I64),
        ("column", ctypes.c_int32 * len(TAGS)),
        ("first", ctypes.c_int32),
        ("members", ctypes.c_int32),
    )


class Column(ctypes.Structure):
    """`Column` of record_kernel.c, where the members are described."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("whole", ctypes.c_int32),
        ("scale", ctypes.c_int32),
        ("valid", _POINTER),
        ("values", _POINTER),
        ("texts", _POINTER),
        ("capacity", _I64),
        ("count", _I64),
    )


class Items(ctypes.Structure):
    """`Items` of record_kernel.c, where the members are described."""

    _fields_ = (
        ("data", _POINTER),
        ("offsets", _POINTER),
        ("rows", _I64),
        ("member", ctypes.c_char_p),
        ("member_length", _I64),
        ("attributes", _POINTER),
        ("attribute_count", _I64),
        ("columns", _POINTER),
        ("column_count", _I64),
        ("read", _POINTER),
        ("unescaped", _POINTER),
    )


@dataclass(frozen=True, slots=True)
class Kernel:
    """The loaded library; `None` if it is not used. `reason`: why it is not, for people."""

    library: Any | None
    reason: str = ""


@cache
def load(path: Path = LIBRARY) -> Kernel:
    """The kernel of this process, which is loaded once. Never raises."""
    switch = os.environ.get(SWITCH, "")
    if switch == "off":
        return Kernel(None, f"{SWITCH} is off")
    if switch not in ("", "on"):
        return Kernel(None, f"{SWITCH} is neither on nor off")
    if not path.exists():
        return Kernel(None, "this installation was built without a C compiler")
    try:
        library = ctypes.CDLL(str(path))
        version, sizes = library.ddb_lake_version, (library.ddb_lake_batch_bytes, library.ddb_lake_items_bytes)
        for function in (version, *sizes, library.ddb_lake_read_records, library.ddb_lake_read_items):
            function.restype = _I64
        if (version(), *(size() for size in sizes)) != (
            VERSION,
            ctypes.sizeof(Batch),
            sum(map(ctypes.sizeof, (Items, Column, Attribute))),
        ):
            return Kernel(None, f"it has version {version()}, and this release needs {VERSION}: install ddb-lake again")
        library.ddb_lake_read_records.argtypes = [ctypes.POINTER(Batch)]
        library.ddb_lake_read_items.argtypes = [ctypes.POINTER(Items)]
    except (OSError, AttributeError) as error:
        return Kernel(None, f"it cannot be loaded on this system ({type(error).__name__})")
    return Kernel(library)
