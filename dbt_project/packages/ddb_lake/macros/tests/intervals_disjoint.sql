{#- The versions of an item follow each other: each ends before the next begins, and only the last may be open. -#}
{% test intervals_disjoint(model, key) %}
select *
from (
    select
        {{ ddb_lake.quoted(key) | join(', ') }},
        _valid_from,
        _valid_to,
        lead(_begin) over (partition by {{ ddb_lake.quoted(key) | join(', ') }} order by _begin) as _next_begin
    from (
        select *, coalesce(_valid_from, timestamp '0001-01-01 00:00:00') as _begin
        from {{ model }}
    ) begun
) versions
where _valid_from >= _valid_to or (_next_begin is not null and (_valid_to is null or _valid_to > _next_begin))
{% endtest %}
