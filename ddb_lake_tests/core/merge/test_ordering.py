"""The winner is a function of the set of versions, and of a true trail it is the true end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddb_lake.core.merge.ordering import (
    ABSENT,
    DEFAULT_CLOCK_SKEW_US,
    Version,
    assertion_us,
    snapshot_cutoff_us,
    winner,
)

A, B, C = b"A", b"B", b"C"
IMAGES = (ABSENT, A, B, C)
MINUTE_US = 60_000_000


def never() -> bytes:
    raise AssertionError("the snapshot is read only where records form a closed circuit")


def change(record_id: str, time_us: int, before: bytes | None, after: bytes, kinesis: int | None = None) -> Version:
    return Version(record_id, time_us, after, before, kinesis_sequence=kinesis)


def streamed(record_id: str, time_us: int, sequence: int, after: bytes = A, stream: str = "s") -> Version:
    return Version(record_id, time_us, after, None, stream, sequence)


def asserted(record_id: str, time_us: int, asserted_us: int, after: bytes = A) -> Version:
    return Version(record_id, time_us, after, asserted_us=asserted_us)


# any set of versions


@st.composite
def version_sets(draw: st.DrawFn, assertions: bool = True) -> list[Version]:
    """Versions of one key that need not make sense together: records are lost, unordered, of several sources."""
    found = []
    for record_id in draw(st.lists(st.integers(0, 99), min_size=1, max_size=7, unique=True)):
        after = draw(st.sampled_from(IMAGES))
        version = Version(str(record_id), draw(st.integers(0, 3)), after, draw(st.sampled_from((None, *IMAGES))))
        match draw(st.sampled_from(("kinesis", "streams", "assertion" if assertions else "kinesis"))):
            case "kinesis":
                version = replace(version, kinesis_sequence=draw(st.none() | st.integers(0, 12)))
            case "streams":
                stream = draw(st.sampled_from(("s", "t")))
                version = replace(version, stream=stream, sequence=draw(st.integers(0, 12)))
            case _:
                version = replace(version, before=None, asserted_us=version.time_us + draw(st.integers(0, 2)))
        found.append(version)
    return found


@given(version_sets(), st.sampled_from(IMAGES), st.data())
@settings(max_examples=300)
def test_winner_ignores_order_and_repetition(versions: list[Version], base: bytes, data: st.DataObject) -> None:
    best = winner(versions, lambda: base)
    again = data.draw(st.lists(st.sampled_from(versions), max_size=6))
    assert winner(data.draw(st.permutations(versions + again)), lambda: base) == best


@given(version_sets(), st.sampled_from(IMAGES))
@settings(max_examples=500)
def test_winner_is_what_applying_instant_after_instant_leaves(versions: list[Version], base: bytes) -> None:
    assert winner(versions, lambda: base) == applied(versions, base)


def applied(versions: Sequence[Version], base: bytes) -> Version:
    """The rules of the design read forward: every instant from the first on, quadratic and without shortcuts."""
    times = {v: max(o.time_us for o in versions if o is v or precedes(o, v)) for v in versions}
    last, state = versions[0], base
    for instant in sorted(set(times.values())):
        last = end_of([v for v in versions if times[v] == instant], state)
        state = last.after
    return last


def precedes(one: Version, other: Version) -> bool:
    """Whether the sequence numbers of one stream put `one` before `other`."""
    if one.sequence is None or other.sequence is None or one.stream != other.stream:
        return False
    return (one.sequence, one.time_us, one.record_id) < (other.sequence, other.time_us, other.record_id)


def end_of(group: Sequence[Version], state: bytes) -> Version:
    told = [v for v in group if v.asserted_us is not None]
    if told:
        return max(told, key=lambda v: (v.asserted_us, v.record_id))
    entered, left = [v.after for v in group], [v.before for v in group]
    ends = [image for image in IMAGES if entered.count(image) > left.count(image)] or [state]
    last = [v for v in group if not any(precedes(v, o) for o in group)]
    eligible = [v for v in last if v.after in ends] or last
    numbered = [v for v in eligible if v.kinesis_sequence is not None]
    top = max((v.kinesis_sequence or 0 for v in numbered), default=0)
    return max([v for v in numbered if v.kinesis_sequence == top] or eligible, key=lambda v: v.record_id)


# true trails


@dataclass(frozen=True)
class Trail:
    """All changes of a key in their true order, from the image `start` on."""

    start: bytes
    versions: tuple[Version, ...]

    def state_at(self, time_us: int) -> bytes:
        """The image after the changes of `time_us`, inclusive."""
        return next((v.after for v in reversed(self.versions) if v.time_us <= time_us), self.start)


@st.composite
def trails(draw: st.DrawFn, *, min_gap_us: int = 1, max_gap_us: int = 3) -> Trail:
    """Bursts of changes of one instant, with identities and Kinesis sequences that say nothing of the order."""
    bursts = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    ids = draw(st.permutations(range(sum(bursts))))
    start = state = draw(st.sampled_from(IMAGES))
    versions: list[Version] = []
    time_us = 0
    for burst in bursts:
        time_us += draw(st.integers(min_gap_us, max_gap_us))
        for _ in range(burst):
            after = draw(st.sampled_from([image for image in IMAGES[:3] if image != state]))
            kinesis = draw(st.none() | st.integers(0, 99))
            versions.append(change(f"{ids[len(versions)]:02}", time_us, state, after, kinesis))
            state = after
    return Trail(start, tuple(versions))


@given(trails(), st.data())
@settings(max_examples=400)
def test_winner_of_a_complete_trail_is_the_true_end(trail: Trail, data: st.DataObject) -> None:
    landed = data.draw(st.permutations(trail.versions))
    assert winner(landed, lambda: trail.start).after == trail.versions[-1].after


@given(trails(), st.data())
@settings(max_examples=300)
def test_winner_of_a_trail_from_several_sources_is_the_true_end(trail: Trail, data: st.DataObject) -> None:
    told = [
        replace(version, stream=stream, sequence=position, kinesis_sequence=None) if stream else version
        for position, version in enumerate(trail.versions)
        for stream in (data.draw(st.sampled_from((None, "s", "t"))),)
    ]
    assert winner(data.draw(st.permutations(told)), lambda: trail.start).after == trail.versions[-1].after


@given(trails(), st.data())
def test_winner_of_one_stream_has_the_greatest_sequence_whatever_its_clock(trail: Trail, data: st.DataObject) -> None:
    told = [
        replace(version, time_us=data.draw(st.integers(0, 5)), stream="s", sequence=position, before=None)
        for position, version in enumerate(trail.versions, start=10**21 - 3)  # on the way they gain a digit
    ]
    assert winner(data.draw(st.permutations(told)), never) == told[-1]


@given(trails(max_gap_us=4 * MINUTE_US), st.integers(0, 20 * MINUTE_US), st.data())
@settings(max_examples=300)
def test_snapshot_and_stream_join_without_loss(trail: Trail, export_us: int, data: st.DataObject) -> None:
    """With an allowance for clock skew the export may have read the key a minute before or after its time, between two instants."""
    clock_skew_us = DEFAULT_CLOCK_SKEW_US
    began_us = export_us - data.draw(
        st.sampled_from((0, clock_skew_us - 1, clock_skew_us, clock_skew_us + 1, 30 * MINUTE_US))
    )
    cutoff_us = snapshot_cutoff_us(export_us, began_us)
    skew_us = data.draw(st.integers(-MINUTE_US, MINUTE_US)) if cutoff_us < export_us else 0
    base = trail.state_at(export_us + skew_us)
    later = [v for v in trail.versions if v.time_us >= began_us and v.time_us > cutoff_us]
    found = winner(data.draw(st.permutations(later)), lambda: base).after if later else base
    assert found == trail.versions[-1].after


@given(trails(max_gap_us=MINUTE_US // 30), st.integers(0, 4 * MINUTE_US), st.data())
def test_snapshot_and_young_stream_of_whole_seconds_join_without_loss(
    trail: Trail, export_us: int, data: st.DataObject
) -> None:
    """A change later in the second of the export has a time before it."""
    told = [
        replace(version, time_us=version.time_us // 1_000_000 * 1_000_000, stream="s", sequence=position, before=None)
        for position, version in enumerate(trail.versions)
    ]
    cutoff_us = snapshot_cutoff_us(export_us, told[0].time_us, whole_seconds=True)
    later = [version for version in told if version.time_us > cutoff_us]
    base = trail.state_at(export_us)
    found = winner(data.draw(st.permutations(later)), lambda: base).after if later else base
    assert found == trail.versions[-1].after


# rule by rule


def test_greatest_time_wins_over_any_sequence_and_identity() -> None:
    newest = change("0", 3, None, A, kinesis=1)
    assert winner([change("9", 1, None, C, 9), newest, change("8", 2, A, B, 8)], never) is newest


def test_equal_times_are_decided_by_the_image_chain_before_the_kinesis_sequence() -> None:
    last = change("0", 1, B, C, kinesis=1)
    assert winner([change("9", 1, A, B, 9), last, change("8", 1, ABSENT, A, 8)], never) is last


def test_chain_may_pass_through_an_image_several_times() -> None:
    last = change("0", 1, B, C)
    assert winner([change("9", 1, A, B), change("8", 1, B, A), change("7", 1, A, B), last], never) is last


def test_chain_passes_through_absence_and_ends_in_it_as_in_any_image() -> None:
    removed, inserted = change("5", 1, A, ABSENT), change("0", 1, ABSENT, B)
    assert winner([removed, inserted], never) is inserted
    assert winner([change("9", 1, B, A), removed], never) is removed


@pytest.mark.parametrize("start", [A, B])
def test_closed_circuit_ends_where_the_snapshot_says_that_it_began(start: bytes) -> None:
    circuit = [change("0", 1, A, B, 1), change("1", 1, B, A, 2)]
    assert winner(circuit, lambda: start).after == start


@pytest.mark.parametrize("start", [A, B])
def test_closed_circuit_ends_where_the_instants_before_it_left_the_item(start: bytes) -> None:
    circuits = [change(str(4 * t + n), t, *edge) for t in (2, 3) for n, edge in enumerate([(A, B), (B, A)])]
    assert winner([change("99", 1, C, start), *circuits], never).after == start


def test_state_before_a_circuit_is_what_the_nearest_instant_left_not_the_snapshot() -> None:
    circuit = [change("0", 3, A, B), change("1", 3, B, A)]
    before = [change("7", 1, None, A), change("8", 2, A, C), change("9", 2, C, B)]
    assert winner([*before, *circuit], never).after == B


def test_state_before_a_circuit_may_be_the_end_of_an_open_trail() -> None:
    circuit = [change("0", 3, A, B), change("1", 3, B, A)]
    assert winner([change("9", 2, A, C), change("8", 2, C, B), *circuit], never).after == B


def test_circuits_between_the_snapshot_and_the_last_instant_are_followed_in_their_order() -> None:
    """The first two are not where the state before them is, so that their Kinesis sequences decide."""
    first = [change("0", 1, A, B, 2), change("1", 1, B, A, 1)]
    second = [change("2", 2, C, A, 2), change("3", 2, A, C, 1)]
    third = [change("4", 3, A, B), change("5", 3, B, A)]
    assert winner([*first, *second, *third], lambda: C).after == A


def test_closed_circuit_that_the_state_before_is_not_on_is_decided_by_the_kinesis_sequence() -> None:
    circuit = [change("1", 1, A, B, 1), change("0", 1, B, A, 2)]
    assert winner(circuit, lambda: C).record_id == "0"


@pytest.mark.parametrize(("lower", "higher"), [(9, 10), (None, 0), (2**184 + 9, 2**185)])
def test_what_the_chain_leaves_open_is_decided_by_the_kinesis_sequence_as_a_number(
    lower: int | None, higher: int
) -> None:
    versions = [change("9", 1, None, A, lower), change("0", 1, None, B, higher)]
    assert winner(versions, never).kinesis_sequence == higher


def test_what_nothing_else_decides_is_decided_by_the_record_id() -> None:
    assert winner([change("1", 1, None, A), change("2", 1, None, B), change("0", 1, None, C)], never).record_id == "2"


def test_delivery_with_the_least_kinesis_sequence_represents_a_repeated_record() -> None:
    versions = [change("0", 1, None, A, 5), change("1", 1, None, B, 4), change("0", 1, None, A, 3)]
    assert winner(versions, never).record_id == "1"
    assert winner([change("0", 1, None, A), change("0", 1, None, A, 3)], never).kinesis_sequence == 3


# DynamoDB Streams


def test_sequence_goes_before_time_within_one_stream() -> None:
    last = streamed("0", 6, 10)
    assert winner([streamed("1", 7, 9), last, streamed("2", 8, 8)], never) is last


def test_sequence_says_nothing_between_two_streams() -> None:
    newest = streamed("0", 7, 1, stream="new")
    assert winner([streamed("1", 6, 9, stream="old"), newest], never) is newest


def test_record_of_a_stream_stands_no_earlier_than_its_predecessors() -> None:
    """6 comes after 8 in its stream, and so after a change of 7 that did not come through the stream."""
    last = streamed("0", 6, 2)
    assert winner([streamed("1", 8, 1), last, change("9", 7, None, B)], never) is last
    newest = change("9", 9, None, B)
    assert winner([streamed("1", 8, 1), last, newest], never) is newest


def test_record_of_a_stream_is_not_moved_by_its_successors() -> None:
    """The first record keeps its time 1, so the instant of the second holds no circuit that it would be part of."""
    versions = [Version("0", 1, A, B, "s", 1), change("1", 2, A, B, 9), change("2", 2, B, C, 8), streamed("3", 2, 2, C)]
    for order in (versions, versions[::-1]):
        assert winner(order, never).after == C


# assertions of incremental exports


def test_change_wins_over_an_assertion_only_if_it_is_later() -> None:
    line = asserted("5", 10, 20)
    for time_us, expected in ((9, "5"), (10, "5"), (11, "9")):
        versions = [line, change("9", time_us, None, B, kinesis=99)]
        assert winner(versions, never).record_id == expected
        assert winner(versions[::-1], never).record_id == expected


def test_of_assertions_of_one_write_the_one_of_the_later_export_wins() -> None:
    later = asserted("0", 10, 30, B)
    assert winner([asserted("9", 10, 20), later, asserted("8", 10, 25), change("7", 10, A, C)], never) is later
    assert winner([asserted("1", 10, 30), asserted("2", 10, 30)], never).record_id == "2"


def test_assertion_has_the_state_before_a_circuit() -> None:
    circuit = [change("0", 3, A, B), change("1", 3, B, A)]
    assert winner([asserted("5", 2, 9, B), change("6", 2, C, A), *circuit], never).after == B


@pytest.mark.parametrize(
    ("written_us", "asserted_us", "clock_skew_us", "expected"),
    [(100, 1000, 300, 700), (699, 1000, 300, 700), (700, 1000, 300, 700), (701, 1000, 300, 701), (999, 1000, 0, 1000)],
)
def test_assertion_is_at_its_write_but_at_most_the_clock_skew_before_its_time(
    written_us: int, asserted_us: int, clock_skew_us: int, expected: int
) -> None:
    assert assertion_us(written_us, asserted_us, clock_skew_us) == expected


def test_assertion_has_the_default_clock_skew_of_five_minutes() -> None:
    assert assertion_us(0, 60 * MINUTE_US) == 55 * MINUTE_US


# snapshot cutoff


@pytest.mark.parametrize(
    ("first_change_us", "expected"),
    [(None, 1000), (699, 700), (700, 700), (701, 1000), (1000, 1000), (1001, 1000)],
)
def test_snapshot_cutoff_uses_the_clock_skew_only_if_the_stream_covers_it(
    first_change_us: int | None, expected: int
) -> None:
    assert snapshot_cutoff_us(1000, first_change_us, 300) == expected


@pytest.mark.parametrize(("export_us", "expected"), [(7_300_000, 6_999_999), (7_000_000, 6_999_999)])
def test_snapshot_cutoff_is_before_the_second_of_the_export_if_times_are_whole_seconds(
    export_us: int, expected: int
) -> None:
    assert snapshot_cutoff_us(export_us, None, 300, whole_seconds=True) == expected
    assert snapshot_cutoff_us(export_us, 1_000_000, 300, whole_seconds=True) == export_us - 300


def test_snapshot_cutoff_has_the_default_clock_skew_of_five_minutes() -> None:
    assert snapshot_cutoff_us(60 * MINUTE_US, 0) == 55 * MINUTE_US
