"""Items that the record kernel reads, items that it leaves to SQL and Python, and lines with changed bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import orjson

from ddb_lake.core.values.change_record import Item
from ddb_lake_tests.support.mutated_bytes import mutated

POINTERS: Final = (
    "/id/S", "/n/N", "/n/NULL", "/n/S", "/b/B", "/yes/BOOL", "/none/NULL", "/ss/SS", "/ns/NS", "/bs/BS", "/list/L", "/doc/M",
    "/map/M/a/S", "/map/M/ü~1~0/N", "/map/M/deep/M/x/S", "/map/M/deep/M/y/L", "/map/NULL",
)  # fmt: skip

TYPES: Final = (
    "string", "decimal(38,3)", "boolean", "string", "string", "boolean", "boolean", "list<string>", "list<string>", "list<string>",
    "string", "string", "string", "long", "string", "string", "boolean",
)  # fmt: skip
"""The types of columns for the values of `POINTERS`. The numbers of some items of `READ` do not fit."""

READ: Final[tuple[Item, ...]] = (
    {"id": {"S": "k"}},
    {"n": {"N": "-12.5"}, "id": {"S": 'ü€😀"\\\b\f\n\r\t/\u007f\u2028'}},
    {"n": {"NULL": True}, "none": {"NULL": False}, "yes": {"BOOL": True}},
    {"n": {"S": ""}, "b": {"B": "YQ=="}, "yes": {"BOOL": False}},
    {
        "b": {"B": ""},
        "ss": {"SS": ["b", "ü", "", "b"]},
        "ns": {"NS": ["2", "10", "-1.5", "0"]},
        "bs": {"BS": ["YWI=", "YWJj"]},
    },
    {"ss": {"SS": []}, "ns": {"NS": []}, "bs": {"BS": []}, "list": {"L": []}, "doc": {"M": {}}},
    {
        "list": {
            "L": [{"S": "ü"}, {"L": [{"N": "1"}]}, {"M": {"a": {"B": "YQ=="}, "b": {"SS": ["]"]}}}, {"NULL": False}]
        }
    },
    {"doc": {"M": {"a": {"M": {"a": {"BOOL": True}}}, "}": {"S": "},{"}, "S": {"BS": ["YQ=="]}}}},
    {
        "map": {"M": {"deep": {"M": {"y": {"L": [{"S": "z"}]}, "x": {"S": "\n"}}}, "ü/~": {"N": "0.001"}}},
        "id": {"S": ""},
    },
    {"map": {"NULL": True}, "n": {"N": "9" * 38}},
    {"map": {"M": {"ü/~": {"N": "-9223372036854775808"}}}, "n": {"N": "-" + "9" * 35 + ".999"}},
    {"map": {"M": {"ü/~": {"N": "9223372036854775807"}}}, "n": {"N": "0.1"}, "ss": {"SS": ["longer than twelve"] * 9}},
)
"""Items that the kernel reads."""

LEFT: Final[tuple[Item, ...]] = (
    {},
    {"other": {"S": "x"}},
    {"id": {"N": "1"}},
    {"id": {"NULL": True}},
    {"id": {"S": "\u0001"}},
    {"n": {"N": "1.0"}},
    {"n": {"N": "-0"}},
    {"n": {"N": "9" * 39}},
    {"b": {"B": "YQ="}},
    {"b": {"B": "YQ=a"}},
    {"b": {"B": "YQYQY"}},
    {"bs": {"BS": ["Y"]}},
    {"list": {"L": [{"B": "YQYQY"}]}},
    {"ss": {"SS": ['"']}},
    {"map": {"M": {}}},
    {"map": {"M": {"other": {"S": "x"}}}},
    {"map": {"M": {"deep": {"NULL": True}}}},
    {"doc": {"M": {"a": {"S": "\n"}}}},
    {"doc": {"M": {f"{n}": {"S": "x"} for n in range(65)}}},
    {"list": {"S": "x"}},
    {"yes": {"BOOL": None}},
)
"""Items that the kernel leaves to SQL and Python, though some are valid."""


def line(item: Item) -> bytes:
    """A line of an export."""
    return b'{"Item":%b}' % orjson.dumps(item)


def mutated_lines(seed: int, count: int) -> Iterator[bytes]:
    """Lines of up to three of the items together; most lines are changed. The lines are the same for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        members = [*chance.choice(READ).items(), *chance.choice(READ).items(), *chance.choice((*READ, *LEFT)).items()]
        chance.shuffle(members)
        text = line(dict(members))
        yield mutated(chance, text) if chance.random() < 0.7 else text
