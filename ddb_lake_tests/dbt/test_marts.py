"""The marts against plain Python over the source's items."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from ddb_lake_tests.support.dbt_lake import Built, moment
from ddb_lake_tests.support.order_history import Version


def living(built: Built) -> list[Version]:
    return [version for version in built.source.history() if version.until_us is None]


def utc(text: str | None) -> datetime | None:
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    return (at.astimezone(UTC) if at.tzinfo else at).replace(tzinfo=None)


def test_fct_orders_has_the_living_orders(built: Built) -> None:
    found = built.rows(
        "SELECT customer, order_id, status, placed_at, total, city, lines, expires_at FROM marts.fct_orders"
    )

    wanted = [
        (
            *version.key,
            version.image["status"]["S"],
            utc(version.image["placed_at"]["S"]),
            Decimal(version.image["total"]["N"]),
            version.image["address"]["M"]["city"]["S"],
            len(version.image["lines"]["L"]),
            moment(int(version.image["expires_at"]["N"]) * 1_000_000),
        )
        for version in living(built)
    ]
    assert sorted(found) == sorted(wanted)


def test_customer_orders_counts_what_is_and_what_was(built: Built) -> None:
    found = built.rows("SELECT customer, orders, total, deleted, expired FROM marts.fct_customer_orders")

    ended: dict[str, Counter[str | None]] = defaultdict(Counter)
    totals: dict[str, list[Decimal]] = defaultdict(list)
    for version in built.source.history():
        ended[version.key[0]][version.ended_by] += 1
    for version in living(built):
        totals[version.key[0]].append(Decimal(version.image["total"]["N"]))
    wanted = [
        (customer, len(totals[customer]), sum(totals[customer]) if totals[customer] else None, n["delete"], n["ttl"])
        for customer, n in ended.items()
    ]
    assert sorted(found) == sorted(wanted)


def test_status_steps_join_versions_of_one_status(built: Built) -> None:
    found = built.rows(
        "SELECT customer, order_id, status, entered_at, left_at, seconds, left_by FROM marts.fct_order_status_steps"
    )

    wanted = [step for _, versions in groupby(built.source.history(), key=lambda v: v.key) for step in steps(versions)]
    assert sorted(found, key=str) == sorted(wanted, key=str)
    assert len(found) < len(built.source.history())


def steps(versions: Iterator[Version]) -> Iterator[tuple[Any, ...]]:
    stays: list[list[Version]] = []
    for version in versions:
        last = stays[-1][-1] if stays else None
        if last and last.until_us == version.since_us and last.image["status"] == version.image["status"]:
            stays[-1].append(version)
        else:
            stays.append([version])
    for stay in stays:
        since_us, until_us = stay[0].since_us, stay[-1].until_us
        seconds = None if since_us is None or until_us is None else (until_us - since_us) / 1e6
        image = stay[0].image
        yield *stay[0].key, image["status"]["S"], moment(since_us), moment(until_us), seconds, stay[-1].ended_by


def payloads(built: Built) -> Iterator[tuple[str, Any]]:
    for activity in built.activities:
        try:
            yield activity["page_id"]["S"], json.loads(activity["payload"]["S"])
        except json.JSONDecodeError:
            continue


def test_clicks_by_country_and_page(built: Built) -> None:
    found = built.rows("SELECT country, page_id, activities, hits, sessions FROM marts.fct_clicks_by_country_and_page")

    groups: dict[Any, list[Any]] = defaultdict(list)
    for page, payload in payloads(built):
        groups[payload["device"].get("location", {}).get("country"), page].append(payload)
    wanted = [
        (*group, len(them), sum(p["Hits"] for p in them), len({p["session"]["session_id"] for p in them}))
        for group, them in groups.items()
    ]
    assert sorted(found, key=str) == sorted(wanted, key=str)


def test_sessions(built: Built) -> None:
    found = built.rows(
        "SELECT session_id, started_at, stopped_at, seconds, country, make, pages, hits FROM marts.fct_sessions"
    )

    groups: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for page, payload in payloads(built):
        groups[payload["session"]["session_id"]].append((page, payload))
    assert sorted(found, key=str) == sorted((session(name, them) for name, them in groups.items()), key=str)


def session(name: str, them: list[tuple[str, Any]]) -> tuple[Any, ...]:
    first = them[0][1]
    began, ended = utc(first["session"]["start_timestamp"]), utc(first["session"].get("stop_timestamp"))
    seconds = (ended - began).total_seconds() if began and ended else None
    country, make = first["device"].get("location", {}).get("country"), first["device"]["make"]
    return name, began, ended, seconds, country, make, len({page for page, _ in them}), sum(p["Hits"] for _, p in them)


def test_activities_without_json_are_marked(built: Built) -> None:
    found = built.rows("SELECT is_valid, count(*) FROM marts.fct_web_clicks GROUP BY ALL ORDER BY ALL")

    valid = len(list(payloads(built)))
    assert found == [(False, len(built.activities) - valid), (True, valid)]
