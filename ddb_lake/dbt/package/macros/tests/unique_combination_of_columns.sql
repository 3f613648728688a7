{#- No two rows have the same values in `combination_of_columns`. The name and its argument are those that dbt knows for keys of
    several columns. -#}
{% test unique_combination_of_columns(model, combination_of_columns) %}
select {{ ddb_lake.quoted(combination_of_columns) | join(', ') }}, count(*) as _how_often
from {{ model }}
group by {{ ddb_lake.quoted(combination_of_columns) | join(', ') }}
having count(*) > 1
{% endtest %}
