select
    customer,
    order_id,
    status,
    {{ ddb_lake.iso_timestamp('placed_at') }} as placed_at,
    total,
    address__city as city,
    gift,
    cast(json_array_length(lines) as bigint) as lines,
    {{ ddb_lake.unix_timestamp('expires_at') }} as expires_at,
    _changed_at as changed_at
from {{ ref('stg_lake__orders') }}
