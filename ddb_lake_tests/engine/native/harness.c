/* Runs the record kernel over standard input. Compiled with sanitizers: whatever the kernel gets is an allocation of exactly its size.
   All numbers are of 32 bits, little-endian; a text is its length and its bytes.

   records: the input is objects, each a text. Prints how many rows were read.
   items: the input is groups of documents, each behind the attributes that are known: whether a document has one member, and the
   member's name; the number of attributes and of columns; the attributes, each its name and the other members of `Attribute`; the
   columns, each its kind and the digits of a decimal; the number of documents, and the documents. Reads each group at once, and each
   document alone, whose result must be the same. Writes the results of all documents: whether it was read, and then for each column
   whether there is a value, and the value; a set is the number of its texts, and the texts. */

#include "../../../ddb_lake/engine/native/record_kernel.c"

#include <stdio.h>

static void *memory(size_t size) {
  void *found = malloc(size ? size : 1);
  if (!found) exit(2);
  return found;
}

/* --- the input */

static int more(void) {
  int next = getchar();
  return next != EOF && ungetc(next, stdin) != EOF;
}

static uint32_t word(void) {
  uint8_t bytes[4];
  if (fread(bytes, 1, 4, stdin) != 4) exit(2);
  return load32(bytes);
}

static uint8_t *text(uint32_t *size) {
  uint8_t *bytes;
  *size = word();
  bytes = memory(*size);
  if (fread(bytes, 1, *size, stdin) != *size) exit(2);
  return bytes;
}

/* --- records */

static void make_batch(Batch *b, int64_t rows, int64_t text_bytes) {
  static const uint8_t TABLE[] = {'o', 'r', 'd', 'e', 'r', 's'}, KEY[] = {'i', 'd'};
  int column;
  memset(b, 0, sizeof *b);
  b->table = TABLE;
  b->table_length = sizeof TABLE;
  b->key[0] = KEY;
  b->key_length[0] = sizeof KEY;
  b->key_length[1] = -1;
  b->latest_us = INT64_C(1) << 62;
  b->after_arrival_us = INT64_C(86400000000);
  b->row_capacity = rows;
  b->record_id = memory((size_t)rows * 32);
  b->event = memory((size_t)rows);
  b->changed_us = memory((size_t)rows * 8);
  b->ttl = memory((size_t)(rows + 7) / 8);
  b->arrived_us = memory((size_t)rows * 8);
  b->arrived_valid = memory((size_t)(rows + 7) / 8);
  b->offset = memory((size_t)rows * 8);
  b->key_hash = memory((size_t)rows * 8);
  b->object_place = memory((size_t)rows * 4);
  for (column = 0; column < TEXT_COLUMNS; column++) {
    b->text[column].capacity = text_bytes;
    b->text[column].bytes = memory((size_t)text_bytes);
    b->text[column].offsets = memory((size_t)(rows + 1) * 4);
    b->text[column].offsets[0] = 0;
    b->text[column].valid = memory((size_t)(rows + 7) / 8);
  }
}

/* Reads an object; a line at which the kernel stops is skipped. */
static int64_t read_object(Batch *b, const uint8_t *bytes, size_t size) {
  uint8_t *data = memory(size);
  int64_t rows = 0;
  memcpy(data, bytes, size);
  b->data = data;
  b->size = (int64_t)size;
  b->start = 0;
  b->rows = 0;
  while (b->start < b->size) {
    const uint8_t *line_end;
    int64_t added = ddb_lake_read_records(b);
    rows += added;
    b->start = b->resume;
    if (b->reason == NO_MEMORY) exit(2);
    if (b->reason == FULL && b->rows) {
      b->rows = 0;
      continue;
    }
    line_end = memchr(data + b->start, '\n', size - (size_t)b->start);
    b->start = line_end ? line_end - data + 1 : b->size;
  }
  free(data);
  return rows;
}

