"""`dg scaffold defs ddb_lake.DynamoDBLakeComponent <path>`: a starter that loads, and says what to fill in."""

from __future__ import annotations

import json

import dagster as dg
from pydantic import BaseModel, Field

_STARTER = """\
type: {type}

attributes:
  # A folder, file:// or s3://bucket/prefix. From the environment: "{{{{ env.DDB_LAKE_WAREHOUSE }}}}"
  warehouse: {warehouse}
  # bucket_owner: "111122223333"      # requests fail if another account owns a bucket of these names
  # run_automatically: true           # default: sensor and schedules are stopped until they are started in Dagster's UI
  # catalog: {{type: glue}}              # default: SQLite beside a local warehouse, glue for one on S3; or rest
  tables:
    - name: {table}
      key: {key}
      {export}
      {changes}
      # source: {{region: eu-west-1, role_arn: ...}}   # default: the standard AWS variables
      # columns: {{amount: "decimal(38,2)", payload: json}}
      # checks: {{max_lag: 30m, count_tolerance: 0.01}}
  # translation:                        # the spec of each asset; may use {{{{ table }}}} and {{{{ stage }}}}
  #   owners: ["team:data"]
  #   key_prefix: aws
"""
_EXPORT = 'export: {{bucket: {}, schedule: "0 3 * * 0"}}'
_CHANGES = "changes: {{uri: {}}}"


class ScaffoldParams(BaseModel):
    """The parameters of `dg scaffold`."""

    table: str = Field("orders", description="The DynamoDB table's name.")
    key: str = Field("customer,order_id", description="Key attributes: partition key, then sort key; a comma between.")
    warehouse: str = Field("lake", description="Where the lake is: a folder, file:// or s3://.")
    export_bucket: str | None = Field(None, description="The bucket for DynamoDB's exports.")
    changes_uri: str | None = Field(None, description="Where Firehose delivers the change records.")


class LakeScaffolder(dg.Scaffolder[ScaffoldParams]):
    """Writes a starter with comments."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        """The parameters."""
        return ScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[ScaffoldParams]) -> None:
        """Write defs.yaml, or component.py for `--format python`."""
        if request.scaffold_format == "python":
            dg.scaffold_component(request, {})
            return
        text = starter(request.type_name, request.params)
        path = request.target_path / "defs.yaml"
        with path.open("a" if request.append else "w", encoding="utf-8") as file:
            file.write(f"---\n{text}" if request.append else text)


def starter(type_name: str, params: ScaffoldParams) -> str:
    """The text of a starter defs.yaml. Values are written as JSON, which is YAML."""
    key = [name.strip() for name in params.key.split(",") if name.strip()]
    export = _EXPORT.format(json.dumps(params.export_bucket or "my-exports"))
    changes = _CHANGES.format(json.dumps(params.changes_uri or "s3://my-landing/orders/"))
    return _STARTER.format(
        type=type_name,
        warehouse=json.dumps(params.warehouse),
        table=json.dumps(params.table),
        key=json.dumps(key),
        export=export if params.export_bucket else f"# {export}   # for full exports",
        changes=changes if params.changes_uri else f"# {changes}   # where Firehose delivers",
    )
