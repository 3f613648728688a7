{#- Change records by the day (UTC) of the change. `changes`: the relation of the table's change records. -#}
{% macro item_daily_changes(changes) -%}
select
    cast(_changed_at as date) as change_day,
    cast(sum(case when _event = 'INSERT' then 1 else 0 end) as bigint) as inserts,
    cast(sum(case when _event = 'MODIFY' then 1 else 0 end) as bigint) as updates,
    cast(sum(case when _event = 'REMOVE' and not _is_ttl then 1 else 0 end) as bigint) as user_deletes,
    cast(sum(case when _event = 'REMOVE' and _is_ttl then 1 else 0 end) as bigint) as ttl_deletes,
    cast(count(distinct _key_hash) as bigint) as items,
    max(_batch) as _through_batch
from {{ changes }}
where _asserted_at is null
{%- if is_incremental() %}
    and cast(_changed_at as date) not in (select change_day from {{ this }})
{%- endif %}
group by cast(_changed_at as date)
{%- endmacro %}


{#- A hook before an incremental run: days with records that are not counted, late ones among them, are removed, and
    the run counts each day that is not there. -#}
{% macro forget_touched_days(changes) -%}
    {%- if is_incremental() -%}
    {%- set touched_days -%}
    change_day in (
        select t.change_day
        from {{ this }} t
        inner join (
            select cast(_changed_at as date) as change_day, max(_batch) as _last_batch
            from {{ changes }}
            where _asserted_at is null
            group by cast(_changed_at as date)
        ) c on c.change_day = t.change_day
        where c._last_batch > t._through_batch
    )
    {%- endset -%}
    {{ forget_rows(touched_days) }}
    {%- endif -%}
{%- endmacro %}
