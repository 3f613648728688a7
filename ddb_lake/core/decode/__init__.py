"""Decode the bytes of a landed object into change records. `objects.read_object` is the entry point.

Terms, each with one meaning in this package:

- *object*: a landed object, the bytes of one file or S3 object. A *JSON object* is always called so.
- *container*: bytes around other bytes, such as gzip, zip, Snappy, zstd, UTF-16 or base64 (`compression`).
- *aggregate*: several records that the Kinesis Producer Library packed into one Kinesis record (`kpl`).
- *segment*: one JSON object cut out of the bytes of an object, or a run of bytes that is none, *garbage* (`splitter`).
- *envelope*: a JSON object that delivers change records: a record form or a wrapper (`shapes`, `envelopes`).
- *record form*: an envelope that is one record: a *captured record* as DynamoDB writes it (`captures`), a *flattened record*
  (`flattened`), or a line of an export or a repair (`export_lines`).
- *wrapper*: an envelope in which a service delivers other envelopes; each thing that it holds is a *payload* (`shapes`).
- *arrival*: when and where a record reached Kinesis or Firehose; the *arrival stamp* is its form inside a record (`arrival_stamp`).
- *outcome*: a ChangeRecord, or a Rejected with the bytes that could not be read (`core.values.change_record`).
- *fast path*: accept captured records without validation of their values; the caller validates them in batches (`fast_path`).

`routing` decides to which lake table a record belongs.
"""
