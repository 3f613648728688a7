"""Catalog, disk, clock, files, processes and the source on bad days, while the lake is verified and repaired.

A verification that could not read says so, and never that all is equal. A repair that is broken off ends exact when it
is run again.
"""

from __future__ import annotations

import gzip
import json
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ddb_lake.aws.objects import ObjectStore
from ddb_lake.aws.session import session
from ddb_lake.core.operations.retry_policy import RetryPolicy
from ddb_lake.core.operations.system import DISK_FULL, is_disk_full
from ddb_lake.core.values.change_record import Item
from ddb_lake.engine import row_diff
from ddb_lake.errors import CommitStateUnknown, ExportError, TransientError, UsageError
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.scan import live_files
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.verification_report import Report
from ddb_lake.pipeline.verify import full as verifying
from ddb_lake.pipeline.verify.full import verify_export, verify_scan
from ddb_lake.pipeline.verify.repair import RepairResult, repair_from_export, repair_from_source
from ddb_lake.pipeline.verify.sample import verify_sample
from ddb_lake_tests.support.commits import commits_to
from ddb_lake_tests.support.corruptions import lose_row
from ddb_lake_tests.support.effort import by_effort, cases
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, change, full, item, land
from ddb_lake_tests.support.failing_steps import explained, through
from ddb_lake_tests.support.fault_marks import fault
from ddb_lake_tests.support.fault_proxy import Fault, Way
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.folder_scenario import Ground
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree
from ddb_lake_tests.support.killed_steps import LANDED, PROCESSES, UNCOMMITTED, Job, Step, ended
from ddb_lake_tests.support.lake_contents import missing_files
from ddb_lake_tests.support.local_faults import NEW, OLD, answers_lost, catalog_away, full_disk
from ddb_lake_tests.support.s3_faults import IMPATIENT
from ddb_lake_tests.support.sandbox_lake import assert_lake_is_source, orders_lake, orders_source
from ddb_lake_tests.support.shared_folder import RestoredFolder
from ddb_lake_tests.support.verified_source import Stand


class Spoiled(Ground):
    """A ground whose lake has everything, and a row that was lost behind its back."""

    key: Item

    def spoil(self, opened: Lake) -> None:
        """Run every stage, and lose the row of `key`."""
        for name, stage in self.stages(opened).items():
            if name != "compact":
                stage()
        assert self.verify(opened).outcome == "equal"
        items = (json.loads(line)["Item"] for line in dump_items(opened, self.scenario.table))
        self.key = min(({name: item[name] for name in self.scenario.key_names} for item in items), key=str)
        lose_row(opened, self.scenario.table, self.key)

    @property
    def export(self) -> str:
        """The full export."""
        (number,) = (n for n, e in enumerate(self.scenario.exports) if e.kind == "full")
        return str(self.folder / "exports" / str(number))

    def verify(self, opened: Lake) -> Report:
        """Compare every key with the export."""
        return verify_export(opened, self.scenario.table, self.export)

    def repair(self, opened: Lake) -> RepairResult:
        """Repair the key from the export."""
        return repair_from_export(opened, self.scenario.table, [self.key], self.export)

    def found(self, opened: Lake) -> list[Item]:
        """The keys that verifying names."""
        return [found.key for found in self.verify(opened).differences]

    def assert_mended(self, opened: Lake) -> None:
        """Every item is the true one, and verifying says so."""
        lines = (line.decode() for line in dump_items(opened, self.scenario.table))
        assert self.scenario.differences(lines) == []
        assert self.verify(opened).outcome == "equal"
        assert missing_files(opened, [self.scenario.table]) == set()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[RestoredFolder, Spoiled]:
    """The folder of a ground that is spoiled once, and put back for each test."""
    ground = Spoiled(tmp_path_factory.mktemp("spoiled"))

    def make(_folder: Path) -> None:
        with ground.lake() as opened:
            ground.spoil(opened)

    return RestoredFolder(ground.folder, make), ground


@pytest.fixture
def ground(made: tuple[RestoredFolder, Spoiled]) -> Spoiled:
    folder, ground = made
    folder.restore()
    return ground


