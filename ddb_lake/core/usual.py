"""What items and keys nearly always look like, as patterns that a regular expression engine without backtracking takes.

An item's JSON, as orjson writes it with sorted names, that matches is an item beyond doubt (`attributes.check_item`), has
no binary, and is canonical but for the order within sets (`attributes.with_sorted_sets`). What does not match may be one
all the same. One look at many texts takes a tenth of the time of checking each.
"""

from __future__ import annotations

from typing import Final

_LEVELS: Final = 8
"""Maps and lists within maps and lists."""

_TEXT: Final = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_NUMBER: Final = r'"(?:0|-?(?:[1-9][0-9]{0,37}(?:\.[0-9]{0,37}[1-9])?|0\.[0-9]{0,99}[1-9]))"'


def _value(levels: int) -> str:
    """Pattern of a value. What it is matched with is JSON, so that commas and brackets are where they belong."""
    kinds = [f'"S":{_TEXT}', f'"N":{_NUMBER}', '"BOOL":(?:true|false)', '"NULL":true']
    kinds += [r'"SS":\[(?:"[^"\\]*",?)+\]', rf'"NS":\[(?:{_NUMBER},?)+\]']
    if levels:
        kinds.append(rf'"(?:M":\{{|L":\[)(?:(?:{_TEXT}:)?{_value(levels - 1)},?)*[\]}}]')
    return rf"\{{(?:{'|'.join(kinds)})\}}"


USUAL_ITEM: Final = rf"^\{{(?:{_TEXT}:{_value(_LEVELS)},?)*\}}$"
USUAL_KEY: Final = (
    rf'^\{{{_TEXT}:\{{"(?:S":{_TEXT}|N":{_NUMBER})\}}(?:,{_TEXT}:\{{"(?:S":{_TEXT}|N":{_NUMBER})\}})?\}}$'
)
