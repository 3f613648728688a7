{#- Written by `ddb-lake init-dbt`: run it again when the table has new columns.
    The columns of `web_analytics`: name, DynamoDB type, type, path of the attribute. -#}
{% macro web_analytics_columns() %}{{ return([
    {'name': "page_id", 'tag': "S", 'type': "string", 'path': ["page_id"]},
    {'name': "activity_dt", 'tag': "S", 'type': "string", 'path': ["activity_dt"]},
    {'name': "payload", 'tag': "S", 'type': "string", 'path': ["payload"]}
]) }}{% endmacro %}
