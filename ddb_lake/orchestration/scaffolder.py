"""`dg scaffold defs ddb_lake.DynamoDBLakeComponent <path>`: a starter that loads, and says what to fill in."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import dagster as dg
from pydantic import BaseModel, Field

from ddb_lake.aws.objects import ObjectStore, local_path
from ddb_lake.core.layout.locations import is_local_uri
from ddb_lake.pipeline.discovery import first_day

_STARTER = """\
type: {type}

attributes:
  # A folder, file:// or s3://bucket/prefix. From the environment: "{{{{ env.DDB_LAKE_WAREHOUSE }}}}"
  warehouse: {warehouse}
  # bucket_owner: "111122223333"      # requests fail if another account owns a bucket of these names
  one_process_per_run: true         # sets the executor of the code location; leave it out if your project sets one
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
_CHANGES = "changes: {{uri: {}, partitions: {{start: {}}}}}"


class ScaffoldParams(BaseModel):
    """The parameters of `dg scaffold`."""

    table: str = Field("orders", description="The DynamoDB table's name.")
    key: str = Field("customer,order_id", description="Key attributes: partition key, then sort key; a comma between.")
    warehouse: str = Field("lake", description="Where the lake is: a folder, file:// or s3://.")
    export_bucket: str | None = Field(None, description="The bucket for DynamoDB's exports.")
    changes_uri: str | None = Field(None, description="Where Firehose delivers the change records.")
    first_day: str | None = Field(
        None,
        description="The day (UTC) of the first change, with which the partitions begin; default: the earliest one in a local folder,"
        " else today.",
    )


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
    day = params.first_day or _first_day(params.changes_uri)
    changes = _CHANGES.format(json.dumps(params.changes_uri or "s3://my-landing/orders/"), day)
    return _STARTER.format(
        type=type_name,
        warehouse=json.dumps(params.warehouse),
        table=json.dumps(params.table),
        key=json.dumps(key),
        export=export if params.export_bucket else f"# {export}   # for full exports",
        changes=changes if params.changes_uri else f"# {changes}   # where Firehose delivers",
    )


def _first_day(changes_uri: str | None) -> date:
    """The day of the first change below a local folder, else today (UTC). No request is sent to AWS."""
    path = local_path(changes_uri) if changes_uri is not None and is_local_uri(changes_uri) else None
    found = first_day(ObjectStore(), str(path)) if path is not None and path.is_dir() else None
    return found or datetime.now(UTC).date()
