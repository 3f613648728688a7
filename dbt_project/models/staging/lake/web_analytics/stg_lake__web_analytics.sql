-- Written by `ddb-lake init-dbt`: run it again when the table has new columns.
select
    "page_id",
    "activity_dt",
    "payload",
    _changed_at,
    _source,
    _rescued,
    _key_hash
from {{ source('lake', 'web_analytics') }}
