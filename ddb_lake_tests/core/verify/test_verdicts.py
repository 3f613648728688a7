"""Verdicts: a difference is a fault unless a change around the reading explains it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.merge.ordering import ABSENT
from ddb_lake.core.verify.verdicts import Difference, Evidence, LandedRecord, Verdict, judge

A, B, C = b"a", b"b", b"c"
BEFORE = LandedRecord(10, B, A)
CLEAN = Evidence((B,), B, B, A, (BEFORE,), from_us=100, to_us=110, base_us=5, watermark_us=200)


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        (CLEAN, None),
        (replace(CLEAN, row_images=(B, B)), Verdict("doubled", "current", True)),
        (replace(CLEAN, row_images=()), Verdict("missing", "current", True)),
        (replace(CLEAN, row_images=(A,)), Verdict("stale", "current", True)),
        (replace(CLEAN, row_images=(C,)), Verdict("wrong", "current", True)),
        (replace(CLEAN, source=ABSENT, replayed=ABSENT), Verdict("extra", "current", True)),
        (replace(CLEAN, source=C), Verdict("stale", "records", True)),
        (replace(CLEAN, source=ABSENT), Verdict("extra", "records", True)),
        (replace(CLEAN, source=C, watermark_us=105), Verdict("stale", "records", False)),
        (replace(CLEAN, source=C, watermark_us=None), Verdict("stale", "records", False)),
        (
            replace(CLEAN, row_images=(), replayed=ABSENT, base=ABSENT, records=(), source=A),
            Verdict("missing", "records", True),
        ),
        # the base itself is wrong: nothing changed since it, and it is as old as what the source was read from
        (Evidence((A,), B, A, A, (), 100, 110, 105, 200), Verdict("wrong", "records", True)),
        # changed after the reading
        (replace(CLEAN, row_images=(C,), replayed=C, records=(BEFORE, LandedRecord(150, C, B))), None),
        (
            replace(CLEAN, row_images=(A,), replayed=C, records=(BEFORE, LandedRecord(150, C, B))),
            Verdict("stale", "current", True),
        ),
        # changed while it was read
        (replace(CLEAN, row_images=(C,), replayed=C, records=(BEFORE, LandedRecord(105, C))), None),
        (replace(CLEAN, row_images=(C,), replayed=C, records=(LandedRecord(105, C),), source=A), None),
        (
            replace(CLEAN, row_images=(B,), records=(LandedRecord(105, B, A),), source=C),
            Verdict("stale", "records", True),
        ),
    ],
)
def test_judge_distinguishes_faults_from_changes_under_way(evidence: Evidence, verdict: Verdict | None) -> None:
    assert judge(evidence) == verdict


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[LandedRecord], bytes]:
    """The changes of one key in order, and the image before them."""
    images = draw(st.lists(st.sampled_from([ABSENT, A, B, C]), min_size=1, max_size=8))
    times = sorted(draw(st.sets(st.integers(1, 300), min_size=len(images) - 1, max_size=len(images) - 1)))
    pairs = zip(times, images, images[1:], strict=False)
    return [LandedRecord(at, after, before) for at, before, after in pairs], images[0]


@given(histories(), st.integers(0, 300), st.integers(0, 20), st.integers(0, 300))
def test_complete_records_never_give_a_fault(
    history: tuple[list[LandedRecord], bytes], read_us: int, slack_us: int, applied_us: int
) -> None:
    """Whenever the source is read, and however far the lake has got beyond that."""
    changes, base = history
    known = [c for c in changes if c.time_us <= max(applied_us, read_us)]
    source = next((c.after for c in reversed(changes) if c.time_us <= read_us), base)
    now = known[-1].after if known else base
    held = () if now == ABSENT else (now,)
    evidence = Evidence(held, source, now, base, tuple(known), read_us - slack_us, read_us + slack_us, 0, 400)
    assert judge(evidence) is None


@given(histories(), st.sampled_from([ABSENT, A, B, C]))
def test_row_that_is_not_what_the_records_give_is_a_certain_fault(
    history: tuple[list[LandedRecord], bytes], held: bytes
) -> None:
    changes, base = history
    now = changes[-1].after if changes else base
    rows = () if held == ABSENT else (held,)
    verdict = judge(Evidence(rows, now, now, base, tuple(changes), 500, 510, 0, None))
    assert (verdict is None) == (held == now)
    assert verdict is None or (verdict.certain and verdict.cause == "current")


def test_difference_as_json_holds_the_key_and_no_value() -> None:
    found = Difference({"id": {"S": "x"}}, 7, "stale", "records", True)
    assert found.to_json() == {
        "key": {"id": {"S": "x"}},
        "key_hash": 7,
        "kind": "stale",
        "cause": "records",
        "certain": True,
    }
