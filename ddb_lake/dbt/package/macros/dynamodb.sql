{#- Values of DynamoDB JSON as typed SQL, the same in DuckDB and in Athena.

    A path is the list of member names from the document down to the value, the type's tag last:
    ['address', 'M', 'city', 'S']. What a type does not hold is NULL; the image beside the columns has it. -#}

{% macro json_text(json, path) %}{{ return(adapter.dispatch('json_text', 'ddb_lake')(json, path)) }}{% endmacro %}

{% macro duckdb__json_text(json, path) -%}
    json_extract_string({{ json }}, {{ ddb_lake.sql_text(ddb_lake.json_pointer(path)) }})
{%- endmacro %}

{% macro athena__json_text(json, path) -%}
    json_extract_scalar({{ json }}, {{ ddb_lake.sql_text(ddb_lake.json_path(path)) }})
{%- endmacro %}


{% macro json_document(json, path) %}{{ return(adapter.dispatch('json_document', 'ddb_lake')(json, path)) }}{% endmacro %}

{% macro duckdb__json_document(json, path) -%}
    cast(json_extract({{ json }}, {{ ddb_lake.sql_text(ddb_lake.json_pointer(path)) }}) as varchar)
{%- endmacro %}

{% macro athena__json_document(json, path) -%}
    json_format(json_extract({{ json }}, {{ ddb_lake.sql_text(ddb_lake.json_path(path)) }}))
{%- endmacro %}


{#- The members of a set, each through `each`: a macro's text with {v} for the member. -#}
{% macro json_members(json, path, each, valid) %}
    {{- return(adapter.dispatch('json_members', 'ddb_lake')(json, path, each, valid)) }}
{% endmacro %}

{% macro duckdb__json_members(json, path, each, valid) -%}
    {%- set members = 'cast(json_extract(' ~ json ~ ', ' ~ ddb_lake.sql_text(ddb_lake.json_pointer(path)) ~ ') as varchar[])' -%}
    {%- if each == '{v}' -%}
    {{ members }}
    {%- else -%}
    case
        when coalesce(list_bool_and(list_transform({{ members }}, lambda v: {{ valid | replace('{v}', 'v') }})), true)
            then list_transform({{ members }}, lambda v: {{ each | replace('{v}', 'v') }})
    end
    {%- endif -%}
{%- endmacro %}

{% macro athena__json_members(json, path, each, valid) -%}
    {%- set members = 'cast(json_extract(' ~ json ~ ', ' ~ ddb_lake.sql_text(ddb_lake.json_path(path)) ~ ') as array(varchar))' -%}
    {%- if each == '{v}' -%}
    {{ members }}
    {%- else -%}
    case
        when all_match({{ members }}, v -> {{ valid | replace('{v}', 'v') }})
            then transform({{ members }}, v -> {{ each | replace('{v}', 'v') }})
    end
    {%- endif -%}
{%- endmacro %}


{#- One typed column out of an image. `column`: {name, tag, type, path} as in macros/tables; a column whose type is declared
    in the lake's configuration has `declared`: it takes values of other types too. -#}
{% macro item_column(column, image) -%}
    {%- set path = ddb_lake.value_path(column) -%}
    {%- if column.declared and column.type == 'json' -%}
    {{ ddb_lake.plain_json(ddb_lake.json_document(image, path[:-1])) }}
    {%- elif column.declared -%}
    coalesce(
        {%- for tag in ['S', 'N', 'BOOL', 'B'] -%}
        {{ ddb_lake.json_text(image, path[:-1] + [tag]) }}{{ ', ' if not loop.last }}
        {%- endfor -%}
    )
    {%- elif column.type.startswith('list<') -%}
    {%- set inner = column.type[5:-1] -%}
    {{ ddb_lake.json_members(image, path, ddb_lake.typed_value('{v}', column.tag[0], inner, checked=false), ddb_lake.valid_value('{v}', column.tag[0], inner)) }}
    {%- elif column.tag in ('L', 'M') -%}
    {{ ddb_lake.json_document(image, path) }}
    {%- else -%}
    {{ ddb_lake.typed_value(ddb_lake.json_text(image, path), column.tag, column.type) }}
    {%- endif -%}
{%- endmacro %}


{#- All columns of a table out of an image, with their names. -#}
{% macro item_columns(columns, image) -%}
    {%- for column in columns %}
    {{ ddb_lake.item_column(column, image) }} as {{ adapter.quote(column.name) }}{{ ',' if not loop.last }}
    {%- endfor %}
{%- endmacro %}


{#- A value's text as its type; NULL if the type does not hold it exactly. -#}
{% macro typed_value(text, tag, type, checked=true) -%}
    {%- if tag == 'BOOL' -%}
    ({{ text }} = 'true')
    {%- elif tag == 'S' or type == 'string' -%}
    {{ text }}
    {%- elif type == 'double' -%}
    try_cast({{ text }} as double)
    {%- elif tag == 'N' and checked -%}
    {{ ddb_lake.exact_number(text, type) }}
    {%- elif tag == 'N' -%}
    try_cast({{ text }} as {{ 'bigint' if type == 'long' else type }})
    {%- elif checked -%}
    case when {{ ddb_lake.valid_value(text, tag, type) }} then from_base64({{ text }}) end
    {%- else -%}
    from_base64({{ text }})
    {%- endif -%}
{%- endmacro %}


{#- Whether a type holds a value. A set's numbers must be in their one spelling: the lake's column is NULL otherwise. -#}
{% macro valid_value(text, tag, type) -%}
    {%- if tag == 'B' -%}
    {{ ddb_lake.matches(text, '([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?') }}
    {%- elif tag == 'N' and type not in ('string', 'double') -%}
    {%- set whole, scale = ddb_lake.number_digits(type) -%}
    {%- set digits = '(0|[1-9][0-9]{0,' ~ (whole - 1) ~ '})' if whole else '0' -%}
    {%- set decimals = '([.][0-9]{0,' ~ (scale - 1) ~ '}[1-9])?' if scale else '' -%}
    ({{ ddb_lake.matches(text, '-?' ~ digits ~ decimals) }} and {{ text }} <> '-0' and {{ ddb_lake.typed_value(text, tag, type, checked=false) }} is not null)
    {%- else -%}
    {{ text }} is not null
    {%- endif -%}
{%- endmacro %}


{#- A number in any spelling (`1E+2`, `.5`, `007`) as an integer or a decimal; NULL if that does not hold all digits.

    Casts round, so the digits are laid out first: d are the digits from the first one that is not 0, p the place of the
    decimal point after them. With zeros on both sides the point is put where it belongs, and what fits is cut out. A
    point further away than 38 digits is put where nothing fits but zero. -#}
{% macro exact_number(text, type) -%}
    {%- set sql_type = 'bigint' if type == 'long' else type -%}
    {%- set whole, scale = ddb_lake.number_digits(type) -%}
    {%- set digits = '[0-9]{1,' ~ whole ~ '}' if whole else '0' -%}
    {%- set decimals = '[.][0-9]{1,' ~ scale ~ '}' -%}
    {%- set plain = '-?' ~ digits ~ ('(' ~ decimals ~ ')?' if scale else '') -%}
    {%- set fitting = '^0*(' ~ digits ~ (decimals ~ ')' if scale else ')[.]') ~ '0*$' -%}
    {%- set padded = "rpad('', 39, '0') || d || rpad('', 40, '0')" -%}
    {%- set pointed = 'substr(' ~ padded ~ ', 1, 39 + p) || \'.\' || substr(' ~ padded ~ ', 40 + p)' -%}
    {%- set sign = "case when n like '-%' then '-' else '' end" -%}
    {%- set number -%}
    try_cast({{ sign }} || {{ ddb_lake.first_group(pointed, fitting) }} as {{ sql_type }})
    {%- endset -%}
    {%- set fraction = ddb_lake.without('n', '^[^.]*[.]?|[eE].*') -%}
    {%- set exponent = 'coalesce(try_cast(' ~ ddb_lake.without('n', '^[^eE]*[eE]?[+]?') ~ ' as integer), 0)' -%}
    {%- set point = 'greatest(-38, least(39, length(d) - length(' ~ fraction ~ ') + ' ~ exponent ~ '))' -%}
    {%- set laid_out = ddb_lake.let('d', ddb_lake.without('n', '^[+-]?[0.]*|[.]|[eE].*'), ddb_lake.let('p', point, number)) -%}
    {%- set plain_number = 'try_cast(n as ' ~ sql_type ~ ')' -%}
    {{ ddb_lake.let('n', text, 'case when ' ~ ddb_lake.matches('n', plain) ~ ' then ' ~ plain_number ~ ' else ' ~ laid_out ~ ' end') }}
{%- endmacro %}


{#- The most digits before and after a number's point. -#}
{% macro number_digits(type) -%}
    {%- set scale = 0 if type == 'long' else type[:-1].split(',')[1] | int -%}
    {{ return((19 if type == 'long' else (type[8:].split(',')[0] | int) - scale, scale)) }}
{%- endmacro %}


{#- An expression in which a name has a value that is computed once. -#}
{% macro let(name, value, expression) %}{{ return(adapter.dispatch('let', 'ddb_lake')(name, value, expression)) }}{% endmacro %}

{% macro duckdb__let(name, value, expression) -%}
    list_transform([{{ value }}], lambda {{ name }}: {{ expression }})[1]
{%- endmacro %}

{% macro athena__let(name, value, expression) -%}
    transform(array[{{ value }}], {{ name }} -> {{ expression }})[1]
{%- endmacro %}


{#- A text without everything that matches a pattern. -#}
{% macro without(text, pattern) %}{{ return(adapter.dispatch('without', 'ddb_lake')(text, pattern)) }}{% endmacro %}

{% macro duckdb__without(text, pattern) -%} regexp_replace({{ text }}, {{ ddb_lake.sql_text(pattern) }}, '', 'g') {%- endmacro %}

{% macro athena__without(text, pattern) -%} regexp_replace({{ text }}, {{ ddb_lake.sql_text(pattern) }}, '') {%- endmacro %}


{#- What a pattern's group matches; NULL if the text does not match. -#}
{% macro first_group(text, pattern) -%}
    nullif(regexp_extract({{ text }}, {{ ddb_lake.sql_text(pattern) }}, 1), '')
{%- endmacro %}


{% macro matches(text, pattern) %}{{ return(adapter.dispatch('matches', 'ddb_lake')(text, pattern)) }}{% endmacro %}

{% macro duckdb__matches(text, pattern) -%}
    regexp_full_match({{ text }}, {{ ddb_lake.sql_text(pattern) }})
{%- endmacro %}

{% macro athena__matches(text, pattern) -%}
    regexp_like({{ text }}, {{ ddb_lake.sql_text('^(?:' ~ pattern ~ ')$') }})
{%- endmacro %}


{#- One text for all spellings of an image: the order of attributes means nothing. On DuckDB the order of a set's
    members does not either; the lake's plugin brings its own function. -#}
{% macro canonical_image(image) %}{{ return(adapter.dispatch('canonical_image', 'ddb_lake')(image)) }}{% endmacro %}

{% macro duckdb__canonical_image(image) -%} ddb_canonical_image({{ image }}) {%- endmacro %}

{% macro athena__canonical_image(image) -%} json_format(json_parse({{ image }})) {%- endmacro %}


{#- One text for all spellings of a JSON document. -#}
{% macro canonical_document(json) %}{{ return(adapter.dispatch('canonical_document', 'ddb_lake')(json)) }}{% endmacro %}

{% macro duckdb__canonical_document(json) -%} ddb_canonical_document({{ json }}) {%- endmacro %}

{% macro athena__canonical_document(json) -%} json_format(json_parse({{ json }})) {%- endmacro %}


{#- A value of DynamoDB JSON as plain JSON. On Athena, which has no function for it, the document stays as it is. -#}
{% macro plain_json(json) %}{{ return(adapter.dispatch('plain_json', 'ddb_lake')(json)) }}{% endmacro %}

{% macro duckdb__plain_json(json) -%} ddb_plain_document({{ json }}) {%- endmacro %}

{% macro athena__plain_json(json) -%} {{ json }} {%- endmacro %}


{#- An ISO 8601 text with an offset as a UTC timestamp; NULL if it is none. -#}
{% macro iso_timestamp(text) %}{{ return(adapter.dispatch('iso_timestamp', 'ddb_lake')(text)) }}{% endmacro %}

{% macro duckdb__iso_timestamp(text) -%} try_cast({{ text }} as timestamp) {%- endmacro %}

{% macro athena__iso_timestamp(text) -%}
    cast(at_timezone(try(from_iso8601_timestamp_nanos(replace({{ text }}, ' ', 'T'))), 'UTC') as timestamp(6))
{%- endmacro %}


{#- The seconds between two timestamps, with their fraction. -#}
{% macro seconds_between(first, last) %}{{ return(adapter.dispatch('seconds_between', 'ddb_lake')(first, last)) }}{% endmacro %}

{% macro duckdb__seconds_between(first, last) -%}
    (epoch_us({{ last }}) - epoch_us({{ first }})) / 1000000.0
{%- endmacro %}

{#- to_unixtime gives a double, which has no room for microseconds. -#}
{% macro athena__seconds_between(first, last) -%}
    (
        date_diff('second', date_trunc('second', {{ first }}), date_trunc('second', {{ last }})) * 1000000
        + {{ ddb_lake.microseconds_of(last) }} - {{ ddb_lake.microseconds_of(first) }}
    ) / 1e6
{%- endmacro %}

{% macro microseconds_of(timestamp) -%}
    cast(rpad(substr(cast({{ timestamp }} as varchar), 21, 6), 6, '0') as bigint)
{%- endmacro %}


{#- Unix seconds as a UTC timestamp. -#}
{% macro unix_timestamp(seconds) %}{{ return(adapter.dispatch('unix_timestamp', 'ddb_lake')(seconds)) }}{% endmacro %}

{% macro duckdb__unix_timestamp(seconds) -%} make_timestamp({{ seconds }} * 1000000) {%- endmacro %}

{% macro athena__unix_timestamp(seconds) -%}
    cast(at_timezone(from_unixtime({{ seconds }}), 'UTC') as timestamp(6))
{%- endmacro %}


{#- A JSON document that people wrote, or NULL if the text is none. -#}
{% macro valid_json(text) %}{{ return(adapter.dispatch('valid_json', 'ddb_lake')(text)) }}{% endmacro %}

{% macro duckdb__valid_json(text) -%} case when json_valid({{ text }}) then {{ text }} end {%- endmacro %}

{% macro athena__valid_json(text) -%} case when try(json_parse({{ text }})) is not null then {{ text }} end {%- endmacro %}


{% macro value_path(column) -%}
    {%- set path = [] -%}
    {%- for name in column.path -%}
    {%- if not loop.first %}{% do path.append('M') %}{% endif -%}
    {%- do path.append(name) -%}
    {%- endfor -%}
    {%- do path.append(column.tag) -%}
    {{ return(path) }}
{%- endmacro %}

{% macro json_pointer(path) -%}
    {%- set parts = [] -%}
    {%- for name in path %}{% do parts.append('/' ~ (name | replace('~', '~0') | replace('/', '~1'))) %}{% endfor -%}
    {{ return(parts | join('')) }}
{%- endmacro %}

{% macro json_path(path) -%}
    {%- set parts = ['$'] -%}
    {%- for name in path %}{% do parts.append('["' ~ (name | replace('\\', '\\\\') | replace('"', '\\"')) ~ '"]') %}{% endfor -%}
    {{ return(parts | join('')) }}
{%- endmacro %}

{#- A text as SQL. No literal of DuckDB can have a NUL. -#}
{% macro sql_text(text) -%}
    {%- set parts = [] -%}
    {%- for part in text.split('\x00') %}{% do parts.append("'" ~ (part | replace("'", "''")) ~ "'") %}{% endfor -%}
    {{ return(parts[0] if parts | length == 1 else '(' ~ (parts | join(' || chr(0) || ')) ~ ')') }}
{%- endmacro %}
