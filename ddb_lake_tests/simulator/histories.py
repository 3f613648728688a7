"""Where scenarios come from: Hypothesis strategies for small ones, a seeded generator for large ones."""

from __future__ import annotations

import random
from typing import Any, Literal

from hypothesis import strategies as st

from ddb_lake.core.values.change_record import AttributeValue, Item
from ddb_lake_tests.simulator.composing import compose
from ddb_lake_tests.simulator.landing import Delivery
from ddb_lake_tests.simulator.model import History, Step, history_of
from ddb_lake_tests.simulator.scenario import Mark, Plan, Scenario
from ddb_lake_tests.simulator.values import (
    BINARIES,
    COMPOUNDS,
    KEY_NAMES,
    NAMES,
    NUMBERS,
    STRINGS,
    huge_body,
    random_body,
)

START_US = 1_772_357_400_000_000
"""2026-03-01T09:30:00Z."""

GAPS_US = (1000, 0, 1, 999_999, 1_000_000, 30_000_000, 61_000_000, 301_000_000, 3_600_000_000)
"""Pauses between bursts; those within a burst are of `RUSHES_US`."""

RUSHES_US = (0, 1, 300, 1000, 1_000_000)

TABLES = ("orders", "Orders.v2-eu", "a_b")

KEY_POOLS: dict[str, tuple[str, ...]] = {
    "S": tuple(text for text in STRINGS if text and len(text) < 1000),
    "N": NUMBERS,
    "B": tuple(text for text in BINARIES if text),
}

_SCALARS: st.SearchStrategy[AttributeValue] = st.one_of(
    st.sampled_from(NUMBERS).map(lambda text: {"N": text}),
    st.sampled_from(STRINGS).map(lambda text: {"S": text}),
    st.sampled_from(BINARIES).map(lambda text: {"B": text}),
    st.booleans().map(lambda value: {"BOOL": value}),
    st.just({"NULL": True}),
    st.text(max_size=4).map(lambda text: {"S": text}),
)

_VALUES: st.SearchStrategy[AttributeValue] = st.one_of(
    _SCALARS,
    st.sampled_from(COMPOUNDS),
    st.lists(_SCALARS, max_size=2).map(lambda elements: {"L": elements}),
    st.dictionaries(st.sampled_from(NAMES), _SCALARS, max_size=2).map(lambda members: {"M": members}),
    st.lists(st.sampled_from(STRINGS), min_size=1, max_size=4, unique=True).map(lambda elements: {"SS": elements}),
    st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4, unique=True).map(lambda elements: {"NS": elements}),
)

_BODIES: st.SearchStrategy[Item] = st.dictionaries(st.sampled_from(NAMES), _VALUES, max_size=4)


@st.composite
def _key_sets(draw: st.DrawFn, max_keys: int) -> tuple[tuple[str, ...], list[Item]]:
    """Key names, and distinct keys of one or two attributes of fixed types."""
    names = tuple(draw(st.lists(st.sampled_from(KEY_NAMES), min_size=1, max_size=2, unique=True)))
    tags = [draw(st.sampled_from("SNB")) for _ in names]
    parts = st.tuples(*(st.sampled_from(KEY_POOLS[tag]) for tag in tags))
    chosen = draw(st.lists(parts, min_size=1, max_size=max_keys, unique=True))
    keys = [{name: {tag: text} for name, tag, text in zip(names, tags, key, strict=True)} for key in chosen]
    return names, keys


