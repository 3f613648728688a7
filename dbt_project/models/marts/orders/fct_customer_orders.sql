with living as (
    select
        customer,
        count(*) as orders,
        sum(total) as total,
        max(placed_at) as last_placed_at
    from {{ ref('fct_orders') }}
    group by customer
),

ended as (
    select
        customer,
        sum(case when _ended_by = 'delete' then 1 else 0 end) as deleted,
        sum(case when _ended_by = 'ttl' then 1 else 0 end) as expired
    from {{ ref('dim_orders_history') }}
    group by customer
)

select
    e.customer,
    cast(coalesce(l.orders, 0) as bigint) as orders,
    cast(l.total as decimal(38, 2)) as total,
    l.last_placed_at,
    cast(e.deleted as bigint) as deleted,
    cast(e.expired as bigint) as expired
from ended e
left join living l on l.customer = e.customer
