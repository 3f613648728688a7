-- Written by `ddb-lake init-dbt`: run it again when the table has new columns.
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='append_new_columns',
    pre_hook="{{ forget_touched_items(ref('stg_web_analytics_changes'), ref('stg_web_analytics'), margin_s=300) }}"
) }}
{{ item_history(ref('stg_web_analytics_changes'), ref('stg_web_analytics'), ["page_id", "activity_dt"], web_analytics_columns(), margin_s=300) }}