static int read_objects(void) {
  static Batch large, tiny; /* static, so that their memory is no leak */
  int64_t rows = 0, tiny_rows = 0, cut_rows = 0;
  uint64_t chance = 88172645463325252ULL;
  make_batch(&large, 1000, 1 << 20);
  make_batch(&tiny, 3, 700);
  while (more()) {
    uint32_t size;
    uint8_t *bytes = text(&size);
    size_t i;
    rows += read_object(&large, bytes, size);
    tiny_rows += read_object(&tiny, bytes, size);
    for (i = 0; i < 16 && size; i++) { /* the object, cut anywhere */
      chance ^= chance << 13;
      chance ^= chance >> 7;
      chance ^= chance << 17;
      cut_rows += read_object(&large, bytes, (size_t)(chance % size));
    }
    free(bytes);
  }
  printf("%lld %lld %lld\n", (long long)rows, (long long)tiny_rows, (long long)cut_rows);
  return 0;
}

/* --- items */

static size_t bytes_of_bits(int64_t bits) { return (size_t)(bits + 7) / 8; }

static int bit(const uint8_t *bits, int64_t place) { return bits[place / 8] >> place % 8 & 1; }

/* Reads documents into results of exactly the size that is needed: first without room for the texts of sets. */
static void read_items(Items *items) {
  int64_t i, first;
  items->read = memory(bytes_of_bits(items->rows));
  items->unescaped = memory((size_t)(items->offsets[items->rows] - items->offsets[0]));
  for (i = 0; i < items->column_count; i++) {
    static const size_t BITS[] = {128, 64, 128, 1, 32}; /* of a value, by kind */
    Column *c = items->columns + i;
    c->valid = memory(bytes_of_bits(items->rows));
    c->values = memory(bytes_of_bits((int64_t)BITS[c->kind] * (items->rows + (c->kind == AS_TEXTS))));
    c->texts = NULL;
    c->capacity = 0;
  }
  first = ddb_lake_read_items(items);
  for (i = 0; i < items->column_count; i++) {
    items->columns[i].capacity = items->columns[i].count;
    items->columns[i].texts = memory(16 * (size_t)items->columns[i].count);
  }
  if (first < 0 || ddb_lake_read_items(items) != first) exit(2);
}

static void free_result(Items *items) {
  int64_t i;
  for (i = 0; i < items->column_count; i++) {
    free(items->columns[i].valid);
    free(items->columns[i].values);
    free(items->columns[i].texts);
  }
  free(items->read);
  free(items->unescaped);
}

typedef struct {
  uint8_t *bytes;
  size_t size, room;
} Result;

static void add(Result *to, const void *bytes, size_t size) {
  if (to->size + size > to->room) {
    to->room = 2 * (to->size + size);
    to->bytes = realloc(to->bytes, to->room);
    if (!to->bytes) exit(2);
  }
  memcpy(to->bytes + to->size, bytes, size);
  to->size += size;
}

static void add_text(Result *to, const Items *items, const uint8_t *view) {
  uint32_t size = load32(view);
  const uint8_t *text = view + 4;
  if (size > 12) {
    text = (load32(view + 8) ? items->unescaped : items->data) + load32(view + 12);
    if (memcmp(view + 4, text, 4)) exit(4);
  }
  add(to, view, 4);
  add(to, text, size);
}

/* The result of a document. */
static void add_result(Result *to, const Items *items, int64_t row) {
  uint8_t flag = (uint8_t)bit(items->read, row);
  int64_t i;
  add(to, &flag, 1);
  for (i = 0; i < items->column_count; i++) {
    const Column *c = items->columns + i;
    flag = (uint8_t)bit(c->valid, row);
    add(to, &flag, 1);
    if (!flag) continue;
    if (c->kind == AS_TEXT) add_text(to, items, c->values + 16 * row);
    else if (c->kind == AS_LONG) add(to, c->values + 8 * row, 8);
    else if (c->kind == AS_DECIMAL) add(to, c->values + 16 * row, 16);
    else if (c->kind == AS_BOOLEAN) {
      flag = (uint8_t)bit(c->values, row);
      add(to, &flag, 1);
    } else {
      uint32_t at = load32(c->values + 4 * row), end = load32(c->values + 4 * row + 4), count = end - at;
      add(to, &count, 4);
      for (; at < end; at++) add_text(to, items, c->texts + 16 * (size_t)at);
    }
  }
}

