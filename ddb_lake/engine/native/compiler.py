"""Compile the record kernel. Standard library only: the build of the package (`.ci/build_kernel.py`) runs this file by itself.

The compiler is `$CC`, else `cc`, else the one of the package `ziglang`, which also compiles for other platforms.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("record_kernel.c")

FLAGS: Final = ("-std=c99", "-O3", "-g0", "-fPIC", "-shared", "-fvisibility=hidden")

_ZIG: Final = (sys.executable, "-m", "ziglang", "cc")
_PLATFORM: Final = re.compile(r"(manylinux|macosx)_(\d+)_(\d+)_(x86_64|aarch64|arm64)").fullmatch
_PROCESSORS: Final = {"arm64": "aarch64"}


class CompilerError(Exception):
    """There is no compiler, or it failed. The message is its output."""


def compiler(environment: Mapping[str, str] = os.environ) -> Sequence[str] | None:
    """The command of the compiler for this machine; None if there is none."""
    if named := environment.get("CC"):
        return shlex.split(named)
    if (found := shutil.which("cc")) is not None:
        return (found,)
    return _ZIG if find_spec("ziglang") is not None else None


def cross_compiler(platform: str) -> Sequence[str]:
    """The command of the compiler for the platform of a wheel, such as `manylinux_2_17_aarch64` or `macosx_11_0_arm64`.

    Raises:
        CompilerError: another platform.
    """
    parts = _PLATFORM(platform)
    if parts is None:
        raise CompilerError(f"{platform}: expected manylinux_… or macosx_… with x86_64, aarch64 or arm64")
    system, major, minor, processor = parts.groups()
    processor = _PROCESSORS.get(processor, processor)
    system = f"linux-gnu.{major}.{minor}" if system == "manylinux" else f"macos.{major}.{minor}"
    return (*_ZIG, "-target", f"{processor}-{system}")


def compile_kernel(target: Path, command: Sequence[str] | None = None, flags: Sequence[str] = FLAGS) -> None:
    """Compile the kernel into the shared library `target`, which is replaced at once.

    Args:
        command: the compiler; by default `compiler`.

    Raises:
        CompilerError: there is no compiler, or it failed.
    """
    command = command or compiler()
    if command is None:
        raise CompilerError("there is no C compiler: neither $CC nor cc nor the package ziglang")
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        done = subprocess.run([*command, *flags, "-o", str(part), str(SOURCE)], capture_output=True, text=True)
        if done.returncode:
            raise CompilerError(f"{shlex.join(command)} ended with status {done.returncode}: {done.stderr.strip()}")
        part.replace(target)
    except OSError as error:
        raise CompilerError(f"{shlex.join(command)}: {error}") from None
    finally:
        part.unlink(missing_ok=True)
