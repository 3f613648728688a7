"""DynamoDB numbers as text: which texts are a valid number, and one spelling for each value. No float is involved.

A number of DynamoDB has up to 38 significant digits and a magnitude from 1E-130 to 9.9…E+125. Services and
clients spell the same value in many ways (`1.50`, `15E-1`); what is compared, hashed or used as a key
goes through `canonical_number` first. `canonical_number` accepts more than DynamoDB does: up to `MAX_POINT_SHIFT` digits
before or after the point. Such a number is kept as it is.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html
"""

from __future__ import annotations

import re
from typing import Final

from ddb_lake.errors import UndecodableError

MAX_POINT_SHIFT: Final = 1000  # digits before or after the point: far more than DynamoDB's 130, and bounded

MAX_CHARACTERS: Final = 2_100
"""The longest spelling: more than any number of that magnitude takes, and less than CPython's limit for integers."""

CANONICAL_NUMBER: Final = r"0|-?(?:[1-9][0-9]{0,1000}+(?:\.[0-9]{0,1000}[1-9])?|0\.[0-9]{0,1000}[1-9])"
"""The pattern of texts that `canonical_number` returns unchanged. Longer texts are examined in full."""

is_canonical_number: Final = re.compile(CANONICAL_NUMBER, re.ASCII).fullmatch

_SPELLING: Final = re.compile(r"([+-]?)([0-9]*+)(?:\.([0-9]*+))?(?:[eE]([+-]?[0-9]++))?", re.ASCII).fullmatch


class NumberText(str):
    """A number of plain JSON as the text it was written in, so that no digit is rounded away."""

    __slots__ = ()


def canonical_number(text: object) -> str:
    """The one spelling of a number: plain digits, no exponent, no needless zero or sign; `0` for every zero.

    Raises:
        UndecodableError: `text` is not the text of a finite number, or is beyond 1E±1000.
    """
    if not isinstance(text, str):
        raise UndecodableError(f"a number is written as text, found {type(text).__name__}")
    if is_canonical_number(text):
        return str(text)
    if len(text) > MAX_CHARACTERS:
        raise UndecodableError(f"a number of {len(text)} characters")
    match = _SPELLING(text)
    if match is None or not (match[2] or match[3]):
        raise UndecodableError("not the text of a finite number")
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", match[4] or "0"
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "0"
    if len(exponent) > 12:
        raise UndecodableError("a number beyond 1E±1000")
    point = len(digits) - len(fraction) + int(exponent)  # where the point stands, counted from the first digit
    plain = _place_point(digits.rstrip("0"), point)
    return f"-{plain}" if sign == "-" else plain


def _place_point(digits: str, point: int) -> str:
    """`digits` (without zeros at either end) with the decimal point after the first `point` of them."""
    if not -MAX_POINT_SHIFT < point <= MAX_POINT_SHIFT + 1:
        raise UndecodableError("a number beyond 1E±1000")
    if point <= 0:
        return f"0.{'0' * -point}{digits}"
    if point >= len(digits):
        return digits + "0" * (point - len(digits))
    return f"{digits[:point]}.{digits[point:]}"
