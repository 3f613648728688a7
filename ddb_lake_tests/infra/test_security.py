"""The security checklist, point by point, on the synthesised templates."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from ddb_lake_tests.support.templates import Template, actions, as_list, text

Templates = dict[str, Template]
PRODUCER, CONSUMER = "111122223333", "444455556666"


def every(templates: Templates, kind: str) -> list[tuple[str, str, dict[str, Any]]]:
    found = [(t.name, id, p) for t in templates.values() for id, p in t.resources(kind).items()]
    assert found, f"no {kind} in any template"
    return found


def condition(statement: dict[str, Any], operator: str, key: str) -> list[str]:
    return [text(value) for value in as_list(statement.get("Condition", {}).get(operator, {}).get(key, []))]


def by_sid(template: Template, sid: str) -> list[dict[str, Any]]:
    found = [s for _, s in (*template.statements(), *template.resource_statements()) if s.get("Sid") == sid]
    assert found, f"no statement {sid} in {template.name}"
    return found


def test_point_01_keys_rotate_and_are_shared_only_under_conditions(templates: Templates) -> None:
    for name, _, key in every(templates, "AWS::KMS::Key"):
        assert key["EnableKeyRotation"] is True
        for statement in key["KeyPolicy"]["Statement"]:
            principal = text(statement["Principal"].get("AWS", ""))
            if "kms:*" in as_list(statement["Action"]):
                assert principal.endswith("${AWS::AccountId}:root"), f"{name}: kms:* beyond the own account"
            else:
                assert statement["Condition"], f"{name}: {statement['Sid']} has no condition"
        logs = next(s for s in key["KeyPolicy"]["Statement"] if s.get("Sid") == "EncryptLogGroups")
        assert condition(logs, "ArnLike", "kms:EncryptionContext:aws:logs:arn")
    (writers,) = by_sid(templates["consumer"], "WritersOfTheSourceAccount")
    assert set(writers["Action"]) == {"kms:GenerateDataKey", "kms:Decrypt"}
    assert condition(writers, "ArnEquals", "aws:PrincipalArn")
    assert condition(writers, "StringEquals", "kms:ViaService") == ["s3.${AWS::Region}.${AWS::URLSuffix}"]


def test_point_01_caller_of_direct_put_may_use_the_streams_key(templates: Templates) -> None:
    for name in ("streams-to-aurora", "replicate-target"):
        (encrypt,) = by_sid(templates[name], "Encrypt")
        assert set(encrypt["Action"]) == {"kms:GenerateDataKey", "kms:Decrypt"}
        assert "firehose.${AWS::Region}.${AWS::URLSuffix}" in condition(encrypt, "StringEquals", "kms:ViaService")


def test_point_02_buckets_are_private_versioned_encrypted_logged_and_kept(templates: Templates) -> None:
    for name, id, bucket in every(templates, "AWS::S3::Bucket"):
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
        assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
        assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
        rules = bucket["LifecycleConfiguration"]["Rules"]
        assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)
        assert any("NoncurrentVersionExpiration" in rule for rule in rules)
        assert templates[name].whole(id)["DeletionPolicy"] == "Retain"
        (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        if not id.startswith("AccessLogs"):
            assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
            assert encryption["BucketKeyEnabled"] is True
            assert bucket["LoggingConfiguration"]["DestinationBucketName"]


def test_point_02_data_never_expires_and_old_versions_do(templates: Templates) -> None:
    """Guards landed records and the warehouse: only access logs expire. Old versions and broken uploads cost storage."""
    for name, id, bucket in every(templates, "AWS::S3::Bucket"):
        rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
        assert rules.pop("Housekeeping") == {
            "Id": "Housekeeping",
            "Status": "Enabled",
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
        }
        expiring = {"Id": "ExpireLogs", "Status": "Enabled", "ExpirationInDays": 365}
        assert rules == ({"ExpireLogs": expiring} if id.startswith("AccessLogs") else {}), (name, id)


def test_everything_that_takes_tags_has_the_projects(templates: Templates) -> None:
    """Guards the allocation of costs. A resource that takes tags takes this one, so that the count shows a stack without."""
    tagged = dict.fromkeys(templates, 0)
    for name, template in templates.items():
        for resource in template.document["Resources"].values():
            tags = resource.get("Properties", {}).get("Tags")
            if isinstance(tags, list):
                assert {"Key": "project", "Value": "ddb-lake"} in tags, (name, resource["Type"])
                tagged[name] += 1
        for kind in (
            "AWS::S3::Bucket",
            "AWS::KMS::Key",
            "AWS::Lambda::Function",
            "AWS::DynamoDB::Table",
            "AWS::SQS::Queue",
        ):
            assert all("Tags" in found for found in template.resources(kind).values()), (name, kind)
    assert min(tagged.values()) > 0, tagged


def test_point_01_keys_can_be_kept_for_thirty_days_after_deletion_is_scheduled(templates: Templates) -> None:
    """Guards the data under a key: the time in which a deletion can be cancelled."""
    assert {key["PendingWindowInDays"] for _, _, key in every(templates, "AWS::KMS::Key")} == {30}


def test_point_06_subnets_are_private_and_within_the_configured_range(templates: Templates) -> None:
    """Guards peering: a range that changes replaces the subnets, and one outside the VPC's cannot be deployed."""
    vpcs = {name: ip_network(vpc["CidrBlock"]) for name, _, vpc in every(templates, "AWS::EC2::VPC")}
    assert set(vpcs.values()) == {ip_network("10.80.0.0/20")}
    zones: dict[str, list[str]] = {}
    for name, id, subnet in every(templates, "AWS::EC2::Subnet"):
        block = ip_network(subnet["CidrBlock"])
        assert block.subnet_of(vpcs[name]) and block.prefixlen == 24, (name, id)
        assert subnet["MapPublicIpOnLaunch"] is False, (name, id)
        zones.setdefault(name, []).append(text(subnet["AvailabilityZone"]))
    assert all(len(set(found)) == len(found) == 2 for found in zones.values()), "one subnet a zone"


