"""How changes are captured: what a reader has read, what was not captured, and what is read next. Pure.

- *shard*, *stream*: as in DynamoDB Streams. A *position* says how far one was read; a *lineage* has the position of each shard of
  a stream; a *checkpoint* is stored between runs and has the position in each stream of a table (`shards`, `checkpoints`).
- *gap*: a time range from which change records may be missing (`gaps`).
- *window*: the time range of one incremental export (`export_windows`).
- *sign*: one observation about whether the capture works (`health`).
- `stream_lines`, `firehose_records` and `dynamodb_copies` are the forms in which captured records are passed on.
"""