@pytest.fixture
def spoiled(ground: Spoiled) -> Iterator[Lake]:
    with ground.lake() as opened:
        yield opened


# --- the catalog


@fault("the catalog cannot be reached", "verify", "repair", ending="refused")
def test_catalog_that_is_away_is_an_error_of_verification_and_repair(ground: Spoiled, spoiled: Lake) -> None:
    for stage in (ground.verify, ground.repair):
        with catalog_away(), pytest.raises(TransientError) as raised:
            stage(spoiled)
        assert "catalog" in explained(raised.value)
    assert ground.found(spoiled) == [ground.key]
    ground.repair(spoiled)
    ground.assert_mended(spoiled)


@fault("the answer to a commit is lost", "repair")
@pytest.mark.parametrize("landed", (True, False), ids=("it landed", "it did not"))
def test_repair_whose_commits_have_no_answer_is_exact_when_run_again(
    ground: Spoiled, spoiled: Lake, landed: bool
) -> None:
    with answers_lost(landed) as lost:
        for _ in range(6):
            try:
                ground.repair(spoiled)
            except CommitStateUnknown:
                continue
            else:
                break
        else:
            pytest.fail("the repair does not end")
    assert {"orders_changes", "orders"} <= set(lost)
    ground.assert_mended(spoiled)


@fault("another writer commits first", "repair")
@pytest.mark.parametrize(
    ("table", "other"),
    cases(
        [(table, other) for table in ("orders_changes", "orders") for other in ("repair", "apply")],
        quick=[("orders_changes", "apply"), ("orders", "repair")],
    ),
)
def test_repair_beside_another_writer_loses_nothing(ground: Spoiled, spoiled: Lake, table: str, other: str) -> None:
    """The other writer brings a change of another key, or repairs the same one."""
    name, new = ground.scenario.table, item("late key", v=1)
    landed = land(ground.folder / "later", change(T0_US + 900 * HOUR_US, new, table=name))

    def run(what: str) -> None:
        with ground.lake() as opened:
            if what == "repair":
                ground.repair(opened)
            else:
                apply_objects(opened, name, [landed])

    with commits_to(table) as conflicts, ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run, what) for what in ("repair", other)]:
            done.result()
    assert len(conflicts) >= 1
    if other == "apply":
        lines = [json.loads(line)["Item"] for line in dump_items(spoiled, name)]
        assert new in lines
        lose = change(T0_US + 901 * HOUR_US, None, new, table=name)
        apply_objects(spoiled, name, [land(ground.folder / "last", lose)])
    ground.assert_mended(spoiled)
    assert_readers_agree(spoiled, name)


# --- the disk


@fault("the disk is full", "repair", ending="refused")
def test_repair_on_a_full_disk_says_so_and_is_exact_later(ground: Spoiled, spoiled: Lake) -> None:
    with mock.patch.object(FileWriter, "write_paths", full_disk), pytest.raises(OSError) as raised:
        ground.repair(spoiled)
    assert DISK_FULL in explained(raised.value)
    ground.repair(spoiled)
    ground.assert_mended(spoiled)


