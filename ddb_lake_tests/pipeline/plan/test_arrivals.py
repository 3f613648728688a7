"""What has landed and is not applied: every layout, asked by sync, the sensor and daily states, on S3 and in folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.aws.session import session
from ddb_lake.core.values.change_record import Item
from ddb_lake.errors import UsageError
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.daily_snapshots import keep_day
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan import arrivals
from ddb_lake.pipeline.plan.arrivals import all_prefixes, earliest_arrival_us, list_unapplied, prefixes_of_hours
from ddb_lake.pipeline.plan.cursor import SensorCursor
from ddb_lake.pipeline.plan.planner import LOOKBACK_EVERY_S, Planner, Tick
from ddb_lake.pipeline.sync import sync
from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.support.export_files import change, full, item, sorted_items, text_of
from ddb_lake_tests.support.several_tables import due_work, dumped, lake_of

pytestmark = pytest.mark.usefixtures("no_source")

HOUR = timedelta(hours=1)
UNIQUE = "11111111-2222-3333-4444-555555555555"
DAYS = {"daily_states": {"start": "2024-01-01"}}


def named(at: datetime) -> str:
    return f"stream-1-{at:%Y-%m-%d-%H-%M-%S}-{UNIQUE}"


def by_hour(at: datetime) -> str:
    return f"{at:%Y/%m/%d/%H}/{named(at)}"


@dataclass(frozen=True)
class Layout:
    """How keys continue `changes.uri`. `hourly`: whether objects in Firehose's own folders lie beside them."""

    key: Callable[[datetime], str]
    slash: str = "/"
    hourly: bool = False
    settings: dict[str, str] = field(default_factory=dict)


def zone(hours: int) -> Callable[[datetime], str]:
    return lambda at: by_hour(at + hours * HOUR)


LAYOUTS = {
    "hourly": Layout(by_hour),
    "flat": Layout(lambda at: f"flat-{at:%H%M%S}.json"),
    "flat, declared": Layout(lambda at: f"flat-{at:%H%M%S}.json", settings={"layout": "flat"}),
    "stray at the root": Layout(lambda at: f"by-hand-{at:%H%M%S}", hourly=True),
    "Firehose's name at the root": Layout(named, hourly=True),
    "hive": Layout(lambda at: f"year={at:%Y}/month={at:%m}/day={at:%d}/hour={at:%H}/{named(at)}"),
    "hive beside hours": Layout(lambda at: f"dt={at:%Y-%m-%d}/hr={at:%H}/x{at:%M%S}", hourly=True),
    "custom prefix beside hours": Layout(lambda at: f"customer/{by_hour(at)}", hourly=True),
    "custom prefix without a time": Layout(lambda at: f"customer=7/{at:%H%M%S}"),
    "no slash": Layout(by_hour, slash=""),
    "no slash, declared hourly": Layout(by_hour, slash="", settings={"layout": "hourly"}),
    "Tokyo": Layout(zone(9)),
    "Tokyo beside UTC": Layout(zone(9), hourly=True),
    "Honolulu": Layout(zone(-10)),
    "Kiritimati": Layout(zone(14)),
}
IN_FOLDERS = ("flat", "stray at the root", "custom prefix beside hours", "no slash", "Tokyo")
"""A folder is listed as a whole, whatever lies in it."""

QUICK = {
    ("s3", "hourly"),
    ("s3", "stray at the root"),
    ("s3", "custom prefix beside hours"),
    ("s3", "no slash"),
    ("s3", "Tokyo beside UTC"),
    ("folder", "flat"),
}
"""One of each kind of layout; an exhaustive run has all."""

EXHAUSTIVE = pytest.mark.exhaustive

EACH_LAYOUT = pytest.mark.parametrize(
    ("landing", "layout"),
    [
        pytest.param(where, LAYOUTS[name], id=f"{where}, {name}", marks=() if (where, name) in QUICK else EXHAUSTIVE)
        for where, names in (("s3", LAYOUTS), ("folder", IN_FOLDERS))
        for name in names
    ],
    indirect=["landing"],
)


