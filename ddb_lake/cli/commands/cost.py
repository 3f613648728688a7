"""`ddb-lake cost`: what each way in would cost a month."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from ddb_lake.cli.command import command, json_option
from ddb_lake.cli.output.progress import note
from ddb_lake.cli.output.tables import print_table
from ddb_lake.cli.output.writers import write_document

if TYPE_CHECKING:
    from ddb_lake.core.operations.costs import Way

_CENT = Decimal("0.01")


class _Rate(click.ParamType[Decimal]):
    """A number that is not negative, as it is written."""

    name = "NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Read the number. Fails with exit status 2."""
        try:
            rate = Decimal(str(value))
        except ArithmeticError:
            self.fail(f"{value!r} is no number", param, ctx)
        if not rate.is_finite() or rate < 0:
            self.fail(f"{value!r} is no rate: expected 0 or more", param, ctx)
        return rate


@command(
    "cost",
    "Compare what the ways in cost a month.",
    "ddb-lake cost --items 10000000 --item-bytes 800 --changes-per-second 50",
)
@click.option("--items", type=click.IntRange(min=0), required=True, help="Items in the table.")
@click.option("--item-bytes", type=click.IntRange(1, 400 * 1024), required=True, help="Average size of an item.")
@click.option("--changes-per-second", type=_Rate(), required=True, help="Average rate of writes and removals.")
@click.option("--parts", is_flag=True, help="What each way's cost is made of.")
@json_option
def cost(items: int, item_bytes: int, changes_per_second: Decimal, parts: bool, as_json: bool) -> None:
    """Compare the monthly cost of the ways in for a table, by AWS's public list prices (us-east-1, USD).

    S3, KMS, data transfer and what runs the lake are not in it: they are much the same for every way. `first export`
    is paid once. Nothing is read and nobody is asked.
    """
    from ddb_lake.core.operations.costs import Load, ways

    found = ways(Load(items, item_bytes, changes_per_second))
    if as_json:
        write_document({"usd_per_month": [_document(way) for way in found], "prices": _prices()})
        return
    rows = [
        (way.name, way.usd.quantize(_CENT), way.once_usd.quantize(_CENT), way.latency, way.retention) for way in found
    ]
    print_table(("way in", "USD a month", "first export", "latency", "retention"), rows)
    if parts:
        click.echo()
        print_table(("way in", "part", "units", "of", "USD"), [row for way in found for row in _part_rows(way)])
    note("list prices; those of Firehose and Lambda were read from third parties: compare them with your Region's")


def _part_rows(way: Way) -> list[tuple[Any, ...]]:
    from ddb_lake.core.operations.costs import PRICES

    return [
        (way.name, part.what, part.units.quantize(_CENT), PRICES[part.price].unit, part.usd.quantize(_CENT))
        for part in way.parts
    ]


def _document(way: Way) -> dict[str, Any]:
    parts = [
        {"what": part.what, "price": part.price, "units": _number(part.units), "usd": _number(part.usd)}
        for part in way.parts
    ]
    return {
        "way": way.name,
        "usd": _number(way.usd),
        "first_export_usd": _number(way.once_usd),
        "latency": way.latency,
        "retention": way.retention,
        "parts": parts,
    }


def _prices() -> dict[str, Any]:
    from ddb_lake.core.operations.costs import PRICES

    return {
        name: {"usd": str(price.usd), "unit": price.unit, "source": price.source, "third_party": price.third_party}
        for name, price in PRICES.items()
    }


def _number(value: Decimal) -> float:
    return float(round(value, 6))
