{#- Change records by the day (UTC) of the change. `changes`: the relation of the table's change records. An incremental run
    counts the days that are new, and those with records that are not counted, late ones among them. -#}
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
    and cast(_changed_at as date) in (
        select cast(c._changed_at as date)
        from {{ changes }} c
        left join {{ this }} t on t.change_day = cast(c._changed_at as date)
        where c._asserted_at is null and (t.change_day is null or c._batch > t._through_batch)
    )
{%- endif %}
group by cast(_changed_at as date)
{%- endmacro %}
