/* Runs the record kernel over objects from standard input, each behind its length (32 bits, little-endian), and prints how many rows
   it read. Compiled with sanitizers: every object and every column is an allocation of exactly its size. */

#include "../../../ddb_lake/engine/native/record_kernel.c"

#include <stdio.h>

static void *memory(size_t size) {
  void *found = malloc(size ? size : 1);
  if (!found) exit(2);
  return found;
}

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

int main(void) {
  static Batch large, tiny; /* static, so that their memory is no leak */
  uint8_t head[4];
  int64_t rows = 0, tiny_rows = 0, cut_rows = 0;
  uint64_t chance = 88172645463325252ULL;
  make_batch(&large, 1000, 1 << 20);
  make_batch(&tiny, 3, 700);
  while (fread(head, 1, 4, stdin) == 4) {
    size_t size = load32(head), i;
    uint8_t *bytes = memory(size);
    if (fread(bytes, 1, size, stdin) != size) return 2;
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
