"""The pictures of the documentation can be taken from the product, and show what their pages say."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ddb_lake.orchestration.demo.home import DemoHome
from ddb_lake_tests.browser.take_pictures import IMAGES, MOST_BYTES, take_pages
from ddb_lake_tests.support.browser import STAGES
from ddb_lake_tests.support.skips import need

pytestmark = [
    pytest.mark.needs("chromium"),
    pytest.mark.exhaustive,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # playwright's own event loop, closed late
]

SHOWN = {
    "lineage": ("Global asset lineage", "orders", "overview", *STAGES),
    "current-orders": ("Row count", "customer", "address__city", "address.city (S)", "decimal(38,6)"),
    "checks": ("unique_keys", "no_gaps", "rows_match_source", "schema_unchanged"),
    "red-check": ("no_gaps", "Failed", "open gaps", "what to do", "ddb-lake repair orders --gaps"),
    "overview": ("1 of 1 table needs a look", "verified"),
    "run": ("Success", "RUN_SUCCESS", "lake__lake"),
}
"""Words of the page of each picture."""


def test_pictures_show_what_their_pages_say(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    need("chromium")
    home: DemoHome = request.getfixturevalue("demo_lake")
    texts = take_pages(home, tmp_path)

    assert {name: [word for word in words if word not in texts[name]] for name, words in SHOWN.items()} == {
        name: [] for name in SHOWN
    }
    assert set(texts) == set(SHOWN) == {path.stem for path in tmp_path.iterdir()}
    for name in SHOWN:
        taken, kept = (tmp_path / f"{name}.png").read_bytes(), (IMAGES / f"{name}.png").read_bytes()
        assert _size(taken) == _size(kept), f"{name}: run `python -m ddb_lake_tests.browser.take_pictures`"
        assert 20_000 < len(taken) <= MOST_BYTES, f"{name}: a page without contents, or too large"


def _size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height
