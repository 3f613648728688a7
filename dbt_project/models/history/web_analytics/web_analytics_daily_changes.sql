-- Written by `ddb-lake init-dbt`: run it again when the table has new columns.
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='append_new_columns',
    pre_hook="{{ forget_touched_days(ref('stg_web_analytics_changes')) }}"
) }}
{{ item_daily_changes(ref('stg_web_analytics_changes')) }}
