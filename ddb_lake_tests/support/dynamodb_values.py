"""Which JSON texts are a value of DynamoDB: the cases that every reader is checked with.

The definition is `core.values.json_text` and `core.values.attributes.check_item`; `docs/explanation/types.md` explains it.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from hypothesis import strategies as st

from ddb_lake_tests.support import strategies


class Case(NamedTuple):
    """The JSON text of one value. `reason`: why it is none, or None if it is one."""

    text: str
    reason: str | None = None


_TAG = "expected an object with one type tag"
_NUMBER = "not the text of a finite number"
_BASE64 = "binary that is not valid base64"
_TWICE = "two members of one JSON object have the same name"

# ruff: noqa: E501  (a case a line, in groups)
CASES = (
    # text
    Case('{"S":""}'), Case('{"S":"a"}'), Case(r'{"S":"\"}\\\n\u0000\ud83e\udd86"}'), Case('{"S":"\u2028é🦆\x7f"}'),
    Case(r'{"S":"a\/b\u0041"}'), Case('{ "S" : "a" }'),
    Case('{"S":5}', "S is not UTF-8 text"), Case('{"S":null}', "S is not UTF-8 text"),
    Case('{"S":["a"]}', "S is not UTF-8 text"), Case('{"S": 5 }', "S is not UTF-8 text"),
    Case(r'{"S":"\ud800"}', "a lone surrogate"), Case(r'{"M":{"\ud800":{"S":"a"}}}', "a lone surrogate"),
    # numbers
    Case('{"N":"0"}'), Case('{"N":"-0"}'), Case('{"N":"5"}'), Case('{"N":"1.50"}'), Case('{"N":"1E+2"}'),
    Case('{"N":"007"}'), Case('{"N":".5"}'), Case('{"N":"5."}'), Case('{"N":"-1.5e-130"}'), Case('{"N":"9.9E+125"}'),
    Case('{"N":"' + "9" * 38 + '"}'), Case('{"N":"' + "1" * 39 + '"}'), Case('{"N":"1E+126"}'),
    Case('{"N":5}', "a number is written as text, found int"), Case('{"N": 5 }', "a number is written as text, found int"),
    Case('{"N":1e5}', "a number is written as text, found float"), Case('{"N":""}', _NUMBER), Case('{"N":"abc"}', _NUMBER),
    Case('{"N":"NaN"}', _NUMBER), Case('{"N":"Infinity"}', _NUMBER), Case('{"N":" 5 "}', _NUMBER),
    Case('{"N":"1,000"}', _NUMBER), Case('{"N":"0x1F"}', _NUMBER), Case('{"N":"1E+1001"}', "a number beyond 1E±1000"),
    Case('{"N":NaN}', "NaN, which is no number of JSON"), Case('{"N":null}', "a number is written as text"),
    # binary
    Case('{"B":""}'), Case('{"B":"AAEqQQ=="}'), Case('{"B":"AB=="}'), Case('{"B":"+/8="}'),
    Case('{"B":"-_8="}', _BASE64), Case('{"B":"YQ"}', _BASE64), Case('{"B":"YQ=a"}', _BASE64), Case('{"B":"YQ==YQ=="}', _BASE64),
    Case('{"B":"Y Q="}', _BASE64), Case('{"B":"é"}', _BASE64), Case('{"B":"===="}', _BASE64), Case('{"B":5}', "binary that is not base64 text"),
    # true, false, null
    Case('{"BOOL":true}'), Case('{"BOOL":false}'), Case('{"BOOL":"true"}', "BOOL is neither true nor false"),
    Case('{"BOOL":1}', "BOOL is neither true nor false"), Case('{"NULL":true}'), Case('{"NULL":false}'),
    Case('{"NULL":"true"}', "NULL is neither true nor false"), Case('{"NULL":null}', "NULL is neither true nor false"),
    # sets
    Case('{"SS":["b","a"]}'), Case('{"SS":[]}'), Case('{"SS":["a","a"]}'), Case('{"NS":["1","1.0"]}'), Case('{"NS":["1E+2","-3.5"]}'),
    Case('{"BS":["AA==","AQ=="]}'), Case(r'{"SS":["\"","]"]}'),
    Case('{"SS":"a"}', "SS is not a list"), Case('{"SS":[1]}', "SS holds what is not text"), Case('{"SS":[null]}', "SS holds what is not text"),
    Case('{"SS":["a",true]}', "SS holds what is not text"), Case('{"SS":["a",]}', "a damaged or truncated JSON object"),
    Case('{"NS":["1","x"]}', _NUMBER), Case('{"NS":[1]}', "NS holds what is not text"), Case('{"BS":["-_8="]}', _BASE64),
    # maps and lists
    Case('{"M":{}}'), Case('{"L":[]}'), Case('{"M":{"a":{"S":"x"},"b":{"N":"1"}}}'), Case('{"M":{"a":{"NULL":false}}}'),
    Case('{"L":[{"M":{"a":{"S":"x"},"b":{"N":"1"}}},{"NULL":false},{"B":"AA=="}]}'), Case('{"M":{"":{"S":""}}}'),
    Case('{"L":[' * 40 + ']}' * 40),
    Case('{"L":[' * 101 + ']}' * 101, "nested deeper than 100 levels"), Case('{"L":[' * 1500 + ']}' * 1500, "nested"),
    Case('{"M":[]}', "expected an object of attributes, found list"), Case('{"L":{}}', "L is not a list"),
    Case('{"M":{"a":"x"}}', _TAG), Case('{"L":["x"]}', _TAG), Case('{"L":[{"N":"x"}]}', _NUMBER), Case('{"M":{"a":{"N":5}}}', "a number is written"),
    Case('{"M":{"a":{"S":"x"},"a":{"S":"y"}}}', _TWICE), Case('{"L":[{"M":{"a":{"S":"x"},"a":{"S":"x"}}}]}', _TWICE),
    Case(r'{"L":[{"M":{"a":{"S":"x"},"\u0061":{"S":"x"}}}]}', _TWICE),
    # tags
    Case('{}', _TAG), Case('{"S":"a","N":"1"}', _TAG), Case('{"S":"a","S":"b"}', _TWICE), Case('{"Q":"x"}', "unknown type tag"),
    Case('{"s":"x"}', "unknown type tag"), Case('"x"', _TAG), Case('5', _TAG), Case('null', _TAG), Case('[]', _TAG),
    Case('{"type":"Buffer","data":[1]}', _TAG),
)  # fmt: skip


@st.composite
def texts(draw: st.DrawFn) -> str:
    """The JSON text of a value, or of nearly one: a valid value's text with some characters changed."""
    if draw(st.booleans()):
        text = draw(st.sampled_from([case.text for case in CASES if len(case.text) < 200]))
    else:
        text = json.dumps(
            draw(strategies.values()),
            ensure_ascii=draw(st.booleans()),
            separators=draw(st.sampled_from(((",", ":"), (", ", ": ")))),
        )
    for _ in range(draw(st.integers(0, 2))):
        text = draw(_mutations(text))
    return text


@st.composite
def _mutations(draw: st.DrawFn, text: str) -> str:
    places = [match.span() for match in re.finditer(r'"[^"]*"|[{}\[\],:]|[^"{}\[\],:]+', text)]
    if not places:
        return text
    start, end = draw(st.sampled_from(places))
    piece = text[start:end]
    what = draw(st.sampled_from(("drop", "double", "swap", "unquote", "space", "copy")))
    if what == "drop":
        piece = ""
    elif what == "double":
        piece += piece
    elif what == "unquote":
        piece = piece.strip('"')
    elif what == "space":
        piece = f" {piece} "
    elif what == "copy":
        other = draw(st.sampled_from(places))
        piece = text[other[0] : other[1]]
    else:
        piece = draw(
            st.sampled_from(
                (
                    '"S"',
                    '"N"',
                    '"NULL"',
                    "true",
                    "false",
                    "null",
                    "5",
                    "NaN",
                    '"1E+2"',
                    '"x"',
                    '"-_8="',
                    "{}",
                    "[]",
                    ",",
                )
            )
        )
    return text[:start] + piece + text[end:]
