"""Metrics of a command that ends: into a file for Prometheus, or on stderr for CloudWatch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddb_lake.cli.output.terminal import echo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ddb_lake.pipeline.metrics import LakeMetrics
    from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class MetricsTarget:
    """Where a command exports metrics: a file, stderr, both, or nowhere."""

    file: Path | None
    as_emf: bool

    def metrics(self) -> LakeMetrics | None:
        """New metrics; None if they are exported nowhere."""
        if self.file is None and not self.as_emf:
            return None
        from ddb_lake.pipeline.metrics import LakeMetrics

        return LakeMetrics()

    def export(self, metrics: LakeMetrics, lake: Lake, names: Sequence[str]) -> None:
        """Add the state of some tables, and export the metrics. Raises what reading the state or writing the file raises."""
        metrics.observe(lake, names)
        if self.file is not None:
            metrics.write(self.file)
        if self.as_emf:
            for document in metrics.embedded(int(lake.now().timestamp() * 1000)):
                echo(json.dumps(document), err=True)
