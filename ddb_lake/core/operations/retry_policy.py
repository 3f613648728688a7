"""Time-outs and attempts of requests to a store or a service: one policy for every client.

boto3, obstore, pyarrow (through pyiceberg) and DuckDB each have their own settings. All are set from here, so that
landing and the warehouse behave in the same way.
"""

from __future__ import annotations

from typing import Final

CONNECT_TIMEOUT_S: Final = 10
READ_TIMEOUT_S: Final = 60
"""The longest time without any bytes of an answer."""

ATTEMPTS: Final = 8
"""The number of attempts of a request that a store fails or throttles."""

TRANSFERS: Final = 3
"""The number of attempts to read an object whose transfer breaks off: clients repeat requests, but not transfers."""

FIRST_WAIT_MS: Final = 100
WAIT_FACTOR: Final = 2
"""DuckDB's waits between attempts: 100 ms, 200 ms, …, 13 s in all."""