/* Whether a document alone gives the same result as within its group. */
static int same_alone(const Items *group, int64_t row) {
  int32_t offsets[2] = {0, 0};
  size_t size = (size_t)(group->offsets[row + 1] - group->offsets[row]), columns = (size_t)group->column_count * sizeof(Column);
  uint8_t *data = memory(size);
  Result within, found;
  int same;
  Items alone = *group;
  memset(&within, 0, sizeof within);
  memset(&found, 0, sizeof found);
  offsets[1] = (int32_t)size;
  memcpy(data, group->data + group->offsets[row], size);
  alone.data = data;
  alone.offsets = offsets;
  alone.rows = 1;
  alone.columns = memory(columns);
  memcpy(alone.columns, group->columns, columns);
  read_items(&alone);
  add_result(&within, group, row);
  add_result(&found, &alone, 0);
  same = within.size == found.size && !memcmp(within.bytes, found.bytes, found.size);
  free_result(&alone);
  free(alone.columns);
  free(data);
  free(within.bytes);
  free(found.bytes);
  return same;
}

static int read_group(void) {
  Items items;
  Result result;
  Attribute *attributes;
  uint32_t has_member = word(), size;
  uint8_t *member = text(&size), *data = NULL;
  int32_t *offsets;
  size_t used = 0, room = 0;
  int64_t i, k;
  memset(&items, 0, sizeof items);
  items.member = member;
  items.member_length = has_member ? (int64_t)size : -1;
  items.attribute_count = word();
  items.column_count = word();
  attributes = memory((size_t)items.attribute_count * sizeof *attributes);
  items.attributes = attributes;
  for (i = 0; i < items.attribute_count; i++) {
    attributes[i].name = text(&size);
    attributes[i].name_length = size;
    for (k = 0; k < TAGS; k++) attributes[i].column[k] = (int32_t)word();
    attributes[i].first = (int32_t)word();
    attributes[i].members = (int32_t)word();
  }
  items.columns = memory((size_t)items.column_count * sizeof *items.columns);
  for (i = 0; i < items.column_count; i++) {
    items.columns[i].kind = (int32_t)word();
    items.columns[i].whole = (int32_t)word();
    items.columns[i].scale = (int32_t)word();
  }
  items.rows = word();
  offsets = memory((size_t)(items.rows + 1) * 4);
  offsets[0] = 0;
  for (i = 0; i < items.rows; i++) {
    uint8_t *document = text(&size);
    if (used + size > room || !room) {
      room = 2 * (used + size) + 1;
      data = realloc(data, room);
      if (!data) exit(2);
    }
    memcpy(data + used, document, size);
    free(document);
    used += size;
    offsets[i + 1] = (int32_t)used;
  }
  data = realloc(data, used ? used : 1);
  if (!data) exit(2);
  items.data = data;
  items.offsets = offsets;
  read_items(&items);
  for (i = 0; i < items.rows; i++)
    if (!same_alone(&items, i)) {
      fprintf(stderr, "document %lld alone gives another result\n", (long long)i);
      return 3;
    }
  memset(&result, 0, sizeof result);
  for (i = 0; i < items.rows; i++) add_result(&result, &items, i);
  if (result.size) fwrite(result.bytes, 1, result.size, stdout);
  free(result.bytes);
  free_result(&items);
  free(items.columns);
  for (i = 0; i < items.attribute_count; i++) free((void *)attributes[i].name);
  free(attributes);
  free(member);
  free(data);
  free(offsets);
  return 0;
}

int main(int count, char **arguments) {
  int failed = 0;
  if (count == 2 && !strcmp(arguments[1], "records")) return read_objects();
  if (count != 2 || strcmp(arguments[1], "items")) return 2;
  while (!failed && more()) failed = read_group();
  return failed;
}