@dataclass
class Landing:
    """Where objects land: an S3 prefix of the sandbox, or a folder."""

    root: str
    s3: Any = None

    def put(self, key: str, *records: Item) -> None:
        """Write an object whose URI is the root continued by `key`."""
        if self.s3 is not None:
            bucket, _, prefix = self.root.removeprefix("s3://").partition("/")
            self.s3.put_object(Bucket=bucket, Key=prefix + key, Body=text_of(*records))
        else:
            path = Path(self.root + key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text_of(*records))


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    with Sandbox() as sandbox, pytest.MonkeyPatch.context() as patch:
        for name, value in sandbox.environment().items():
            patch.setenv(name, value)
        session.cache_clear()
        yield sandbox.client("s3")
    session.cache_clear()


@pytest.fixture(params=["s3", "folder"])
def landing(request: pytest.FixtureRequest, tmp_path: Path) -> Landing:
    if request.param == "folder":
        return Landing(str(tmp_path / "landing"))
    client = request.getfixturevalue("s3")
    bucket = f"b{abs(hash(str(tmp_path)))}"
    client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return Landing(f"s3://{bucket}/landing", client)


def table(landing: Landing, layout: Layout, **settings: Any) -> dict[str, Any]:
    uri = landing.root + ("/" if layout.slash else "")
    return {"name": "orders", "changes": {"uri": uri, **layout.settings}, **settings}


def us(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)


class Sensor:
    """The planner, ticked as the sensor does."""

    def __init__(self, lake: Lake) -> None:
        self.lake, self.cursor = lake, SensorCursor().dump(())

    def settle(self) -> int:
        """Tick and apply until nothing is due; the number of ticks with work."""
        for number in range(10):
            cursor = SensorCursor.load(self.cursor)
            plan = Planner(self.lake).tick(Tick(cursor))
            assert plan.failed == {}
            self.cursor = cursor.dump(["orders"])
            work = [one for one in plan.work if one.kind == "apply"]
            if not work:
                return number
            for one in work:
                orders = self.lake.table("orders")
                uris = (
                    all_prefixes(self.lake, orders)
                    if one.everything
                    else prefixes_of_hours(self.lake, orders, one.hours)
                )
                apply_objects(self.lake, "orders", uris)
        raise AssertionError("the sensor never stops asking")