LOGS, TOPICS, RULES = (
    "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:/*/ddb-lake-*",
    "arn:${AWS::Partition}:sns:${AWS::Region}:${AWS::AccountId}:ddb-lake-*",
    "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/ddb-lake-*",
)


def test_point_01_services_use_keys_under_exactly_these_conditions(templates: Templates) -> None:
    """Guards the keys from the services' other customers, and deliveries from a condition that never matches."""
    expected = {
        "EncryptLogGroups": {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": LOGS}},
        "AlarmsToTopics": {"StringEquals": {"aws:SourceAccount": "${AWS::AccountId}"}},
        "EventsToTopics": {"ArnLike": {"kms:EncryptionContext:aws:sns:topicArn": TOPICS}},
        "EventsToQueues": {"ArnLike": {"aws:SourceArn": RULES}},
    }
    for name, _, key in every(templates, "AWS::KMS::Key"):
        found = {
            s["Sid"]: {op: {k: text(v) for k, v in pairs.items()} for op, pairs in s["Condition"].items()}
            for s in key["KeyPolicy"]["Statement"]
            if "Service" in s["Principal"]
        }
        assert found == (_in_replica(expected) if name == "replica" else expected), name


def _in_replica(value: Any) -> Any:
    """Texts as they are in the replica's stack, which is bound to its Region."""
    if isinstance(value, dict):
        return {name: _in_replica(member) for name, member in value.items()}
    return value.replace("${AWS::Partition}", "aws").replace("${AWS::Region}", "eu-central-1")


def test_names_that_keys_policies_expect_are_those_of_groups_topics_and_rules(templates: Templates) -> None:
    """Guards encryption by name: a group, topic or rule of another name could not use its key."""
    for kind, member, start in (
        ("AWS::SNS::Topic", "TopicName", "ddb-lake-"),
        ("AWS::Events::Rule", "Name", "ddb-lake-"),
        ("AWS::Logs::LogGroup", "LogGroupName", None),
    ):
        for name, id, resource in every(templates, kind):
            given = text(resource[member])
            assert given.startswith(start) if start else given.split("/")[2].startswith("ddb-lake-"), (name, id)


def test_point_02_buckets_refuse_plain_http_and_old_tls(templates: Templates) -> None:
    for name, id, policy in every(templates, "AWS::S3::BucketPolicy"):
        denied = [s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Deny"]
        assert any(condition(s, "Bool", "aws:SecureTransport") == ["false"] for s in denied), (name, id)
        assert any(condition(s, "NumericLessThan", "s3:TlsVersion") == ["1.2"] for s in denied), (name, id)


def test_point_03_firehose_reads_and_writes_below_its_two_prefixes_only(templates: Templates) -> None:
    template = templates["same-account"]
    (objects,) = by_sid(template, "WriteObjects")
    assert set(objects["Action"]) == {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"}
    assert {text(r).partition("/")[2] for r in objects["Resource"]} == {"orders/*", "orders-failed/*"}
    allowed = actions(template.policy_of("OrdersDeliveryRole"))
    assert {action for action in allowed if action.startswith("s3:Get")} == {"s3:GetObject", "s3:GetBucketLocation"}
    assert not {action for action in allowed if action.startswith("s3:Delete")}
    for name in ("same-account", "producer", "streams-to-aurora", "replicate-target"):
        role = templates[name].one("AWS::IAM::Role", "OrdersDeliveryRole")
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Condition"] == {"StringEquals": {"sts:ExternalId": {"Ref": "AWS::AccountId"}}}


def test_point_04_either_account_deploys_first(templates: Templates) -> None:
    for name in ("producer", "consumer", "replicate-source", "replicate-target"):
        assert "Fn::ImportValue" not in str(templates[name].document)
    role = templates["producer"].one("AWS::IAM::Role", "OrdersDeliveryRole")["RoleName"]
    (writers,) = by_sid(templates["consumer"], "OrdersDelivery")
    assert text(writers["Principal"]["AWS"]).endswith(f"{PRODUCER}:root"), "a role as principal must exist already"
    assert condition(writers, "ArnEquals", "aws:PrincipalArn")[0].endswith(f"{PRODUCER}:role/{role}")
    assert set(writers["Action"]) == {"s3:GetObject", "s3:PutObject", "s3:PutObjectAcl", "s3:AbortMultipartUpload"}
    assert {text(r).partition("/")[2] for r in writers["Resource"]} == {"orders/*", "orders-failed/*"}


def test_point_05_export_role_is_assumed_with_the_external_id_by_the_lakes_roles_only(templates: Templates) -> None:
    role = templates["producer"].one("AWS::IAM::Role", "Source")
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert condition(trust, "StringEquals", "sts:ExternalId") == ["ddb-lake-444455556666"]
    task = templates["orchestration"].one("AWS::IAM::Role", "Task")["RoleName"]
    follower = templates["follow"].one("AWS::IAM::Role", "Task")["RoleName"]
    assert [arn.rpartition(":iam::")[2] for arn in condition(trust, "ArnEquals", "aws:PrincipalArn")] == [
        f"{CONSUMER}:role/{task}",
        f"{CONSUMER}:role/{follower}",
    ]
    allowed = actions(templates["producer"].policy_of("SourcePolicy"))
    assert {"dynamodb:ExportTableToPointInTime", "s3:PutObject", "s3:PutObjectAcl", "kms:GenerateDataKey"} <= allowed
    (writers,) = by_sid(templates["consumer"], "OrdersExport")
    assert [text(r).partition("/")[2] for r in as_list(writers["Resource"])] == ["exports/AWSDynamoDB/*"]


def test_point_06_vpcs_have_no_way_to_the_internet(templates: Templates) -> None:
    every(templates, "AWS::EC2::VPC")
    for template in templates.values():
        for kind in ("InternetGateway", "NatGateway", "EgressOnlyInternetGateway", "Route", "VPCGatewayAttachment"):
            assert template.resources(f"AWS::EC2::{kind}") == {}, template.name
        assert len(template.resources("AWS::EC2::FlowLog")) == len(template.resources("AWS::EC2::VPC"))


def test_point_06_groups_reach_endpoints_on_443_and_each_other_only(templates: Templates) -> None:
    for name, id, rule in every(templates, "AWS::EC2::SecurityGroupEgress"):
        if rule.get("CidrIp") == "255.255.255.255/32":
            continue  # how CDK writes "nothing"
        assert "CidrIp" not in rule and "CidrIpv6" not in rule, (name, id)
        if rule["FromPort"] != 443:
            assert rule["Description"] in ("Aurora", "Between the workers of a job"), (name, id)
        if "DestinationPrefixListId" in rule:
            assert rule["DestinationPrefixListId"]["Ref"] in ("S3PrefixListId", "DynamoDbPrefixListId")
    for _, _, group in every(templates, "AWS::EC2::SecurityGroup"):
        assert "SecurityGroupIngress" not in group
        assert all(rule.get("CidrIp") == "255.255.255.255/32" for rule in group.get("SecurityGroupEgress", ()))


def test_point_06_endpoints_serve_the_own_accounts_only(templates: Templates) -> None:
    for name, id, endpoint in every(templates, "AWS::EC2::VPCEndpoint"):
        own, *others = endpoint["PolicyDocument"]["Statement"]
        for key in ("aws:PrincipalAccount", "aws:ResourceAccount"):
            assert condition(own, "StringEquals", key) == [PRODUCER, CONSUMER], (name, id)
        known = {"orchestration": "EMRServerlessManagedLogging", "follow": "ImageLayers"}
        assert [f"{name}: {id}" for s in others if s["Sid"] != known.get(name)] == []


def test_point_06_jobs_of_emr_store_their_logs_through_the_endpoint(templates: Templates) -> None:
    """Guards the logs of Spark jobs: EMR keeps them in a bucket of its own, which the endpoint's policy would refuse."""
    (logging,) = by_sid(templates["orchestration"], "EMRServerlessManagedLogging")
    assert set(logging["Action"]) == {"s3:PutObject", "s3:PutObjectAcl"}
    assert {text(r).partition(":::")[2] for r in logging["Resource"]} == {
        "prod.${AWS::Region}.appinfo.src",
        "prod.${AWS::Region}.appinfo.src/*",
    }
    assert condition(logging, "StringEquals", "aws:PrincipalServiceName") == ["emr-serverless.amazonaws.com"]
    assert condition(logging, "StringEquals", "aws:SourceVpc")[0].startswith("${Vpc")


def test_point_07_functions_are_private_and_encrypted(templates: Templates) -> None:
    roles = []
    for name, id, function in every(templates, "AWS::Lambda::Function"):
        assert "ReservedConcurrentExecutions" not in function, (name, id)  # a new account has none to reserve
        assert function["KmsKeyArn"]
        assert function["VpcConfig"]["SubnetIds"]
        group = templates[name].document["Resources"][function["LoggingConfig"]["LogGroup"]["Ref"]]["Properties"]
        assert group["KmsKeyId"] and group["RetentionInDays"]
        roles.append((name, text(function["Role"])))
    assert len(set(roles)) == len(roles), "two functions share a role"


def test_point_07_code_of_a_function_may_not_touch_its_interfaces(templates: Templates) -> None:
    for template in templates.values():
        for id, statement in template.statements():
            if statement.get("Sid") == "ManageInterfaces":
                (denied,) = [s for other, s in template.statements() if other == id and s["Effect"] == "Deny"]
                assert set(denied["Action"]) == set(statement["Action"])
                assert condition(denied, "ArnEquals", "lambda:SourceFunctionArn")


def test_point_08_stream_consumers_halve_report_give_up_and_keep_what_failed(templates: Templates) -> None:
    for name, id, mapping in every(templates, "AWS::Lambda::EventSourceMapping"):
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"], (name, id)
        if "StartingPosition" not in mapping:
            continue  # a queue's mapping: its dead-letter queue does the same
        assert mapping["BisectBatchOnFunctionError"] is True
        assert 0 < mapping["MaximumRetryAttempts"] < 100
        assert 0 < mapping["MaximumRecordAgeInSeconds"] <= 86_400
        bucket = text(mapping["DestinationConfig"]["OnFailure"]["Destination"]).strip("${}").partition(".")[0]
        kept = templates[name].whole(bucket)  # to a queue or topic Lambda sends no records
        assert kept["Type"] == "AWS::S3::Bucket" and kept["Properties"]["BucketEncryption"]
        kept_by = [
            s for _, s in templates[name].statements() if s.get("Sid") in ("KeepFailedBatches", "ListFailedBatches")
        ]
        assert kept_by  # so that a bucket of the same name in another account gets no records
        for statement in kept_by:
            assert condition(statement, "StringEquals", "s3:ResourceAccount") == ["${AWS::AccountId}"], name
    for _, _, queue in every(templates, "AWS::SQS::Queue"):
        assert queue["KmsMasterKeyId"] and queue["MessageRetentionPeriod"] == 14 * 86_400


def test_point_09_replicator_may_only_become_the_target_which_may_only_put(templates: Templates) -> None:
    (assumed,) = by_sid(templates["replicate-source"], "BecomeTarget")
    target = templates["replicate-target"].one("AWS::IAM::Role", "OrdersTarget")
    assert text(assumed["Resource"]).endswith(f"{CONSUMER}:role/{target['RoleName']}")
    (trust,) = target["AssumeRolePolicyDocument"]["Statement"]
    assert condition(trust, "StringEquals", "sts:ExternalId")
    environment = templates["replicate-source"].only("AWS::Lambda::Function")["Environment"]["Variables"]
    assert condition(trust, "StringEquals", "sts:ExternalId") == [environment["DDB_LAKE_EXTERNAL_ID"]]


ALARMED = {
    "same-account": {
        "DeliveryToS3.DataFreshness",
        "KinesisMillisBehindLatest",
        "ThrottledGetRecords",
        "WriteProvisionedThroughputExceeded",
        "ReadProvisionedThroughputExceeded",
        "Errors",
        "Throttles",
        "AgeOfOldestUnreplicatedRecord",
        "FailedToReplicateRecordCount",
        "ApproximateNumberOfMessagesVisible",
        "MatchedEvents",
    },
    "streams-to-aurora": {
        "DeliveryToS3.DataFreshness",
        "ThrottledRecords",
        "Errors",
        "Throttles",
        "IteratorAge",
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesVisible",
        "MatchedEvents",
    },
    "follow": {"ddb_lake_lag_seconds", "ddb_lake_followed", "ddb_lake_open_gaps"},
    "orchestration": {"ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible", "MatchedEvents"},
}


def test_point_10_alarms_watch_everything_that_shows_life(templates: Templates) -> None:
    for name, expected in ALARMED.items():
        assert {
            alarm["MetricName"] for alarm in templates[name].resources("AWS::CloudWatch::Alarm").values()
        } == expected


def test_point_10_every_alarm_goes_to_an_encrypted_topic_and_is_on_the_dashboard(templates: Templates) -> None:
    for name, id, alarm in every(templates, "AWS::CloudWatch::Alarm"):
        (topic,) = alarm["AlarmActions"]
        assert templates[name].whole(topic["Ref"])["Properties"]["KmsMasterKeyId"]
        assert id in text(templates[name].only("AWS::CloudWatch::Dashboard")["DashboardBody"])


def test_point_11_tables_are_recoverable_protected_and_precise(templates: Templates) -> None:
    for name, id, table in every(templates, "AWS::DynamoDB::Table"):
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert table["DeletionProtectionEnabled"] is True
        assert table["SSESpecification"]["SSEType"] == "KMS"
        assert templates[name].whole(id)["DeletionPolicy"] == "Retain"
        kinesis = table.get("KinesisStreamSpecification")
        if kinesis:
            assert kinesis["ApproximateCreationDateTimePrecision"] == "MICROSECOND"
    assert templates["same-account"].only("AWS::DynamoDB::Table")["KinesisStreamSpecification"]


def test_point_12_aurora_is_private_encrypted_and_entered_by_the_loader_only(templates: Templates) -> None:
    template = templates["streams-to-aurora"]
    cluster = template.only("AWS::RDS::DBCluster")
    assert cluster["StorageEncrypted"] and cluster["KmsKeyId"]
    assert cluster["EnableIAMDatabaseAuthentication"] is True
    assert cluster["ManageMasterUserPassword"] is True and "MasterUserPassword" not in cluster
    assert cluster["DeletionProtection"] is True
    for instance in template.resources("AWS::RDS::DBInstance").values():
        assert instance["PubliclyAccessible"] is False
    rules = template.resources("AWS::EC2::SecurityGroupIngress").values()
    entering = [rule for rule in rules if "AuroraGroup" in text(rule["GroupId"])]
    assert [text(rule["SourceSecurityGroupId"]) for rule in entering] == ["${OrdersLoadGroup" + _suffix(entering[0])]
    assert not [rule for rule in rules if "CidrIp" in rule or "CidrIpv6" in rule]
    assert template.only("AWS::RDS::DBClusterParameterGroup")["Parameters"]["require_secure_transport"] == "ON"


def _suffix(rule: dict[str, Any]) -> str:
    return text(rule["SourceSecurityGroupId"]).removeprefix("${OrdersLoadGroup")


def test_point_13_athena_results_are_encrypted_and_scans_are_limited(templates: Templates) -> None:
    settings = templates["catalog"].only("AWS::Athena::WorkGroup")["WorkGroupConfiguration"]
    assert settings["EnforceWorkGroupConfiguration"] is True
    assert settings["ResultConfiguration"]["EncryptionConfiguration"]["EncryptionOption"] == "SSE_KMS"
    assert settings["BytesScannedCutoffPerQuery"] == 100 * 1024**3
