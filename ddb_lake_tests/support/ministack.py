"""MiniStack, an AWS emulator of others, in a process of its own on a free port: https://github.com/ministackorg/ministack

`make ministack` installs it in `build/ministack`: it needs an older botocore than this project. An account of MiniStack is
whatever 12 digits a client has as its access key, so each test takes an account of its own and finds it empty.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import boto3
from botocore.config import Config

from ddb_lake_tests.support import seaweedfs
from ddb_lake_tests.support.child_processes import killed_with_parent
from ddb_lake_tests.support.free_ports import free_ports
from ddb_lake_tests.support.seaweedfs import SeaweedFs

ROOT: Final = Path(__file__).parents[2]
PROGRAM: Final = ROOT / "build" / "ministack" / "bin" / "ministack"
LOCKED: Final = ROOT / ".ci" / "ministack.txt"
READY_WITHIN_S: Final = 300
REGION: Final = "eu-west-1"


def version() -> str:
    """The version of MiniStack that `make ministack` installs."""
    lines = LOCKED.read_text(encoding="utf-8").splitlines()
    return next(line.split()[0].partition("==")[2] for line in lines if line.startswith("ministack=="))


@dataclass(frozen=True, slots=True)
class Account:
    """An account and Region of MiniStack, as clients use it.

    `key_id`, `secret`: the credentials. MiniStack checks neither; twelve digits as `key_id` are the account. `s3`: the URL of
    S3, if another server is the object store.
    """

    endpoint_url: str
    key_id: str
    secret: str = "test"
    region: str = REGION
    s3: str | None = None

    def environment(self) -> dict[str, str]:
        """The environment variables with which AWS clients use this account."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            **({} if self.s3 is None else {"AWS_ENDPOINT_URL_S3": self.s3}),
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }

    def bucket(self, name: str) -> str:
        """The name of a bucket of this account and Region alone: names of buckets are unique among all."""
        return f"{name}-{self.key_id}-{self.region}"

    def client(self, service: str) -> Any:
        """A client of boto3."""
        return boto3.Session().client(
            service,  # type: ignore[call-overload]  # boto3-stubs lists the services it has stubs for
            region_name=self.region,
            endpoint_url=self.s3 if self.s3 and service == "s3" else self.endpoint_url,
            aws_access_key_id=self.key_id,
            aws_secret_access_key=self.secret,
            config=Config(retries={"mode": "standard"}),
        )


class MiniStack:
    """A running MiniStack."""

    def __init__(self, endpoint_url: str) -> None:
        self.endpoint_url = endpoint_url
        self._numbers = count(1)

    def account(self, store: SeaweedFs | None = None) -> Account:
        """An account, or a Region of one, that nothing has used, so it is empty.

        With `store`, that is its S3. SeaweedFS checks signatures, so the credentials are those that it knows: all keys that are
        not twelve digits belong to one account, and the Region is new.
        """
        number = next(self._numbers)
        if store is None:
            return Account(self.endpoint_url, f"{100_000_000_000 + number}")
        return Account(
            self.endpoint_url, seaweedfs.ACCESS_KEY, seaweedfs.SECRET_KEY, f"eu-west-{100 + number}", store.s3
        )


@contextmanager
def running_ministack() -> Iterator[MiniStack]:
    """MiniStack for the length of a `with` block. It keeps nothing, and listens on 127.0.0.1 alone."""
    if not PROGRAM.is_file():
        raise RuntimeError(f"{PROGRAM.relative_to(ROOT)} does not exist: run `make ministack`")
    folder = Path(mkdtemp(prefix="ddb-lake-ministack-"))
    (port,) = free_ports(1)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": REGION,
        "IOT_MTLS_ENABLED": "0",  # would listen on another port
        "SFTP_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=killed_with_parent,
        )
    try:
        _wait(process, port, folder / "log")
        yield MiniStack(f"http://127.0.0.1:{port}")
    finally:
        _stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and those that it started, which are its group. There is nothing to save."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"MiniStack did not start: {log.read_text(errors='replace')[-2000:]}")
