"""A table's true history, seeded: writes in the order in which they happened, their change records, and what was when.

Nothing here comes from the lake's code: the expected history is read off the writes.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Image = dict[str, Any]
Key = tuple[str, str]

START_US = 1_772_357_400_000_000
"""2026-03-01T09:30:00Z."""

MINUTE_US = 60_000_000
EXPORT_US = START_US + 90 * MINUTE_US
CHANGED, DELETED, PLACED = ("c-gap", "o-changed"), ("c-gap", "o-deleted"), ("c-gap", "o-placed")
"""Orders whose last records were lost before the export."""

STATUSES = ("placed", "paid", "packed", "shipped", "delivered", "returned")


@dataclass(frozen=True)
class Write:
    """One write. `at_us` is when the stream says it was; writes of one instant happened in the order of the list."""

    number: int
    at_us: int
    key: Key
    old: Image | None
    new: Image | None
    ttl: bool = False

    @property
    def event(self) -> str:
        """Its name in the stream."""
        return "REMOVE" if self.new is None else "MODIFY" if self.old else "INSERT"

    def record(self) -> Image:
        """Its record in Kinesis Data Streams for DynamoDB. Instants that are whole milliseconds are written as milliseconds."""
        whole = self.at_us % 1000 == 0
        body: Image = {
            "ApproximateCreationDateTime": self.at_us // 1000 if whole else self.at_us,
            "Keys": {"customer": {"S": self.key[0]}, "order_id": {"S": self.key[1]}},
            "SizeBytes": 100,
        }
        body |= {} if whole else {"ApproximateCreationDateTimePrecision": "MICROSECOND"}
        body |= {"NewImage": shuffled(self.new, self.number)} if self.new else {}
        body |= {"OldImage": shuffled(self.old, self.number + 1)} if self.old else {}
        principal = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
        return {
            "awsRegion": "eu-west-1",
            "eventID": f"00000000-0000-4000-8000-{(self.number * 7919) % 1_000_003:012d}",
            "eventName": self.event,
            "userIdentity": principal if self.ttl else None,
            "recordFormat": "application/json",
            "tableName": "orders",
            "dynamodb": body,
            "eventSource": "aws:dynamodb",
        }


def shuffled(image: Image, seed: int) -> Image:
    """The same image, its attributes in another order."""
    names = list(image)
    random.Random(seed).shuffle(names)
    return {name: image[name] for name in names}


@dataclass(frozen=True)
class Version:
    """An image that an item had, from `since_us` (None: before the first record) to `until_us` (None: it has it now)."""

    key: Key
    image: Image
    since_us: int | None
    until_us: int | None
    started_by: Literal["insert", "update", "export", "unknown"]
    ended_by: Literal["update", "delete", "ttl", "export"] | None


@dataclass
class Source:
    """The table. `lost`: numbers of writes whose records never landed."""

    seed: int = 7
    writes: list[Write] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    before: dict[Key, Image] = field(default_factory=dict)
    living: dict[Key, Image] = field(default_factory=dict)
    exported: dict[Key, Image] = field(default_factory=dict)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        for number in range(40):
            key = (f"c-{number % 7}", f"o-{number:04d}")
            self.before[key] = self._order(key, number)
        for key in (CHANGED, DELETED):
            self.before[key] = self._order(key, 3)
        self.living = dict(self.before)

    def live(self) -> None:
        """Writes before and after the export: single ones, several in an instant, deletes, expiry, re-creations."""
        self._bursts(START_US, EXPORT_US, 120)
        self._lose()
        self.exported = dict(self.living)
        self._bursts(EXPORT_US, EXPORT_US + 36 * 60 * MINUTE_US, 220)

    def _bursts(self, from_us: int, to_us: int, count: int) -> None:
        instants = sorted(self._random.sample(range(from_us // 1000 + 1, to_us // 1000), count))
        for instant_ms in instants:
            key = self._some_key()
            at_us = instant_ms * 1000
            kind = self._random.choice(("one", "one", "rush", "again", "blink"))
            if kind == "one":
                self._write(at_us + self._random.randint(1, 999), key, self._next(key))
            elif kind == "rush":  # several within a millisecond, some of them in one and the same instant
                for _ in range(self._random.randint(2, 5)):
                    self._write(at_us, key, self._next(key))
            elif kind == "again":  # removed and placed again, at once
                self._write(at_us, key, None)
                self._write(at_us, key, self._order(key, self._random.randrange(9999)))
            else:  # there and back: the last image is that before the first
                there = self.living.get(key)
                self._write(at_us, key, self._order(key, self._random.randrange(9999)))
                self._write(at_us, key, there)

    def _lose(self) -> None:
        """Records that never land: an update and a delete, each after an update that does, and an insert."""
        at_us = EXPORT_US - 30 * MINUTE_US
        for key in (CHANGED, DELETED):
            self._write(at_us + 5, key, self._order(key, 4))
        for key, image in ((CHANGED, self._order(CHANGED, 5)), (DELETED, None), (PLACED, self._order(PLACED, 6))):
            self._write(at_us + MINUTE_US, key, image)
            self.lost.add(self.writes[-1].number)

    def _some_key(self) -> Key:
        if self._random.random() < 0.2:
            return f"c-{self._random.randrange(7)}", f"o-n{self._random.randrange(60):03d}"
        return self._random.choice(sorted({*self.before, *self.living} - self._quiet() - {CHANGED, DELETED, PLACED}))

    def _quiet(self) -> set[Key]:
        """Orders without changes: the export alone has them."""
        return set(sorted(self.before)[:4])

    def _next(self, key: Key) -> Image | None:
        held = self.living.get(key)
        if held is not None and self._random.random() < 0.25:
            return None
        if held is None:
            return self._order(key, self._random.randrange(9999))
        total = {"N": f"{self._random.randint(1, 99999) / 100:.2f}".rstrip("0").rstrip(".")}
        return {**held, "status": {"S": self._random.choice(STATUSES)}, "total": total}

    def _write(self, at_us: int, key: Key, new: Image | None) -> None:
        old = self.living.get(key)
        if old == new:
            return  # nothing changes, so nothing is in the stream
        ttl = new is None and at_us // 1000 % 2 == 0  # one reason an instant: which removal was the last shows nowhere
        number = self.writes[-1].number + 1 if self.writes else 1
        self.writes.append(Write(number, at_us, key, old, new, ttl))
        if new is None:
            del self.living[key]
        else:
            self.living[key] = new

    def _order(self, key: Key, number: int) -> Image:
        """An order with every attribute that the demo's have."""
        return {
            "customer": {"S": key[0]},
            "order_id": {"S": key[1]},
            "status": {"S": STATUSES[number % len(STATUSES)]},
            "placed_at": {"S": f"2026-03-01T09:{number % 60:02d}:00.{number % 1000:03d}+00:00"},
            "total": {"N": f"{number}.25"},
            "weight": {
                "N": "12345678901234567890123456789012345678" if number % 2 else "-0.000000000000000000000000001"
            },
            "address": {
                "M": {
                    "street": {"S": f"{number} High Street"},
                    "city": {"S": ("Dublin", "Zürich")[number % 2]},
                    "zip": {"S": f"{number:05d}"},
                    "geo": {"M": {"lat": {"N": "47.376887"}, "lon": {"N": "8.541694"}}},
                }
            },
            "lines": {"L": [{"M": {"sku": {"S": "cup"}, "quantity": {"N": str(n + 1)}}} for n in range(number % 4)]},
            "gift": {"BOOL": number % 3 == 0},
            "tags": {"SS": ["gift", f"t{number % 5}"]},
            "coupons": {"NS": ["7.5", str(number)]},
            "seals": {"BS": ["AQI=", "Aw=="]},
            "thumbnail": {"B": "aGVsbG8="},
            "expires_at": {"N": str(1_772_400_000 + number)},
            "note": {"S": 'quote " and \\ and ü' if number % 2 else ""},
            "a.b": {"S": "dot"},
            'quo"ted': {"BOOL": number % 2 == 0},
        }

    def window(self, from_us: int) -> list[tuple[int, Image | None, Image]]:
        """The lines of an incremental export of all since: time of the last write, the image now, the key."""
        written = {write.key: write for write in self.writes if write.at_us >= from_us}
        before = {write.key: write.old for write in reversed(self.writes) if write.at_us >= from_us}
        return [
            (write.at_us, self.living.get(key), {"customer": {"S": key[0]}, "order_id": {"S": key[1]}})
            for key, write in written.items()
            if key in self.living or before[key] is not None
        ]

    # --- what is expected

    def landed(self) -> list[Write]:
        """The writes whose records land."""
        return [write for write in self.writes if write.number not in self.lost]

    def history(self) -> list[Version]:
        """Every image that an item had for at least a microsecond until another one, as records and the export have it."""
        by_key: dict[Key, list[Write]] = defaultdict(list)
        for write in self.landed():
            by_key[write.key].append(write)
        keys = {*by_key, *self.exported}
        return [version for key in sorted(keys) for version in self._versions(key, by_key.get(key, []))]

    def _versions(self, key: Key, writes: Sequence[Write]) -> Iterator[Version]:
        if not writes:
            yield Version(key, self.exported[key], None, None, "unknown", None)
            return
        lost = [w for w in self.writes if w.key == key and w.number in self.lost]
        steps = [_Step(w.at_us, w.new, "delete" if not w.ttl else "ttl") for w in _last_of_instant(writes)]
        for one in lost:  # what no record says, the export does
            steps.append(_Step(EXPORT_US, one.new, "export"))
        steps.sort(key=lambda step: step.at_us)
        inserted = {w.at_us for w in _last_of_instant(writes) if w.event == "INSERT"}
        image, since_us, started = self.before.get(key), None, "unknown"
        for step in steps:
            if step.image == image:
                continue  # there and back within an instant: nothing began
            if image is not None:
                ended = "export" if step.why == "export" else "update" if step.image else step.why
                yield Version(key, image, since_us, step.at_us, started, ended)  # type: ignore[arg-type]
            fresh = image is None or step.at_us in inserted
            started = "export" if step.why == "export" else "insert" if fresh else "update"
            image, since_us = step.image, step.at_us
        if image is not None:
            yield Version(key, image, since_us, None, started, None)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Step:
    at_us: int
    image: Image | None
    why: str


def _last_of_instant(writes: Iterable[Write]) -> list[Write]:
    last: dict[int, Write] = {}
    for write in writes:
        last[write.at_us] = write
    return list(last.values())
