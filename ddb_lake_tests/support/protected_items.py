"""Items with values that a lake may not have, and what it is to have instead: written from the guide, sharing no code with ddb_lake."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

KEY = "a key of hashes for the tests, 0123456789"
KEY_VARIABLE = "DDB_LAKE_TEST_HASH_KEY"

COLUMNS: dict[str, Any] = {
    "email": {"hash": True},
    "note": {"drop": True},
    "card": {"mask": {"keep_last": 4}},
    "pin": {"mask": True},
    "address.street": {"drop": True},
    "address.door": {"hash": True},
    "lines[].email": {"hash": True},
    "lines[].card.number": {"mask": {"keep_last": 4}},
    "phones[]": {"mask": {"keep_last": 2}},
    "logins[][].ip": {"drop": True},
}

NEEDLE = "walnut-street-221b-"
DIGITS = "739184620573918462"
BINARY = base64.b64encode(b"0123456789abcdef-binary").decode()
NEEDLES = (NEEDLE, DIGITS, BINARY)
"""What each hidden value begins with. No other value has them."""


def expected(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item as the lake is to have it by `COLUMNS`."""
    found = {name: value for name, value in item.items() if name != "note"}
    if "email" in found:
        found["email"] = _hashed(found["email"])
    if "card" in found:
        found["card"] = _masked(found["card"], 4)
    if "pin" in found:
        found["pin"] = {"S": "****"}
    if "address" in found and "NULL" not in found["address"]:
        found["address"] = _address(found["address"])
    if "lines" in found and "NULL" not in found["lines"]:
        lines = found["lines"].get("L")
        found["lines"] = {"S": "****"} if lines is None else {"L": [_line(line) for line in lines]}
    if "phones" in found and "NULL" not in found["phones"]:
        phones = found["phones"].get("L")
        found["phones"] = (
            _masked(found["phones"], 2) if phones is None else {"L": [_masked(phone, 2) for phone in phones]}
        )
    if "logins" in found and "NULL" not in found["logins"]:
        days = found.pop("logins").get("L")
        if days is not None:
            found["logins"] = {"L": [_day(day) for day in days if "L" in day or "NULL" in day]}
    return found


def _address(value: Mapping[str, Any]) -> dict[str, Any]:
    if "M" not in value:
        return {"S": "****"}  # its members' rules differ
    members = {name: member for name, member in value["M"].items() if name != "street"}
    if "door" in members:
        members["door"] = _hashed(members["door"])
    return {"M": members}


def _line(line: Mapping[str, Any]) -> Mapping[str, Any]:
    if "NULL" in line:
        return line
    if "M" not in line:
        return {"S": "****"}
    members = dict(line["M"])
    if "email" in members:
        members["email"] = _hashed(members["email"])
    card = members.get("card", {"NULL": True})
    if "M" in card:
        number = {"number": _masked(card["M"]["number"], 4)} if "number" in card["M"] else {}
        members["card"] = {"M": {**card["M"], **number}}
    elif "NULL" not in card:
        members["card"] = _masked(card, 4)
    return {"M": members}


def _day(day: Mapping[str, Any]) -> Mapping[str, Any]:
    if "L" not in day:
        return day
    logins = [login for login in day["L"] if "M" in login or "NULL" in login]
    without = [
        {"M": {name: value for name, value in one["M"].items() if name != "ip"}} if "M" in one else one
        for one in logins
    ]
    return {"L": without}


