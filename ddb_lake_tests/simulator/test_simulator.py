"""Tests of the simulator itself: what it renders says what happened, and what it promises can be kept."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ddb_lake.core.values.change_record import ChangeRecord, Item
from ddb_lake_tests.simulator import CORNERS, Scenario, big_scenario, histories, scenarios, write
from ddb_lake_tests.simulator.composing import arrange
from ddb_lake_tests.simulator.envelopes import Declared, declare, render
from ddb_lake_tests.simulator.exports import full_export
from ddb_lake_tests.simulator.landing import Delivery
from ddb_lake_tests.simulator.model import Change, History, Items, item_text, key_text
from ddb_lake_tests.simulator.promises import is_clean
from ddb_lake_tests.simulator.reading import read_export, read_landing
from ddb_lake_tests.simulator.reference import reference_current
from ddb_lake_tests.support.samples import sample_files

QUICK = settings(max_examples=80)


def _texts(items: Items) -> dict[str, str | None]:
    return {key: item_text(item) for key, item in items.items()}


def _assert_reference_is_true(scenario: Scenario) -> None:
    records = read_landing(scenario.objects).of_table(scenario.table)
    exports = [read_export(export) for export in scenario.exports]
    truths = [(None, scenario.expected_items), *((probe.time_us, probe.items) for probe in scenario.probes)]
    for at_us, items in truths:
        current = reference_current(exports, records, scenario.clock_skew_us, scenario.key_names, at_us)
        assert _texts(current) == _texts(items), f"as of {at_us}"


@given(scenarios())
@settings(QUICK, max_examples=250)
def test_reference_of_a_promised_scenario_is_the_truth(scenario: Scenario) -> None:
    _assert_reference_is_true(scenario)


@pytest.mark.parametrize("name", CORNERS)
def test_reference_of_a_corner_is_the_truth(name: str) -> None:
    _assert_reference_is_true(CORNERS[name]())


@pytest.mark.parametrize("seed", range(6))
def test_reference_of_a_big_scenario_is_the_truth(seed: int) -> None:
    _assert_reference_is_true(big_scenario(seed, 40, 800))


@given(histories(max_keys=3), st.data())
@settings(QUICK, max_examples=200)
def test_reference_is_the_truth_whenever_promised_whatever_was_lost(history: History, data: st.DataObject) -> None:
    """Arbitrary losses, far beyond what plans ask for: the rules of `promises` must be sound, not only the plans."""
    rng = random.Random(data.draw(st.integers(0, 2**32)))
    declared = declare(history, data.draw(st.sampled_from(("kds", "mixed"))), ("absent", "MICROSECOND"), rng)
    landed = [rng.random() < 0.7 for _ in history.changes]
    assume(history.changes)
    at_us = rng.choice(history.changes).time_us // 1000 * 1000
    exports = [
        full_export(history, at_us, rng, {text: at_us + rng.choice((-1, 0, 1)) * 1000 for text in history.by_key})
    ]
    try:
        scenario = arrange(history, declared, landed, exports, Delivery(), 0)
    except AssertionError:
        return
    _assert_reference_is_true(scenario)


@given(scenarios())
@QUICK
def test_landing_holds_every_landed_change_and_nothing_else(scenario: Scenario) -> None:
    landing = read_landing(scenario.objects)
    records = landing.of_table(scenario.table)
    told = {record.event_id: record for record in records}
    assert len(told) == scenario.expected_records == sum(scenario.landed)
    assert landing.garbage == scenario.expected_garbage
    assert len(landing.records) - len(records) == scenario.expected_other_records
    assert _said(told.values()) == _happened(scenario)


def _said(records: Iterable[ChangeRecord]) -> list[tuple[Any, ...]]:
    return sorted(
        (r.changed_us, r.kind, r.event_name, r.ttl, *(str(item_text(i)) for i in (r.keys, r.old_image, r.new_image)))
        for r in records
    )


def _happened(scenario: Scenario) -> list[tuple[Any, ...]]:
    told = zip(scenario.history.changes, scenario.declared, scenario.landed, strict=True)
    return sorted(
        (d.us, d.kind, c.event_name, c.ttl, *(str(item_text(i)) for i in (c.key, c.old, c.new)))
        for c, d, landed in told
        if landed
    )


@given(scenarios(exports="any"))
@QUICK
def test_exports_read_back_hold_the_items_of_their_time(scenario: Scenario) -> None:
    history = scenario.history
    for export in scenario.exports:
        found = read_export(export)
        if export.kind == "incremental":
            assert export.from_us is not None
            told = {key_text(key): image for key, image in found.lines}
            wanted = {text: history.state_at(text, export.time_us - 1) for text in export.listed}
            assert {text: item_text(image) for text, image in told.items()} == {
                text: item_text(image) for text, image in wanted.items()
            }
        elif not export.taken_us:
            assert sorted(map(str, map(item_text, found.items))) == sorted(
                map(str, map(item_text, history.items_at(export.time_us).values()))
            )


@given(scenarios())
@QUICK
def test_declared_times_never_split_a_probe_and_follow_the_true_order(scenario: Scenario) -> None:
    declared = [one.us for one in scenario.declared]
    for probe in scenario.probes:
        assert is_clean(scenario.history, declared, probe.time_us)
        assert _texts(scenario.history.items_at(probe.time_us)) == _texts(probe.items)
    for positions in scenario.history.by_key.values():
        told = [scenario.declared[at] for at in positions]
        if all(one.kind == "streams" for one in told):
            continue  # their clocks may be skewed: the sequence decides
        assert [one.us for one in told] == sorted(one.us for one in told)


@given(scenarios(), st.randoms(use_true_random=False))
@QUICK
def test_reference_depends_on_the_set_alone(scenario: Scenario, rng: random.Random) -> None:
    records = read_landing(scenario.objects).of_table(scenario.table)
    exports = [read_export(export) for export in scenario.exports]
    several = records + records[: len(records) // 2]
    shuffled = rng.sample(several, len(several))
    first = reference_current(exports, records, scenario.clock_skew_us, scenario.key_names)
    assert first == reference_current(exports[::-1], shuffled, scenario.clock_skew_us, scenario.key_names)


def test_same_seed_gives_the_same_bytes() -> None:
    first, second = big_scenario(3, 10, 100), big_scenario(3, 10, 100)
    assert first == second
    assert big_scenario(4, 10, 100) != first


def test_written_scenario_has_manifests_and_objects_where_promised(tmp_path: Path) -> None:
    scenario = CORNERS["gap_mended_by_a_window"]()
    write(scenario, tmp_path)
    for number, export in enumerate(scenario.exports):
        summaries = list((tmp_path / "exports" / str(number)).glob("AWSDynamoDB/*/manifest-summary.json"))
        assert [path.read_bytes() for path in summaries] == [export.files[export.manifest]]
    landed = {
        str(path.relative_to(tmp_path / "landing")) for path in (tmp_path / "landing").rglob("*") if path.is_file()
    }
    assert landed == set(scenario.objects)


def test_kds_record_encodes_binary_twice_everywhere() -> None:
    once = base64.b64encode(b"abcd").decode()
    binary: Item = {"t": {"B": once}, "n": {"M": {"l": {"L": [{"B": once}]}}}, "s": {"BS": [once]}}
    change = Change(1_000_000, {"t": {"B": once}}, None, binary)
    document = render(change, Declared("kds", 1_000_000), "t", random.Random(1), shuffle=False, nested_once=True)
    twice = base64.b64encode(once.encode()).decode()
    assert document["dynamodb"]["Keys"] == {"t": {"B": twice}}
    assert document["dynamodb"]["NewImage"] == {
        "t": {"B": twice},
        "n": {"M": {"l": {"L": [{"B": twice}]}}},
        "s": {"BS": [twice]},
    }


@pytest.mark.parametrize("sample", sample_files("kds_records", "*.jsonl"), ids=lambda path: path.stem)
def test_kds_record_has_the_members_of_a_real_one(sample: Path) -> None:
    real = json.loads(sample.read_text().splitlines()[1])
    change = Change(1_000_000, {"id": {"S": "a"}}, {"id": {"S": "a"}}, {"id": {"S": "a"}, "v": {"N": "1"}})
    declared = Declared("kds", 1_000_000, "MICROSECOND")
    ours = render(change, declared, "t", random.Random(1), shuffle=False, nested_once=False)
    assert list(ours) == list(real)
    assert list(ours["dynamodb"]) == list(real["dynamodb"])


@pytest.mark.parametrize("sample", sample_files("pitr_full_export", "manifest-summary.json"), ids=lambda p: p.parts[-4])
def test_full_export_summary_has_the_members_of_a_real_one(sample: Path) -> None:
    real = json.loads(sample.read_text())
    line = json.loads(sample.with_name("manifest-files.json").read_text().splitlines()[0])
    export = CORNERS["huge_item"]().exports[0]
    assert list(json.loads(export.files[export.manifest])) == list(real)
    files = next(content for key, content in export.files.items() if key.endswith("manifest-files.json"))
    assert list(json.loads(files.splitlines()[0])) == list(line)


def test_scenarios_contain_what_they_are_meant_to() -> None:
    """Over a few seeds every nuisance occurs; a generator that forgot one would make all other tests easier."""
    seen: set[str] = set()
    for seed in range(30):
        scenario = big_scenario(seed, 12, 150)
        seen |= _nuisances(scenario)
    assert seen >= {
        "toggle in a millisecond",
        "recreation in a millisecond",
        "ttl",
        "lost",
        "skewed export",
        "empty data file",
        "gzip",
        "zip",
        "plain",
        "empty object",
        "error object",
        "stamp",
        "microseconds",
        "undeclared",
        "streams",
        "two part key",
    }


def _nuisances(scenario: Scenario) -> set[str]:
    history = scenario.history
    found = {f"{one.kind}" for one in scenario.declared} | {"two part key" for _ in history.key_names[1:]}
    found |= {{"MICROSECOND": "microseconds", "absent": "undeclared"}.get(d.precision, "") for d in scenario.declared}
    found |= {"ttl" for change in history.changes if change.ttl} | {"lost" for there in scenario.landed if not there}
    for positions in history.by_key.values():
        changes = [history.changes[at] for at in positions]
        for first, second in itertools.pairwise(changes):
            if first.time_us // 1000 == second.time_us // 1000:
                found |= {"toggle in a millisecond"} if item_text(first.old) == item_text(second.new) else set()
                found |= {"recreation in a millisecond"} if first.new is None else set()
    for export in scenario.exports:
        found |= {"skewed export"} if export.taken_us else set()
        found |= {
            "empty data file" for key, c in export.files.items() if key.endswith(".gz") and not gzip.decompress(c)
        }
    for key, content in scenario.objects.items():
        found.add("gzip" if content[:2] == b"\x1f\x8b" else "zip" if content[:2] == b"PK" else "plain")
        found |= {"empty object"} if len(content) < 2 else set()
        found |= {"error object"} if key.startswith("processing-failed/") else set()
        found |= {"stamp"} if b"kinesisRecordMetadata" in content else set()
    return found
