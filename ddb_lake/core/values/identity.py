"""When two items are equal, and when two landed records are the same record, by their bytes."""

from __future__ import annotations

from hashlib import blake2b

import orjson

from ddb_lake.core.values.attributes import canonical_item, canonical_text, with_sorted_sets
from ddb_lake.core.values.change_record import ChangeRecord, Item, Texts


def canonical_json(item: Item) -> bytes:
    """JSON of the canonical form of a checked item, with sorted names: equal items, and only they, have equal bytes."""
    text = canonical_text(orjson.dumps(item, option=orjson.OPT_SORT_KEYS))
    return orjson.dumps(canonical_item(item), option=orjson.OPT_SORT_KEYS) if text is None else text


def record_id(record: ChangeRecord) -> bytes:
    """16 bytes that are equal for two landings of one record, and differ for different records.

    Delivery is at least once: Kinesis, Firehose and retries repeat a record with the same eventID. But the ID alone
    does not identify: fixtures and hand-made records use "1" over and over, and a record that was dropped as
    a duplicate would be lost. So the content is included in its canonical form: event, time, keys, both
    images, the Streams sequence number and, for an assertion, its asserted time. Two different records
    are then both kept, and true duplicates are equal in all parts.

    The transport is excluded: arrival, shard, table and the TTL mark. The Kinesis sequence number is included only
    if there is no eventID: two equal records without one are two puts to the stream, and may be one change or two.
    """
    text = canonical_text(_text(record, record.keys, record.new_image, record.old_image))
    if text is None:
        text = _text(
            record, *(item and canonical_item(item) for item in (record.keys, record.new_image, record.old_image))
        )
    return blake2b(text, digest_size=16).digest()


def record_id_of_texts(record: ChangeRecord, texts: Texts) -> bytes | None:
    """The `record_id` of a record of the fast path; None if its texts are certainly not canonical.

    It is right if the texts match the canonical patterns (`core.decode.fast_path`). It is computed from the texts alone.
    """
    keys, new_image, old_image = texts
    fields = orjson.dumps(_fields(record))
    items = with_sorted_sets(b"%b,%b,%b]" % (keys, new_image or b"null", old_image or b"null"))
    return None if items is None else blake2b(b"%b,%b" % (fields[:-1], items), digest_size=16).digest()


def _text(record: ChangeRecord, keys: Item | None, new_image: Item | None, old_image: Item | None) -> bytes:
    """JSON of the parts of a record's identity, with sorted names. It is injective: an absent image differs from an empty one."""
    return orjson.dumps((*_fields(record), keys, new_image, old_image), option=orjson.OPT_SORT_KEYS)


def _fields(record: ChangeRecord) -> tuple[str | int | None, ...]:
    return (
        record.event_id,
        record.event_name,
        record.changed_us,
        record.sequence_number,
        record.asserted_us,
        record.kinesis_sequence if record.event_id is None else None,
    )
