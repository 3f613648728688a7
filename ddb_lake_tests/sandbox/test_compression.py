import gzip
import io
import struct
import zipfile

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.errors import ConfigError
from ddb_lake.sandbox.compression import compression


@pytest.mark.parametrize(
    ("name", "extension", "encoding"),
    [
        ("UNCOMPRESSED", "", None),
        ("NONE", "", None),
        ("GZIP", ".gz", "gzip"),
        ("ZIP", ".zip", "zip"),
        ("Snappy", ".snappy", "snappy-java"),
        ("HADOOP_SNAPPY", ".snappy", "hadoop-snappy"),
    ],
)
def test_compression_has_the_extension_and_encoding_of_firehose(
    name: str, extension: str, encoding: str | None
) -> None:
    found = compression(name)
    assert (found.extension, found.encoding) == (extension, encoding)


@given(st.binary(max_size=200), st.integers(0, 1000))
def test_gzip_zip_and_none_hold_the_data(seed: bytes, times: int) -> None:
    data = seed * times
    assert compression("NONE").compress(data) == data
    assert gzip.decompress(compression("GZIP").compress(data)) == data
    with zipfile.ZipFile(io.BytesIO(compression("ZIP").compress(data))) as archive:
        (name,) = archive.namelist()
        assert archive.read(name) == data


@given(st.binary(max_size=200), st.integers(0, 1000))
def test_snappy_is_snappy_javas_stream_of_blocks(seed: bytes, times: int) -> None:
    packed = compression("Snappy").compress(seed * times)
    assert packed[:16] == b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"
    at, data = 16, b""
    while at < len(packed):
        (length,) = struct.unpack_from(">I", packed, at)
        data += bytes(cramjam.snappy.decompress_raw(packed[at + 4 : at + 4 + length]))
        at += 4 + length
    assert data == seed * times


@given(st.binary(max_size=200), st.integers(0, 1000))
def test_hadoop_snappy_is_blocks_with_both_lengths(seed: bytes, times: int) -> None:
    packed = compression("HADOOP_SNAPPY").compress(seed * times)
    at, data = 0, b""
    while at < len(packed):
        whole, length = struct.unpack_from(">II", packed, at)
        block = bytes(cramjam.snappy.decompress_raw(packed[at + 8 : at + 8 + length]))
        assert len(block) == whole
        data += block
        at += 8 + length
    assert data == seed * times


def test_compression_of_another_name_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="SNAPPY"):
        compression("SNAPPY")
