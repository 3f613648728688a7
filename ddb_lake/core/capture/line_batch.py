"""Lines on their way into one gzip object, held compressed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field


@dataclass(slots=True)
class LineBatch:
    """Lines that are added one by one. `line_bytes`: of the lines as they are; `since`: when the first was added."""

    records: int = 0
    line_bytes: int = 0
    since: float = 0.0
    _parts: list[bytes] = field(default_factory=list)
    _packer: zlib._Compress = field(default_factory=lambda: zlib.compressobj(6, zlib.DEFLATED, 31))

    def add(self, line: bytes, at: float) -> None:
        """Add a line, which ends with `\\n`, at the time `at`."""
        self.since = self.since if self.records else at
        self.records += 1
        self.line_bytes += len(line)
        self._parts.append(self._packer.compress(line))

    def packed(self) -> bytes:
        """The object's content (gzip). The batch is used up."""
        return b"".join([*self._parts, self._packer.flush()])
