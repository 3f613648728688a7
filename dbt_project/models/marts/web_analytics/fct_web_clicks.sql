with payloads as (
    select page_id, activity_dt, {{ ddb_lake.valid_json('payload') }} as payload
    from {{ ref('stg_lake__web_analytics') }}
)

select
    page_id,
    {{ ddb_lake.iso_timestamp('activity_dt') }} as activity_at,
    activity_dt,
    {{ ddb_lake.typed_value(ddb_lake.json_text('payload', ['Hits']), 'N', 'long') }} as hits,
    {{ ddb_lake.json_text('payload', ['device', 'location', 'country']) }} as country,
    {{ ddb_lake.json_text('payload', ['device', 'make']) }} as make,
    {{ ddb_lake.json_text('payload', ['device', 'platform', 'name']) }} as platform,
    {{ ddb_lake.json_text('payload', ['device', 'platform', 'version']) }} as platform_version,
    {{ ddb_lake.json_text('payload', ['session', 'session_id']) }} as session_id,
    {{ ddb_lake.iso_timestamp(ddb_lake.json_text('payload', ['session', 'start_timestamp'])) }} as session_started_at,
    {{ ddb_lake.iso_timestamp(ddb_lake.json_text('payload', ['session', 'stop_timestamp'])) }} as session_stopped_at,
    payload is not null as is_valid
from payloads
