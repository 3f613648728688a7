"""How the errors of a stage end in Dagster: tried again, or failed for good with the next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from ddb_lake.errors import CommitStateUnknown, DdbLakeError, TransientError

RETRIES = dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""For what may pass: throttling, a lost connection, a commit of unknown outcome. Planning again is always safe."""


@contextmanager
def failures() -> Iterator[None]:
    """Errors that trying again will not mend fail at once, with their message alone."""
    try:
        yield
    except (TransientError, CommitStateUnknown):
        raise
    except DdbLakeError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
