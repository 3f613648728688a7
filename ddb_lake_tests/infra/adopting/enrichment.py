"""A user's functions, packaged with the handlers of this deployment."""

from __future__ import annotations

from typing import Any

from ddb_lake.lambdas.enrichment import Origin


def with_region(item: dict[str, Any], origin: Origin) -> dict[str, Any]:  # the protocol's
    """Add the Region."""
    return {**item, "region": "eu-west-1"}


def with_shard(item: dict[str, Any], origin: Origin) -> dict[str, Any]:
    """Add the shard."""
    return {**item, "from": origin.shard}
