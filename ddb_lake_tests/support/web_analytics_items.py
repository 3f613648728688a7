"""Items of a web analytics table: who clicked what, from where, in which session, as JSON in an attribute `payload`."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
_DEVICES = (("Samsung", "Android", "15"), ("Apple", "iOS", "19.1"), ("Lenovo", "Windows", "11"))
_COUNTRIES = (("53.3498", "-6.2603", "IE"), ("45.4642", "9.1900", "IT"), ("-33.8688", "151.2093", "AU"))


def activities(count: int = 150, seed: int = 5) -> list[dict[str, Any]]:
    """Items in DynamoDB JSON; a few payloads are no JSON, or lack what others have."""
    choose = random.Random(seed)
    return [_activity(number, choose) for number in range(count)]


def _activity(number: int, choose: random.Random) -> dict[str, Any]:
    at = START + timedelta(seconds=37 * number, milliseconds=number)
    payload = json.dumps(_payload(number // 4, choose))
    if number % 50 == 49:
        payload = payload[:-9]  # cut short
    return {
        "page_id": {"S": f"page_{choose.randrange(6)}"},
        "activity_dt": {"S": at.isoformat(timespec="milliseconds")},
        "payload": {"S": payload},
    }


def _payload(session: int, choose: random.Random) -> dict[str, Any]:
    make, platform, version = _DEVICES[session % 3]
    latitude, longitude, country = _COUNTRIES[session % 3]
    began = START + timedelta(seconds=37 * 4 * session)
    document: dict[str, Any] = {
        "Hits": choose.randrange(1, 40),
        "device": {
            "make": make,
            "platform": {"name": platform, "version": version},
            "location": {"latitude": latitude, "longitude": longitude, "country": country},
        },
        "session": {
            "session_id": f"s-{session:04d}",
            "start_timestamp": began.isoformat(sep=" ", timespec="seconds"),
            "stop_timestamp": (began + timedelta(seconds=150, milliseconds=250)).isoformat(timespec="milliseconds"),
        },
    }
    if session % 11 == 10:
        del document["device"]["location"], document["session"]["stop_timestamp"]
    return document
