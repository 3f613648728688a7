"""What an object store does with requests of S3's API, one question a function: for stores that are not AWS's.

Each probe gets a client of boto3 and an empty bucket of its own, and returns whether the store does as S3 does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from botocore.exceptions import ClientError

Probe = Callable[[Any, str], bool]

UNUSUAL_NAMES: Final = (
    *(
        "a b",
        "tail ",
        "a+b",
        "100%",
        "a%2Fb",
        "å/ü",
        "🦆",
        "e\u0301",
        'q"q',
        "it's",
        "a&b<c>",
        "#h",
        "a?b=c",
        "a=1/b",
        "~a",
    ),
    *(
        "a:b",
        "a*b",
        "a;b",
        "a,b",
        "(a)",
        "{a}",
        "[a]",
        "a|b",
        "$a",
        "@a",
        "!a",
        "`a`",
        "^a",
        "a--b",
        ".a",
        "_a",
    ),
)
"""Parts of keys that S3 permits and recommends to avoid, or that must be encoded in a URL.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
"""

_PART_BYTES: Final = 5 << 20
"""The smallest part of a multipart upload but for the last: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""


def code_of(request: Callable[..., Any], **arguments: Any) -> str:
    """The code of the error that a request causes; empty without an error."""
    try:
        request(**arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def keeps_names(s3: Any, bucket: str, names: tuple[str, ...]) -> bool:
    """Whether keys with these parts are written, listed and read, each by itself."""
    wanted = {f"names/{name}/x": name.encode() for name in names} | {
        f"names/{name}": b"1" + name.encode() for name in names
    }
    for key, body in wanted.items():
        if code_of(s3.put_object, Bucket=bucket, Key=key, Body=body):
            return False
    if sorted(_keys(s3, Bucket=bucket, Prefix="names/")) != sorted(wanted):
        return False
    return all(s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body for key, body in wanted.items())


def _keys(s3: Any, **arguments: Any) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(PaginationConfig={"PageSize": 3}, **arguments)
    return [content["Key"] for page in pages for content in page.get("Contents", ())]


def _put(s3: Any, bucket: str, *keys: str, body: bytes = b"12345") -> None:
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=body)


def _lists_in_order(s3: Any, bucket: str) -> bool:
    keys = ["a", "a b", "a-b", "a.b", "a/b", "a/c/d", "a0", "ab", "z", "é", "Z", "\U00010000", "\uffee"]
    _put(s3, bucket, *keys)
    return _keys(s3, Bucket=bucket) == sorted(keys, key=str.encode)


def _lists_hours(s3: Any, bucket: str) -> bool:
    """The order of what Firehose writes, from a key on, in pages."""
    keys = [f"p/2026/11/{day:02}/{hour:02}/f-{n}" for day in (9, 10) for hour in (1, 23) for n in range(3)]
    _put(s3, bucket, *reversed(keys))
    after = _keys(s3, Bucket=bucket, Prefix="p/", StartAfter="p/2026/11/09/23/")
    return _keys(s3, Bucket=bucket, Prefix="p/") == keys and after == keys[3:]


def _lists_one_level(s3: Any, bucket: str) -> bool:
    _put(s3, bucket, "p/a", "p/b/c", "p/b/d", "p/e/f", "q")
    page = s3.list_objects_v2(Bucket=bucket, Prefix="p/", Delimiter="/")
    folders = [common["Prefix"] for common in page["CommonPrefixes"]]
    return [content["Key"] for content in page["Contents"]] == ["p/a"] and folders == ["p/b/", "p/e/"]


def _keeps_names(s3: Any, bucket: str) -> bool:
    return keeps_names(s3, bucket, UNUSUAL_NAMES)


def _keeps_backslashes(s3: Any, bucket: str) -> bool:
    return keeps_names(s3, bucket, ("a\\b",))


def _keeps_control_characters(s3: Any, bucket: str) -> bool:
    return keeps_names(s3, bucket, ("a\nb", "\x01"))


def _keeps_dots(s3: Any, bucket: str) -> bool:
    return keeps_names(s3, bucket, (".", "a/./b"))


def _keeps_double_slashes(s3: Any, bucket: str) -> bool:
    _put(s3, bucket, "a/b", body=b"one")
    _put(s3, bucket, "a//b", body=b"two")
    return s3.get_object(Bucket=bucket, Key="a/b")["Body"].read() == b"one" and _keys(s3, Bucket=bucket) == [
        "a//b",
        "a/b",
    ]


def _keeps_folder_objects(s3: Any, bucket: str) -> bool:
    _put(s3, bucket, "folder/", body=b"content")
    return bool(s3.get_object(Bucket=bucket, Key="folder/")["Body"].read() == b"content")


