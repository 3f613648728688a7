-- Written by `ddb-lake init-dbt`: run it again when the table has new columns.
{{ config(
    materialized='incremental',
    incremental_strategy='merge' if target.type == 'athena' else 'delete+insert',
    unique_key='change_day',
    on_schema_change='append_new_columns'
) }}
{{ ddb_lake.item_daily_changes(ref('stg_lake__orders_changes')) }}
