"""The costs of the change sources, computed by hand for one table, and their rules for all."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.operations.costs import GB, Load, Way
from ddb_lake.core.operations.costs import ways as priced_ways
from ddb_lake.core.operations.prices import list_prices, read_prices
from ddb_lake.errors import UsageError

PRICES = list_prices().prices

LOADS = st.builds(
    Load, st.integers(0, 10**11), st.integers(1, 400 * 1024), st.decimals(0, 10**6, places=2, allow_nan=False)
)
CENT = Decimal("0.01")


def ways(load: Load) -> tuple[Way, ...]:
    return priced_ways(load, PRICES)


def bill(load: Load, name: str) -> dict[str, Decimal]:
    (way,) = (way for way in ways(load) if way.name == name)
    return {part.what: part.usd.quantize(CENT) for part in way.parts}


# Four GiB of items of 1 KiB; 100 changes a second are 262.8 million a month, each record 2,648 bytes.
ORDERS = Load(4 << 20, 1 << 10, Decimal(100))


def test_provisioned_kinesis_by_hand() -> None:
    assert bill(ORDERS, "KDS provisioned + Firehose") == {
        "capture of changes": Decimal("26.28"),  # 262.8 M units of 1 KB × 0.10
        "shards": Decimal("10.95"),  # one shard takes 264,800 bytes a second: 730 h × 0.015
        "puts": Decimal("3.68"),  # 262.8 M × 0.014
        "Firehose": Decimal("36.34"),  # 262.8 M × 5 KiB = 1,253.13 GiB × 0.029
        "transform: requests": Decimal("0.13"),  # 695.9 GB in MiB buffers: 663,666 × 0.20 / M
        "transform: time": Decimal("0.11"),  # 262.8 M / 20,000 s × 0.5 GB × 0.0000166667
    }


def test_ten_shards_cost_what_the_price_list_says() -> None:
    busy = Load(1, 100, Decimal(9_500))
    assert bill(busy, "KDS provisioned + Firehose")["shards"] == Decimal("109.50")


def test_enhanced_fan_out_by_hand() -> None:
    direct = bill(ORDERS, "KDS read directly")
    assert set(direct) == {"capture of changes", "shards", "puts"}, "GetRecords has no price"
    assert bill(ORDERS, "KDS, enhanced fan-out") == direct | {
        "consumer": Decimal("10.95"),  # one shard: 730 h × 0.015
        "data out": Decimal("8.43"),  # 695.9 GB = 648.1 GiB × 0.013
    }
    assert bill(Load(1, 100, Decimal(9_500)), "KDS, enhanced fan-out")["consumer"] == Decimal("109.50")  # ten shards


def test_on_demand_kinesis_by_hand() -> None:
    found = bill(ORDERS, "KDS on-demand + Firehose")
    assert found["stream"] == Decimal("29.20")  # 730 h × 0.04
    assert found["data in"] == Decimal("60.15")  # 262.8 M × 3 KiB = 751.88 GiB × 0.08
    assert found["data out"] == Decimal("30.08")  # × 0.04


def test_streams_by_hand() -> None:
    found = bill(ORDERS, "Streams + Lambda + Firehose")
    assert found["forwarder: requests"] == Decimal("0.53")  # a batch a second: 2.628 M × 0.20
    assert found["forwarder: time"] == Decimal("1.10")  # 131,400 s × 0.5 GB × 0.0000166667
    assert bill(ORDERS, "Streams read directly") == {"reads": Decimal("0.00")}  # 751,266 of 2.5 M free
    busy = Load(1, 1 << 10, Decimal(10_000))
    assert bill(busy, "Streams read directly") == {"reads": Decimal("12.95")}  # 876,000 polls + 66.37 M reads - 2.5 M


def test_exports_by_hand() -> None:
    wanted = {"point-in-time recovery": Decimal("0.80"), "incremental exports": Decimal("64.81")}  # 648.1 GiB × 0.10
    assert bill(ORDERS, "incremental exports every 15m") == wanted
    assert bill(ORDERS, "incremental exports every 24h") == wanted
    assert bill(ORDERS, "full export every day")["full exports"] == Decimal("12.17")  # 4 GiB × 30.417 × 0.10
    assert bill(ORDERS, "full export every week")["full exports"] == Decimal("1.74")


@pytest.mark.parametrize(("size", "units"), [(1, 1), (1024, 1), (1025, 2), (400 * 1024, 400)])
def test_begun_units_count(size: int, units: int) -> None:
    load = Load(0, size, Decimal(1))
    (capture,) = (p for p in ways(load)[0].parts if p.price == "capture")
    assert capture.units * 1_000_000 / load.changes == units


@given(LOADS)
def test_every_way_is_the_sum_of_its_parts_and_nothing_is_negative(load: Load) -> None:
    found = ways(load)
    assert len({way.name for way in found}) == len(found) == 11
    for way in found:
        assert way.usd == sum(part.units * PRICES[part.price].usd for part in way.parts)
        assert all(part.units >= 0 for part in way.parts)
        assert way.once_usd == load.items * load.item_bytes / GB * Decimal("0.10") or way.once_usd >= 0


@given(LOADS, st.integers(0, 10**9), st.integers(0, 1000), st.decimals(0, 1000, places=1, allow_nan=False))
def test_more_of_anything_never_costs_less(load: Load, items: int, size: int, rate: Decimal) -> None:
    more = Load(load.items + items, load.item_bytes + size, load.changes_s + rate)
    pairs: list[tuple[Way, Way]] = list(zip(ways(load), ways(more), strict=True))
    assert all(less.usd <= larger.usd for less, larger in pairs)


def test_prices_that_third_parties_gave_say_so() -> None:
    assert {name for name, price in PRICES.items() if price.third_party} == {
        "fan_out",
        "fan_out_out",
        "firehose",
        "lambda_requests",
        "lambda_time",
    }
    assert all(price.page.startswith("https://aws.amazon.com/") and price.usd > 0 for price in PRICES.values())


def test_price_file_replaces_the_prices_that_it_names() -> None:
    given = read_prices("read_on = 2026-01-02\n[prices]\nexport = 0.11\n[prices.shard]\nusd = '0.5'", "mine.toml")
    assert (given.prices["export"].usd, given.prices["shard"].usd) == (Decimal("0.11"), Decimal("0.5"))
    assert given.prices["export"].unit == PRICES["export"].unit
    assert given.prices["export"].page == "mine.toml"
    assert given.prices["put"] == PRICES["put"]
    (way,) = (way for way in priced_ways(ORDERS, given.prices) if way.name == "full export every day")
    assert way.once_usd == Decimal("0.44")


@pytest.mark.parametrize(
    "data",
    ["[prices", "", "prices = 3", "[prices.gold]\nusd = 1", "[prices.export]\nunit = 'GB'", "[prices]\nexport = -1",
     "[prices]\nexport = 'nan'", "[prices]\nexport = true", "[prices]\nexport = 'cheap'"],
)  # fmt: skip
def test_file_without_valid_prices_is_wrong_use(data: str) -> None:
    with pytest.raises(UsageError, match=r"mine\.toml"):
        read_prices(data, "mine.toml")
