select
    country,
    page_id,
    cast(count(*) as bigint) as activities,
    cast(coalesce(sum(hits), 0) as bigint) as hits,
    cast(count(distinct session_id) as bigint) as sessions
from {{ ref('fct_web_clicks') }}
where is_valid
group by country, page_id
