"""Clients of the object store, in turn: list many small objects and read each, then a few big ones.

    python -m ddb_lake_tests.benchmarks.clients [--objects 10000] [--big 4] [--only "ours;boto3, default"]

nginx (Debian's `nginx-light`) serves the files, their ETags (so that `If-Match` is answered as S3 does) and a listing in
pages of 1,000, so that the clients are measured and not the server, which takes a few hundredths of a second. Each
client works in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from xml.sax.saxutils import escape

from ddb_lake.aws.objects import ObjectStore
from ddb_lake.aws.s3_reader import Fetcher
from ddb_lake.engine.session import connect
from ddb_lake.pipeline.apply.object_reader import READ_AHEAD, fetch

BUCKET = "landing"
SMALL_BYTES = 20_000
BIG_BYTES = 50_000_000
PAGE = 1_000

_CONFIG = """
daemon off; worker_processes 1; pid {work}/nginx.pid; error_log {work}/error.log crit; {user}
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000000; client_body_temp_path {work}/body;
  proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi; uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
  map $args $asked {{ ~prefix=big big; default small; }}
  map $args $begun {{ ~continuation-token=(?<token>[0-9]+) $token; default ""; }}
  server {{
    listen 127.0.0.1:{port}; root {work}/objects;
    if ($args ~ list-type=2) {{ rewrite ^ /.pages/$asked-$begun.xml last; }}
    location /.pages/ {{ types {{ }} default_type application/xml; }}
  }}
}}
"""


# --- the clients: each gives the number of objects and of bytes that it read below a prefix


def ours(prefix: str, _endpoint: str) -> tuple[int, int]:
    """What applying does: objects listed, then read ahead by threads by obstore, each as it was listed and whole."""
    return _applied(ObjectStore(), prefix)


def ours_boto3(prefix: str, _endpoint: str) -> tuple[int, int]:
    """The same where obstore gives nothing: what botocore takes."""
    with mock.patch.object(Fetcher, "get", lambda *_: None):
        return _applied(ObjectStore(), prefix)


def _applied(store: ObjectStore, prefix: str) -> tuple[int, int]:
    sizes = [len(data) for _, data in fetch(store, list(store.list(f"s3://{BUCKET}/{prefix}/")))]
    return len(sizes), sum(sizes)


def plain_boto3(prefix: str, _endpoint: str) -> tuple[int, int]:
    """The default client with as many threads."""
    import boto3

    s3 = boto3.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
    found = [(entry["Key"], entry["ETag"]) for page in pages for entry in page["Contents"]]

    def read(entry: tuple[str, str]) -> int:
        return len(s3.get_object(Bucket=BUCKET, Key=entry[0], IfMatch=entry[1])["Body"].read())

    return _threads(read, found)


def pyarrow_fs(prefix: str, endpoint: str) -> tuple[int, int]:
    """pyarrow's S3FileSystem. It takes no conditions."""
    from pyarrow.fs import FileSelector, S3FileSystem

    scheme, _, host = endpoint.partition("://")
    s3 = S3FileSystem(endpoint_override=host, scheme=scheme)
    found = [info.path for info in s3.get_file_info(FileSelector(f"{BUCKET}/{prefix}", recursive=True))]

    def read(path: str) -> int:
        with s3.open_input_stream(path, compression=None) as stream:
            return len(stream.read())

    return _threads(read, found)


def obstore_async(prefix: str, endpoint: str) -> tuple[int, int]:
    """obstore, as many requests at once by asyncio."""
    return asyncio.run(_obstore(prefix, endpoint))


async def _obstore(prefix: str, endpoint: str) -> tuple[int, int]:
    store, found = _obstore_listed(prefix, endpoint)
    gate = asyncio.Semaphore(READ_AHEAD)

    async def read(entry: Any) -> int:
        async with gate:
            answer = await store.get_async(entry["path"], options={"if_match": entry["e_tag"]})
            return len(await answer.bytes_async())

    sizes = await asyncio.gather(*map(read, found))
    return len(sizes), sum(sizes)


def obstore_threads(prefix: str, endpoint: str) -> tuple[int, int]:
    """obstore, called by as many threads."""
    store, found = _obstore_listed(prefix, endpoint)

    def read(entry: Any) -> int:
        return len(store.get(entry["path"], options={"if_match": entry["e_tag"]}).bytes())

    return _threads(read, found)


def _obstore_listed(prefix: str, endpoint: str) -> tuple[Any, list[Any]]:
    from obstore.store import S3Store

    store = S3Store(BUCKET, endpoint=endpoint, client_options={"allow_http": True}, virtual_hosted_style_request=False)
    return store, [entry for page in store.list(prefix) for entry in page]


