"""Durations and sizes as text for people.

humanize's `precisedelta` prints every unit in words (`2 days, 3 hours, 2 minutes and 3 seconds`), which is too long for
a column of a table; `naturaldelta` prints one unit only.
"""

from __future__ import annotations


def duration_text(seconds: float | None, unknown: str = "-") -> str:
    """A duration in its two largest units: `2 d 3 h`, `4 min 10 s`, `3.2 s`. None gives `unknown`."""
    if seconds is None:
        return unknown
    if abs(seconds) < 60:
        return f"{seconds:.1f} s"
    sign, left = ("-" if seconds < 0 else ""), int(abs(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return sign + " ".join(parts[:2])


def size_text(size_bytes: int | None, unknown: str = "-") -> str:
    """A number of bytes in B, KiB, MiB, GiB or TiB. None gives `unknown`."""
    if size_bytes is None:
        return unknown
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"
