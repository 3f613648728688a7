"""The example deployment, synthesised once for all processes and runs with the same sources."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import ddb_lake

_PACKAGE = Path(ddb_lake.__file__).parent

EXAMPLE = _PACKAGE / "infra" / "example.yaml"

_KEPT_S = 3600

_SOURCES = (
    "infra/**/*.py",
    "infra/*.yaml",
    "infra/*.json",
    "infra/*.pem",
    "core/**/*.py",
    "lambdas/*.py",
    "mysql/*.py",
    "*.py",
)


def app_command() -> str:
    """The command that CDK's command line runs: `app` of the repository's cdk.json."""
    return str(json.loads((_PACKAGE.parent / "cdk.json").read_text(encoding="utf-8"))["app"])


def made_once(name: str, *arguments: str, may_fail: bool = False, as_cdk: Path | None = None) -> Path:
    """The folder that `python -m ddb_lake.infra …  --out FOLDER` fills.

    `as_cdk`: the deployment's file; the command is that of cdk.json, in the environment that CDK's command line makes.
    https://docs.aws.amazon.com/cdk/v2/guide/context.html
    """
    files = sorted({path for pattern in _SOURCES for path in _PACKAGE.glob(pattern)})
    digest = hashlib.sha256(metadata.version("aws-cdk-lib").encode() + metadata.version("cdk-nag").encode())
    files += sorted(
        path
        for kind in ("yaml", "json", "pem", "py")
        for path in Path(__file__).parents[1].joinpath("infra").glob(f"*/*.{kind}")
    )
    files.append(_PACKAGE.parent / "cdk.json")
    for path in files:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    root = Path(tempfile.gettempdir(), f"ddb-lake-infra-{os.getuid()}")
    root.mkdir(mode=0o700, exist_ok=True)
    folder = root / f"{name}-{digest.hexdigest()[:20]}"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for old in root.glob(f"{name}-*"):
                if time.time() - old.stat().st_mtime > _KEPT_S:  # a younger one may be in use by another run
                    shutil.rmtree(old)
            unfinished = Path(tempfile.mkdtemp(dir=root, prefix="unfinished-"))
            command = [sys.executable, "-m", "ddb_lake.infra", *arguments, "--out", str(unfinished)]
            environment, folder_of_run = dict(os.environ), None
            if as_cdk is not None:
                command = ["sh", "-c", app_command()]
                context = json.dumps({"config": str(as_cdk)})
                environment |= {"CDK_OUTDIR": str(unfinished), "CDK_CONTEXT_JSON": context}
                environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
                folder_of_run = _PACKAGE.parent
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment, cwd=folder_of_run
            )
            assert may_fail or done.returncode == 0, done.stderr[-4000:]
            unfinished.rename(folder)
    return folder