@st.composite
def histories(draw: st.DrawFn, *, max_keys: int = 8, max_changes: int = 30) -> History:
    """A small history: bursts of writes to one key each, from a handful of bodies so that images come back."""
    names, keys = draw(_key_sets(max_keys))
    bodies = draw(st.lists(_BODIES, min_size=1, max_size=4))
    bodies = [{name: value for name, value in body.items() if name not in names} for body in bodies]
    write = st.tuples(st.sampled_from(RUSHES_US), st.integers(-1, len(bodies) - 1), st.booleans())
    burst = st.tuples(st.sampled_from(GAPS_US), st.integers(0, len(keys) - 1), st.lists(write, min_size=1, max_size=5))
    steps: list[Step] = []
    least, calm_us = draw(st.integers(0, max_changes // 4)), draw(st.sampled_from((0, 400_000_000, 90_000_000_000)))
    bursts = draw(st.lists(burst, min_size=least, max_size=max_changes // 2))
    for number, (gap_us, key, writes) in enumerate(bursts):
        gap_us += calm_us if number == 1 else 0  # so that the stream reaches back beyond the margin of later exports
        for rush_us, body, ttl in writes:
            steps.append(Step(gap_us + rush_us, keys[key], None if body < 0 else bodies[body], ttl))
            gap_us = 0
    start_us = START_US + draw(st.sampled_from((0, 0, 999, 999_500, 123_456)))
    return history_of(draw(st.sampled_from(TABLES)), names, start_us, steps[:max_changes])


def _marks(size: int) -> st.SearchStrategy[Mark]:
    return st.builds(Mark, st.integers(0, size), st.integers(0, 4))


def plans(size: int, *, exports: Literal["none", "full", "any"] = "any") -> st.SearchStrategy[Plan]:
    """What is exported and lost of a history with `size` changes."""
    probes = st.lists(_marks(size), max_size=3).map(tuple)
    if exports == "none":
        return st.builds(Plan, probes=probes)
    fulls = st.lists(_marks(size), min_size=exports == "full", max_size=2).map(tuple)
    wishes: dict[str, st.SearchStrategy[Any]] = {
        "fulls": fulls,
        "skewed": st.booleans(),
        "first_landed": st.one_of(st.just(0), st.just(size), st.integers(0, size)),
        "stragglers": st.sampled_from((0, 40)),
        "probes": probes,
    }
    if exports == "full":
        return st.builds(Plan, **wishes)
    windows = st.lists(st.tuples(_marks(size), st.sampled_from((15, 61, 1440))), max_size=2).map(tuple)
    return st.builds(
        Plan,
        **wishes,
        windows=windows,
        chained=st.booleans(),
        gap=st.sampled_from((0, 100, 30)),
        no_stream=st.sampled_from((False, False, False, True)),
    )


def deliveries(
    *, kind: Literal["kds", "streams", "mixed"] | None = None, garbage: bool = True
) -> st.SearchStrategy[Delivery]:
    """How a stream is rendered and landed; `kind` None draws one of the three."""
    precisions = st.sampled_from(
        (
            ("absent",),
            ("MICROSECOND",),
            ("MILLISECOND",),
            ("absent", "MILLISECOND", "MICROSECOND"),
        )
    )
    return st.builds(
        Delivery,
        kind=st.just(kind) if kind else st.sampled_from(("kds", "streams", "mixed")),
        precisions=precisions,
        skewed_clocks=st.booleans(),
        second_stream=st.booleans(),
        shuffled_images=st.booleans(),
        nested_binary_once=st.booleans(),
        stamped=st.sampled_from((0, 100, 50)),
        duplicates=st.sampled_from((0, 40)),
        failed=st.sampled_from((0, 20)),
        late=st.sampled_from((0, 30)),
        shuffled=st.booleans(),
        other_records=st.integers(0, 3),
        garbage=st.integers(0, 3) if garbage else st.just(0),
        objects=st.integers(1, 4),
        empty_objects=st.integers(0, 2),
        copies=st.integers(0, 1),
        separation=st.sampled_from((("newline",), ("none",), ("newline", "none", "mixed"))),
        compressions=st.sampled_from((("none",), ("gzip",), ("none", "gzip", "zip"))),
    )


@st.composite
def scenarios(
    draw: st.DrawFn,
    *,
    max_keys: int = 8,
    max_changes: int = 30,
    kind: Literal["kds", "streams", "mixed"] | None = None,
    exports: Literal["none", "full", "any"] = "any",
    garbage: bool = True,
) -> Scenario:
    """A small scenario whose every expectation is promised. Shrinks to an empty table, plainly delivered.

    `exports`: none (the stream alone), full (at least one full export), any (all kinds, or none).
    """
    history = draw(histories(max_keys=max_keys, max_changes=max_changes))
    plan = draw(plans(len(history.changes), exports=exports))
    delivery = draw(deliveries(kind=kind, garbage=garbage))
    return compose(history, plan, delivery, draw(st.integers(0, 2**32)))


def random_history(rng: random.Random, keys: int, changes: int, *, huge: bool = False) -> History:
    """A history of about `changes` changes (those that change nothing are left out) over at most `keys` keys.

    Some keys are written far more often than others; `huge` makes one item close to 400 KB.
    """
    names = tuple(rng.sample(KEY_NAMES, rng.randint(1, 2)))
    pool = [_random_key(names, number, rng) for number in range(keys)]
    recent: list[Item] = [random_body(rng) for _ in range(4)]
    steps: list[Step] = []
    while len(steps) < changes:
        key = pool[min(rng.randrange(keys), rng.randrange(keys))]
        gap_us = rng.choice(GAPS_US[:-2]) if rng.random() < 0.9 else rng.choice(GAPS_US[-2:])
        for _ in range(rng.choice((1, 1, 1, 1, 2, 3, 6))):
            recent[rng.randrange(4)] = random_body(rng)
            body = None if rng.random() < 0.2 else {n: v for n, v in rng.choice(recent).items() if n not in names}
            steps.append(Step(gap_us, key, body, rng.random() < 0.3))
            gap_us = rng.choice(RUSHES_US)
    if huge:
        steps[rng.randrange(len(steps))] = Step(1000, pool[0], huge_body(rng))
    return history_of(rng.choice(TABLES), names, START_US, steps)


def _random_key(names: tuple[str, ...], number: int, rng: random.Random) -> Item:
    """A key of strings; the first few collide when their parts are joined without a separator."""
    parts = (("a", "bc"), ("ab", "c"), ("a|b", "c"), ("a", "b|c"))
    values = parts[number] if number < len(parts) and len(names) == 2 else (f"key {number}", str(rng.randrange(9)))
    return {name: {"S": value} for name, value in zip(names, values, strict=False)}


def big_scenario(seed: int, keys: int, changes: int, *, huge: bool = False, objects: int | None = None) -> Scenario:
    """A large scenario, the same for the same arguments: two full exports, an incremental one, all nuisances at once.

    `objects` is the number of landed objects, by default one for every 200 changes.
    """
    rng = random.Random(seed)
    history = random_history(rng, keys, changes, huge=huge)
    size = max(1, len(history.changes))
    marks = [Mark(rng.randrange(size // 3, size), rng.randrange(5)) for _ in range(8)]
    plan = Plan(
        fulls=tuple(marks[:2]),
        skewed=rng.random() < 0.5,
        windows=((marks[2], 1440),),
        first_landed=rng.choice((0, rng.randrange(1 + size // 2))),
        stragglers=rng.choice((0, 30)),
        gap=rng.choice((0, 0, 100)),
        probes=tuple(marks[3:]),
    )
    delivery = Delivery(
        kind=rng.choice(("kds", "kds", "streams", "mixed")),
        precisions=("absent", "MILLISECOND", "MICROSECOND"),
        shuffled_images=True,
        stamped=70,
        duplicates=10,
        failed=3,
        late=10,
        shuffled=True,
        other_records=changes // 50,
        garbage=max(3, changes // 500),
        objects=objects or max(2, changes // 200),
        empty_objects=2,
        separation=("newline", "none", "mixed"),
        compressions=("none", "gzip", "zip"),
    )
    return compose(history, plan, delivery, seed)
