"""`ddb-lake iam`: the least-privilege IAM policy of each role, for the configured lake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import command, json_option
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.tables import print_table
from ddb_lake.cli.output.writers import write_document

if TYPE_CHECKING:
    from ddb_lake.config import LakeSettings
    from ddb_lake.core.operations.policies import Estate


@command(
    "iam",
    "Print the IAM policy that a role needs.",
    "ddb-lake iam",
    "ddb-lake iam dagster-task --account 444455556666 --region eu-west-1",
)
@click.argument("role", required=False, metavar="[ROLE]")
@click.option("--account", default="111122223333", help="Account of the lake and of tables reached without a role.")
@click.option("--region", help="Region; default: the tables' own, else the standard AWS variables, else us-east-1.")
@click.option("--partition", default="aws", help="aws, aws-cn or aws-us-gov.")
@click.option("--kms-key-arn", help="Key of the landing bucket, the warehouse and the queue, if it is a customer's.")
@click.option(
    "--table-key",
    "table_keys",
    multiple=True,
    metavar="TABLE=ARN",
    help="Key of a source table, if it is a customer's.",
)
@click.option("--queue-arn", "queue_arns", multiple=True, help="Queue with notifications of landed objects.")
@click.option("--restore-to", "restored", multiple=True, metavar="TABLE", help="Table that `restorer` may create.")
@json_option
@pass_invocation
def iam(
    invocation: Invocation,
    role: str | None,
    account: str,
    region: str | None,
    partition: str,
    kms_key_arn: str | None,
    table_keys: tuple[str, ...],
    queue_arns: tuple[str, ...],
    restored: tuple[str, ...],
    as_json: bool,
) -> None:
    """Print the policy of ROLE with the ARNs of the configured lake, or the list of roles.

    A policy is always a JSON document, ready for `aws iam create-policy --policy-document`. With --json and no ROLE:
    an object with the policy of each role.
    """
    from ddb_lake.core.operations.policies import (
        describe,
        document,
        role_names,
        statements,
    )

    if role is None and not as_json:
        print_table(("role", "what it does"), [(name, describe(name)) for name in role_names()])
        return
    settings = invocation.settings()
    keys = _table_keys(settings, table_keys)
    estate = lake_estate(settings, account, region, partition, kms_key_arn, queue_arns, restored, keys)
    if role is not None:
        write_document(document(statements(role, estate)))
    else:
        write_document({name: document(statements(name, estate)) for name in role_names()})


def lake_estate(
    settings: LakeSettings,
    account: str,
    region: str | None,
    partition: str,
    kms_key_arn: str | None = None,
    queue_arns: tuple[str, ...] = (),
    restored: tuple[str, ...] = (),
    table_keys: Mapping[str, str] = MappingProxyType({}),
) -> Estate:
    """All that a configured lake touches. A table reached through a role lies in that role's account."""
    import os

    from ddb_lake.aws.objects import split_s3
    from ddb_lake.core.operations.policies import Estate, Place, Source

    fallback = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"

    def place(uri: str, key: str | None) -> Place:
        bucket, prefix = split_s3(uri)
        return Place(f"arn:{partition}:s3:::{bucket}", f"{prefix.rstrip('/')}/" if prefix.strip("/") else "", key)

    def landed_at(uri: str) -> Place:
        found = place(uri, kms_key_arn)  # Firehose appends directly to a prefix without a final slash
        return found if uri.endswith("/") else replace(found, prefix=found.prefix.rstrip("/"))

    def table_arn(name: str, where: str | None, owner: str) -> str:
        return f"arn:{partition}:dynamodb:{where or fallback}:{owner}:table/{name}"

    sources, landing = [], []
    for table in settings.tables:
        owner = table.identity.account or account
        arn = table_arn(table.source_name, region or table.source.region, owner)
        export = None
        if table.export:
            uri = f"s3://{table.export.bucket}/{table.export.prefix}"
            export = place(uri, _key_arn(table.export.kms_key_id) or kms_key_arn)
        streams = bool(table.changes and table.changes.streams)
        landed = settings.stream_landing(table)
        read = place(landed, kms_key_arn) if landed and landed.startswith("s3://") else None
        sources.append(Source(arn, table.source.role_arn, table_keys.get(table.name), export, streams, read))
        landing += [landed_at(uri) for uri in settings.change_uris(table) if uri.startswith("s3://")]
    on_s3 = settings.warehouse.startswith("s3://")
    catalog, name = f"arn:{partition}:glue:{fallback}:{account}", settings.catalog.namespace
    in_glue = settings.catalog.type == "glue" or (settings.catalog.type is None and on_s3)
    return Estate(
        region=fallback,
        sources=tuple(sources),
        landing=tuple(landing),
        warehouse=place(settings.warehouse, kms_key_arn) if on_s3 else None,
        glue=(f"{catalog}:catalog", f"{catalog}:database/{name}", f"{catalog}:table/{name}/*") if in_glue else (),
        queue_arns=queue_arns,
        queue_key_arn=kms_key_arn if queue_arns else None,
        restored_table_arns=tuple(table_arn(table, None, account) for table in restored),
    )


def _table_keys(settings: LakeSettings, given: tuple[str, ...]) -> dict[str, str]:
    keys = {}
    for pair in given:
        name, _, arn = pair.partition("=")
        if name not in {table.name for table in settings.tables} or _key_arn(arn) is None:
            raise click.BadParameter(
                f"{pair!r} is not a configured table and the ARN of a key, as in orders=arn:aws:kms:…:key/…"
            )
        keys[name] = arn
    return keys


def _key_arn(key_id: str | None) -> str | None:
    """A policy names a key by its ARN; an id or alias says nothing to IAM."""
    return key_id if key_id and key_id.startswith("arn:") and ":key/" in key_id else None
