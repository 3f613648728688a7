select
    session_id,
    min(session_started_at) as started_at,
    max(session_stopped_at) as stopped_at,
    cast({{ ddb_lake.seconds_between('min(session_started_at)', 'max(session_stopped_at)') }} as double) as seconds,
    min(country) as country,
    min(make) as make,
    min(platform) as platform,
    cast(count(distinct page_id) as bigint) as pages,
    cast(coalesce(sum(hits), 0) as bigint) as hits
from {{ ref('fct_web_clicks') }}
where session_id is not null
group by session_id
