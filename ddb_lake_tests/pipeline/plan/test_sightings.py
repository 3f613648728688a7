"""Objects that were seen before they were ingested: which are remembered, and which are lost."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.core.capture.sightings import MOST, Sighting, lost, with_seen
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.capture.gap_log import open_gaps, record_repair
from ddb_lake.pipeline.plan.cursor import SensorCursor
from ddb_lake.pipeline.plan.planner import Planner, Tick
from ddb_lake.pipeline.plan.sightings import examine_seen_objects, remember
from ddb_lake.pipeline.sync import sync
from ddb_lake_tests.support.export_files import T0_US, change, item, land
from ddb_lake_tests.support.several_tables import lake_of

pytestmark = pytest.mark.usefixtures("no_source")


def a_table(landing: Path) -> dict[str, object]:
    return {"name": "orders", "changes": {"uri": str(landing)}}


def test_object_that_a_listing_showed_and_that_is_gone_is_lost_until_its_time_is_repaired(tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    kept = land(landing / "2026/03/01/09/kept", change(T0_US, item("a")))
    gone = land(landing / "2026/03/01/09/gone", change(T0_US, item("b")))
    (landing / "2026/03/01/09/empty").touch()
    with lake_of(tmp_path / "lake", a_table(landing)) as lake:
        table = lake.table("orders")
        seen = examine_seen_objects(lake, table)
        assert (len(seen.waiting), seen.lost) == (3, ())
        size = Path(gone).stat().st_size
        Path(gone).unlink()
        (landing / "2026/03/01/09/empty").unlink()
        apply_objects(lake, "orders", [kept])
        Path(kept).unlink()
        for _ in range(2):
            found = examine_seen_objects(lake, table)
            assert [(one.uri, one.size_bytes, one.seen_by) for one in found.lost] == [(gone, size, "listing")]
        (gap,) = open_gaps(lake, "orders")
        assert gap.kind == "lost" and gone in gap.reason
        record_repair(lake, "orders", gap.from_us, gap.to_us, "an export")
        repaired = examine_seen_objects(lake, table)
        assert (repaired.lost, repaired.repaired) == ((), 1)
        assert examine_seen_objects(lake, table).repaired == 0, "it is forgotten"


def test_object_that_comes_back_is_not_lost(tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    uri = land(landing / "object", change(T0_US, item("a")))
    content = Path(uri).read_bytes()
    with lake_of(tmp_path / "lake", a_table(landing)) as lake:
        table = lake.table("orders")
        examine_seen_objects(lake, table)
        Path(uri).unlink()
        assert len(examine_seen_objects(lake, table).lost) == 1
        Path(uri).write_bytes(content)
        assert examine_seen_objects(lake, table).lost == ()
        apply_objects(lake, "orders", [uri])
        assert examine_seen_objects(lake, table).waiting == ()


def test_sync_and_the_sensor_remember_what_they_list(tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    bad = land(landing / "object", change(T0_US, item("a")))
    with lake_of(tmp_path / "lake", a_table(landing)) as lake:
        table = lake.table("orders")
        planned: dict[str, Sequence[ObjectRef]] = {}
        planner = Planner(lake, on_unapplied=lambda name, refs, _: planned.update({name: refs} if refs else {}))
        planner.tick(Tick(SensorCursor()))
        assert [ref.uri for ref in planned["orders"]] == [bad]
        list(Planner(lake, on_unapplied=partial(remember, lake)).due(table))
        Path(bad).unlink()
        sync(lake)
        assert [one.uri for one in examine_seen_objects(lake, table).lost] == [bad]


def test_object_that_only_a_notification_named_is_lost_if_no_listing_shows_it(tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    there = land(landing / "2026/03/01/09/there", change(T0_US, item("a")))
    named = str(landing / "2026/03/01/09/named")
    with lake_of(tmp_path / "lake", a_table(landing)) as lake:
        seen: list[tuple[str, str]] = []
        planner = Planner(lake, on_unapplied=lambda _, refs, by: seen.extend((ref.uri, by) for ref in refs))
        planner.tick(Tick(SensorCursor(), hints={"orders": [there, named, "/elsewhere/object"]}))
        assert (named, "notification") in seen and (there, "notification") not in seen
        remember(lake, "orders", [ObjectRef(named, "", 0, 0)], "notification")
        (found,) = examine_seen_objects(lake, lake.table("orders")).lost
        assert (found.uri, found.size_bytes, found.seen_by) == (named, None, "notification")


def test_memory_is_bounded_and_keeps_the_first_sighting() -> None:
    first = Sighting("a", 1, 5, 10)
    assert with_seen([first], [Sighting("a", 1, 5, 20), Sighting("b", 1, 6, 20)]) == (first, Sighting("b", 1, 6, 20))
    many = with_seen([], (Sighting(str(number), 1, 0, 0) for number in range(MOST + 5)))
    assert len(many) == MOST and many[0].uri == "0"
    assert lost(many[:3], {"0"}, {"1"}) == (many[2],)
    assert Sighting.from_json(first.to_json()) == first
