with payloads as (
    select page_id, activity_dt, {{ valid_json('payload') }} as payload
    from {{ ref('stg_web_analytics') }}
)

select
    page_id,
    {{ iso_timestamp('activity_dt') }} as activity_at,
    activity_dt,
    {{ typed_value(json_text('payload', ['Hits']), 'N', 'long') }} as hits,
    {{ json_text('payload', ['device', 'location', 'country']) }} as country,
    {{ json_text('payload', ['device', 'make']) }} as make,
    {{ json_text('payload', ['device', 'platform', 'name']) }} as platform,
    {{ json_text('payload', ['device', 'platform', 'version']) }} as platform_version,
    {{ json_text('payload', ['session', 'session_id']) }} as session_id,
    {{ iso_timestamp(json_text('payload', ['session', 'start_timestamp'])) }} as session_started_at,
    {{ iso_timestamp(json_text('payload', ['session', 'stop_timestamp'])) }} as session_stopped_at,
    payload is not null as is_valid
from payloads