@EACH_LAYOUT
def test_sync_applies_what_lands_in_any_layout(layout: Layout, landing: Landing, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with lake_of(tmp_path / "lake", table(landing, layout)) as lake:
        for number, at in enumerate([now - 100 * HOUR, now - 3 * HOUR, now]):
            if layout.hourly:
                landing.put(layout.slash + by_hour(at), change(us(at), item(f"hourly {number}")))
            landing.put(layout.slash + layout.key(at), change(us(at), item("a", n=number)))
            sync(lake)
            assert json.loads(next(line for line in dumped(lake) if '"a"' in line))["n"] == {"N": str(number)}
        assert [work for work in due_work(lake) if work.kind == "apply"] == []
        assert len(dumped(lake)) == (4 if layout.hourly else 1)


@EACH_LAYOUT
def test_sensor_finds_at_once_what_lands_in_any_layout(layout: Layout, landing: Landing, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with lake_of(tmp_path / "lake", table(landing, layout)) as lake:
        lake.now = lambda: now
        sensor = Sensor(lake)
        if layout.hourly:
            landing.put(layout.slash + by_hour(now - HOUR), change(us(now), item("hourly")))
        landing.put(layout.slash + layout.key(now - timedelta(seconds=1)), change(us(now) - 9, item("a", n=1)))
        assert sensor.settle() > 0
        lake.now = lambda: now + timedelta(seconds=LOOKBACK_EVERY_S)
        sensor.settle()
        lake.now = lambda: now + timedelta(seconds=LOOKBACK_EVERY_S + 30)
        if layout.hourly:
            landing.put(layout.slash + by_hour(now), change(us(now), item("hourly 2")))
        landing.put(layout.slash + layout.key(now), change(us(now), item("a", n=5)))
        assert len(list_unapplied(lake, lake.table("orders"), "lookback").refs) == (2 if layout.hourly else 1)
        assert sensor.settle() > 0, "the tick lists only the hours that still fill"
        assert len(dumped(lake)) == (3 if layout.hourly else 1)
        assert '{"N": "5"}' in dumped(lake)[0]


@EACH_LAYOUT
def test_day_is_not_kept_while_an_object_of_any_layout_is_not_applied(
    layout: Layout, landing: Landing, tmp_path: Path
) -> None:
    noon = (datetime.now(UTC) - timedelta(days=2)).replace(hour=12, minute=0, second=0, microsecond=0)
    export = full([item("a", n=1)], at_us=us(noon - HOUR)).write(tmp_path / "exports")
    with lake_of(tmp_path / "lake", table(landing, layout, **DAYS)) as lake:
        load_export(lake, "orders", str(export.parent))
        if layout.hourly:
            landing.put(layout.slash + by_hour(noon + 30 * HOUR), change(us(noon + 30 * HOUR), item("later")))
        sync(lake)
        landing.put(layout.slash + layout.key(noon), change(us(noon), item("a", n=5), item("a", n=1)))
        with pytest.raises(UsageError, match="1 landed object that is not applied may hold changes of"):
            keep_day(lake, "orders", noon.date())
        sync(lake)
        assert keep_day(lake, "orders", noon.date()).rows == 1
        with lake.session() as opened:
            (value,) = opened.rows(f"SELECT n FROM '{tmp_path}/lake/daily/orders/*.parquet' WHERE id = 'a'")
        assert int(value[0]) == 5


def test_stray_in_the_folders_of_hours_is_found_when_everything_is_listed(landing: Landing, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    with lake_of(tmp_path / "lake", table(landing, LAYOUTS["hourly"])) as lake:
        landing.put("/" + by_hour(now), change(us(now), item("a")))
        landing.put(f"/{now - 400 * HOUR:%Y/%m}/x", change(us(now), item("b")))
        orders = lake.table("orders")
        found = list_unapplied(lake, orders)
        assert (len(found.refs), found.outside_hours) == (2, 1)
        Sensor(lake).settle()
        assert dumped(lake) == sorted_items([item("a"), item("b")])


def test_many_folders_beside_the_years_are_listed_with_everything(
    landing: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    monkeypatch.setattr(arrivals, "MOST_FOLDERS", 1)
    landing.put("/" + by_hour(now), change(us(now), item("a")))
    for name in ("x", "y"):
        landing.put(f"/{name}/object", change(us(now), item(name)))
    with lake_of(tmp_path / "lake", table(landing, LAYOUTS["hourly"])) as lake:
        assert len(list_unapplied(lake, lake.table("orders"), "recent").refs) == 3


def test_prefix_without_a_slash_takes_no_other_prefix(landing: Landing, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    for number, key in enumerate(["-archive/x", "2/x", "2024-old/x", "2024/x", f"-old{now:%Y/%m/%d/%H}/x"]):
        landing.put(key, change(us(now), item(f"foreign {number}")))
    landing.put(f"{now:%Y/%m/%d/%H}/x", change(us(now), item("a")))
    landing.put("/b", change(us(now), item("b")))
    with lake_of(tmp_path / "lake", table(landing, LAYOUTS["no slash"])) as lake:
        Sensor(lake).settle()
        assert dumped(lake) == sorted_items([item("a"), item("b")])
        sync(lake)
        assert dumped(lake) == sorted_items([item("a"), item("b")])


def test_prefix_with_a_slash_warns_of_keys_that_continue_it_without(landing: Landing, tmp_path: Path) -> None:
    now, warned = datetime.now(UTC), list[str]()
    with lake_of(tmp_path / "lake", table(landing, LAYOUTS["hourly"])) as lake:
        lake.warn = warned.append
        landing.put("-other/x", change(us(now), item("a")))
        sync(lake)
        assert warned == []
        landing.put(by_hour(now), change(us(now), item("a")))
        sync(lake)
    assert len(warned) == 1
    assert f"write `uri: {landing.root}`" in warned[0]


@pytest.mark.parametrize(
    ("hour", "written", "earliest"),
    [(12, 12.2, 12), (12, 13.9, 12), (21, 12.2, 11.2), (2, 12.2, -12), (12, 300, -2), (None, 12, None)],
    ids=["delivered", "buffered", "local time ahead", "local time behind", "copied", "no hour"],
)
def test_arrival_is_never_assumed_later_than_it_can_be(
    hour: int | None, written: float, earliest: float | None
) -> None:
    day = datetime(2026, 3, 4, tzinfo=UTC)
    key = "x" if hour is None else f"{day + hour * HOUR:%Y/%m/%d/%H}/x"
    expected = None if earliest is None else us(day + earliest * HOUR)
    assert earliest_arrival_us(ObjectRef(f"s3://b/{key}", "v", 1, us(day + written * HOUR))) == expected
