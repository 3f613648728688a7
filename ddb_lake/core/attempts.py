"""How long a request to a store or a service may take, and how often it is tried again: one policy for every client.

boto3, obstore, pyarrow (through pyiceberg) and DuckDB each have settings of their own; all are set from here, so that
landing and the warehouse behave alike.
"""

from __future__ import annotations

from typing import Final

CONNECT_TIMEOUT_S: Final = 10
READ_TIMEOUT_S: Final = 60
"""How long nothing may come of an answer."""

ATTEMPTS: Final = 8
"""How often a request is made that a store fails or throttles."""

TRANSFERS: Final = 3
"""How often an object is read whose transfer breaks off: clients try requests again, and not what follows them."""

FIRST_WAIT_MS: Final = 100
WAIT_FACTOR: Final = 2
"""DuckDB's waits between attempts: 100 ms, 200 ms, …, 13 s in all."""
