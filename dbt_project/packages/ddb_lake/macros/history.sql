{#- The history of a table's items as a slowly changing dimension of type 2: one row for each image an item had for
    at least a microsecond, from `_valid_from` (inclusive) to `_valid_to` (exclusive).

    The order is the lake's own (section "Order" of its architecture):
    - within one DynamoDB stream the sequence number goes before time, elsewhere the time of the change decides;
    - of several changes of one instant the trail of images before and after them says which is the last, then the
      Kinesis sequence number, then the record's id;
    - a line of an incremental export stands at its write's time, or at its window's end less the margin;
    - the newest full export says what the items are, wherever the change records say otherwise or nothing.
    What leaves an item as it was begins no version.

    `changes`, `current`: the relations of the two staging models; `keys`: the key's columns; `columns`: the table's
    columns as in macros/tables; `margin_s`: the table's `snapshot_margin` in seconds. -#}
{% macro item_history(changes, current, keys, columns, margin_s=300) -%}
{%- set key = ['_key_hash'] + ddb_lake.quoted(keys) -%}
{%- set by_key = key | join(', ') -%}
{%- set names = ddb_lake.quoted(columns | map(attribute='name')) -%}
{%- set margin = "interval '" ~ margin_s ~ "' second" -%}
with records as (
    select
        {{ by_key }},
        _record_id, _event, _changed_at, _asserted_at, _new_image, _old_image, _is_ttl, _stream, _kinesis_sequence,
        case
            when _asserted_at is null or _changed_at >= _asserted_at - {{ margin }} then _changed_at
            else _asserted_at - {{ margin }}
        end as _stands_at,
        _event not in ('REMOVE', 'DELETE') as _living,
        trim(leading '0' from _sequence_number) as _sequence
    from {{ ddb_lake.told(changes, changes, current) }} r
),

timed as (
    select
        *,
        case
            when _sequence is null then _stands_at
            else max(_stands_at) over (
                partition by {{ by_key }}, _stream, _sequence is null
                order by length(_sequence), _sequence, _stands_at, _record_id
                rows between unbounded preceding and current row
            )
        end as _held_from
    from records
),

grouped as (
    select
        *,
        count(*) over (partition by {{ by_key }}, _held_from) as _in_instant,
        count(_asserted_at) over (partition by {{ by_key }}, _held_from) as _assertions,
        row_number() over (
            partition by {{ by_key }}, _held_from, _stream, _sequence is null
            order by length(_sequence) desc, _sequence desc, _stands_at desc, _record_id desc
        ) as _from_last
    from timed
),

tied as (
    select
        *,
        case when _living then {{ ddb_lake.canonical_image('_new_image') }} else '' end as _after,
        case when _event = 'INSERT' then '' else {{ ddb_lake.canonical_image('_old_image') }} end as _before
    from grouped
    where _in_instant > 1 and _assertions = 0
),

steps as (
    select {{ by_key }}, _held_from, _after as _image, 1 as _step from tied
    union all
    select {{ by_key }}, _held_from, _before as _image, -1 as _step from tied where _before is not null
),

trail_points as (
    select {{ by_key }}, _held_from, _image, sum(_step) as _balance
    from steps
    group by {{ by_key }}, _held_from, _image
),

trails as (
    select {{ by_key }}, _held_from, max(_balance) <= 0 as _closed
    from trail_points
    group by {{ by_key }}, _held_from
),

candidates as (
    select
        g.*,
        coalesce(t._closed, false) as _closed,
        a._after,
        a._before,
        coalesce(p._balance, 0) > 0 as _is_end
    from grouped g
    left join tied a on a._record_id = g._record_id and a._held_from = g._held_from and {{ ddb_lake.same(key, 'a', 'g') }}
    left join trails t on t._held_from = g._held_from and {{ ddb_lake.same(key, 't', 'g') }}
    left join trail_points p on p._held_from = g._held_from and p._image = a._after and {{ ddb_lake.same(key, 'p', 'g') }}
    where g._sequence is null or g._from_last = 1
),

open_winners as (
    select *
    from (
        select *, {{ ddb_lake.rank_in_instant(by_key, ['_is_end desc']) }} as _rank
        from candidates
        where not _closed
    ) ranked
    where _rank = 1
),

{#- A trail that is closed ends where it began: at the image that the item had before. The instant before says that,
    or the one after, or what the item is now. #}
closed_neighbours as (
    select
        {{ ddb_lake.prefixed(key, 'c') }},
        c._held_from,
        max(case when o._held_from < c._held_from then o._held_from end) as _prior_at,
        min(case when o._held_from > c._held_from then o._held_from end) as _next_at
    from trails c
    left join open_winners o on {{ ddb_lake.same(key, 'o', 'c') }}
    where c._closed
    group by {{ ddb_lake.prefixed(key, 'c') }}, c._held_from
),

closed_states as (
    select
        {{ ddb_lake.prefixed(key, 'n') }},
        n._held_from,
        max(case
            when o._held_from = n._prior_at then case when o._living then {{ ddb_lake.canonical_image('o._new_image') }} else '' end
            when n._prior_at is not null then null
            when o._in_instant > 1 then p._image
            when o._event = 'INSERT' then ''
            else {{ ddb_lake.canonical_image('o._old_image') }}
        end) as _state
    from closed_neighbours n
    left join open_winners o on o._held_from = coalesce(n._prior_at, n._next_at) and {{ ddb_lake.same(key, 'o', 'n') }}
    left join trail_points p on p._held_from = o._held_from and p._balance < 0 and {{ ddb_lake.same(key, 'p', 'n') }}
    group by {{ ddb_lake.prefixed(key, 'n') }}, n._held_from
),

closed_candidates as (
    select
        c.*,
        s._state,
        {{ ddb_lake.prefixed(names[keys | length:], 'r') }}
    from candidates c
    inner join closed_states s on s._held_from = c._held_from and {{ ddb_lake.same(key, 's', 'c') }}
    inner join {{ ddb_lake.told(changes, changes, current) }} r on r._record_id = c._record_id
    where c._closed
),

closed_winners as (
    select *
    from (
        select *, {{ ddb_lake.rank_in_instant(by_key, ['_agrees desc']) }} as _rank
        from (
            select
                c.*,
                coalesce(
                    c._after = c._state,
                    case when c._living then l._source is not null and {{ ddb_lake.same_values(columns[keys | length:], 'c', 'l') }}
                        else l._source is null end
                ) as _agrees
            from closed_candidates c
            left join {{ current }} l on {{ ddb_lake.same(key, 'l', 'c') }}
        ) agreeing
    ) ranked
    where _rank = 1
),

decided as (
    {%- for winners in ['open_winners', 'closed_winners'] %}
    select
        {{ by_key }}, _held_from, _record_id, _event, _living, _is_ttl, _new_image, _old_image, _asserted_at,
        _in_instant, _closed
    from {{ winners }}
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}
),

imaged as (
    select *, case when _living then {{ ddb_lake.canonical_image('_new_image') }} else '' end as _image
    from decided
),

{#- A line of an export that says what was known, and a trail that ends where it began, change nothing. #}
changing as (
    select *
    from (
        select *, lag(_image) over (partition by {{ by_key }} order by _held_from) as _image_before
        from imaged
    ) compared
    where _image_before is null or _image_before <> _image
),

sequenced as (
    select
        *,
        lag(_living) over (partition by {{ by_key }} order by _held_from) as _lived_before,
        lead(_held_from) over (partition by {{ by_key }} order by _held_from) as _next_at,
        case
            when lead(_asserted_at) over (partition by {{ by_key }} order by _held_from) is not null then 'export'
            when lead(_living) over (partition by {{ by_key }} order by _held_from) then 'update'
            when lead(_is_ttl) over (partition by {{ by_key }} order by _held_from) then 'ttl'
            else 'delete'
        end as _next_kind
    from changing
),

{#- What an item was before the first record of it, as that record's image before the change says: `_image`, or
    nothing (`_absent`), or neither if the record does not say. #}
tied_beginnings as (
    select
        {{ ddb_lake.prefixed(key, 't') }},
        t._held_from,
        min(case when t._before <> '' then t._old_image end) as _old_image,
        max(t._before) = '' as _absent
    from tied t
    inner join trail_points p on p._held_from = t._held_from and p._image = t._before and {{ ddb_lake.same(key, 'p', 't') }}
    where p._balance < 0
    group by {{ ddb_lake.prefixed(key, 't') }}, t._held_from
),

beginnings as (
    select
        {{ ddb_lake.prefixed(key, 's') }},
        s._held_from,
        s._record_id,
        s._living,
        s._is_ttl,
        s._image as _then,
        case
            when s._asserted_at is not null then null
            when s._in_instant = 1 then case when s._event <> 'INSERT' then s._old_image end
            when s._closed then s._new_image
            else t._old_image
        end as _image,
        coalesce(case when s._closed then not s._living else t._absent end, false) as _absent
    from sequenced s
    left join tied_beginnings t on t._held_from = s._held_from and {{ ddb_lake.same(key, 't', 's') }}
    where s._lived_before is null
),

compared_beginnings as (
    select *, coalesce({{ ddb_lake.canonical_image('_image') }} = _then, false) as _unchanged
    from beginnings
),

base as (
    select max(_changed_at) as _taken_at from {{ current }} where _source = 'snapshot'
),

horizon as (
    select
        b._taken_at,
        {{ ddb_lake.settled_to('f._first_at', 'b._taken_at', margin) }} as _settled_to
    from base b
    cross join (select min(_changed_at) as _first_at from {{ changes }} where _asserted_at is null) f
),

{#- The last of each item's changes, where the newest export has a say on it. #}
last_changes as (
    select {{ ddb_lake.prefixed(['_key_hash', '_living'], 's') }}, {{ ddb_lake.prefixed(names, 'r') }}
    from sequenced s
    inner join {{ ddb_lake.told(changes, changes, current) }} r on r._record_id = s._record_id
    cross join horizon h
    where s._next_at is null
        and h._taken_at is not null
        and case when s._asserted_at is null then s._held_from <= h._settled_to else s._asserted_at <= h._taken_at end
),

items as (
    select * from {{ ddb_lake.told(current, changes, current) }} c
),

{#- Whether the newest export has an item as its last change left it. #}
confirmations as (
    select
        {{ ddb_lake.prefixed(key, 'l') }},
        case
            when c._source is null then not l._living
            when c._source <> 'snapshot' then true
            else l._living and {{ ddb_lake.same_values(columns, 'l', 'c') }}
        end as _confirmed
    from last_changes l
    left join items c on {{ ddb_lake.same(key, 'c', 'l') }}
),

versions as (
    select
        {{ ddb_lake.prefixed(names, 'r') }},
        s._record_id as _version_id,
        case when not coalesce(f._unchanged, false) then s._held_from end as _valid_from,
        coalesce(s._next_at, case when not o._confirmed then h._taken_at end) as _valid_to,
        case when f._unchanged then 'unknown'
            when s._event = 'INSERT' or not s._lived_before or f._absent then 'insert'
            when s._asserted_at is not null then 'export' else 'update' end as _started_by,
        case when s._next_at is not null then s._next_kind when not o._confirmed then 'export' end as _ended_by,
        s._in_instant as _changes,
        s._new_image as _item,
        s._key_hash
    from sequenced s
    inner join {{ ddb_lake.told(changes, changes, current) }} r on r._record_id = s._record_id
    cross join horizon h
    left join confirmations o on s._next_at is null and {{ ddb_lake.same(key, 'o', 's') }}
    left join compared_beginnings f on f._held_from = s._held_from and {{ ddb_lake.same(key, 'f', 's') }}
    where s._living
    union all
    select
        {{- ddb_lake.item_columns(columns, 'b._image') }},
        b._record_id || '-before' as _version_id,
        cast(null as timestamp(6)) as _valid_from,
        b._held_from as _valid_to,
        'unknown' as _started_by,
        case when b._living then 'update' when b._is_ttl then 'ttl' else 'delete' end as _ended_by,
        0 as _changes,
        b._image as _item,
        b._key_hash
    from compared_beginnings b
    where b._image is not null and not b._unchanged
    union all
    select
        {{ ddb_lake.prefixed(names, 'c') }},
        cast(c._key_hash as varchar) || '-snapshot' as _version_id,
        case when not o._confirmed then h._taken_at end as _valid_from,
        cast(null as timestamp(6)) as _valid_to,
        case when not o._confirmed then 'export' else 'unknown' end as _started_by,
        cast(null as varchar) as _ended_by,
        0 as _changes,
        cast(null as varchar) as _item,
        c._key_hash
    from items c
    cross join horizon h
    left join confirmations o on {{ ddb_lake.same(key, 'o', 'c') }}
    left join (select distinct {{ by_key }} from sequenced) s on {{ ddb_lake.same(key, 's', 'c') }}
    where c._source = 'snapshot' and (s._key_hash is null or not o._confirmed)
)

select
    {{ names | join(', ') }},
    _version_id,
    _valid_from,
    _valid_to,
    _valid_to is null as _is_current,
    _started_by,
    _ended_by,
    cast(_changes as bigint) as _changes,
    _item,
    _key_hash,
    (select max(_batch) from {{ changes }}) as _through_batch,
    (select _taken_at from base) as _base_at
from versions
where _valid_from is null or _valid_to is null or _valid_from < _valid_to
{%- endmacro %}

{#- The rows of a relation that a build reads: those of the items that the history does not have. A hook has removed
    the items with new records, so the build writes them once, also after a build that was interrupted. -#}
{% macro told(relation, changes, current) -%}
{%- if is_incremental() -%}
(select * from {{ relation }} where _key_hash not in (select _key_hash from {{ this }}))
{%- else -%}
{{ relation }}
{%- endif -%}
{%- endmacro %}


{#- Up to when an export settles everything: the horizon of the lake's order. -#}
{% macro settled_to(first_at, taken_at, margin) -%}
case when {{ first_at }} <= {{ taken_at }} - {{ margin }} then {{ taken_at }} - {{ margin }} else {{ taken_at }} end
{%- endmacro %}


{#- Which items have to be written again: those with new records, and all of them after a newer export, or if a late
    record is the first of all and so moves the horizon of the export. -#}
{% macro touched_items(changes, current, margin_s) -%}
{%- set margin = "interval '" ~ margin_s ~ "' second" -%}
{%- set built_to = '(select coalesce(max(_through_batch), -1) from ' ~ this ~ ')' -%}
{%- set taken_at = '(select max(_changed_at) from ' ~ current ~ " where _source = 'snapshot')" -%}
{%- set first_at = '(select min(_changed_at) from ' ~ changes ~ ' where _asserted_at is null' -%}
(
        _key_hash in (select _key_hash from {{ changes }} where _batch > {{ built_to }})
        or coalesce({{ taken_at }}, timestamp '0001-01-01 00:00:00')
            > (select coalesce(max(_base_at), timestamp '0001-01-01 00:00:00') from {{ this }})
        or {{ ddb_lake.settled_to(first_at ~ ')', taken_at, margin) }}
            <> {{ ddb_lake.settled_to(first_at ~ ' and _batch <= ' ~ built_to ~ ')', taken_at, margin) }}
    )
{%- endmacro %}


{#- A hook before an incremental run, which removes the items that the run writes again. -#}
{% macro forget_touched_items(changes, current, margin_s=300) -%}
    {%- if is_incremental() -%}
    {{ ddb_lake.forget_rows(ddb_lake.touched_items(changes, current, margin_s)) }}
    {%- endif -%}
{%- endmacro %}


{#- The records of an instant from the last to the first. -#}
{% macro rank_in_instant(by_key, preferences) -%}
row_number() over (
            partition by {{ by_key }}, _held_from
            order by
                _asserted_at is null, _asserted_at desc, {{ preferences | join(', ') }},
                coalesce(length(trim(leading '0' from _kinesis_sequence)), -1) desc,
                trim(leading '0' from _kinesis_sequence) desc, _record_id desc
        )
{%- endmacro %}


{% macro quoted(names) -%}
    {%- set found = [] -%}
    {%- for name in names %}{% do found.append(adapter.quote(name)) %}{% endfor -%}
    {{ return(found) }}
{%- endmacro %}

{% macro prefixed(names, relation) -%}
    {%- set found = [] -%}
    {%- for name in names %}{% do found.append(relation ~ '.' ~ name) %}{% endfor -%}
    {{ return(found | join(', ')) }}
{%- endmacro %}

{#- Whether two relations' keys are one. The hash alone finds them, the key's columns confirm it. -#}
{% macro same(key, one, other) -%}
    {%- set found = [] -%}
    {%- for name in key -%}
    {%- do found.append(one ~ '.' ~ name ~ (' = ' if loop.first else ' is not distinct from ') ~ other ~ '.' ~ name) -%}
    {%- endfor -%}
    {{ return(found | join(' and ')) }}
{%- endmacro %}

{#- Whether two rows hold the same. -#}
{% macro same_values(columns, one, other) -%}
    {%- set found = [] -%}
    {%- for column in columns -%}
    {%- set name = adapter.quote(column.name) -%}
    {%- set left, right = ddb_lake.comparable(column, one ~ '.' ~ name), ddb_lake.comparable(column, other ~ '.' ~ name) -%}
    {%- do found.append(left ~ ' is not distinct from ' ~ right) -%}
    {%- endfor -%}
    {{ return(found | join(' and ')) }}
{%- endmacro %}

{#- A column for comparing: the order of a set and of a document's members means nothing. -#}
{% macro comparable(column, value) -%}
    {%- if column.type.startswith('list<') -%}
    {{ return(ddb_lake.sorted_list(value)) }}
    {%- elif column.tag in ('L', 'M') -%}
    {{ return(ddb_lake.canonical_document(value)) }}
    {%- endif -%}
    {{ return(value) }}
{%- endmacro %}

{% macro sorted_list(list) %}{{ return(adapter.dispatch('sorted_list', 'ddb_lake')(list)) }}{% endmacro %}

{% macro duckdb__sorted_list(list) %}{{ return('list_sort(' ~ list ~ ')') }}{% endmacro %}

{% macro athena__sorted_list(list) %}{{ return('array_sort(' ~ list ~ ')') }}{% endmacro %}


{#- A version's beginning for ordering: one that is not known is before all others. -#}
{% macro since(valid_from) -%} coalesce({{ valid_from }}, timestamp '0001-01-01 00:00:00') {%- endmacro %}


{#- Whether a version of a history held at an instant: `where held_at("timestamp '2026-03-01 00:00:00'")`. -#}
{% macro held_at(instant, relation='') -%}
{%- set at = relation ~ '.' if relation else '' -%}
(({{ at }}_valid_from is null or {{ at }}_valid_from <= {{ instant }}) and ({{ at }}_valid_to is null or {{ at }}_valid_to > {{ instant }}))
{%- endmacro %}
