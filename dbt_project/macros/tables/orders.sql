{#- Written by `ddb-lake init-dbt`: run it again when the table has new columns.
    The columns of `orders`: name, DynamoDB type, type, path of the attribute. -#}
{% macro orders_columns() %}{{ return([
    {'name': "customer", 'tag': "S", 'type': "string", 'path': ["customer"]},
    {'name': "order_id", 'tag': "S", 'type': "string", 'path': ["order_id"]},
    {'name': "a_b", 'tag': "S", 'type': "string", 'path': ["a.b"]},
    {'name': "address__city", 'tag': "S", 'type': "string", 'path': ["address", "city"]},
    {'name': "address__geo__lat", 'tag': "N", 'type': "decimal(38,6)", 'path': ["address", "geo", "lat"]},
    {'name': "address__geo__lon", 'tag': "N", 'type': "decimal(38,6)", 'path': ["address", "geo", "lon"]},
    {'name': "address__street", 'tag': "S", 'type': "string", 'path': ["address", "street"]},
    {'name': "address__zip", 'tag': "S", 'type': "string", 'path': ["address", "zip"]},
    {'name': "coupons", 'tag': "NS", 'type': "list<decimal(38,1)>", 'path': ["coupons"]},
    {'name': "expires_at", 'tag': "N", 'type': "long", 'path': ["expires_at"]},
    {'name': "gift", 'tag': "BOOL", 'type': "boolean", 'path': ["gift"]},
    {'name': "lines", 'tag': "L", 'type': "json", 'path': ["lines"]},
    {'name': "note", 'tag': "S", 'type': "string", 'path': ["note"]},
    {'name': "placed_at", 'tag': "S", 'type': "string", 'path': ["placed_at"]},
    {'name': "quo_ted", 'tag': "BOOL", 'type': "boolean", 'path': ["quo\"ted"]},
    {'name': "seals", 'tag': "BS", 'type': "list<binary>", 'path': ["seals"]},
    {'name': "status", 'tag': "S", 'type': "string", 'path': ["status"]},
    {'name': "tags", 'tag': "SS", 'type': "list<string>", 'path': ["tags"]},
    {'name': "thumbnail", 'tag': "B", 'type': "binary", 'path': ["thumbnail"]},
    {'name': "total", 'tag': "N", 'type': "decimal(38,2)", 'path': ["total"]},
    {'name': "weight", 'tag': "N", 'type': "string", 'path': ["weight"]}
]) }}{% endmacro %}
