"""From wishes to a scenario: `compose` decides what was exported, what landed, and renders it.

A plan that asks for more than `promises` allows is tamed step by step, down to the complete stream without skew, so
that every scenario's expectations are promised. The same arguments always give the same bytes.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ddb_lake_tests.simulator.envelopes import SECOND_US, Declared, declare, render, table_arn
from ddb_lake_tests.simulator.exports import Export, full_export, incremental_export
from ddb_lake_tests.simulator.landing import Delivery, Piece, chance, compact, garbage_piece, land, record_pieces
from ddb_lake_tests.simulator.model import Change, History
from ddb_lake_tests.simulator.promises import Evidence, candidate_instants, is_clean, is_exact
from ddb_lake_tests.simulator.scenario import CLOCK_SKEW_US, Mark, Plan, Probe, Scenario

MINUTE_US = 60 * SECOND_US
LONGEST_MINUTES = 24 * 60
SHORTEST_MINUTES = 15


def compose(
    history: History, plan: Plan, delivery: Delivery, seed: int, *, clock_skew_us: int = CLOCK_SKEW_US
) -> Scenario:
    """The scenario that `plan` and `delivery` make of `history`, tamed as far as exactness needs it."""
    for wish, means in _tamed(plan, delivery):
        rng = random.Random(seed)
        evidence, declared = _happen(history, wish, means, rng, clock_skew_us)
        if is_exact(evidence, None):
            return _scenario(evidence, declared, _probe_instants(evidence, wish), means, rng)
    raise AssertionError("a complete stream with true times must be exact")


def _evidence(
    history: History,
    declared: Sequence[Declared],
    landed: Sequence[bool],
    exports: Sequence[Export],
    clock_skew_us: int,
) -> Evidence:
    whole_seconds = any(there and one.kind == "streams" for one, there in zip(declared, landed, strict=True))
    return Evidence(history, [one.us for one in declared], landed, exports, clock_skew_us, whole_seconds)


def arrange(
    history: History,
    declared: Sequence[Declared],
    landed: Sequence[bool],
    exports: Sequence[Export],
    delivery: Delivery,
    seed: int,
    *,
    probes_us: Sequence[int] = (),
    clock_skew_us: int = CLOCK_SKEW_US,
) -> Scenario:
    """The scenario in which exactly this was exported, declared and landed. It must be promised: AssertionError."""
    evidence = _evidence(history, declared, landed, exports, clock_skew_us)
    for instant_us in (None, *probes_us):
        assert is_exact(evidence, instant_us), f"nothing promises the items at {instant_us}"
    return _scenario(evidence, declared, probes_us, delivery, random.Random(seed))


def _tamed(plan: Plan, delivery: Delivery) -> Iterator[tuple[Plan, Delivery]]:
    """`plan` as wished, then with ever more of its losses taken back."""
    tamer = (
        plan,
        plan := replace(plan, stragglers=0),
        plan := replace(plan, gap=0, no_stream=False),
        plan := replace(plan, first_landed=0),
        plan := replace(plan, skewed=False),
    )
    for tame in dict.fromkeys(tamer):
        yield tame, delivery
    yield plan, replace(delivery, skewed_clocks=False)


def _happen(
    history: History, plan: Plan, delivery: Delivery, rng: random.Random, clock_skew_us: int
) -> tuple[Evidence, list[Declared]]:
    """What was exported and which changes landed, promised or not."""
    declared = declare(
        history,
        delivery.kind,
        delivery.precisions,
        rng,
        skewed_clocks=delivery.skewed_clocks,
        second_stream=delivery.second_stream,
    )
    times = [one.us for one in declared]
    unit_us = SECOND_US if plan.chained else 1000
    full_times = sorted({_clean_instant(history, times, mark, unit_us) for mark in plan.fulls})
    windows = _windows(history, plan, full_times)
    if plan.no_stream and windows:
        history = history.before(windows[-1][1])
        times, declared = times[: len(history.changes)], declared[: len(history.changes)]
    landed = _arrivals(history, times, plan, full_times, windows, rng, clock_skew_us)
    exports = [
        full_export(history, at_us, rng, read_times(history, times, at_us, rng) if plan.skewed else {})
        for at_us in full_times
    ]
    exports += [incremental_export(history, from_us, to_us, rng) for from_us, to_us in windows if full_times]
    rng.shuffle(exports)
    return _evidence(history, declared, landed, exports, clock_skew_us), declared


def _clean_instant(history: History, times: Sequence[int], mark: Mark, unit_us: int) -> int:
    """An instant near `mark`, of its style where that is clean, else of the next style or at the end."""
    instants = list(candidate_instants(history, mark.position % max(1, len(history.changes)), unit_us).values())
    style = mark.style % len(instants)
    for instant_us in instants[style:] + instants[:style]:
        if is_clean(history, times, instant_us):
            return instant_us
    return candidate_instants(history, len(history.changes), unit_us)["later"]


def _windows(history: History, plan: Plan, full_times: Sequence[int]) -> list[tuple[int, int]]:
    """The windows [from, to) of incremental exports: whole seconds, a quarter of an hour to a day long."""
    windows: list[tuple[int, int]] = []
    for mark, minutes in plan.windows:
        instants = list(candidate_instants(history, mark.position % max(1, len(history.changes)), SECOND_US).values())
        to_us = instants[mark.style % len(instants)]
        from_us = to_us - minutes * MINUTE_US
        if plan.chained and (windows or full_times):
            from_us = -(-(windows[-1][1] if windows else full_times[0]) // SECOND_US) * SECOND_US
            to_us = min(max(to_us, from_us + SHORTEST_MINUTES * MINUTE_US), from_us + LONGEST_MINUTES * MINUTE_US)
        windows.append((from_us, to_us))
    return windows


def _arrivals(
    history: History,
    times: Sequence[int],
    plan: Plan,
    full_times: Sequence[int],
    windows: Sequence[tuple[int, int]],
    rng: random.Random,
    clock_skew_us: int,
) -> list[bool]:
    """Which changes land. A late start of the stream is moved to where the last full export still allows it."""
    changes = history.changes
    if plan.no_stream and windows and full_times:
        return [False] * len(changes)
    after = sum(change.time_us <= full_times[-1] for change in changes) if full_times else 0
    first = min(plan.first_landed, after)
    newer = sum(us <= full_times[-1] - clock_skew_us for us in times) if full_times else 0
    reachable = range(first) if first <= newer else range(newer, first)
    landed = [at >= first or (at in reachable and chance(rng, plan.stragglers)) for at in range(len(changes))]
    if plan.gap and windows and full_times:
        from_us, to_us = windows[-1]
        until_us = from_us + (to_us - from_us) * plan.gap // 100 // SECOND_US * SECOND_US
        landed = [
            there and not from_us <= change.time_us < until_us for there, change in zip(landed, changes, strict=True)
        ]
    return landed


def read_times(history: History, times: Sequence[int], at_us: int, rng: random.Random) -> dict[str, int]:
    """For each key, a clean instant at most a minute from `at_us` at which the export read it.

    Where the key changed in that time, the instant is put just before or after such a change.
    """
    taken = {}
    for text, positions in history.by_key.items():
        changed = [history.changes[at].time_us for at in positions]
        near = [us // 1000 * 1000 + 1000 * side for us in changed for side in (-1, 1) if abs(us - at_us) < MINUTE_US]
        read_us = rng.choice([*near, at_us + rng.randint(-60_000, 60_000) * 1000])
        if all((history.changes[at].time_us <= read_us) == (times[at] <= read_us) for at in positions):
            taken[text] = read_us
    return taken


def _scenario(
    evidence: Evidence,
    declared: Sequence[Declared],
    probes_us: Iterable[int],
    delivery: Delivery,
    rng: random.Random,
) -> Scenario:
    """Renders what has landed, and states what is to be expected of it."""
    history = evidence.history
    pieces: list[Piece] = []
    for position, change in enumerate(history.changes):
        if evidence.landed[position]:
            document = render(
                change,
                declared[position],
                history.table,
                rng,
                shuffle=delivery.shuffled_images,
                nested_once=delivery.nested_binary_once and chance(rng, 50),
            )
            pieces += record_pieces(document, change.time_us, position, delivery, rng)
    others = _other_tables(history, declared, delivery, rng)
    sample = (pieces or others or [Piece(compact({"a": [1, 2, 3]}), 0, "garbage")])[0].content
    start_us = history.changes[0].time_us if history.changes else 0
    garbage = [garbage_piece(sample, start_us, history.table, rng) for _ in range(delivery.garbage)]
    landing = land(pieces + others + garbage, delivery, rng)
    return Scenario(
        history=history,
        declared=tuple(declared),
        landed=tuple(evidence.landed),
        exports=tuple(evidence.exports),
        objects=landing.objects,
        expected_items=history.items(),
        expected_records=sum(evidence.landed),
        expected_other_records=landing.other_records,
        expected_garbage=len(garbage),
        probes=tuple(Probe(at_us, history.items_at(at_us)) for at_us in sorted(probes_us)),
        clock_skew_us=evidence.clock_skew_us,
    )


def _other_tables(
    history: History, declared: Sequence[Declared], delivery: Delivery, rng: random.Random
) -> list[Piece]:
    """Records of tables with similar names: the same keys at similar times, but other contents."""
    names = (f"{history.table}-other", history.table.swapcase(), history.table[:-1], f"x{history.table}")
    pieces: list[Piece] = []
    for _ in range(delivery.other_records if history.changes else 0):
        at = rng.randrange(len(history.changes))
        table, shift_us = rng.choice(names), rng.randint(-900, 900) * SECOND_US
        change = history.changes[at]
        image = {"of": {"S": "another table"}, **change.key}
        foreign = Change(change.time_us + shift_us, change.key, None, image)
        stream = f"{table_arn(table)}/stream/2026-01-01T00:00:00.000"
        marks = replace(declared[at], us=declared[at].us + shift_us, stream=declared[at].stream and stream)
        document = render(foreign, marks, table, rng, shuffle=False, nested_once=False)
        pieces += record_pieces(document, foreign.time_us, None, delivery, rng)
    return pieces


def _probe_instants(evidence: Evidence, plan: Plan) -> set[int]:
    """Near each wished instant the first that is promised, if any; and one after everything, exports included."""
    history = evidence.history
    last_us = history.changes[-1].time_us if history.changes else 0
    instants = {
        max([last_us, *(export.time_us for export in evidence.exports)]) // SECOND_US * SECOND_US + 2 * MINUTE_US
    }
    for mark in plan.probes if history.changes else ():
        found: list[int] = []
        for position in range(mark.position, mark.position + 3):
            around = list(candidate_instants(history, position % len(history.changes), 1).values())
            style = mark.style % len(around)
            found += around[style:] + around[:style]
        exact = (at_us for at_us in found if is_exact(evidence, at_us))
        instants.update(itertools.islice(exact, 1))
    return instants
