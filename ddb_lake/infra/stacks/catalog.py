"""For readers of the lake: Glue database, Athena workgroup; optionally Lake Formation."""

from __future__ import annotations

from datetime import datetime

import aws_cdk as cdk
from aws_cdk import aws_athena as athena
from aws_cdk import aws_glue as glue
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lakeformation as lakeformation
from aws_cdk import aws_s3 as s3

from ddb_lake.core.layout.landing_table import PARTITION, LandingTable, column_name
from ddb_lake.core.operations.policies import Place, Statement, key_use
from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.constructs.buckets import access_logs, bucket
from ddb_lake.infra.constructs.delivery import finding
from ddb_lake.infra.constructs.keys import data_key, endpoint_domain
from ddb_lake.infra.constructs.roles import attach, own_account
from ddb_lake.infra.deployment import Deployment, TableDeployment
from ddb_lake.infra.packaging import CodeSource

_GIBIBYTE = 1024**3


def build(stack: cdk.Stack, deployment: Deployment, code: CodeSource) -> str:  # noqa: ARG001  # one signature for every topology
    """Fill the stack. Gives the ARN of the key that the warehouse and Athena's results are under."""
    key = data_key(stack, deployment, "catalog", of="consumer")
    logs = access_logs(stack)
    warehouse = bucket(stack, deployment, "Warehouse", deployment.warehouse.bucket, key, logs)
    results = bucket(
        stack, deployment, "Results", f"{deployment.name}-{deployment.consumer_account}-athena-results", key, logs
    )
    database = glue.CfnDatabase(
        stack,
        "Database",
        catalog_id=stack.account,
        database_input=glue.CfnDatabase.DatabaseInputProperty(
            name=deployment.namespace,
            description="Iceberg tables of the lake, made and committed by ddb-lake",
            location_uri=f"s3://{deployment.warehouse.bucket}/{deployment.warehouse.prefix}{deployment.namespace}",
        ),
    )
    for table in deployment.tables:
        _landing_table(stack, deployment, table, database)
    _workgroup(stack, deployment, key, results)
    if deployment.settings.catalog.lake_formation:
        _register(stack, deployment, warehouse, key)
    cdk.CfnOutput(
        stack, "DatabaseName", value=database.ref, description="`catalog.namespace` of the lake's configuration"
    )
    cdk.CfnOutput(stack, "KeyArn", value=key.key_arn)
    return str(key.key_arn)


def _landing_table(
    stack: cdk.Stack, deployment: Deployment, table: TableDeployment, database: glue.CfnDatabase
) -> None:
    """The table over what Firehose delivers of a source table: a row for each record, its text in the column `record`."""
    since = deployment.settings.catalog.landing_since
    name = table.name if cdk.Token.is_unresolved(table.name) else column_name(table.name)
    uri = f"s3://{table.landing.bucket}/{table.landing.prefix}"
    landing = LandingTable(f"{name}_landing", uri, since=datetime(since.year, since.month, since.day))
    serde, serde_properties = landing.serde
    descriptor = landing.table_input()["StorageDescriptor"]
    built = glue.CfnTable(
        stack,
        f"{table.id}Landing",
        catalog_id=stack.account,
        database_name=deployment.namespace,
        table_input=glue.CfnTable.TableInputProperty(
            name=landing.name,
            description="Change records as Firehose delivered them, by hour of arrival",
            table_type="EXTERNAL_TABLE",
            parameters=landing.properties,
            partition_keys=[glue.CfnTable.ColumnProperty(name=PARTITION, type="string")],
            storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                columns=[glue.CfnTable.ColumnProperty(name=column, type="string") for column in landing.columns],
                location=landing.location,
                input_format=descriptor["InputFormat"],
                output_format=descriptor["OutputFormat"],
                serde_info=glue.CfnTable.SerdeInfoProperty(serialization_library=serde, parameters=serde_properties),
            ),
        ),
    )
    built.add_dependency(database)


def _workgroup(stack: cdk.Stack, deployment: Deployment, key: kms.IKey, results: s3.IBucket) -> None:
    """The workgroup. Its settings are enforced: a client cannot choose another location or unencrypted results.

    https://docs.aws.amazon.com/athena/latest/ug/workgroups-settings-override.html
    """
    athena.CfnWorkGroup(
        stack,
        "Workgroup",
        name=deployment.name,
        description="Queries of the lake",
        state="ENABLED",
        recursive_delete_option=False,
        work_group_configuration=athena.CfnWorkGroup.WorkGroupConfigurationProperty(
            enforce_work_group_configuration=True,
            publish_cloud_watch_metrics_enabled=True,
            requester_pays_enabled=False,
            bytes_scanned_cutoff_per_query=deployment.settings.catalog.scan_cutoff_gibibytes * _GIBIBYTE,
            engine_version=athena.CfnWorkGroup.EngineVersionProperty(selected_engine_version="Athena engine version 3"),
            result_configuration=athena.CfnWorkGroup.ResultConfigurationProperty(
                output_location=f"s3://{results.bucket_name}/",
                expected_bucket_owner=stack.account,
                encryption_configuration=athena.CfnWorkGroup.EncryptionConfigurationProperty(
                    encryption_option="SSE_KMS", kms_key=key.key_arn
                ),
            ),
        ),
    )


def _register(stack: cdk.Stack, deployment: Deployment, warehouse: s3.IBucket, key: kms.IKey) -> None:
    """Register the warehouse with Lake Formation, with a separate role. Lake Formation then grants access by table and column.

    https://docs.aws.amazon.com/lake-formation/latest/dg/register-data-lake.html
    The role trusts both services: https://docs.aws.amazon.com/lake-formation/latest/dg/registration-role.html
    """
    place = Place(warehouse.bucket_arn, deployment.warehouse.prefix, key.key_arn)
    role = iam.Role(
        stack,
        "RegistrationRole",
        assumed_by=iam.CompositePrincipal(
            own_account("lakeformation.amazonaws.com", stack), iam.ServicePrincipal("glue.amazonaws.com")
        ),
        description="Lake Formation reads the warehouse",
    )
    policy = attach(
        role,
        [
            Statement("ReadWarehouse", ("s3:GetObject",), (place.objects,)),
            Statement("ListWarehouse", ("s3:ListBucket",), (place.bucket_arn,)),
            key_use("DecryptWarehouse", ("kms:Decrypt",), str(key.key_arn), "s3", endpoint_domain(stack)),
        ],
    )
    acknowledge(policy, finding(stack, place.objects), "Every file below the warehouse belongs to a table")
    registered = lakeformation.CfnResource(
        stack,
        "Registration",
        resource_arn=f"{place.bucket_arn}/{deployment.warehouse.prefix.rstrip('/')}",
        use_service_linked_role=False,
        role_arn=role.role_arn,
        hybrid_access_enabled=True,
    )
    registered.node.add_dependency(policy)
