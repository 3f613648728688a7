-- Written by `ddb-lake init-dbt`: run it again when the table has new columns.
select
    record_id as _record_id,
    kind as _kind,
    event_name as _event,
    changed_at as _changed_at,
    asserted_at as _asserted_at,
    new_image as _new_image,
    old_image as _old_image,
    ttl as _is_ttl,
    sequence_number as _sequence_number,
    stream as _stream,
    kinesis_sequence as _kinesis_sequence,
    arrival_hour as _arrival_hour,
    _key_hash,
    _batch,
    {{ ddb_lake.item_column(web_analytics_columns()[0], 'keys') }} as "page_id",
    {{ ddb_lake.item_column(web_analytics_columns()[1], 'keys') }} as "activity_dt",
    {{- ddb_lake.item_columns(web_analytics_columns()[2:], 'new_image') }}
from {{ source('lake', 'web_analytics_changes') }}
