{#- No two rows have the same values in `columns`. -#}
{% test unique_together(model, columns) %}
select {{ quoted(columns) | join(', ') }}, count(*) as _how_often
from {{ model }}
group by {{ quoted(columns) | join(', ') }}
having count(*) > 1
{% endtest %}
