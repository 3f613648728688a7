"""`ddb-lake cost`: the monthly cost of each way to get changes into the lake."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddb_lake.cli.command import command, json_option, options_object
from ddb_lake.cli.output.progress import note
from ddb_lake.cli.output.tables import print_table
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.cli.parameter_types import Rate

if TYPE_CHECKING:
    from ddb_lake.core.operations.costs import Way
    from ddb_lake.core.operations.prices import PriceList

_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class CostOptions:
    """The options of `cost`."""

    items: int
    item_bytes: int
    changes_per_second: Decimal
    parts: bool
    file: Path | None
    as_json: bool


@command(
    "cost",
    "Compare the monthly cost of change sources.",
    "ddb-lake cost --items 10000000 --item-bytes 800 --changes-per-second 50",
    "ddb-lake cost --items 10000000 --item-bytes 800 --changes-per-second 50 --prices eu-west-1.toml",
)
@click.option("--items", type=click.IntRange(min=0), required=True, help="Items in the table.")
@click.option("--item-bytes", type=click.IntRange(1, 400 * 1024), required=True, help="Average size of an item.")
@click.option("--changes-per-second", type=Rate(), required=True, help="Average rate of writes and removals.")
@click.option("--parts", is_flag=True, help="Print the parts of each way's cost.")
@click.option(
    "--prices",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="TOML file with your prices, `[prices.export]` and `usd = 0.11`; default: list prices of us-east-1.",
)
@json_option
@options_object(CostOptions)
def cost(options: CostOptions) -> None:
    """Compare the monthly cost of the ways to get changes of a table into the lake, in USD.

    The prices are AWS's public list prices of us-east-1, or those of --prices; the names and units of prices are those
    under `prices` in the output of --json. The cost leaves out S3, KMS, data transfer and the machine that runs the
    lake, which are nearly the same for every way. `first export` is paid once. The command reads no table and calls no
    service.
    """
    from ddb_lake.core.operations.costs import Load, ways
    from ddb_lake.core.operations.prices import list_prices, read_prices

    price_list = list_prices()
    if options.file is not None:
        price_list = read_prices(options.file.read_text(encoding="utf-8"), str(options.file))
    bills = ways(Load(options.items, options.item_bytes, options.changes_per_second), price_list.prices)
    if options.as_json:
        write_document({"usd_per_month": [_document(way) for way in bills], **_prices(price_list)})
        return
    rows = [
        (way.name, way.usd.quantize(_CENT), way.once_usd.quantize(_CENT), way.latency, way.retention) for way in bills
    ]
    print_table(("change source", "USD a month", "first export", "latency", "retention"), rows)
    if options.parts:
        echo()
        parts = [
            (
                way.name,
                part.what,
                part.units.quantize(_CENT),
                price_list.prices[part.price].unit,
                part.usd.quantize(_CENT),
            )
            for way in bills
            for part in way.parts
        ]
        print_table(("change source", "part", "units", "of", "USD"), parts)
    if options.file is None:
        note(
            f"list prices of {price_list.region}, read on {price_list.read_on}; those of Firehose, Lambda and enhanced"
            " fan-out are from third parties. Compare them with your Region's, and give yours with --prices"
        )


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


def _prices(price_list: PriceList) -> dict[str, Any]:
    prices = {
        name: {
            "usd": str(price.usd),
            "unit": price.unit,
            "source": f"{price.service}: {price.page}",
            "third_party": price.third_party,
        }
        for name, price in price_list.prices.items()
    }
    return {"prices": prices, "prices_region": price_list.region, "prices_read_on": price_list.read_on}


def _number(value: Decimal) -> float:
    return float(round(value, 6))
