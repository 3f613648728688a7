"""The embedded AWS emulator: moto with additions, over HTTP on loopback.

Production code does not refer to it: only the environment differs. Needs the `sandbox` extra. Each module cites the AWS page of
the behaviour that it emulates.
"""

from ddb_lake.errors import ConfigError

try:
    import moto as _moto  # noqa: F401  # only to say plainly what is missing
except ModuleNotFoundError as error:
    raise ConfigError("the sandbox needs moto: pip install '.[sandbox]' in a checkout") from error

from ddb_lake.sandbox.clock import Clock
from ddb_lake.sandbox.destinations import StreamFaults
from ddb_lake.sandbox.export_requests import ExportOptions
from ddb_lake.sandbox.firehose import Delivery, DeliveryStream
from ddb_lake.sandbox.functions import Function, FunctionFault
from ddb_lake.sandbox.lambda_api import PRODUCT, LocalFunction
from ddb_lake.sandbox.serve import serve
from ddb_lake.sandbox.server import Sandbox
from ddb_lake.sandbox.stream_trigger import StreamTrigger
from ddb_lake.sandbox.traffic import Traffic, create_orders_table

__all__ = [
    "PRODUCT",
    "Clock",
    "Delivery",
    "DeliveryStream",
    "ExportOptions",
    "Function",
    "FunctionFault",
    "LocalFunction",
    "Sandbox",
    "StreamFaults",
    "StreamTrigger",
    "Traffic",
    "create_orders_table",
    "serve",
]
