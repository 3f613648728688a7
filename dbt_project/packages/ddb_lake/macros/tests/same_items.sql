{#- The existing items of a history are those of `other`, column by column. `columns` as in macros/tables. -#}
{% test same_items(model, other, columns) %}
{%- set names = [] %}
{%- for column in columns %}{% do names.append(ddb_lake.comparable(column, adapter.quote(column.name))) %}{% endfor %}
{%- set shown = names | join(', ') %}
(select {{ shown }} from {{ model }} where _is_current except select {{ shown }} from {{ other }})
union all
(select {{ shown }} from {{ other }} except select {{ shown }} from {{ model }} where _is_current)
{% endtest %}