def duckdb_httpfs(prefix: str, _endpoint: str) -> tuple[int, int]:
    """DuckDB's httpfs and read_blob. It takes no conditions, and gives all objects to one query."""
    from ddb_lake.aws.session import s3_access

    with connect(s3_access()) as session:
        glob = f"s3://{BUCKET}/{prefix}/**"
        sizes = f"SELECT count(*), sum(octet_length(content))::BIGINT FROM read_blob('{glob}')"
        ((objects, size),) = session.rows(sizes)
        return objects, size


def _threads(read: Callable[[Any], int], found: Sequence[Any]) -> tuple[int, int]:
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        return len(found), sum(pool.map(read, found))


CLIENTS: dict[str, Callable[[str, str], tuple[int, int]]] = {
    "ours": ours,
    "ours, by boto3": ours_boto3,
    "boto3, default": plain_boto3,
    "pyarrow S3FileSystem": pyarrow_fs,
    "obstore, asyncio": obstore_async,
    "obstore, threads": obstore_threads,
    "DuckDB httpfs": duckdb_httpfs,
}


# --- the server


@contextmanager
def served(work: Path) -> Iterator[str]:
    """nginx over the objects in a folder; gives its endpoint."""
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if nginx is None:
        raise SystemExit("no nginx here: `apt-get install nginx-light`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = work / "nginx.conf"
    user = "user root;" if os.getuid() == 0 else ""
    config.write_text(_CONFIG.format(work=work, port=port, user=user))
    with subprocess.Popen([nginx, "-c", str(config), "-p", str(work)], stderr=subprocess.DEVNULL) as process:
        try:
            _wait(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("nginx does not answer")


def make_objects(work: Path, small: int, big: int) -> None:
    """Objects of incompressible bytes, and the pages of their listings."""
    for kind, count, size in (("small", small, SMALL_BYTES), ("big", big, BIG_BYTES)):
        folder = work / "objects" / BUCKET / kind
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number:06d}.gz").write_bytes(os.urandom(size))
        _write_pages(work / "objects" / ".pages", kind, sorted(folder.iterdir()))


def _write_pages(folder: Path, kind: str, files: Sequence[Path]) -> None:
    folder.mkdir(exist_ok=True)
    for first in range(0, len(files), PAGE):
        following = first + PAGE
        token = f"<NextContinuationToken>{following}</NextContinuationToken>" if following < len(files) else ""
        page = "".join(_entry(file, f"{kind}/{file.name}") for file in files[first:following])
        (folder / f"{kind}-{first or ''}.xml").write_text(
            f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><Prefix>{kind}/</Prefix><KeyCount>{len(files[first:following])}</KeyCount>"
            f"<MaxKeys>{PAGE}</MaxKeys><IsTruncated>{str(bool(token)).lower()}</IsTruncated>{token}{page}</ListBucketResult>"
        )


def _entry(file: Path, key: str) -> str:
    status = file.stat()
    tag = f"&quot;{int(status.st_mtime):x}-{status.st_size:x}&quot;"  # as nginx spells it
    return (
        f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{tag}</ETag>"
        f"<Size>{status.st_size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


# --- one run


def main() -> None:
    """Measure each client in turn, or, for `--client`, one of them in this process."""
    parser = argparse.ArgumentParser(prog="python -m ddb_lake_tests.benchmarks.clients", description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--big", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", help="clients, with semicolons: " + "; ".join(CLIENTS))
    parser.add_argument("--client", nargs=3, metavar=("NAME", "PREFIX", "ENDPOINT"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.client:
        print(json.dumps(_measured(*chosen.client)))
        return
    names = chosen.only.split(";") if chosen.only else list(CLIENTS)
    with tempfile.TemporaryDirectory() as scratch:
        make_objects(Path(scratch), chosen.objects, chosen.big)
        with served(Path(scratch)) as endpoint:
            for prefix in ("small", "big"):
                for _ in range(chosen.repeats):
                    for name in names:
                        print(f"{prefix:6} {name:22} {_in_process(name, prefix, endpoint)}", flush=True)


def _measured(name: str, prefix: str, endpoint: str) -> dict[str, float]:
    """One client's figures: listing and reading, with the making of the client and without the imports above."""
    started, used = time.monotonic(), _cpu_s()
    objects, size = CLIENTS[name](prefix, endpoint)
    return {
        "objects": objects,
        "mb": round(size / 1e6),
        "wall_s": round(time.monotonic() - started, 2),
        "cpu_s": round(_cpu_s() - used, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _in_process(name: str, prefix: str, endpoint: str) -> str:
    environment = os.environ | {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [sys.executable, "-W", "ignore", "-m", "ddb_lake_tests.benchmarks.clients", "--client"]
    done = subprocess.run([*command, name, prefix, endpoint], env=environment, capture_output=True, text=True)
    if done.returncode:
        return "failed: " + (done.stderr.strip().splitlines() or ["?"])[-1][:150]
    return " ".join(f"{key} {value}" for key, value in json.loads(done.stdout.splitlines()[-1]).items())


if __name__ == "__main__":
    main()
