"""DynamoDB's values and the change record, which every other package of the core uses.

- *DynamoDB JSON*: a value with its type tag, `{"S": "x"}` (`attributes`). *Plain JSON* has no tags (`plain_json`).
- *canonical*: the one form that equal values share, as DynamoDB compares them (`attributes`, `numbers`).
- *key text*, *key hash*: the text and the hash of a primary key (`primary_key`).
- *record id*: the identity of a change record; equal for two deliveries of one record (`identity`).
- *change record*: one insert, modify, remove or assertion, in one form for all envelopes (`change_record`).

`json_text` decodes JSON without loss, `json_schema` validates items, `conversions` has other forms of values, and `times` and
`time_text` have instants.
"""
