"""The Athena table over what Firehose delivered: one row for each record, with partition projection over the hours of arrival.

Athena computes the partitions of a query from the table's properties, so no partition is ever added to the catalog.
https://docs.aws.amazon.com/athena/latest/ug/partition-projection-kinesis-firehose-example.html

`envelope`: one column, `record`, with the JSON text of the record; names in it keep their case.
https://docs.aws.amazon.com/athena/latest/ug/lazy-simple-serde.html
`flatten`: a column for each attribute, as text, by the JSON SerDe.
https://docs.aws.amazon.com/athena/latest/ug/openx-json-serde.html

Both read a record on each line, as our transform function and Firehose's `AppendDelimiterToRecord` deliver it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from ddb_lake.core.layout.firehose_paths import DEFAULT_LAYOUT

LandingForm: TypeAlias = Literal["envelope", "flatten"]

PARTITION: Final = "datehour"
"""The partition column: the hour of arrival in UTC, as `yyyy/MM/dd/HH`."""

DEFAULT_SINCE: Final = datetime(2024, 1, 1)
"""The first hour that the table has, by default."""

_FLATTENED_NAMES: Final = ("Event", "ingestion_timestamp", "_ddb_lake")
_HOUR: Final = "%Y/%m/%d/%H"
_TEXT_SERDE: Final = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"
_JSON_SERDE: Final = "org.openx.data.jsonserde.JsonSerDe"
_INPUT: Final = "org.apache.hadoop.mapred.TextInputFormat"
_OUTPUT: Final = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat"


@dataclass(frozen=True, slots=True)
class LandingTable:
    """A table over landed objects.

    Attributes:
        name: its name in the catalog.
        uri: Firehose's prefix without expressions, `s3://bucket/prefix/`. Firehose appends the hour to it, as it stands.
        form: what the records are.
        members: for `flatten`, the members of records, as `core.decode.flattened` names them.
        since: the first hour (inclusive, UTC).
    """

    name: str
    uri: str
    form: LandingForm = "envelope"
    members: Sequence[str] = ()
    since: datetime = DEFAULT_SINCE

    @property
    def location(self) -> str:
        """The folder of the table: the prefix up to its last slash."""
        return self.uri[: self.uri.rindex("/") + 1]

    @property
    def columns(self) -> dict[str, str]:
        """The member of each column; for `envelope`, `record` alone.

        Names are in lower case, because those of Athena are. A member whose column another member has is left out.
        """
        if self.form == "envelope":
            return {"record": "record"}
        found: dict[str, str] = {}
        for member in dict.fromkeys((*_FLATTENED_NAMES, *self.members)):
            found.setdefault(column_name(member), member)
        return found

    @property
    def left_out(self) -> list[str]:
        """The members that have no column, because another one has its name in lower case, or a partition has it."""
        kept = set(self.columns.values())
        return (
            [] if self.form == "envelope" else [member for member in dict.fromkeys(self.members) if member not in kept]
        )

    @property
    def properties(self) -> dict[str, str]:
        """The table properties, with the projection of the partitions."""
        return {
            "EXTERNAL": "TRUE",
            "projection.enabled": "true",
            f"projection.{PARTITION}.type": "date",
            f"projection.{PARTITION}.format": DEFAULT_LAYOUT.rstrip("/"),
            f"projection.{PARTITION}.range": f"{self.since:{_HOUR}},NOW",
            f"projection.{PARTITION}.interval": "1",
            f"projection.{PARTITION}.interval.unit": "HOURS",
            "storage.location.template": f"{self.uri}${{{PARTITION}}}/",
        }

    @property
    def serde(self) -> tuple[str, dict[str, str]]:
        """The SerDe and its properties.

        The SerDe of text splits a line at its default, the control character 1, which JSON text does not have as it stands.
        """
        if self.form == "envelope":
            return _TEXT_SERDE, {"serialization.format": "1"}
        mapped = {f"mapping.{column}": member for column, member in self.columns.items() if column != member}
        return _JSON_SERDE, {"case.insensitive": "false", **mapped}

    def sql(self, database: str) -> str:
        """The statement for Athena that creates the table."""
        columns = ",\n".join(f"  `{column}` string" for column in self.columns)
        serde, settings = self.serde
        properties = {name: value for name, value in self.properties.items() if name != "EXTERNAL"}
        return (
            f"CREATE EXTERNAL TABLE IF NOT EXISTS `{database}`.`{self.name}` (\n{columns}\n)\n"
            f"PARTITIONED BY (`{PARTITION}` string)\n"
            f"ROW FORMAT SERDE '{serde}'\nWITH SERDEPROPERTIES (\n{_assignments(settings)}\n)\n"
            f"STORED AS INPUTFORMAT '{_INPUT}' OUTPUTFORMAT '{_OUTPUT}'\n"
            f"LOCATION '{_quoted(self.location)}'\n"
            f"TBLPROPERTIES (\n{_assignments(properties)}\n)"
        )

    def table_input(self) -> dict[str, Any]:
        """The `TableInput` of Glue's CreateTable.

        https://docs.aws.amazon.com/glue/latest/webapi/API_TableInput.html
        """
        serde, settings = self.serde
        return {
            "Name": self.name,
            "TableType": "EXTERNAL_TABLE",
            "Parameters": self.properties,
            "PartitionKeys": [{"Name": PARTITION, "Type": "string"}],
            "StorageDescriptor": {
                "Columns": [{"Name": column, "Type": "string"} for column in self.columns],
                "Location": self.location,
                "InputFormat": _INPUT,
                "OutputFormat": _OUTPUT,
                "SerdeInfo": {"SerializationLibrary": serde, "Parameters": settings},
            },
        }


def column_name(member: str) -> str:
    """The column of a member: lower case, with `_` for all characters but letters and digits; never the partition's name."""
    name = re.sub(r"[^a-z0-9_]", "_", member.lower())
    return f"{name}_" if name == PARTITION else name


def _assignments(values: Mapping[str, str]) -> str:
    return ",\n".join(f"  '{_quoted(name)}' = '{_quoted(value)}'" for name, value in values.items())


def _quoted(text: str) -> str:
    """A text within single quotes of Hive's DDL."""
    return text.replace("\\", "\\\\").replace("'", "\\'")
