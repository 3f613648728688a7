"""Objects in the shape in which AWS services write them: our own, and published ones where they are beside the checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SAMPLES: Final = Path(__file__).parents[1] / "samples"
"""Our own: see its README. Tests may expect its values."""

PUBLISHED: Final = Path(__file__).parents[3] / "shared" / "samples"
"""What others published, with the same folders. It is no part of the repository, and often absent."""


def sample_files(folder: str, pattern: str = "*") -> list[Path]:
    """Files below a folder of both, our own first: at least one."""
    found = [path for root in (SAMPLES, PUBLISHED) for path in sorted((root / folder).rglob(pattern))]
    assert found, f"{SAMPLES / folder} has no {pattern}"
    return [path for path in found if path.is_file() and path.suffix != ".md"]
