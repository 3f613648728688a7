"""Containers of landed objects, made by libraries other than ours."""

from __future__ import annotations

import io
import zipfile


def zipped(*contents: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, content in enumerate(contents):
            archive.writestr(f"part-{index}", content)
    return buffer.getvalue()
