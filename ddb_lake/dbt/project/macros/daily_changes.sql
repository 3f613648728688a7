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
    and {{ touched_days(changes) }}
{%- endif %}
group by cast(_changed_at as date)
{%- endmacro %}


{#- Which days have new records; late ones may be of any day. -#}
{% macro touched_days(changes, day='cast(_changed_at as date)') -%}
{{ day }} in (
        select cast(_changed_at as date)
        from {{ changes }}
        where _batch > (select coalesce(max(_through_batch), -1) from {{ this }})
    )
{%- endmacro %}


{#- A hook before an incremental run: the days that are counted anew are forgotten first. -#}
{% macro forget_touched_days(changes) -%}
    {%- if is_incremental() -%}
    delete from {{ this }} where {{ touched_days(changes, 'change_day') }}
    {%- endif -%}
{%- endmacro %}
