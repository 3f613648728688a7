"""Random histories that lose change records: does the examination of continuity name exactly the keys that lost some?

Each history is landed twice: complete, which must have no break, and without one record or one object. What is lost is known
here from the history alone.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise, permutations, product
from pathlib import Path
from typing import Any

from ddb_lake.core.values.change_record import Item
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.verify.continuity import Continuity, examine_continuity
from ddb_lake_tests.simulator.composing import read_times
from ddb_lake_tests.simulator.envelopes import Declared, declare, render
from ddb_lake_tests.simulator.exports import Export, full_export
from ddb_lake_tests.simulator.histories import random_history
from ddb_lake_tests.simulator.landing import Delivery, Piece, chance, compact, record_pieces
from ddb_lake_tests.simulator.model import Change, History, item_text, key_text
from ddb_lake_tests.support.folder_lake import lake

MAX_ORDERS = 5_000


@dataclass(frozen=True)
class Kind:
    """How a history is captured. Rates are percentages of records."""

    source: str = "kds"
    respelled: int = 0
    without_old_image: int = 0
    skewed_export: bool = False


KINDS = (
    Kind(),
    Kind(respelled=40, skewed_export=True),
    Kind(without_old_image=10),
    Kind("streams", skewed_export=True),
    Kind(respelled=40, without_old_image=10, skewed_export=True),
    Kind("mixed"),
)


@dataclass
class Figures:
    """What was tried and found, over all histories.

    `false_breaks`: of complete histories. `wrongly_named`: keys that lost nothing. `lost`: keys that lost records, by loss;
    `named`: those of them with a break; `unnamed`: the others by class. `unexplained`: those that fit none.
    """

    histories: int = 0
    records: int = 0
    false_breaks: int = 0
    removals: int = 0
    noticed: int = 0
    wrongly_named: int = 0
    lost: int = 0
    named: int = 0
    unnamed: Counter[str] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)

    def line(self) -> str:
        """The figures in one line."""
        classes = ", ".join(f"{count} {name}" for name, count in sorted(self.unnamed.items()))
        return (
            f"{self.histories} histories, {self.records} records, {self.false_breaks} false breaks; {self.removals} removals,"
            f" {self.noticed} noticed; of {self.lost} keys that lost records {self.named} named, {classes};"
            f" {self.wrongly_named} wrongly named, {len(self.unexplained)} unexplained"
        )


@dataclass(frozen=True)
class Captured:
    """A history, its records as they land, and one full export. `masked`: the positions of records without old image."""

    history: History
    declared: Sequence[Declared]
    documents: Sequence[dict[str, Any]]
    masked: frozenset[int]
    export: Export

    @classmethod
    def random(cls, kind: Kind, rng: random.Random, changes: int) -> Captured:
        """A random history, captured as `kind` states."""
        history = random_history(rng, 10, changes)
        declared = declare(history, kind.source, ("absent", "MICROSECOND"), rng, skewed_clocks=kind.source == "streams")
        documents, masked = [], set()
        for at, (change, marks) in enumerate(zip(history.changes, declared, strict=True)):
            document = render(change, marks, history.table, rng, shuffle=True, nested_once=False)
            body = document["dynamodb"]
            if change.old is not None and chance(rng, kind.without_old_image):
                del body["OldImage"]
                masked.add(at)
            elif change.old is not None and chance(rng, kind.respelled):
                body["OldImage"] = _respelled(body["OldImage"], set(history.key_names))
            documents.append(document)
        at_us = rng.choice(history.changes).time_us // 1000 * 1000 + rng.choice((-1000, 1000))
        times = [one.us for one in declared]
        taken = read_times(history, times, at_us, rng) if kind.skewed_export else {}
        return cls(history, declared, documents, frozenset(masked), full_export(history, at_us, rng, taken))

    def objects(self, rng: random.Random) -> dict[str, tuple[bytes, frozenset[int]]]:
        """The records in objects, late, repeated and in any order: content and positions in the history, by name."""
        delivery = Delivery(duplicates=20, late=10, shuffled=True, objects=6, stamped=30)
        pieces: list[Piece] = []
        for at, (document, change) in enumerate(zip(self.documents, self.history.changes, strict=True)):
            pieces += record_pieces(document, change.time_us, at, delivery, rng)
        rng.shuffle(pieces)
        cuts = sorted(rng.sample(range(1, len(pieces)), min(5, len(pieces) - 1)))
        groups = [pieces[a:b] for a, b in zip([0, *cuts], [*cuts, len(pieces)], strict=True)]
        found = {}
        for number, group in enumerate(groups):
            content = b"\n".join(piece.content for piece in group)
            found[f"object-{number}"] = (content, frozenset(p.change for p in group if p.change is not None))
        return found


def _respelled(item: Item, keys: Collection[str]) -> Item:
    """An equal item whose short numbers are spelled differently."""

    def other(value: Any) -> Any:
        if isinstance(value, list):
            return [other(member) for member in value]
        if not isinstance(value, dict):
            return value
        return {tag: _number(content) if tag == "N" else other(content) for tag, content in value.items()}

    return {name: value if name in keys else other(value) for name, value in item.items()}


def _number(content: Any) -> Any:
    return (
        f"{content}.0" if isinstance(content, str) and content.lstrip("-").isdigit() and len(content) < 20 else content
    )


def examined(captured: Captured, objects: Sequence[bytes], rng: random.Random) -> Continuity:
    """Land and load everything, in two steps at random, and examine all records."""
    history = captured.history
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, content in captured.export.files.items():
            place = folder / "export" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        (folder / "landing").mkdir()
        for number, content in enumerate(objects):
            (folder / "landing" / str(number)).write_bytes(content)
        with lake(folder / "lake", history.table, history.key_names) as opened:
            steps = [
                lambda: load_export(opened, history.table, str(folder / "export")),
                lambda: apply_objects(opened, history.table, [str(folder / "landing")]),
            ]
            for step in rng.sample(steps, 2):
                step()
            return examine_continuity(opened, history.table)


def lose(kind: Kind, seed: int, figures: Figures, *, changes: int = 120, removals: int = 2) -> None:
    """One history: complete, and without some record or object, `removals` times."""
    rng = random.Random(seed)
    captured = Captured.random(kind, rng, changes)
    objects = captured.objects(rng)
    figures.histories += 1
    figures.records += len(captured.documents)
    figures.false_breaks += examined(captured, [content for content, _ in objects.values()], rng).breaks.total()
    for number in range(removals):
        if number % 2:
            without = rng.choice(sorted(objects))
            left = {name: part for name, part in objects.items() if name != without}
            here = frozenset().union(*(positions for _, positions in left.values()))
            contents = [content for content, _ in left.values()]
        else:
            gone = rng.randrange(len(captured.documents))
            here = frozenset(range(len(captured.documents))) - {gone}
            contents = [b"\n".join(compact(captured.documents[at]) for at in rng.sample(sorted(here), len(here)))]
        if len(here) == len(captured.documents) or not here:
            continue  # duplicates in other objects: nothing is lost
        _judge(captured, here, examined(captured, contents, rng), figures)


def _judge(captured: Captured, here: frozenset[int], found: Continuity, figures: Figures) -> None:
    history = captured.history
    named = {key_text({name: b.key[name] for name in history.key_names}) for b in found.listed}
    lost = {history.changes[at].key_text for at in range(len(history.changes)) if at not in here}
    figures.removals += 1
    figures.noticed += bool(named)
    figures.wrongly_named += len(named - lost)
    figures.lost += len(lost)
    for key in lost:
        if key in named:
            figures.named += 1
            continue
        reason = _why_unnamed(captured, history.by_key[key], here)
        if reason is None:
            figures.unexplained.append(f"{history!r} {key}")
        else:
            figures.unnamed[reason] += 1


def _why_unnamed(captured: Captured, positions: Sequence[int], here: frozenset[int]) -> str | None:
    """Why the records of a key do not show that one is missing; None if they do."""
    left = [at for at in positions if at in here]
    gone = [at for at in positions if at not in here]
    if not left:
        return "without any record"
    middle = [at for at in gone if left[0] < at < left[-1]]
    if not middle:
        return "without a later record" if gone[-1] > left[-1] else "without an earlier record"
    if captured.masked & {*left, *gone}:
        return "masked by a record without old image"
    changes = captured.history.changes
    if all(_is_circle([changes[at] for at in run]) for run in _runs(positions, set(middle))):
        return "in a closed circle"
    if len({captured.declared[at].stream for at in left}) > 1:
        return "between records of two change sources"
    if _can_be_walked([(captured.declared[at], changes[at]) for at in left]):
        return "in another order of an instant"
    return None


def _runs(positions: Sequence[int], gone: set[int]) -> Iterator[list[int]]:
    for is_gone, members in groupby(positions, key=lambda at: at in gone):
        if is_gone:
            yield list(members)


def _is_circle(run: Sequence[Change]) -> bool:
    return item_text(run[0].old) == item_text(run[-1].new)


def _can_be_walked(records: Sequence[tuple[Declared, Change]]) -> bool:
    """Whether an order of the records of each instant is a trail: they are all tried."""

    def place(record: tuple[Declared, Change]) -> tuple[str, int]:
        marks = record[0]
        return (marks.stream, int(marks.sequence)) if marks.sequence else ("", marks.us)

    instants = [list(members) for _, members in groupby(sorted(records, key=place), key=place)]
    orders = 1
    for instant in instants:
        for count in range(2, len(instant) + 1):
            orders *= count
    if orders > MAX_ORDERS:
        return True
    for order in product(*map(permutations, instants)):
        walk = [change for part in order for _, change in part]
        if all(item_text(a.new) == item_text(b.old) for a, b in pairwise(walk)):
            return True
    return False


def run(seeds: Sequence[int], progress: Callable[[Figures], None] = lambda _figures: None) -> Figures:
    """Each seed is one history, of the kinds in turn."""
    figures = Figures()
    for seed in seeds:
        lose(KINDS[seed % len(KINDS)], seed, figures)
        progress(figures)
    return figures
