"""Prices of AWS services: the public list prices in `prices.toml`, and files of the same form with other prices."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib import resources
from typing import Any

from ddb_lake.errors import UsageError


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one `unit` of a service.

    Args:
        usd: US dollars a unit.
        unit: what is counted.
        service: the AWS service.
        page: address of the page with the price.
        third_party: the price was read from a third party, not from AWS.
    """

    usd: Decimal
    unit: str
    service: str
    page: str
    third_party: bool = False


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices by name, in USD. `read_on`: when they were read; None if the file does not say."""

    prices: Mapping[str, Price]
    region: str
    read_on: date | None


@cache
def list_prices() -> PriceList:
    """The public list prices that this package contains."""
    data = resources.files("ddb_lake.core.operations").joinpath("prices.toml").read_text(encoding="utf-8")
    document = tomllib.loads(data)
    prices = {name: _price(name, entry, None, "prices.toml") for name, entry in document["prices"].items()}
    return PriceList(prices, document["region"], document["read_on"])


def read_prices(data: str, where: str) -> PriceList:
    """Read a price list; a price that it lacks is the list price.

    Args:
        data: TOML as in `prices.toml`. Of an entry only `usd` is required.
        where: the name of the file, for messages.

    Raises:
        UsageError: the text is no TOML, names an unknown price, or has a price that is no number of 0 or more.
    """
    try:
        document = tomllib.loads(data)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: not TOML: {error}") from error
    known, entries = list_prices().prices, document.get("prices")
    if not isinstance(entries, dict) or not entries:
        raise UsageError(f"{where}: no prices; expected tables such as [prices.export] with `usd`")
    unknown = sorted(set(entries) - set(known))
    if unknown:
        raise UsageError(f"{where}: unknown price {', '.join(unknown)}; the known ones are {', '.join(known)}")
    read_on = document.get("read_on")
    return PriceList(
        {**known, **{name: _price(name, entry, known[name], where) for name, entry in entries.items()}},
        str(document.get("region", "the Region of the file")),
        read_on if isinstance(read_on, date) else None,
    )


def _price(name: str, entry: Any, default: Price | None, where: str) -> Price:
    """The price of one entry; `default` has the parts that the entry lacks. Raises UsageError."""
    fields = dict(entry) if isinstance(entry, dict) else {"usd": entry}
    try:
        usd = Decimal(str(fields["usd"]))
        if isinstance(fields["usd"], bool) or not usd.is_finite() or usd < 0:
            raise InvalidOperation
    except (KeyError, InvalidOperation):
        raise UsageError(f"{where}: prices.{name} needs `usd`, a number of 0 or more") from None
    if default is None:
        return Price(usd, fields["unit"], fields["service"], fields["page"], fields.get("third_party", False))
    page = str(fields.get("page", where))
    return Price(usd, default.unit, default.service, page, bool(fields.get("third_party", False)))
