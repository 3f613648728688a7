-- Written by `ddb-lake init-dbt`: run it again when the table has new columns.
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='append_new_columns',
    pre_hook="{{ forget_touched_items(ref('stg_orders_changes'), ref('stg_orders'), margin_s=300) }}"
) }}
{{ item_history(ref('stg_orders_changes'), ref('stg_orders'), ["customer", "order_id"], orders_columns(), margin_s=300) }}
