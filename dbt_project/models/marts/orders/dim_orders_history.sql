-- Written by `ddb-lake init-dbt`: run it again when the table has new columns.
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='append_new_columns',
    pre_hook="{{ ddb_lake.forget_touched_items(ref('stg_lake__orders_changes'), ref('stg_lake__orders'), margin_s=300) }}"
) }}
{{ ddb_lake.item_history(ref('stg_lake__orders_changes'), ref('stg_lake__orders'), ["customer", "order_id"], orders_columns(), margin_s=300) }}