def limited(ground: Spoiled, stage: str, most_bytes: int) -> None:
    """Verify or repair in this process, which may write no file beyond so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    with ground.lake() as opened:
        try:
            getattr(ground, stage)(opened)
        except Exception as error:
            explained(error)
            raise SystemExit(3 if is_disk_full(error) else 4) from None


@fault("the file system accepts no more bytes", "verify", "repair")
@pytest.mark.parametrize(
    ("stage", "most_bytes"),
    cases(
        [("verify", 1), ("verify", 300), ("repair", 1), ("repair", 6_000)], quick=[("verify", 300), ("repair", 6_000)]
    ),
)
def test_write_that_the_file_system_refuses_ends_verification_and_repair(
    ground: Spoiled, spoiled: Lake, stage: str, most_bytes: int
) -> None:
    process = PROCESSES.Process(target=limited, args=(ground, stage, most_bytes))
    process.start()
    assert ended(process) in (3, 4)
    assert ground.found(spoiled) in ([[ground.key], []] if stage == "repair" else [[ground.key]])
    ground.repair(spoiled)
    ground.assert_mended(spoiled)


# --- the clock


@fault("the clock is wrong by a day", "verify", "repair")
@pytest.mark.parametrize("days", (-1, 1))
def test_clock_that_is_wrong_by_a_day_changes_no_finding(ground: Spoiled, spoiled: Lake, days: int) -> None:
    spoiled.now = lambda: datetime.now(UTC) + timedelta(days=days)
    assert ground.found(spoiled) == [ground.key]
    ground.repair(spoiled)
    ground.assert_mended(spoiled)


# --- files that change under us


def data_file(ground: Spoiled) -> Path:
    """A data file of the export."""
    return max(Path(ground.export).rglob("*.json.gz"), key=lambda path: path.stat().st_size)


def rewritten(path: Path) -> None:
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[1:]) + lines[-1]))


@fault("an object is removed after it was listed", "verify", "repair", ending="refused")
@fault("an object is rewritten after it was listed", "verify", "repair", ending="refused")
@pytest.mark.parametrize(("change_it", "said"), [(Path.unlink, "but not there"), (rewritten, "MD5 is")])
def test_data_of_an_export_that_changes_after_its_manifest_was_read_is_refused(
    ground: Spoiled, spoiled: Lake, change_it: Callable[[Path], None], said: str
) -> None:
    path, original = data_file(ground), ObjectStore.download
    whole = path.read_bytes()

    def download(store: ObjectStore, uri: str, target: Path) -> Path:
        if uri == str(path) and path.exists() and path.read_bytes() == whole:
            change_it(path)
        return original(store, uri, target)

    for stage in (ground.verify, ground.repair):
        with mock.patch.object(ObjectStore, "download", download), pytest.raises(ExportError, match=said):
            stage(spoiled)
        path.write_bytes(whole)
    assert ground.found(spoiled) == [ground.key]
    ground.repair(spoiled)
    ground.assert_mended(spoiled)


@fault("a data file of the lake is missing", "verify", "repair", ending="refused")
def test_data_file_of_the_lake_that_is_gone_is_never_taken_for_no_rows(ground: Spoiled, spoiled: Lake) -> None:
    """It is removed after the table's metadata was read."""
    table = spoiled.current(ground.scenario.table)
    assert table is not None
    gone = Path(max(live_files(table).data, key=lambda file: file.record_count).file_path)
    kept, original = gone.read_bytes(), row_diff.write_hashes

    def write_hashes(*arguments: Any, **named: Any) -> Any:
        gone.unlink(missing_ok=True)
        return original(*arguments, **named)

    with (
        mock.patch.object(verifying, "write_hashes", write_hashes),
        pytest.raises(Exception, match=gone.name) as raised,
    ):
        ground.verify(spoiled)
    assert gone.name in explained(raised.value)
    with pytest.raises(Exception, match=gone.name) as raised:
        ground.repair(spoiled)
    assert gone.name in explained(raised.value)
    gone.write_bytes(kept)
    assert ground.found(spoiled) == [ground.key]
    ground.repair(spoiled)
    ground.assert_mended(spoiled)


# --- processes


@pytest.mark.more_examples
@fault("SIGKILL after any step", "repair")
def test_repair_killed_after_any_step_and_run_again_ends_exact(ground: Spoiled) -> None:
    table = {"name": ground.scenario.table, "key": list(ground.scenario.key_names)}
    step = Step("repair", ground.scenario.table, (ground.export, json.dumps(ground.key)))
    job = Job(ground.folder / "lake", (table,), (step,))
    before = shutil.copytree(job.warehouse, ground.folder / "before")
    names = job.points(ground.folder / "told")
    points = [n for n, name in enumerate(names, start=1) if name in (UNCOMMITTED, LANDED)]
    assert len(points) >= 3, names
    for point in by_effort((points[-1],), (0, *points, len(names))):
        shutil.rmtree(job.warehouse)
        shutil.copytree(before, job.warehouse)
        assert job.killed_after(point)
        job.run()
        with job.lake() as opened:
            ground.assert_mended(opened)
            assert_readers_agree(opened, ground.scenario.table)


