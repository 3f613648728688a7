"""How a column is named, how its path is written, and which type its numbers need."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddb_lake.core.inference import NumberShape, shape_of
from ddb_lake.core.schema import MAX_NAME_CHARS, RESERVED, Column, Path, column_names, parse_pointer, pointer, to_column
from ddb_lake_tests import strategies as ddb

# names


paths = st.lists(ddb.names() | st.from_regex(r"[a-c_]{1,3}", fullmatch=True), min_size=1, max_size=3).map(tuple)
path_sets = st.sets(paths, max_size=12)


@given(path_sets)
@settings(max_examples=200, deadline=None)
def test_column_names_are_safe_unique_without_case_and_never_reserved(found: set[Path]) -> None:
    names = column_names(found)
    assert set(names) == found
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in names.values())
    assert all(len(name) <= MAX_NAME_CHARS + 10 for name in names.values())
    folded = {name.lower() for name in names.values()}
    assert len(folded) == len(names)
    assert not folded & set(RESERVED)


@given(path_sets, st.data())
def test_column_names_ignore_the_order(found: set[Path], data: st.DataObject) -> None:
    assert column_names(data.draw(st.permutations(sorted(found)))) == column_names(sorted(found))


@given(path_sets, st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True))
def test_column_names_leave_a_plain_name_as_it_is(found: set[Path], name: str) -> None:
    others = {path for path in found if path[0].lower() != name.lower()}
    if name.lower() not in RESERVED:
        assert column_names({*others, (name,)})[(name,)] == name


def test_column_names_give_a_name_wanted_twice_to_the_first_that_needs_no_change() -> None:
    names = column_names([("a b",), ("a_b",), ("A_B",), ("a", "b"), ("a__b",)])
    assert names[("A_B",)] == "A_B"
    assert re.fullmatch(r"a_b_[0-9a-f]{8}", names[("a_b",)])
    assert re.fullmatch(r"a_b_[0-9a-f]{8}", names[("a b",)])
    assert names[("a__b",)] == "a__b"
    assert names[("a", "b")] == "a__b_662b7b62"


@pytest.mark.parametrize("name", [*RESERVED, "_KEY", "_Rescued"])
def test_column_names_never_give_a_reserved_name_away(name: str) -> None:
    assert re.fullmatch(re.escape(name) + r"_[0-9a-f]{8}", column_names([(name,)])[(name,)])


def test_column_names_of_names_that_end_like_a_suffixed_one_are_unique() -> None:
    """Whoever names attributes can know the digests."""
    found: list[Path] = [("ID",), ("id",)]
    for _ in range(3):
        found.append((column_names(found)[("id",)],))
    names = column_names(found)
    assert len({name.lower() for name in names.values()}) == len(found)
    assert [names[path] for path in found[2:]] == [path[0] for path in found[2:]]


@pytest.mark.parametrize(
    ("path", "name"),
    [(("x-y z",), "x_y_z"), (("1st",), "_1st"), (("é",), "_"), (("",), "_"), (("a", "b", "c"), "a__b__c")],
)
def test_column_names_replace_what_is_not_safe(path: Path, name: str) -> None:
    assert column_names([path]) == {path: name}


def test_column_names_of_huge_names_are_short_and_apart() -> None:
    first, second = ("n" * 60_000 + "a",), ("n" * 60_000 + "b",)
    names = column_names([second, first])
    assert names[first] == "n" * MAX_NAME_CHARS
    assert names[second].startswith("n" * MAX_NAME_CHARS + "_")


# pointers


@given(st.lists(ddb.names() | st.text("~/01", max_size=4), min_size=1, max_size=4).map(tuple))
def test_pointer_and_back_is_the_same_path(path: Path) -> None:
    assert parse_pointer(pointer(path)) == path


def test_pointer_is_that_of_rfc_6901() -> None:
    assert pointer(("a/b", "m~n", "", "~1")) == "/a~1b/m~0n//~01"
    assert parse_pointer("/a~1b/m~0n//~01") == ("a/b", "m~n", "", "~1")
    assert Column(("a", "b"), "S", "a__b", "string").pointer == "/a/b"


# numbers


number_lists = st.lists(ddb.spelled_numbers().map(lambda pair: pair[0]) | ddb.numbers(), min_size=1, max_size=5)


def shape(texts: Sequence[str]) -> NumberShape:
    found = NumberShape()
    for text in texts:
        found.observe(text)
    return found


@given(number_lists, number_lists, st.data())
def test_number_shape_ignores_order_and_division(left: list[str], right: list[str], data: st.DataObject) -> None:
    merged = shape(left)
    merged.merge(shape(right))
    assert merged == shape(data.draw(st.permutations(left + right)))


@given(number_lists)
@settings(max_examples=200, deadline=None)
def test_number_shape_gives_the_narrowest_exact_type(texts: list[str]) -> None:
    values = [Decimal(text) for text in texts]
    fitting = [scale for scale in range(38) if all(fits_decimal(value, scale) for value in values)]
    if all(fits_decimal(value, 0) and -(2**63) <= value < 2**63 for value in values):
        expected = "long"
    else:
        expected = f"decimal(38,{fitting[0]})" if fitting else "string"
    assert shape(texts).column_type() == expected


def fits_decimal(value: Decimal, scale: int) -> bool:
    _, digits, exponent = value.as_tuple()
    if not value:
        return True
    stripped = "".join(map(str, digits)).rstrip("0")
    last = int(exponent) + len(digits) - len(stripped)
    return last >= -scale and value.adjusted() < 38 - scale


@pytest.mark.parametrize(
    ("texts", "column_type"),
    [
        (["9223372036854775807", "-9223372036854775808"], "long"),
        (["9223372036854775808"], "decimal(38,0)"),
        (["-9223372036854775809"], "decimal(38,0)"),
        (["1.0", "1E3"], "long"),
        (["9" * 38], "decimal(38,0)"),
        (["1" + "0" * 37], "decimal(38,0)"),
        (["9" * 39], "string"),
        (["0." + "0" * 36 + "1"], "decimal(38,37)"),
        (["0." + "0" * 37 + "1"], "string"),
        (["1." + "1" * 37], "decimal(38,37)"),
        (["10", "0." + "1" * 37], "string"),
        (["9" * 36, "0.25"], "decimal(38,2)"),
        (["9" * 37, "0.25"], "string"),
    ],
)
def test_number_shape_at_its_boundaries(texts: list[str], column_type: str) -> None:
    assert shape(texts).column_type() == column_type


@given(number_lists)
def test_number_column_holds_every_number_it_was_made_for(texts: list[str]) -> None:
    column = Column(("n",), "N", "n", shape(texts).column_type())
    assert all(to_column(column, text)[0] is not None for text in texts)


@pytest.mark.parametrize("column_type", ["long", "decimal(38,0)", "decimal(38,37)", "string"])
def test_shape_of_a_column_leads_to_its_type_again(column_type: str) -> None:
    assert shape_of(column_type).column_type() == column_type
    assert shape_of(f"list<{column_type}>").column_type() == column_type
