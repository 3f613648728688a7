"""Windows follow each other without gap or overlap, also if a planner ends at any point."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.capture.export_windows import (
    KEPT_S,
    LONGEST_S,
    SHORTEST_S,
    Window,
    chain_end,
    due_windows,
    merged,
    packed,
    remembered,
    split,
    token,
    unpacked,
)
from ddb_lake.core.merge.ordering import assertion_us

QUARTER = 900
T0 = 1_772_357_400

everies = st.integers(SHORTEST_S, LONGEST_S)
some_windows = st.lists(
    st.tuples(st.integers(T0, T0 + 3 * LONGEST_S), st.integers(SHORTEST_S, LONGEST_S)).map(
        lambda pair: Window(pair[0], pair[0] + pair[1])
    ),
    max_size=6,
)


def due(base_s: int, until_s: int, every_s: int, taken: list[Window]) -> list[Window]:
    return list(due_windows(base_s, until_s, every_s, taken))


def test_first_window_begins_at_the_full_export() -> None:
    assert due(T0, T0 + QUARTER - 1, QUARTER, []) == []
    assert due(T0, T0 + QUARTER, QUARTER, []) == [Window(T0, T0 + QUARTER)]
    assert due(T0, T0 + 2 * QUARTER - 1, QUARTER, []) == [Window(T0, T0 + QUARTER)]


def test_pause_is_caught_up_in_one_window_and_a_long_one_in_several() -> None:
    assert due(T0, T0 + 10 * QUARTER + 5, QUARTER, []) == [Window(T0, T0 + 10 * QUARTER)]
    late = due(T0, T0 + 60 * 3600 + 100, QUARTER, [])
    assert [window.seconds for window in late] == [LONGEST_S, LONGEST_S, 12 * 3600]


def test_full_export_at_the_end_of_a_window_leaves_the_chain_as_it_is() -> None:
    taken = [Window(T0, T0 + QUARTER), Window(T0 + QUARTER, T0 + 2 * QUARTER)]
    assert due(T0 + QUARTER, T0 + 3 * QUARTER, QUARTER, taken) == [Window(T0 + 2 * QUARTER, T0 + 3 * QUARTER)]


def test_full_export_in_the_middle_of_a_window_gets_a_window_of_its_own_to_an_end_of_the_chain() -> None:
    taken = [Window(T0, T0 + 3600), Window(T0 + 3600, T0 + 7200)]
    assert due(T0 + 600, T0 + 7300, QUARTER, taken) == [Window(T0 + 600, T0 + 3600)]
    assert due(T0 + 3000, T0 + 7300, QUARTER, taken) == [Window(T0 + 3000, T0 + 7200)]
    close = due(T0 + 7000, T0 + 7200 + QUARTER, QUARTER, taken)
    assert close == [Window(T0 + 7200, T0 + 7200 + QUARTER), Window(T0 + 7000, T0 + 7200 + QUARTER)]


def test_missing_window_is_exported_when_it_is_found_missing() -> None:
    taken = [Window(T0, T0 + 3600), Window(T0 + 5400, T0 + 9000)]
    assert due(T0, T0 + 9000, 7200, taken) == [Window(T0 + 3600, T0 + 9000)]


@given(every=everies, stretch=st.integers(0, 4 * LONGEST_S), taken=some_windows)
def test_windows_complete_the_chain_and_dynamodb_takes_each(every: int, stretch: int, taken: list[Window]) -> None:
    until = max([T0 + stretch, *(window.to_s for window in taken)])
    found = due(T0, until, every, taken)
    assert all(SHORTEST_S <= window.seconds <= LONGEST_S and window.to_s <= until for window in found)
    last = max([T0, *(window.to_s for window in [*taken, *found])])
    assert until - last < every
    assert chain_end(T0, [*taken, *found]) == last or last - chain_end(T0, [*taken, *found]) < SHORTEST_S


@given(
    every=everies,
    moments=st.lists(st.tuples(st.integers(0, LONGEST_S * 2), st.integers(0, 3), st.booleans()), max_size=12),
)
def test_planners_that_crash_and_meet_start_each_window_once(every: int, moments: list[tuple[int, int, bool]]) -> None:
    """Time goes on; a planner dies after some of its starts; another, with a clock of its own, plans in between.

    DynamoDB takes one export for a token, and the token names the window's start.
    """
    started: dict[str, Window] = {}
    now = T0
    for pause, dies_after, slow in moments:
        now += pause
        stale = list(started.values())
        for seen, clock in ((stale, now), (stale if slow else None, now + 30)):
            known = list(started.values()) if seen is None else seen
            for window in due(T0, clock, every, known)[:dies_after]:
                name = token("orders", "bucket/", str(window.from_s), 0)
                if name in started and started[name] != window:
                    break  # refused: DynamoDB has the token with another end, and the planner looks again
                started[name] = window
    windows = sorted(started.values())
    assert all(one.to_s == other.from_s for one, other in pairwise(windows))
    rest = due(T0, now, every, windows)
    assert now - chain_end(T0, [*windows, *rest]) < every


writes = st.lists(
    st.tuples(st.integers(0, 3 * LONGEST_S), st.sampled_from("ab"), st.booleans()),
    max_size=12,
    unique_by=lambda w: w[0],
)


@given(
    history=writes,
    every=st.sampled_from([QUARTER, 2700, 7200, LONGEST_S]),
    pauses=st.lists(st.tuples(st.integers(60, 30 * 3600), st.booleans(), st.booleans()), max_size=10),
)
def test_lake_is_its_source_at_the_end_of_the_chain(
    history: list[tuple[int, str, bool]], every: int, pauses: list[tuple[int, bool, bool]]
) -> None:
    """A source of two keys, full exports at any time, windows that leave out what came and went within them."""
    source = sorted((T0 + at, key, alive) for at, key, alive in history)  # half a second after the whole one

    def state(key: str, at_s: int) -> tuple[int, bool]:
        """When the key was last written before `at_s`, and whether it is there."""
        return max(((at, alive) for at, one, alive in source if one == key and at < at_s), default=(0, False))

    bases, windows, now = [T0], [], T0
    for pause, exports, dies in pauses:
        now += pause
        found = due(bases[-1], now, every, windows)
        windows += found[:1] if dies else found
        if exports:
            bases.append(now)
    base = bases[-1]
    while found := due(base, now, every, windows):
        windows += found
        now += SHORTEST_S
    end = chain_end(base, windows)
    for key in "ab":
        lines = []
        for window in windows:
            before, (written, alive) = state(key, window.from_s), state(key, window.to_s)
            changed = any(one == key and window.from_s <= at < window.to_s for at, one, _ in source)
            if changed and (alive or before[1]) and window.to_s > base:
                lines.append((assertion_us(written * 10**6, window.to_s * 10**6), window.to_s, alive))
        lake = max(lines)[2] if lines else state(key, base)[1]
        if end == max(window.to_s for window in windows) if windows else True:
            assert lake == state(key, end)[1]


@given(windows=some_windows)
def test_merged_windows_are_the_same_time_and_do_not_touch(windows: list[Window]) -> None:
    found = merged(windows)
    assert all(one.to_s < other.from_s for one, other in pairwise(found))
    for window in windows:
        assert sum(one.from_s <= window.from_s and window.to_s <= one.to_s for one in found) == 1
    assert merged(found) == found


@given(windows=some_windows, lengths=st.lists(st.sampled_from([900, 3600]), max_size=30))
def test_packed_windows_unpack_to_the_same(windows: list[Window], lengths: list[int]) -> None:
    chain, end = list(windows), T0
    for length in lengths:
        chain.append(Window(end, end + length))
        end += length
    kept = remembered(chain)
    assert kept == tuple(sorted(set(chain)))
    assert unpacked(packed(kept)) == kept


def test_chain_of_a_year_is_remembered_in_a_few_runs_and_goes_on() -> None:
    base, windows = T0, ()
    for month in range(12):
        start = T0 + 30 * month * LONGEST_S
        windows = remembered([*windows, *(Window(start + n * QUARTER, start + (n + 1) * QUARTER) for n in range(2880))])
    assert len(packed(windows)) <= 3
    assert windows[-1].to_s - windows[1].from_s <= KEPT_S
    end = T0 + 360 * LONGEST_S
    for recent_or_not in (base, base + 17, end - 50 * LONGEST_S):
        assert chain_end(recent_or_not, windows) == end


@given(start=st.integers(T0, T0 + LONGEST_S), length=st.integers(1, 5 * LONGEST_S))
def test_stretch_is_split_into_windows_that_dynamodb_takes(start: int, length: int) -> None:
    wanted = Window(start, start + length)
    found = split(wanted)
    assert all(SHORTEST_S <= window.seconds <= LONGEST_S for window in found)
    assert all(one.to_s == other.from_s for one, other in pairwise(found))
    assert (found[0].from_s, found[-1].to_s) == (wanted.from_s, max(wanted.to_s, wanted.from_s + SHORTEST_S))


@given(st.lists(st.tuples(st.text(), st.text(), st.text(), st.integers(0, 9)), unique=True, max_size=4))
def test_token_is_36_characters_and_names_what_it_is_for(parts: list[tuple[str, str, str, int]]) -> None:
    tokens = [token(*part) for part in parts if not any("\0" in text for text in part[:3])]
    assert len(set(tokens)) == len(tokens)
    assert all(len(one) == 36 for one in tokens)
