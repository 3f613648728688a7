"""The landing bucket is copied into the other Region, whole and by a role that may do just that."""

from __future__ import annotations

import json
from pathlib import Path

from ddb_lake.infra.deployment import Deployment
from ddb_lake_tests.support.templates import Template, text


def replicated(template: Template) -> dict[str, dict[str, object]]:
    """The replication rules by the name of the bucket."""
    buckets = template.resources("AWS::S3::Bucket").values()
    return {b["BucketName"]: b["ReplicationConfiguration"] for b in buckets if "ReplicationConfiguration" in b}


def test_landing_buckets_of_the_lakes_account_are_copied_and_no_others(
    templates: dict[str, Template], deployment: Deployment
) -> None:
    copying = {name for name, template in templates.items() if replicated(template)}
    assert copying == {"consumer", "replicate-target"}
    for name in copying:
        assert set(replicated(templates[name])) == set(deployment.landing_buckets)


def test_every_object_is_copied_into_the_bucket_of_the_replica_stack_under_its_key(
    templates: dict[str, Template],
) -> None:
    made = templates["replica"].resources("AWS::S3::Bucket").values()
    (alias,) = templates["replica"].resources("AWS::KMS::Alias").values()
    for configuration in replicated(templates["consumer"]).values():
        (rule,) = configuration["Rules"]  # type: ignore[index]
        assert (rule["Status"], rule["Filter"]) == ("Enabled", {"Prefix": ""})
        assert rule["SourceSelectionCriteria"]["SseKmsEncryptedObjects"] == {"Status": "Enabled"}
        target = text(rule["Destination"]["Bucket"]).partition(":::")[2]
        assert target in {bucket.get("BucketName") for bucket in made}
        assert text(rule["Destination"]["EncryptionConfiguration"]["ReplicaKmsKeyID"]).endswith(
            f":kms:eu-central-1:${{AWS::AccountId}}:{alias['AliasName']}"
        )


def test_replica_is_bound_to_its_region_even_where_nothing_else_is(agnostic: Path) -> None:
    """Guards the copies: the landing bucket names the replica's Region; unbound, CDK would use that of the caller."""
    artifacts = json.loads((agnostic / "manifest.json").read_text())["artifacts"]
    bound = {id: a["environment"] for id, a in artifacts.items() if a["type"] == "aws:cloudformation:stack"}
    assert bound.pop("ddb-lake-replica") == "aws://unknown-account/eu-central-1"
    assert set(bound.values()) == {"aws://unknown-account/unknown-region"}


def test_role_may_check_the_bucket_key_of_the_copy(templates: dict[str, Template]) -> None:
    """Guards the copies: S3 decrypts the replica's bucket key before it uses it."""
    (copies,) = [s for _, s in templates["consumer"].statements() if s["Sid"] == "EncryptCopies"]
    assert set(copies["Action"]) == {"kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"}
    assert text(copies["Condition"]["StringEquals"]["kms:ViaService"]) == "s3.eu-central-1.${AWS::URLSuffix}"
