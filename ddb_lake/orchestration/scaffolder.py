"""`dg scaffold defs ddb_lake.DynamoDBLakeComponent <path>`: a starter that loads, and says what to fill in."""

from __future__ import annotations

import dagster as dg
from pydantic import BaseModel, Field

from ddb_lake.cli.init import starter


class ScaffoldParams(BaseModel):
    """What `dg scaffold` may be told."""

    table: str = Field("orders", description="The DynamoDB table's name.")
    key: str = Field("customer,order_id", description="Key attributes: partition key, then sort key; a comma between.")
    warehouse: str = Field("lake", description="Where the lake is: a folder, file:// or s3://.")
    export_bucket: str | None = Field(None, description="The bucket for DynamoDB's exports.")
    changes_uri: str | None = Field(None, description="Where Firehose delivers the change records.")


class LakeScaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes the same starter as `ddb-lake init`."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        """The parameters."""
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:
        """Write defs.yaml, or component.py for `--format python`."""
        if request.scaffold_format == "python":
            dg.scaffold_component(request, {})
            return
        params = request.params
        key = tuple(name.strip() for name in params.key.split(",") if name.strip())
        text = starter(params.table, key, params.warehouse, params.export_bucket, params.changes_uri)
        path = request.target_path / "defs.yaml"
        with path.open("a" if request.append else "w", encoding="utf-8") as file:
            file.write(f"---\n{text}" if request.append else text)