# --- the source


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stand]:
    """A source with a row less in the lake, behind a way that may fail."""
    with orders_source(monkeypatch) as sandbox, orders_lake(sandbox, tmp_path) as opened:
        stand = Stand(sandbox, opened)
        for number in range(12):
            stand.put(f"o{number:02d}", total=f"{number}.25")
        stand.deliver()
        stand.wait()
        lose_row(opened, "orders", {"customer": {"S": "ann"}, "order_id": {"S": "o03"}})
        yield stand


@fault("DynamoDB fails (500)", "verify", "repair")
@fault("DynamoDB throttles", "verify", "repair")
@pytest.mark.more_examples
@pytest.mark.parametrize("kind", cases(("fail", "refuse"), quick=("fail",)))
def test_source_that_fails_misleads_no_verification(stand: Stand, monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    way = Way(stand.sandbox.environment()["AWS_ENDPOINT_URL"])
    monkeypatch.setattr("ddb_lake.aws.session._config", lambda: IMPATIENT)
    monkeypatch.setattr("ddb_lake.aws.items.DYNAMODB", RetryPolicy(attempts=12, longest_wait_s=0.01))
    found, refused = set(), []
    with way.served() as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        session.cache_clear()
        lake = stand.lake
        for after in range(
            by_effort(2, 6)
        ):  # the number of requests that are served before the fault, so each request is hit once
            for verify in (verify_scan, lambda *a, **n: verify_sample(*a, 50, **n)):
                way.faults = [Fault(kind, ("other",), burst=2, period=20, _seen=20 - after)]
                try:
                    report = verify(lake, "orders", read_rate=None)
                except Exception as error:  # whatever it is, a user must be able to act on it
                    refused.append(explained(error))
                else:
                    found |= {(report.outcome, *(d.key["order_id"]["S"] for d in report.differences))}
        assert found <= {("different", "o03")}, found
        key = {"customer": {"S": "ann"}, "order_id": {"S": "o03"}}
        for after in range(by_effort(1, 5)):
            way.faults = [Fault(kind, ("other",), burst=2, period=20, _seen=20 - after)]
            refused += through(lambda: repair_from_source(lake, "orders", [key], read_rate=None), way.faults.clear)
        assert verify_scan(lake, "orders", read_rate=None).outcome == "equal"
    assert_lake_is_source(stand.lake, stand.sandbox)
    assert way.injected[kind] > 0
    assert kind == "refuse" or refused


@fault("the source is deleted and created again", "verify", "repair", ending="refused")
def test_table_created_again_is_not_compared_with_the_old_ones_items(stand: Stand) -> None:
    load_export(stand.lake, "orders", stand.export())
    key = {"customer": {"S": "ann"}, "order_id": {"S": "o03"}}
    described = stand.client.describe_table(TableName="orders")["Table"]
    stand.client.delete_table(TableName="orders")
    stand.client.create_table(
        TableName="orders",
        **{name: described[name] for name in ("KeySchema", "AttributeDefinitions")},
        BillingMode="PAY_PER_REQUEST",
    )
    before = sorted(dump_items(stand.lake, "orders"))
    for stage in (
        lambda: verify_scan(stand.lake, "orders", read_rate=None),
        lambda: verify_sample(stand.lake, "orders", 5, read_rate=None),
        lambda: repair_from_source(stand.lake, "orders", [key], read_rate=None),
    ):
        with pytest.raises(UsageError, match="deleted and created again"):
            stage()
    assert sorted(dump_items(stand.lake, "orders")) == before


@fault("the source is deleted and created again", "verify", "repair", ending="refused")
def test_export_of_a_table_created_again_is_not_compared_with_the_old_ones_items(tmp_path: Path) -> None:
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        old = full([item("a", v=1)], summary={"tableId": OLD}).write(tmp_path / "old")
        load_export(opened, "orders", str(old))
        again = full([item("a", v=1)], at_us=T0_US + HOUR_US, summary={"tableId": NEW}).write(tmp_path / "new")
        for stage in (
            lambda: verify_export(opened, "orders", str(again)),
            lambda: repair_from_export(opened, "orders", [{"id": {"S": "a"}}], str(again)),
        ):
            with pytest.raises(UsageError, match=f"id {NEW}.*id {OLD}.*created again"):
                stage()
        assert verify_export(opened, "orders", str(old)).outcome == "equal"
