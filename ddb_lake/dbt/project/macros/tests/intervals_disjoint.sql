{#- The versions of an item follow each other: each ends before the next begins, and only the last may be open. -#}
{% test intervals_disjoint(model, key) %}
select *
from (
    select
        {{ quoted(key) | join(', ') }},
        _valid_from,
        _valid_to,
        lead(_valid_from) over (
            partition by {{ quoted(key) | join(', ') }} order by coalesce(_valid_from, timestamp '0001-01-01 00:00:00')
        ) as _next_from
    from {{ model }}
) versions
where _valid_from >= _valid_to or (_next_from is not null and (_valid_to is null or _valid_to > _next_from))
{% endtest %}