def _creates_once(s3: Any, bucket: str) -> bool:
    created = code_of(s3.put_object, Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")
    again = code_of(s3.put_object, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")
    return (created, again) == ("", "PreconditionFailed") and s3.get_object(Bucket=bucket, Key="k")[
        "Body"
    ].read() == b"1"


def _replaces_what_was_read(s3: Any, bucket: str) -> bool:
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    second = code_of(s3.put_object, Bucket=bucket, Key="k", Body=b"2", IfMatch=first)
    third = code_of(s3.put_object, Bucket=bucket, Key="k", Body=b"3", IfMatch=first)
    return (second, third) == ("", "PreconditionFailed")


def _reads_one_version(s3: Any, bucket: str) -> bool:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    same = code_of(s3.get_object, Bucket=bucket, Key="k", IfMatch=etag)
    _put(s3, bucket, "k")
    return (same, code_of(s3.get_object, Bucket=bucket, Key="k", IfMatch=etag)) == ("", "PreconditionFailed")


def _refuses_a_wrong_crc(s3: Any, bucket: str) -> bool:
    return code_of(s3.put_object, Bucket=bucket, Key="k", Body=b"1", ChecksumCRC32="AAAAAA==") == "BadDigest"


def _refuses_a_wrong_md5(s3: Any, bucket: str) -> bool:
    return code_of(s3.put_object, Bucket=bucket, Key="k", Body=b"1", ContentMD5="A" * 22 + "==") == "BadDigest"


def _joins_parts(s3: Any, bucket: str) -> bool:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    where = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    bodies = (bytes(_PART_BYTES), b"end")
    tags = [s3.upload_part(PartNumber=n, Body=body, **where)["ETag"] for n, body in enumerate(bodies, 1)]
    parts = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
    if _keys(s3, Bucket=bucket):
        return False
    etag = s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **where)["ETag"]
    found = s3.get_object(Bucket=bucket, Key="k")
    return found["Body"].read() == b"".join(bodies) and found["ETag"] == etag and etag.strip('"').endswith("-2")


def _reads_ranges(s3: Any, bucket: str) -> bool:
    _put(s3, bucket, "k")

    def read(span: str) -> bytes:
        return bytes(s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={span}")["Body"].read())

    beyond = code_of(s3.get_object, Bucket=bucket, Key="k", Range="bytes=5-9")
    return (read("1-2"), read("3-9"), read("3-"), read("-2"), beyond) == (b"23", b"45", b"45", b"45", "InvalidRange")


def _checks_the_owner(s3: Any, bucket: str) -> bool:
    _put(s3, bucket, "k")
    owner = {"ExpectedBucketOwner": "999999999999"}
    found = (
        code_of(s3.put_object, Bucket=bucket, Key="k", Body=b"1", **owner),
        code_of(s3.get_object, Bucket=bucket, Key="k", **owner),
        code_of(s3.list_objects_v2, Bucket=bucket, **owner),
        code_of(s3.head_bucket, Bucket=bucket, **owner),
    )
    return found == ("AccessDenied", "AccessDenied", "AccessDenied", "403")


def _names_what_is_missing(s3: Any, bucket: str) -> bool:
    found = (
        code_of(s3.get_object, Bucket=bucket, Key="k"),
        code_of(s3.head_object, Bucket=bucket, Key="k"),
        code_of(s3.list_objects_v2, Bucket=f"{bucket}-missing"),
        code_of(s3.head_bucket, Bucket=f"{bucket}-missing"),
        code_of(s3.delete_object, Bucket=bucket, Key="k"),
    )
    return found == ("NoSuchKey", "404", "NoSuchBucket", "404", "")


def _keeps_encoded_content(s3: Any, bucket: str) -> bool:
    s3.put_object(Bucket=bucket, Key="k", Body=b"\x1f\x8bno gzip", ContentEncoding="gzip")
    found = s3.get_object(Bucket=bucket, Key="k")
    return found["Body"].read() == b"\x1f\x8bno gzip" and found["ContentEncoding"] == "gzip"


def _deletes_many(s3: Any, bucket: str) -> bool:
    _put(s3, bucket, "a", "b/c", "d e")
    deleted = s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": key} for key in ("a", "b/c", "d e", "missing")]}
    )
    return "Errors" not in deleted and _keys(s3, Bucket=bucket) == []


PROBES: Final[dict[str, Probe]] = {
    "listings are sorted by the bytes of the keys": _lists_in_order,
    "listings of Firehose's folders are sorted, in pages, from any start key": _lists_hours,
    "listings of one level": _lists_one_level,
    "unusual characters in keys": _keeps_names,
    "a backslash in keys": _keeps_backslashes,
    "control characters in keys": _keeps_control_characters,
    "`.` as a segment of a key": _keeps_dots,
    "`a//b` and `a/b` are two objects": _keeps_double_slashes,
    "an object whose key ends with `/` has content": _keeps_folder_objects,
    "a write that must create the object (`If-None-Match: *`)": _creates_once,
    "a write that must replace one version (`If-Match`)": _replaces_what_was_read,
    "a read of one version (`If-Match`)": _reads_one_version,
    "a wrong CRC-32 is refused": _refuses_a_wrong_crc,
    "a wrong MD5 is refused": _refuses_a_wrong_md5,
    "multipart uploads": _joins_parts,
    "reads of ranges": _reads_ranges,
    "the expected owner of a bucket is checked": _checks_the_owner,
    "error codes for missing objects and buckets": _names_what_is_missing,
    "content with `Content-Encoding` is returned unchanged": _keeps_encoded_content,
    "deletion of many objects": _deletes_many,
}
"""The questions, as the guide lists them."""
