"""The items of a DynamoDB table, as a client reads them."""

from __future__ import annotations

import base64
from typing import Any

from ddb_lake.sandbox.items import canonical


def scan_items(client: Any, table: str) -> list[str]:
    """The items of a table, each as DynamoDB JSON in one spelling, sorted."""
    pages = client.get_paginator("scan").paginate(TableName=table)
    return sorted(canonical(_plain(item)) for page in pages for item in page["Items"])


def _plain(value: Any) -> Any:
    """Binary as base64 text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return {name: _plain(member) for name, member in value.items()} if isinstance(value, dict) else value
