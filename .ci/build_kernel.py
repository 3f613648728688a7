"""Hatch's build hook: a wheel and an editable installation contain the compiled record kernel, if a C compiler can be had.

Without a compiler the package is pure Python, and the build says so. Environment variables:

DDB_LAKE_NATIVE=off          a package without the kernel, for any platform
DDB_LAKE_NATIVE=required     a build without the kernel is an error
DDB_LAKE_WHEEL_PLATFORM      the platform of the wheel, such as manylinux_2_17_x86_64 or macosx_11_0_arm64, for which the package
                             `ziglang` compiles
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "ddb_lake/engine/native"
NAME = "record_kernel.so"
ZIG = "ziglang>=0.15"
HAVE_ZIG = ("linux-x86_64", "linux-aarch64", "macosx-", "win-amd64")
"""The beginnings of `sysconfig.get_platform()` for which the index has wheels of ziglang."""


class KernelHook(BuildHookInterface):
    """Compiles the kernel, and puts it into the wheel."""

    PLUGIN_NAME = "custom"
    _scratch: tempfile.TemporaryDirectory[str] | None = None

    def dependencies(self) -> list[str]:
        """A compiler, if it is needed and can be had."""
        if self._is_off() or self.target_name != "wheel":
            return []
        if os.environ.get("DDB_LAKE_WHEEL_PLATFORM"):
            return [ZIG]
        absent = self._compiler().compiler() is None
        return [ZIG] if absent and sysconfig.get_platform().startswith(HAVE_ZIG) else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile. An editable installation has the library beside its source."""
        if self._is_off() or self.target_name != "wheel":
            return
        native = self._compiler()
        self._scratch = tempfile.TemporaryDirectory()
        platform = os.environ.get("DDB_LAKE_WHEEL_PLATFORM")
        editable = version == "editable"
        folder = Path(self.root, FOLDER) if editable else Path(self._scratch.name)
        try:
            native.compile_kernel(folder / NAME, native.cross_compiler(platform) if platform else None)
        except native.CompilerError as error:
            if platform or os.environ.get("DDB_LAKE_NATIVE") == "required":
                raise
            (folder / NAME).unlink(missing_ok=True)  # one of an older source
            sys.stderr.write(f"ddb-lake is built without the record kernel, so it reads changes more slowly: {error}\n")
            return
        if not editable:
            build_data["force_include"][str(folder / NAME)] = f"{FOLDER}/{NAME}"
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform or sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Delete the library that is in the wheel now."""
        if self._scratch is not None:
            self._scratch.cleanup()

    def _is_off(self) -> bool:
        return os.environ.get("DDB_LAKE_NATIVE") == "off"

    def _compiler(self) -> Any:
        """The module that compiles. It is loaded from its file, because importing `ddb_lake` needs its dependencies."""
        spec = spec_from_file_location("ddb_lake_kernel_compiler", Path(self.root, FOLDER, "compiler.py"))
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
