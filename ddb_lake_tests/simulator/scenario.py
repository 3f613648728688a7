"""A scenario: a history, the exports and objects landed from it, and what an exact implementation must make of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddb_lake_tests.simulator.compare import same_items
from ddb_lake_tests.simulator.envelopes import SECOND_US, Declared
from ddb_lake_tests.simulator.exports import Export
from ddb_lake_tests.simulator.model import History, Items, item_text

CLOCK_SKEW_US = 300 * SECOND_US


@dataclass(frozen=True)
class Mark:
    """A place in a history: around the change at `position`, at the `style`-th kind of instant."""

    position: int = 0
    style: int = 0


@dataclass(frozen=True)
class Plan:
    """What is exported, what is lost. Everything is a wish: `compose` (in composing) keeps to what can be promised.

    fulls: full exports; skewed: read their keys up to a minute off. windows: end and minutes of incremental exports;
    chained lets each begin where the export before it ended. first_landed: the stream starts with that change;
    stragglers: per cent of the older records that land nevertheless. gap: nothing of the stream landed from the start
    of the last window on, to the window's end or (gap below 100) that per cent of it. no_stream: the history ends with
    the last window and no record landed. probes: as-of instants.
    """

    fulls: tuple[Mark, ...] = ()
    skewed: bool = False
    windows: tuple[tuple[Mark, int], ...] = ()
    chained: bool = False
    first_landed: int = 0
    stragglers: int = 0
    gap: int = 0
    no_stream: bool = False
    probes: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Probe:
    """The true items at an instant which the promises cover."""

    time_us: int
    items: Items


@dataclass(frozen=True, repr=False)
class Scenario:
    """Everything landed and everything expected.

    `exports` are in the order in which to load them (any other order must give the same, before, between or after the objects).
    `expected_records` counts the distinct change records of the table in `objects`; `expected_other_records` the
    deliveries of other tables' records, repetitions included; `expected_garbage` the pieces for quarantine.
    """

    history: History
    declared: tuple[Declared, ...]
    landed: tuple[bool, ...]
    exports: tuple[Export, ...]
    objects: Mapping[str, bytes]
    expected_items: Items
    expected_records: int
    expected_other_records: int
    expected_garbage: int
    probes: tuple[Probe, ...]
    clock_skew_us: int = CLOCK_SKEW_US

    @property
    def table(self) -> str:
        """The source table's name."""
        return self.history.table

    @property
    def key_names(self) -> tuple[str, ...]:
        """The names of the key attributes, partition key first."""
        return self.history.key_names

    def __repr__(self) -> str:
        """A line for each change, export and probe; images are named by order of appearance, objects only counted."""
        names: dict[str, str] = {"None": "absent"}
        start_us = self.history.changes[0].time_us if self.history.changes else 0
        told = []
        for change, declared, there in zip(self.history.changes, self.declared, self.landed, strict=True):
            old, new = (names.setdefault(str(item_text(i)), f"image {len(names)}") for i in (change.old, change.new))
            said = f"{declared.kind} {declared.precision} {declared.us - start_us:+} {declared.sequence}".rstrip()
            told.append(
                f"  {change.time_us - start_us:+} µs {change.key_text}: {old} -> {new}"
                f"{' by TTL' if change.ttl else ''} (told as {said}{'' if there else ', lost'})"
            )
        for export in self.exports:
            begin = "" if export.from_us is None else f"from {export.from_us - start_us:+} "
            skew = {text: us - start_us for text, us in export.taken_us.items()}
            told.append(
                f"  {export.kind} export {begin}at {export.time_us - start_us:+}{f', read {skew}' if skew else ''}"
            )
        told += [f"  probe at {probe.time_us - start_us:+}: {len(probe.items)} items" for probe in self.probes]
        told.append(f"  {len(self.objects)} objects, {self.expected_garbage} pieces of garbage")
        images = [f"  {name}: {text[:200]}" for text, name in names.items()]
        return "\n".join([f"<Scenario {self.table}, µs from {start_us}", *told, *images, ">"])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What Hypothesis prints of a falsifying example."""
        printer.text(repr(self))

    def differences(self, lines: Iterable[str | Mapping[str, Any]], probe: Probe | None = None) -> list[str]:
        """What is wrong with dumped `lines`, for the final items or for those of `probe`; empty when nothing."""
        expected = self.expected_items if probe is None else probe.items
        return same_items(lines, expected.values(), self.key_names)


def write(scenario: Scenario, folder: Path) -> None:
    """Puts `<folder>/exports/<n>/AWSDynamoDB/…`, n counting from 0 in loading order, and `<folder>/landing/<key>`."""
    (folder / "landing").mkdir(parents=True, exist_ok=True)
    files = {f"landing/{key}": content for key, content in scenario.objects.items()}
    for number, export in enumerate(scenario.exports):
        files.update({f"exports/{number}/{key}": content for key, content in export.files.items()})
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