def expected_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A change record with the images that the lake is to have."""
    body = dict(record["dynamodb"])
    for name in ("NewImage", "OldImage"):
        if name in body:
            body[name] = expected(body[name])
    return {**record, "dynamodb": body}


def _hashed(value: Mapping[str, Any]) -> dict[str, Any]:
    digest = _hmac(json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False))
    return {"S": digest + _hmac(f"hashed:{digest}")[:16]}


def _hmac(text: str) -> str:
    return hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


def _canonical(value: Mapping[str, Any]) -> Any:
    ((tag, content),) = value.items()
    if tag == "N":
        return {tag: _digits(content)}
    if tag == "NS":
        return {tag: sorted({_digits(one) for one in content})}
    if tag in ("SS", "BS"):
        return {tag: sorted(set(content))}
    if tag == "M":
        return {tag: {name: _canonical(member) for name, member in content.items()}}
    return {tag: [_canonical(member) for member in content]} if tag == "L" else dict(value)


def _digits(text: str) -> str:
    plain = format(Decimal(text), "f")
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if Decimal(text) == 0 else plain


def _masked(value: Mapping[str, Any], keep_last: int) -> dict[str, Any]:
    text = value.get("S", _digits(value["N"]) if "N" in value else "")
    tail = text[len(text) - keep_last :] if len(text) > keep_last else ""
    return {"S": "****" + (tail if set(tail) - {"*"} else "")}


def _text() -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=4, max_size=8).map(NEEDLE.__add__)


def _number() -> st.SearchStrategy[str]:
    return st.integers(1000, 99999).map(lambda n: f"{DIGITS}{n}")


def hidden_values() -> st.SearchStrategy[dict[str, Any]]:
    """Values of every type that hide something, and some that hide nothing."""
    scalars: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.builds(lambda v: {"S": v}, _text()),
        st.builds(lambda v: {"N": v}, _number()),
        st.builds(lambda v: {"N": f"{v}.10"}, _number()),
        st.just({"B": BINARY}),
        st.just({"BOOL": True}),
        st.just({"NULL": True}),
        st.just({"S": ""}),
        st.builds(lambda v: {"SS": v}, st.lists(_text(), min_size=1, max_size=2, unique=True)),
        st.builds(lambda v: {"NS": v}, st.lists(_number(), min_size=1, max_size=2, unique=True)),
        st.just({"BS": [BINARY]}),
    )
    return st.one_of(
        scalars,
        st.builds(lambda v: {"L": [v, {"N": "1"}]}, scalars),
        st.builds(lambda v: {"M": {"b": v, "a": {"L": []}}}, scalars),
    )


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """The attributes of an item beside its key: protected ones, and others."""
    hidden = st.dictionaries(st.sampled_from(("email", "note", "card", "pin")), hidden_values(), max_size=4)
    inner = st.dictionaries(st.sampled_from(("street", "door")), hidden_values(), max_size=2)
    city: st.SearchStrategy[dict[str, Any]] = st.sampled_from(({}, {"city": {"S": "Ghent"}}))
    address = st.one_of(hidden_no_maps(), st.builds(lambda a, b: {"M": {**a, **b}}, inner, city))
    open_values = st.sampled_from(({"N": "1"}, {"S": "plain"}, {"BOOL": False}, {"SS": ["a", "b"]}))
    body = draw(hidden)
    if draw(st.booleans()):
        body["address"] = draw(address)
    for name, value in (("lines", _lines()), ("phones", _phones()), ("logins", _logins())):
        if draw(st.integers(0, 2)) == 0:
            body[name] = draw(value)
    body["v"] = draw(open_values)
    return body


def hidden_no_maps() -> st.SearchStrategy[dict[str, Any]]:
    """Hidden values that are no maps, in place of a map with protected members."""
    return hidden_values().filter(lambda value: "M" not in value)


def _listed(elements: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.lists(elements, max_size=2).map(lambda found: {"L": found})


def _lines() -> st.SearchStrategy[dict[str, Any]]:
    number = st.fixed_dictionaries({}, optional={"number": hidden_values(), "kind": st.just({"S": "debit"})})
    card = st.one_of(number.map(lambda members: {"M": members}), hidden_no_maps())
    line = st.fixed_dictionaries({}, optional={"email": hidden_values(), "card": card, "n": st.just({"N": "1"})})
    return _or_no_list(_listed(st.one_of(line.map(lambda members: {"M": members}), hidden_no_maps())))


def _phones() -> st.SearchStrategy[dict[str, Any]]:
    return _or_no_list(_listed(hidden_values()))


def _logins() -> st.SearchStrategy[dict[str, Any]]:
    login = st.fixed_dictionaries({}, optional={"ip": hidden_values(), "at": st.just({"S": "noon"})})
    logins = _listed(st.one_of(login.map(lambda members: {"M": members}), hidden_no_maps()))
    return _or_no_list(_listed(st.one_of(logins, hidden_values().filter(lambda value: "L" not in value))))


def _or_no_list(lists: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(lists, hidden_values().filter(lambda value: "L" not in value))
