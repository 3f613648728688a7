"""`ddb-lake iam`: the least-privilege IAM policy of each role, for the configured lake."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import click

from ddb_lake.cli.command import command, json_option, options_object
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.progress import note
from ddb_lake.cli.output.tables import print_table
from ddb_lake.cli.output.writers import write_document
from ddb_lake.cli.parameter_types import TablePair

if TYPE_CHECKING:
    from ddb_lake.config import LakeSettings, TableSettings
    from ddb_lake.core.operations.policies import Estate, HashKey

PLACEHOLDER_ACCOUNT: Final = "111122223333"
"""The account in the ARNs if none is named: an example of the documentation of AWS."""


@dataclass(frozen=True, slots=True)
class IamOptions:
    """What the ARNs of a lake are made of beside its configuration.

    Args:
        account: of the lake, and of tables that are reached without a role.
        region: of everything; None: each table's own, else the standard AWS variables, else us-east-1.
        partition: `aws`, `aws-cn` or `aws-us-gov`; None: that of the Region.
        kms_key_arn: the customer's key of the landing bucket, the warehouse and the queue.
        table_keys: pairs of a table's name and the customer's key of its source table.
        queue_arns: queues with notifications of landed objects.
        restored: tables that the role `restorer` may create.
        hash_kms_arn: the customer's key of the secret or parameter of `hash_key`.
        secret_kms_arn: the customer's key of the secrets that `aurora` names.
    """

    account: str
    region: str | None = None
    partition: str | None = None
    kms_key_arn: str | None = None
    table_keys: tuple[tuple[str, str], ...] = ()
    queue_arns: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    hash_kms_arn: str | None = None
    secret_kms_arn: str | None = None


@command(
    "iam",
    "Print the IAM policy that a role needs.",
    "ddb-lake iam",
    "ddb-lake iam dagster-task --account 444455556666 --region eu-west-1",
)
@click.argument("role", required=False, metavar="[ROLE]")
@click.option(
    "--account",
    default=PLACEHOLDER_ACCOUNT,
    help=f"Account of the lake and of tables reached without a role; default: {PLACEHOLDER_ACCOUNT}, a placeholder.",
)
@click.option("--region", help="Region; default: that of each table, else the standard AWS variables, else us-east-1.")
@click.option(
    "--partition",
    type=click.Choice(["aws", "aws-cn", "aws-us-gov"]),
    help="Partition of the ARNs; default: the Region's.",
)
@click.option("--kms-key-arn", help="Key of the landing bucket, the warehouse and the queue, if it is a customer's.")
@click.option(
    "--table-key",
    "table_keys",
    multiple=True,
    metavar="TABLE=ARN",
    type=TablePair(),
    help="Key of a source table, if it is a customer's.",
)
@click.option("--queue-arn", "queue_arns", multiple=True, help="Queue with notifications of landed objects.")
@click.option("--restore-to", "restored", multiple=True, metavar="TABLE", help="Table that `restorer` may create.")
@click.option("--hash-kms-arn", help="Key of the secret or parameter of `hash_key`, if it is a customer's.")
@click.option("--secret-kms-arn", help="Key of the databases' secrets that `aurora` names, if it is a customer's.")
@json_option
@options_object(IamOptions)
@pass_invocation
def iam(invocation: Invocation, role: str | None, options: IamOptions, as_json: bool) -> None:
    """Print the policy of ROLE with the ARNs of the configured lake, or the list of roles.

    A policy is always a JSON document, ready for `aws iam create-policy --policy-document`. With --json and no ROLE:
    an object with the policy of each role.
    """
    from ddb_lake.core.operations.policies import describe, document, role_names, statements

    if role is None and not as_json:
        print_table(("role", "what it does"), [(name, describe(name)) for name in role_names()])
        return
    from ddb_lake.config import load_entries

    entries = load_entries(invocation.existing_file())
    # of a lake whose tables were not discovered yet, the policy for that is printed
    settings = entries if role == "discoverer" else invocation.settings()
    check_table_keys(settings, options.table_keys)
    estate = lake_estate(settings, options, entries.matching_tables)
    printed: dict[str, object] = (
        document(statements(role, estate))
        if role is not None
        else {name: document(statements(name, estate)) for name in role_names()}
    )
    write_document(printed)
    if options.account == PLACEHOLDER_ACCOUNT and f":{PLACEHOLDER_ACCOUNT}:" in str(printed):
        note(f"{PLACEHOLDER_ACCOUNT} in the ARNs is a placeholder; name your account with --account")


def lake_estate(settings: LakeSettings, options: IamOptions, entries: Sequence[TableSettings] = ()) -> Estate:
    """The AWS resources of a configured lake. A table that is reached through a role belongs to that role's account.

    `entries`: those with `match`, whose tables `discover` lists.
    """
    import os

    from ddb_lake.aws.objects import split_s3
    from ddb_lake.core.operations.policies import (
        DNS_SUFFIXES,
        Database,
        Estate,
        Place,
        Searched,
        Source,
        database_user_arn,
        partition_of,
    )
    from ddb_lake.core.schema.key_patterns import KeyPattern

    region = options.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    partition = options.partition or partition_of(region)

    def place(uri: str, key: str | None) -> Place:
        bucket, prefix = split_s3(uri)
        return Place(f"arn:{partition}:s3:::{bucket}", f"{prefix.rstrip('/')}/" if prefix.strip("/") else "", key)

    def landing_place(uri: str) -> Place:
        below = place(uri, options.kms_key_arn)  # Firehose appends directly to a prefix without a final slash
        return below if uri.endswith("/") else replace(below, prefix=below.prefix.rstrip("/"))

    def table_arn(name: str, table_region: str | None, account: str) -> str:
        return f"arn:{partition}:dynamodb:{table_region or region}:{account}:table/{name}"

    def stream_arn(name: str, table_region: str | None, account: str) -> str:
        is_arn, its_region = name.startswith("arn:"), options.region or table_region or region
        return name if is_arn else f"arn:{partition}:kinesis:{its_region}:{account}:stream/{name}"

    table_keys = dict(options.table_keys)
    sources, landing = [], []
    for table in (one for one in settings.tables if one.match is None):
        account = table.identity.account or options.account
        arn = table_arn(table.source_name, options.region or table.source.region, account)
        export = None
        if table.export:
            uri = f"s3://{table.export.bucket}/{table.export.prefix}"
            export = place(uri, _key_arn(table.export.kms_key_id) or options.kms_key_arn)
        streams = bool(table.changes and table.changes.reads_stream)
        stream = table.changes.kinesis if table.changes else None
        kinesis_arn = stream_arn(stream, table.source.region, account) if stream else None
        stream_uri = settings.stream_landing(table)
        stream_place = place(stream_uri, options.kms_key_arn) if stream_uri and stream_uri.startswith("s3://") else None
        key = table_keys.get(table.name)
        fan_out = table.changes.fan_out if table.changes else None
        sources.append(Source(arn, table.source.role_arn, key, export, streams, stream_place, kinesis_arn, fan_out))
        landing += [landing_place(uri) for uri in settings.change_uris(table) if uri.startswith("s3://")]
    databases = [table.aurora for table in settings.tables if table.aurora is not None]
    searched = tuple(
        Searched(
            table_arn(
                KeyPattern.parse(entry.match or "*").wildcard,
                options.region or entry.source.region,
                entry.identity.account or options.account,
            ),
            entry.source.role_arn,
        )
        for entry in entries
    )
    landing_root = settings.landing or ""
    on_s3 = settings.warehouse.startswith("s3://")
    catalog, name = f"arn:{partition}:glue:{region}:{options.account}", settings.catalog.namespace
    in_glue = settings.catalog.type == "glue" or (settings.catalog.type is None and on_s3)
    return Estate(
        region=region,
        sources=tuple(sources),
        landing=tuple(landing),
        warehouse=place(settings.warehouse, options.kms_key_arn) if on_s3 else None,
        own_landing=place(landing_root, options.kms_key_arn) if landing_root.startswith("s3://") else None,
        glue=(f"{catalog}:catalog", f"{catalog}:database/{name}", f"{catalog}:table/{name}/*") if in_glue else (),
        queue_arns=options.queue_arns,
        queue_key_arn=options.kms_key_arn if options.queue_arns else None,
        restored_table_arns=tuple(table_arn(table, None, options.account) for table in options.restored),
        dns_suffix=DNS_SUFFIXES[partition],
        hash_key=_hash_key(settings, partition, f"{region}:{options.account}", options.hash_kms_arn),
        databases=tuple(
            Database(
                one.secret_arn,
                database_user_arn(partition, f"{one.region or region}:{options.account}", one.user)
                if one.iam_auth
                else None,
                options.secret_kms_arn if one.secret_arn else None,
            )
            for one in databases
        ),
        searched=searched,
    )


def _hash_key(settings: LakeSettings, partition: str, where: str, kms_arn: str | None) -> HashKey | None:
    """The secret or parameter of the lake. `where`: the Region and account, as in an ARN."""
    from ddb_lake.core.operations.policies import parameter_key, secret_key

    place = settings.hash_key
    if place is not None and place.secret is not None:
        return secret_key(place.secret, f"arn:{partition}:secretsmanager:{where}", kms_arn)
    if place is not None and place.parameter is not None:
        return parameter_key(place.parameter, f"arn:{partition}:ssm:{where}", kms_arn)
    return None


def check_table_keys(settings: LakeSettings, table_keys: Iterable[tuple[str, str]]) -> None:
    """Raise BadParameter for a pair that is not a configured table and the ARN of a key."""
    names = {table.name for table in settings.tables}
    for name, arn in table_keys:
        if name not in names or _key_arn(arn) is None:
            raise click.BadParameter(
                f"'{name}={arn}' is not a configured table and the ARN of a key, as in orders=arn:aws:kms:…:key/…"
            )


def _key_arn(key_id: str | None) -> str | None:
    """The ARN of a key; None for an id or an alias, which IAM does not accept in a policy."""
    return key_id if key_id and key_id.startswith("arn:") and ":key/" in key_id else None
