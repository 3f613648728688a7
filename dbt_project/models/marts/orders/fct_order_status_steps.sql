with versions as (
    select
        *,
        {{ ddb_lake.since('_valid_from') }} as _since,
        lag(status) over (partition by customer, order_id order by {{ ddb_lake.since('_valid_from') }}) as _status_before,
        lag(_valid_to) over (partition by customer, order_id order by {{ ddb_lake.since('_valid_from') }}) as _ended_before
    from {{ ref('dim_orders_history') }}
),

numbered as (
    select
        *,
        sum(case when _valid_from = _ended_before and status is not distinct from _status_before then 0 else 1 end)
            over (
                partition by customer, order_id order by _since rows between unbounded preceding and current row
            ) as _step
    from versions
),

stays as (
    select *, row_number() over (partition by customer, order_id, _step order by _since desc) as _from_last
    from numbered
),

steps as (
    select
        customer,
        order_id,
        min(status) as status,
        nullif(min(_since), {{ ddb_lake.since('null') }}) as entered_at,
        max(case when _from_last = 1 then _valid_to end) as left_at,
        max(case when _from_last = 1 then _ended_by end) as left_by
    from stays
    group by customer, order_id, _step
)

select
    customer,
    order_id,
    status,
    entered_at,
    left_at,
    cast({{ ddb_lake.seconds_between('entered_at', 'left_at') }} as double) as seconds,
    left_by
from steps
