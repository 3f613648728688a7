{#- The statement of a hook before an incremental run: it removes the rows of the model that `condition` selects, and
    the run writes those that are missing. If the model's columns have changed since the last build it removes all
    rows, so that the run writes the new columns of old rows too, as a build with `--full-refresh` does. -#}
{% macro forget_rows(condition) -%}
    {%- if not ddb_lake.has_columns_of_model() -%}
    {{ ddb_lake.forget_all_rows() }}
    {%- else -%}
    delete from {{ this }} where {{ condition }}
    {%- endif -%}
{%- endmacro %}


{#- Whether the table of the last build has the columns that the model's properties name. -#}
{% macro has_columns_of_model() %}{{ return(adapter.dispatch('has_columns_of_model', 'ddb_lake')()) }}{% endmacro %}

{% macro duckdb__has_columns_of_model() %}
    {%- set built = run_query('describe ' ~ this) -%}
    {%- set wanted = run_query('describe ' ~ get_empty_schema_sql(model.columns)) -%}
    {%- set same = built.columns[0].values() == wanted.columns[0].values() -%}
    {{ return(same and built.columns[1].values() == wanted.columns[1].values()) }}
{% endmacro %}

{#- Columns are only added there: the engine's spelling of a type is another than ours, and a column that the model
    no longer has stays in the table. -#}
{% macro athena__has_columns_of_model() %}
    {%- set built = adapter.get_columns_in_relation(this) | map(attribute='name') | map('lower') | list -%}
    {%- set missing = model.columns.values() | map(attribute='name') | map('lower') | reject('in', built) | list -%}
    {{ return(missing == []) }}
{% endmacro %}


{% macro forget_all_rows() %}{{ return(adapter.dispatch('forget_all_rows', 'ddb_lake')()) }}{% endmacro %}

{#- DuckDB cannot commit a transaction that deletes rows of a table and then adds a column to it. -#}
{% macro duckdb__forget_all_rows() %}
    {{- return('create or replace table ' ~ this ~ ' ' ~ get_table_columns_and_constraints()) -}}
{% endmacro %}

{% macro athena__forget_all_rows() %}{{ return('delete from ' ~ this) }}{% endmacro %}
