/* Change records as Kinesis Data Streams for DynamoDB writes them, read into the columns of an Arrow batch.

   The kernel accepts a record only if it recognises every byte of it: known members, each once, without white space between tokens;
   values S, N, BOOL, NULL, SS, NS, M and L; canonical numbers of up to 38 digits; UTF-8 text with the escapes that orjson writes.
   The columns of an accepted record are those that strict reading in Python stages (object_reader.py). At any other byte the kernel
   stops before the record that contains it; the caller reads that record in Python, and calls the kernel again behind it.

   C99 and libc alone, without Python's headers: one library serves all versions of Python. Every read and write is checked
   against the end of its buffer. There is no state between calls, so threads may read at once, each with its own batch.

   The last part reads items, such as the lines of an export, into Arrow columns of known attributes, in the same way.

   BLAKE2b: https://www.rfc-editor.org/rfc/rfc7693. MD5: https://www.rfc-editor.org/rfc/rfc1321. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* Change it with every change of Batch, of Items, or of what is accepted; library.py has the same number. */
#define VERSION 3

#define LONGEST_RECORD (4 << 20) /* bytes; a longer record is left to Python */
#define DEEPEST 32               /* levels of M and L, as many as DynamoDB allows */
#define MOST_DIGITS 38
#define LONGEST_SEQUENCE 128
#define FEW_MEMBERS 24 /* up to so many are sorted by insertion */

static const int64_t EARLIEST_US = 1326844800000000; /* times.EARLIEST_US */
static const int64_t END_US = 253402300800000000;    /* the year 10000, exclusive */

typedef const uint8_t *Bytes;

/* --- what the caller passes; library.py has the same layout */

enum { EVENT_ID, KEYS, NEW_IMAGE, OLD_IMAGE, KINESIS_SEQUENCE, SHARD, KEY_TEXT, TEXT_COLUMNS };
enum { ENDED, UNKNOWN, FULL, NO_MEMORY }; /* why the kernel stopped */

typedef struct { /* an Arrow column of strings */
  uint8_t *bytes;
  int32_t *offsets; /* one more than rows */
  uint8_t *valid;   /* bits */
  int64_t capacity; /* of `bytes` */
} TextColumn;

typedef struct {
  /* the object */
  Bytes data;
  int64_t size;
  int64_t start;     /* where to begin */
  int64_t place;     /* the object's number in the batch */
  int64_t latest_us; /* a later record without a stamp is left to Python */
  int64_t after_arrival_us; /* as much later than its stamp may a record be */
  /* the table */
  Bytes table;
  int64_t table_length;
  Bytes key[2];
  int64_t key_length[2]; /* the second is negative if the key is one attribute */
  /* the result */
  int64_t resume; /* behind the last accepted record */
  int64_t reason;
  int64_t earliest_us; /* the least arrival, or time of change without a stamp, of the records of this call */
  /* the columns; `rows` is set to 0 by the caller once it has taken them */
  int64_t rows;
  int64_t row_capacity;
  uint8_t *record_id; /* 32 hexadecimal digits each */
  int8_t *event;      /* 0 INSERT, 1 MODIFY, 2 REMOVE */
  int64_t *changed_us;
  uint8_t *ttl; /* bits */
  int64_t *arrived_us;
  uint8_t *arrived_valid; /* bits */
  int64_t *offset;
  int64_t *key_hash;
  int32_t *object_place;
  TextColumn text[TEXT_COLUMNS];
} Batch;

/* --- BLAKE2b with a digest of 16 bytes */

typedef struct {
  uint64_t state[8];
  uint64_t count;
  size_t filled;
  uint8_t block[128];
} Blake;

static const uint64_t BLAKE_IV[8] = {
    0x6a09e667f3bcc908ULL, 0xbb67ae8584caa73bULL, 0x3c6ef372fe94f82bULL, 0xa54ff53a5f1d36f1ULL,
    0x510e527fade682d1ULL, 0x9b05688c2b3e6c1fULL, 0x1f83d9abfb41bd6bULL, 0x5be0cd19137e2179ULL};

static const uint8_t BLAKE_SIGMA[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

static uint64_t load64(Bytes p) {
  return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 |
         (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

static uint32_t load32(Bytes p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void blake_start(Blake *b) {
  memcpy(b->state, BLAKE_IV, sizeof b->state);
  b->state[0] ^= 0x01010000 ^ 16;
  b->count = 0;
  b->filled = 0;
}

#define ROTATED(x, n) (((x) >> (n)) | ((x) << (64 - (n))))
#define MIX(r, i, a, b, c, d)            \
  do {                                   \
    a += b + m[BLAKE_SIGMA[r][2 * (i)]];     \
    d = ROTATED(d ^ a, 32);              \
    c += d;                              \
    b = ROTATED(b ^ c, 24);              \
    a += b + m[BLAKE_SIGMA[r][2 * (i) + 1]]; \
    d = ROTATED(d ^ a, 16);              \
    c += d;                              \
    b = ROTATED(b ^ c, 63);              \
  } while (0)
#define ROUND(r)                \
  do {                          \
    MIX(r, 0, v0, v4, v8, v12); \
    MIX(r, 1, v1, v5, v9, v13); \
    MIX(r, 2, v2, v6, v10, v14);\
    MIX(r, 3, v3, v7, v11, v15);\
    MIX(r, 4, v0, v5, v10, v15);\
    MIX(r, 5, v1, v6, v11, v12);\
    MIX(r, 6, v2, v7, v8, v13); \
    MIX(r, 7, v3, v4, v9, v14); \
  } while (0)

static void blake_block(uint64_t *h, Bytes p, uint64_t count, int last) {
  uint64_t m[16];
  uint64_t v0 = h[0], v1 = h[1], v2 = h[2], v3 = h[3], v4 = h[4], v5 = h[5], v6 = h[6], v7 = h[7];
  uint64_t v8 = BLAKE_IV[0], v9 = BLAKE_IV[1], v10 = BLAKE_IV[2], v11 = BLAKE_IV[3];
  uint64_t v12 = BLAKE_IV[4] ^ count, v13 = BLAKE_IV[5], v14 = last ? ~BLAKE_IV[6] : BLAKE_IV[6], v15 = BLAKE_IV[7];
  int i;
  for (i = 0; i < 16; i++) m[i] = load64(p + 8 * i);
  ROUND(0); ROUND(1); ROUND(2); ROUND(3); ROUND(4); ROUND(5);
  ROUND(6); ROUND(7); ROUND(8); ROUND(9); ROUND(0); ROUND(1);
  h[0] ^= v0 ^ v8; h[1] ^= v1 ^ v9; h[2] ^= v2 ^ v10; h[3] ^= v3 ^ v11;
  h[4] ^= v4 ^ v12; h[5] ^= v5 ^ v13; h[6] ^= v6 ^ v14; h[7] ^= v7 ^ v15;
}

static void blake_add(Blake *b, const void *bytes, size_t size) {
  Bytes p = bytes;
  while (size) {
    size_t room = sizeof b->block - b->filled, n;
    if (!room) { /* the last block, even a full one, is for blake_end */
      b->count += sizeof b->block;
      blake_block(b->state, b->block, b->count, 0);
      b->filled = 0;
      while (size > sizeof b->block) {
        b->count += sizeof b->block;
        blake_block(b->state, p, b->count, 0);
        p += sizeof b->block;
        size -= sizeof b->block;
      }
      continue;
    }
    n = size < room ? size : room;
    memcpy(b->block + b->filled, p, n);
    b->filled += n;
    p += n;
    size -= n;
  }
}

static void blake_end(Blake *b, uint8_t *hexadecimal) {
  static const char DIGITS[] = "0123456789abcdef";
  int i;
  memset(b->block + b->filled, 0, sizeof b->block - b->filled);
  blake_block(b->state, b->block, b->count + b->filled, 1);
  for (i = 0; i < 16; i++) {
    uint8_t byte = (uint8_t)(b->state[i / 8] >> (8 * (i % 8)));
    hexadecimal[2 * i] = (uint8_t)DIGITS[byte >> 4];
    hexadecimal[2 * i + 1] = (uint8_t)DIGITS[byte & 15];
  }
}

/* --- MD5, of which the key hash takes 63 bits */

static const uint32_t MD5_SINES[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501, 0x698098d8, 0x8b44f7af,
    0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa,
    0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8,
    0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244, 0x432aff97,
    0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1,
    0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391};

static const uint8_t MD5_SHIFTS[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};

static void md5_block(uint32_t *s, Bytes p) {
  uint32_t w[16], a = s[0], b = s[1], c = s[2], d = s[3];
  int i;
  for (i = 0; i < 16; i++) w[i] = load32(p + 4 * i);
  for (i = 0; i < 64; i++) {
    uint32_t f, sum;
    int word, shift = MD5_SHIFTS[i / 16][i % 4];
    switch (i / 16) {
      case 0: f = (b & c) | (~b & d); word = i; break;
      case 1: f = (d & b) | (~d & c); word = (5 * i + 1) % 16; break;
      case 2: f = b ^ c ^ d; word = (3 * i + 5) % 16; break;
      default: f = c ^ (b | ~d); word = (7 * i) % 16; break;
    }
    sum = f + a + MD5_SINES[i] + w[word];
    a = d;
    d = c;
    c = b;
    b += (sum << shift) | (sum >> (32 - shift));
  }
  s[0] += a;
  s[1] += b;
  s[2] += c;
  s[3] += d;
}

/* primary_key.key_hash */
static int64_t key_hash(Bytes p, size_t size) {
  uint32_t s[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
  uint8_t rest[128];
  uint64_t bits = (uint64_t)size * 8;
  size_t end;
  int i;
  for (; size >= 64; p += 64, size -= 64) md5_block(s, p);
  memset(rest, 0, sizeof rest);
  memcpy(rest, p, size);
  rest[size] = 0x80;
  end = size < 56 ? 64 : 128;
  for (i = 0; i < 8; i++) rest[end - 8 + (size_t)i] = (uint8_t)(bits >> (8 * i));
  md5_block(s, rest);
  if (end == 128) md5_block(s, rest + 64);
  return (int64_t)(((uint64_t)s[2] | (uint64_t)s[3] << 32) >> 1);
}

/* --- reading JSON. Each function returns the position behind what it read, or NULL to leave the record to Python. */

typedef struct { /* a member of a map whose text is in the output */
  Bytes name;
  uint32_t name_length;
  uint32_t at; /* of its text, from the map's opening brace */
  uint32_t length;
} Member;

typedef struct {
  Bytes at;
  size_t length;
} Span;

typedef struct { /* what reading a record needs and leaves */
  const Batch *batch;
  Bytes end;
  int reason; /* FULL or NO_MEMORY if that is why NULL was returned */
  int unsorted_set;
  Member *members; /* of all open maps */
  size_t member_count, member_capacity;
  uint8_t *scratch;
  size_t scratch_capacity;
  Span *spans; /* the members of a set */
  size_t span_capacity;
} Reader;

typedef struct { /* where a text goes */
  uint8_t *at, *end;
} Output;

static void *grown(Reader *r, void *old, size_t *capacity, size_t least, size_t size) {
  size_t more = *capacity ? *capacity : 64;
  void *found;
  while (more < least) more *= 2;
  found = realloc(old, more * size);
  if (!found) r->reason = NO_MEMORY;
  else *capacity = more;
  return found;
}

static int put(Reader *r, Output *out, const void *bytes, size_t size) {
  if ((size_t)(out->end - out->at) < size) {
    r->reason = FULL;
    return 0;
  }
  memcpy(out->at, bytes, size);
  out->at += size;
  return 1;
}

static int begins(Bytes p, Bytes end, const char *text) {
  size_t n = strlen(text);
  return (size_t)(end - p) >= n && !memcmp(p, text, n);
}

static int is(Span s, const char *text) { return s.length == strlen(text) && !memcmp(s.at, text, s.length); }

static int compared(Bytes a, size_t a_length, Bytes b, size_t b_length) {
  int c = memcmp(a, b, a_length < b_length ? a_length : b_length);
  return c ? c : (a_length > b_length) - (a_length < b_length);
}

/* One character of several bytes in UTF-8: no overlong form, no surrogate, nothing above U+10FFFF. */
static Bytes wide_character(Bytes p, Bytes end) {
  uint8_t c = *p;
  int i, n = c >= 0xC2 && c <= 0xDF ? 2 : (c & 0xF0) == 0xE0 ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 0;
  if (!n || end - p < n) return NULL;
  for (i = 1; i < n; i++)
    if ((p[i] & 0xC0) != 0x80) return NULL;
  if ((c == 0xE0 && p[1] < 0xA0) || (c == 0xED && p[1] >= 0xA0) || (c == 0xF0 && p[1] < 0x90) || (c == 0xF4 && p[1] >= 0x90))
    return NULL;
  return p + n;
}

#define EACH_BYTE(b) (0x0101010101010101ULL * (b))

/* Not zero if one of eight bytes is a quotation mark, a backslash, a control character or not ASCII. Exact. */
static uint64_t special(uint64_t x) {
  uint64_t quote = x ^ EACH_BYTE('"'), slash = x ^ EACH_BYTE('\\');
  return (((quote - EACH_BYTE(1)) & ~quote) | ((slash - EACH_BYTE(1)) & ~slash) | ((x - EACH_BYTE(0x20)) & ~x) | x) &
         EACH_BYTE(0x80);
}

/* A string from behind its opening quotation mark; returns the closing one. Accepts the escapes that orjson writes as they are.
   `escaped`: set to 1 if there is an escape. */
static Bytes string(Bytes p, Bytes end, int *escaped) {
  for (;;) {
    uint64_t eight;
    uint8_t c;
    for (; end - p >= 8; p += 8) {
      memcpy(&eight, p, 8);
      if (special(eight)) break;
    }
    do {
      if (p >= end) return NULL;
      c = *p++;
    } while (c != '"' && c != '\\' && c >= 0x20 && c < 0x80);
    p--;
    if (c == '"') return p;
    if (c < 0x20) return NULL;
    if (c == '\\') {
      if (end - p < 2 || !p[1] || !strchr("\"\\bfnrt", p[1])) return NULL;
      *escaped = 1;
      p += 2;
    } else if (!(p = wide_character(p, end)))
      return NULL;
  }
}

/* A string without escapes, at its opening quotation mark; returns the position behind the closing one. */
static Bytes plain_string(Bytes p, Bytes end, Span *found) {
  int escaped = 0;
  Bytes close;
  if (p >= end || *p != '"') return NULL;
  close = string(p + 1, end, &escaped);
  if (!close || escaped) return NULL;
  found->at = p + 1;
  found->length = (size_t)(close - p - 1);
  return close + 1;
}

/* The name of a member, with the colon. */
static Bytes member_name(Bytes p, Bytes end, Span *name) {
  p = plain_string(p, end, name);
  return p && p < end && *p == ':' ? p + 1 : NULL;
}

/* Behind a member or an element: a comma, or the closing bracket, which sets `closed`. */
static Bytes separator(Bytes p, Bytes end, uint8_t close, int *closed) {
  if (!p || p >= end || (*p != ',' && *p != close)) return NULL;
  *closed = *p == close;
  return p + 1;
}

/* A canonical number of at most 38 digits (numbers.canonical_number returns it unchanged). */
static Bytes number(Bytes p, Bytes end) {
  int digits = 0, negative = p < end && *p == '-';
  if (negative) p++;
  if (p >= end) return NULL;
  if (*p == '0') {
    p++;
    if (p >= end || *p != '.') return negative ? NULL : p;
  } else {
    if (*p < '1' || *p > '9') return NULL;
    for (; p < end && *p >= '0' && *p <= '9'; p++) digits++;
  }
  if (p < end && *p == '.') {
    Bytes fraction = ++p;
    for (; p < end && *p >= '0' && *p <= '9'; p++) digits++;
    if (p == fraction || p[-1] == '0') return NULL;
  }
  return digits > MOST_DIGITS ? NULL : p;
}

/* A JSON integer without a sign, of at most 17 digits. */
static Bytes integer(Bytes p, Bytes end, int64_t *value) {
  Bytes start = p;
  int64_t v = 0;
  if (p < end && *p == '0') {
    *value = 0;
    return p + 1;
  }
  for (; p < end && *p >= '0' && *p <= '9'; p++) {
    if (p - start >= 17) return NULL;
    v = v * 10 + (*p - '0');
  }
  *value = v;
  return p == start ? NULL : p;
}

/* The members of a set and the closing bracket. Notes whether they are in order and distinct, as in the record's id. */
static Bytes set_members(Reader *r, Bytes p, int numbers) {
  Span last = {NULL, 0}, member;
  int closed = 0;
  while (!closed) {
    p = plain_string(p, r->end, &member);
    if (!p) return NULL;
    if (numbers && number(member.at, member.at + member.length) != member.at + member.length) return NULL;
    if (last.at && compared(last.at, last.length, member.at, member.length) >= 0) r->unsorted_set = 1;
    last = member;
    p = separator(p, r->end, ']', &closed);
    if (!p) return NULL;
  }
  return p;
}

static Bytes map(Reader *r, Bytes p, Output *out, int depth, Span *keys);

/* A value with its type tag; its text with sorted names goes to `out`. */
static Bytes value(Reader *r, Bytes p, Output *out, int depth) {
  Bytes end = r->end, start = p;
  int escaped = 0, closed = 0;
  if (end - p < 9 || p[0] != '{' || p[1] != '"' || depth > DEEPEST) return NULL; /* the shortest: {"M":{}} and a bracket */
  if (p[3] == '"') {
    if (p[4] != ':') return NULL;
    switch (p[2]) {
      case 'S':
      case 'N':
        if (p[5] != '"') return NULL;
        p = p[2] == 'S' ? string(p + 6, end, &escaped) : number(p + 6, end);
        if (!p || end - p < 2 || p[0] != '"' || p[1] != '}') return NULL;
        p += 2;
        return put(r, out, start, (size_t)(p - start)) ? p : NULL;
      case 'M':
        if (!put(r, out, start, 5)) return NULL;
        p = map(r, p + 5, out, depth + 1, NULL);
        break;
      case 'L':
        if (p[5] != '[' || !put(r, out, start, 6)) return NULL;
        p += 6;
        if (*p == ']') {
          p++;
          if (!put(r, out, "]", 1)) return NULL;
          break;
        }
        while (!closed) {
          p = separator(value(r, p, out, depth + 1), end, ']', &closed);
          if (!p || !put(r, out, p - 1, 1)) return NULL;
        }
        break;
      default: return NULL;
    }
    if (!p || p >= end || *p != '}' || !put(r, out, p, 1)) return NULL;
    return p + 1;
  }
  if (begins(p + 2, end, "SS\":[") || begins(p + 2, end, "NS\":[")) {
    p = set_members(r, p + 7, p[2] == 'N');
    if (!p || p >= end || *p != '}') return NULL;
    p++;
  } else if (begins(p + 2, end, "NULL\":true}") || begins(p + 2, end, "BOOL\":true}"))
    p += 13;
  else if (begins(p + 2, end, "BOOL\":false}"))
    p += 14;
  else
    return NULL;
  return put(r, out, start, (size_t)(p - start)) ? p : NULL;
}

static int by_name(const void *a, const void *b) {
  const Member *x = a, *y = b;
  return compared(x->name, x->name_length, y->name, y->name_length);
}

/* Sort members by name. Returns 0 if two have the same name. */
static int sort_members(Member *m, size_t count) {
  size_t i, k;
  if (count <= FEW_MEMBERS)
    for (i = 1; i < count; i++) {
      Member moved = m[i];
      for (k = i; k && by_name(&m[k - 1], &moved) > 0; k--) m[k] = m[k - 1];
      m[k] = moved;
    }
  else
    qsort(m, count, sizeof *m, by_name);
  for (i = 1; i < count; i++)
    if (!by_name(&m[i - 1], &m[i])) return 0;
  return 1;
}

/* Write a map's members again, in the order of `m`. Its text begins at `start` and ends at `out->at`. */
static int rewrite(Reader *r, uint8_t *start, Output *out, const Member *m, size_t count) {
  size_t i, size = (size_t)(out->at - start);
  if (size > r->scratch_capacity) {
    uint8_t *scratch = grown(r, r->scratch, &r->scratch_capacity, size, 1);
    if (!scratch) return 0;
    r->scratch = scratch;
  }
  memcpy(r->scratch, start, size);
  out->at = start + 1;
  for (i = 0; i < count; i++) {
    memcpy(out->at, r->scratch + m[i].at, m[i].length);
    out->at += m[i].length;
    *out->at++ = i + 1 < count ? ',' : '}';
  }
  return 1;
}

/* A map of values. `keys`: if not NULL, the values of the table's key attributes are put there. */
static Bytes map(Reader *r, Bytes p, Output *out, int depth, Span *keys) {
  Bytes end = r->end;
  uint8_t *start = out->at;
  size_t first = r->member_count, count;
  int sorted = 1, closed = 0, k;
  if (p >= end || *p != '{' || !put(r, out, p, 1)) return NULL;
  p++;
  if (p < end && *p == '}') return put(r, out, p, 1) ? p + 1 : NULL;
  while (!closed) {
    Span name;
    Bytes member = p, text;
    uint32_t at = (uint32_t)(out->at - start);
    p = member_name(p, end, &name);
    if (!p || !put(r, out, member, (size_t)(p - member))) return NULL;
    if (r->member_count == r->member_capacity) {
      Member *members = grown(r, r->members, &r->member_capacity, r->member_count + 1, sizeof *members);
      if (!members) return NULL;
      r->members = members;
    }
    r->members[r->member_count].name = name.at;
    r->members[r->member_count].name_length = (uint32_t)name.length;
    r->members[r->member_count].at = at;
    if (r->member_count > first) sorted &= by_name(&r->members[r->member_count - 1], &r->members[r->member_count]) < 0;
    r->member_count++;
    text = p;
    count = r->member_count;
    p = value(r, p, out, depth);
    if (!p) return NULL;
    r->members[count - 1].length = (uint32_t)(out->at - start) - at;
    for (k = 0; keys && k < 2; k++)
      if ((int64_t)name.length == r->batch->key_length[k] && !memcmp(name.at, r->batch->key[k], name.length)) {
        keys[k].at = text;
        keys[k].length = (size_t)(p - text);
      }
    p = separator(p, end, '}', &closed);
    if (!p || !put(r, out, p - 1, 1)) return NULL;
  }
  count = r->member_count - first;
  if (!sorted && (!sort_members(r->members + first, count) || !rewrite(r, start, out, r->members + first, count))) return NULL;
  r->member_count = first;
  return p;
}

/* --- one record */

typedef struct {
  Span event_id, event_name, table, sequence, shard;
  int64_t time, unit_us, changed_us, arrived_us;
  int ttl, has_stamp, has_arrival, has_new, has_old;
  Span in_keys[2], in_new[2], in_old[2]; /* the values of the key attributes, in the object */
  Output out[TEXT_COLUMNS];
} Record;

static Output room(const Batch *b, int column) {
  const TextColumn *c = &b->text[column];
  Output out;
  out.at = c->bytes + c->offsets[b->rows];
  out.end = c->bytes + c->capacity;
  return out;
}

/* An image or null. */
static Bytes image(Reader *r, Bytes p, Output *out, Span *keys, int *present) {
  if (begins(p, r->end, "null")) return p + 4;
  *present = 1;
  return map(r, p, out, 0, keys);
}

/* The object `dynamodb`. */
static Bytes body(Reader *r, Bytes p, Record *found) {
  int seen = 0, closed = 0, bit;
  int64_t size_bytes;
  Bytes end = r->end;
  if (p >= end || *p != '{') return NULL;
  p++;
  while (!closed) {
    Span name;
    p = member_name(p, end, &name);
    if (!p) return NULL;
    if (is(name, "ApproximateCreationDateTime")) {
      bit = 1;
      p = integer(p, end, &found->time);
    } else if (is(name, "Keys")) {
      bit = 2;
      p = map(r, p, &found->out[KEYS], 0, found->in_keys);
    } else if (is(name, "NewImage")) {
      bit = 4;
      p = image(r, p, &found->out[NEW_IMAGE], found->in_new, &found->has_new);
    } else if (is(name, "OldImage")) {
      bit = 8;
      p = image(r, p, &found->out[OLD_IMAGE], found->in_old, &found->has_old);
    } else if (is(name, "SizeBytes")) {
      bit = 16;
      p = integer(p, end, &size_bytes);
    } else if (is(name, "ApproximateCreationDateTimePrecision")) {
      bit = 32;
      if (begins(p, end, "\"MICROSECOND\"")) found->unit_us = 1;
      else if (!begins(p, end, "\"MILLISECOND\"")) return NULL;
      p += 13;
    } else
      return NULL;
    if (!p || seen & bit) return NULL;
    seen |= bit;
    p = separator(p, end, '}', &closed);
    if (!p) return NULL;
  }
  return (seen & 3) == 3 ? p : NULL;
}

/* The arrival stamp that our transform adds (arrival_stamp.py). */
static Bytes stamp(Reader *r, Bytes p, Record *found) {
  int seen = 0, closed = 0, bit;
  size_t i;
  Bytes end = r->end;
  if (p >= end || *p != '{') return NULL;
  p++;
  while (!closed) {
    Span name;
    p = member_name(p, end, &name);
    if (!p) return NULL;
    if (is(name, "sequenceNumber")) {
      bit = 1;
      p = plain_string(p, end, &found->sequence);
      if (!p || !found->sequence.length || found->sequence.length > LONGEST_SEQUENCE) return NULL;
      for (i = 0; i < found->sequence.length; i++)
        if (found->sequence.at[i] < '0' || found->sequence.at[i] > '9') return NULL;
    } else if (is(name, "shardId")) {
      bit = 2;
      p = plain_string(p, end, &found->shard);
      if (!p || !found->shard.length) return NULL;
    } else if (is(name, "approximateArrivalTimestamp")) {
      bit = 4;
      p = integer(p, end, &found->arrived_us);
      if (!p || found->arrived_us < EARLIEST_US / 1000 || found->arrived_us >= END_US / 1000) return NULL;
      found->arrived_us *= 1000;
      found->has_arrival = 1;
    } else
      return NULL;
    if (seen & bit) return NULL;
    seen |= bit;
    p = separator(p, end, '}', &closed);
    if (!p) return NULL;
  }
  return p;
}

/* The members of a record. */
static Bytes envelope(Reader *r, Bytes p, Record *found) {
  int seen = 0, closed = 0, bit;
  Bytes end = r->end;
  p++;
  while (!closed) {
    Span name, ignored;
    p = member_name(p, end, &name);
    if (!p) return NULL;
    if (is(name, "dynamodb")) {
      bit = 1;
      p = body(r, p, found);
    } else if (is(name, "eventID")) {
      bit = 2;
      p = plain_string(p, end, &found->event_id);
    } else if (is(name, "eventName")) {
      bit = 4;
      p = plain_string(p, end, &found->event_name);
    } else if (is(name, "tableName")) {
      bit = 8;
      p = plain_string(p, end, &found->table);
    } else if (is(name, "userIdentity")) {
      bit = 16;
      if (begins(p, end, "null"))
        p += 4;
      else if (begins(p, end, "{\"type\":\"Service\",\"principalId\":\"dynamodb.amazonaws.com\"}") ||
               begins(p, end, "{\"principalId\":\"dynamodb.amazonaws.com\",\"type\":\"Service\"}")) {
        found->ttl = 1;
        p += 57;
      } else
        return NULL;
    } else if (is(name, "kinesisRecordMetadata")) {
      bit = 32;
      p = stamp(r, p, found);
    } else if (is(name, "awsRegion")) {
      bit = 64;
      p = plain_string(p, end, &ignored);
    } else if (is(name, "recordFormat")) {
      bit = 128;
      p = plain_string(p, end, &ignored);
    } else if (is(name, "eventSource")) {
      bit = 256;
      p = plain_string(p, end, &ignored);
    } else
      return NULL;
    if (!p || seen & bit) return NULL;
    seen |= bit;
    p = separator(p, end, '}', &closed);
    if (!p) return NULL;
  }
  return (seen & 15) == 15 ? p : NULL;
}

static int same(Span a, Span b) { return a.length == b.length && a.at && b.at && !memcmp(a.at, b.at, a.length); }

static size_t decimal(uint64_t v, uint8_t *out) {
  uint8_t digits[20];
  size_t n = 0, i;
  do digits[n++] = (uint8_t)('0' + v % 10);
  while (v /= 10);
  for (i = 0; i < n; i++) out[i] = digits[n - 1 - i];
  return n;
}

/* The key's text (primary_key.key_text). Returns 0 if Keys and the images do not have exactly the table's key, of S or N. */
static int key_text(Reader *r, Record *found) {
  const Batch *b = r->batch;
  int i, count = b->key_length[1] < 0 ? 1 : 2;
  int64_t attributes = 0;
  for (i = 0; i < count; i++) {
    Span v = found->in_keys[i];
    uint8_t head[24];
    size_t n = 1, k;
    uint64_t characters = 0;
    if (!v.at || v.length < 8 || v.at[3] != '"' || (v.at[2] != 'S' && v.at[2] != 'N')) return 0;
    if ((found->has_new && !same(v, found->in_new[i])) || (found->has_old && !same(v, found->in_old[i]))) return 0;
    attributes += b->key_length[i] + (int64_t)v.length + 3; /* "name":value */
    head[0] = v.at[2];
    v.at += 6; /* from {"S":"text"} to text */
    v.length -= 8;
    if (memchr(v.at, '\\', v.length)) return 0;
    for (k = 0; k < v.length; k++) characters += (v.at[k] & 0xC0) != 0x80;
    n += decimal(characters, head + n);
    head[n++] = ':';
    if (!put(r, &found->out[KEY_TEXT], head, n) || !put(r, &found->out[KEY_TEXT], v.at, v.length)) return 0;
  }
  /* braces, a comma and these attributes are all of Keys */
  return found->out[KEYS].at - (b->text[KEYS].bytes + b->text[KEYS].offsets[b->rows]) == attributes + 1 + count;
}

static int by_bytes(const void *a, const void *b) {
  const Span *x = a, *y = b;
  return compared(x->at, x->length, y->at, y->length);
}

/* Add a text that this kernel wrote to the hash, with its sets in order and without repetitions (attributes.with_sorted_sets). */
static int add_sorted(Reader *r, Blake *id, Bytes p, Bytes end) {
  Bytes done = p;
  while (p < end) {
    Span tag;
    size_t count = 0, i;
    int closed = 0, escaped = 0;
    if (*p != '"') {
      p++;
      continue;
    }
    tag.at = p + 1;
    p = string(p + 1, end, &escaped);
    tag.length = (size_t)(p - tag.at);
    p++;
    if (end - p < 2 || p[0] != ':' || p[1] != '[' || !(is(tag, "SS") || is(tag, "NS"))) continue;
    p += 2;
    blake_add(id, done, (size_t)(p - done));
    while (!closed) {
      if (count == r->span_capacity) {
        Span *spans = grown(r, r->spans, &r->span_capacity, count + 1, sizeof *spans);
        if (!spans) return 0;
        r->spans = spans;
      }
      p = separator(plain_string(p, end, &r->spans[count++]), end, ']', &closed);
    }
    qsort(r->spans, count, sizeof *r->spans, by_bytes);
    for (i = 0; i < count; i++) {
      if (i && !by_bytes(&r->spans[i - 1], &r->spans[i])) continue;
      blake_add(id, i ? ",\"" : "\"", i ? 2 : 1);
      blake_add(id, r->spans[i].at, r->spans[i].length);
      blake_add(id, "\"", 1);
    }
    done = p - 1;
  }
  blake_add(id, done, (size_t)(end - done));
  return 1;
}

/* The record's id (identity.record_id). */
static int record_id(Reader *r, const Record *found) {
  const Batch *b = r->batch;
  Blake id;
  uint8_t time[20];
  int column;
  blake_start(&id);
  blake_add(&id, "[\"", 2);
  blake_add(&id, found->event_id.at, found->event_id.length);
  blake_add(&id, "\",\"", 3);
  blake_add(&id, found->event_name.at, found->event_name.length);
  blake_add(&id, "\",", 2);
  blake_add(&id, time, decimal((uint64_t)found->changed_us, time));
  blake_add(&id, ",null,null,null", 15); /* sequence number, asserted time, Kinesis sequence */
  for (column = KEYS; column <= OLD_IMAGE; column++) {
    Bytes start = b->text[column].bytes + b->text[column].offsets[b->rows], end = found->out[column].at;
    blake_add(&id, ",", 1);
    if ((column == NEW_IMAGE && !found->has_new) || (column == OLD_IMAGE && !found->has_old))
      blake_add(&id, "null", 4);
    else if (!r->unsorted_set)
      blake_add(&id, start, (size_t)(end - start));
    else if (!add_sorted(r, &id, start, end))
      return 0;
  }
  blake_add(&id, "]", 1);
  blake_end(&id, b->record_id + 32 * b->rows);
  return 1;
}

static void set_bit(uint8_t *bits, int64_t row, int value) {
  if (row % 8 == 0) bits[row / 8] = 0;
  if (value) bits[row / 8] = (uint8_t)(bits[row / 8] | 1 << (row % 8));
}

/* The record at `p`, into the row behind the last one. It is not counted yet. */
static Bytes record(Reader *r, Bytes p, Record *found, int *event) {
  const Batch *b = r->batch;
  int column;
  r->unsorted_set = 0;
  r->member_count = 0;
  memset(found, 0, sizeof *found);
  found->unit_us = 1000;
  for (column = 0; column < TEXT_COLUMNS; column++) found->out[column] = room(b, column);
  p = envelope(r, p, found);
  if (!p) return NULL;
  if ((int64_t)found->table.length != b->table_length || memcmp(found->table.at, b->table, found->table.length)) return NULL;
  if (is(found->event_name, "INSERT")) *event = 0;
  else if (is(found->event_name, "MODIFY")) *event = 1;
  else if (is(found->event_name, "REMOVE")) *event = 2;
  else return NULL;
  if (found->has_new != (*event != 2)) return NULL;
  if (found->time >= END_US / found->unit_us) return NULL;
  found->changed_us = found->time * found->unit_us;
  if (found->changed_us < EARLIEST_US) return NULL;
  if (found->changed_us > (found->has_arrival ? found->arrived_us + b->after_arrival_us : b->latest_us)) return NULL;
  if (!key_text(r, found) || !record_id(r, found)) return NULL;
  if (!put(r, &found->out[EVENT_ID], found->event_id.at, found->event_id.length)) return NULL;
  if (found->sequence.length && !put(r, &found->out[KINESIS_SEQUENCE], found->sequence.at, found->sequence.length)) return NULL;
  if (found->shard.length && !put(r, &found->out[SHARD], found->shard.at, found->shard.length)) return NULL;
  return p;
}

/* Count the record as the next row. */
static void add_row(Batch *b, const Record *found, int event, int64_t offset) {
  int64_t row = b->rows, since = found->has_arrival ? found->arrived_us : found->changed_us;
  int column;
  Bytes key = b->text[KEY_TEXT].bytes + b->text[KEY_TEXT].offsets[row];
  b->event[row] = (int8_t)event;
  b->changed_us[row] = found->changed_us;
  set_bit(b->ttl, row, found->ttl && event == 2);
  b->arrived_us[row] = found->arrived_us;
  set_bit(b->arrived_valid, row, found->has_arrival);
  b->offset[row] = offset;
  b->key_hash[row] = key_hash(key, (size_t)(found->out[KEY_TEXT].at - key));
  b->object_place[row] = (int32_t)b->place;
  for (column = 0; column < TEXT_COLUMNS; column++) {
    int valid = column == NEW_IMAGE          ? found->has_new
                : column == OLD_IMAGE        ? found->has_old
                : column == KINESIS_SEQUENCE ? found->sequence.length > 0
                : column == SHARD            ? found->shard.length > 0
                                             : 1;
    b->text[column].offsets[row + 1] = (int32_t)(found->out[column].at - b->text[column].bytes);
    set_bit(b->text[column].valid, row, valid);
  }
  if (since < b->earliest_us) b->earliest_us = since;
  b->rows = row + 1;
}

/* Whether the splitter ends an object before `p`: at the line's end, or where `{"name":` follows (splitter.py, _JOINT). */
static int ends_before(Bytes p, Bytes end) {
  while (p < end && (*p == ' ' || *p == '\t' || *p == '\r')) p++;
  if (p >= end || *p == '\n') return 1;
  if (*p++ != '{') return 0;
  while (p < end && (*p == ' ' || *p == '\t' || *p == '\r')) p++;
  if (p >= end || *p++ != '"') return 0;
  while (p < end && *p != '"' && *p != '\\' && *p != '\n') p++;
  if (p >= end || *p++ != '"') return 0;
  while (p < end && (*p == ' ' || *p == '\t' || *p == '\r')) p++;
  return p < end && *p == ':';
}

EXPORT int64_t ddb_lake_version(void) { return VERSION; }

EXPORT int64_t ddb_lake_batch_bytes(void) { return (int64_t)sizeof(Batch); }

/* Read records from `start` until the end, an unknown byte, or the end of the room. Returns the number of rows added. */
EXPORT int64_t ddb_lake_read_records(Batch *b) {
  Bytes p = b->data + b->start, end = b->data + b->size, after;
  int64_t before = b->rows;
  Reader r;
  Record found;
  int event = 0;
  memset(&r, 0, sizeof r);
  r.batch = b;
  r.end = end;
  b->resume = b->start;
  b->earliest_us = INT64_MAX;
  for (;;) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')) p++;
    b->reason = ENDED;
    if (p >= end) break;
    b->reason = UNKNOWN;
    if (*p != '{') break;
    r.reason = b->rows == b->row_capacity ? FULL : UNKNOWN;
    after = r.reason == FULL ? NULL : record(&r, p, &found, &event);
    if (!after) b->reason = r.reason;
    if (!after || after - p > LONGEST_RECORD || !ends_before(after, end)) break;
    add_row(b, &found, event, p - b->data);
    p = after;
    b->resume = p - b->data;
  }
  free(r.members);
  free(r.scratch);
  free(r.spans);
  return b->rows - before;
}

/* --- items as DynamoDB JSON, read into columns of known attributes (items.py) */

#define ITEM_LEVELS 8    /* of maps and lists in an item: fast_path.py, _LEVELS */
#define MOST_NAMES 64    /* members of a map that is kept as text; of a larger one, the names are not compared */

enum { TAG_S, TAG_N, TAG_B, TAG_BOOL, TAG_NULL, TAG_SS, TAG_NS, TAG_BS, TAG_MAP, TAG_LIST, TAGS }; /* items.py has the same order */

typedef struct { /* a known attribute; the first one is the item */
  Bytes name;
  int64_t name_length;
  int32_t column[TAGS]; /* by type tag, the column of its values; negative if the tag is not expected */
  int32_t first;        /* the first of its members, which follow each other */
  int32_t members;      /* of a map whose members are known, which has no column */
} Attribute;

enum { AS_TEXT, AS_LONG, AS_DECIMAL, AS_BOOLEAN, AS_TEXTS }; /* what a column holds; items.py has the same order */

/* An Arrow column with a value for each document. A text is a view of 16 bytes: https://arrow.apache.org/docs/format/Columnar.html,
   "Variable-size Binary View Layout". Its buffer is number 0, the documents, or 1, `unescaped`. */
typedef struct {
  int32_t kind;
  int32_t whole, scale; /* the digits of a decimal before and behind its point */
  uint8_t *valid;       /* bits */
  uint8_t *values;      /* views, integers of 64 or 128 bits, bits, or for texts where those of each document begin: rows + 1 times 32 bits */
  uint8_t *texts;       /* the views of the texts of all documents */
  int64_t capacity;     /* of `texts`, in views */
  int64_t count;        /* the result: the views that there are; those beyond the capacity were not written */
} Column;

typedef struct {
  /* the documents, as an Arrow array of strings */
  Bytes data;
  const int32_t *offsets; /* one more than rows */
  int64_t rows;
  Bytes member; /* the only member of a document, which is the item */
  int64_t member_length; /* negative: the document is the item */
  const Attribute *attributes;
  int64_t attribute_count;
  Column *columns;
  int64_t column_count;
  /* the result */
  uint8_t *read;      /* bits: the document is an item of known attributes, and its values are there */
  uint8_t *unescaped; /* the texts that had escapes; as many bytes as the documents have */
} Items;

typedef struct { /* of a column, in the document that is being read */
  Bytes at; /* its text; NULL if there is no value */
  size_t length;
  int32_t buffer;     /* where the text is */
  uint64_t low, high; /* of a number */
} Value;

typedef struct {
  const Items *items;
  Bytes end;
  Value *found;       /* by column */
  int64_t *seen;      /* by attribute: the last row that has it */
  int64_t row;
  uint8_t *unescaped; /* behind the texts so far */
} ItemReader;

/* A string in base64, at its opening quotation mark: fast_path.py, _BINARY. */
static Bytes base64_string(Bytes p, Bytes end) {
  Bytes start;
  if (p >= end || *p != '"') return NULL;
  start = ++p;
  while (p < end && ((*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || *p == '+' || *p == '/'))
    p++;
  switch ((p - start) % 4) {
    case 1: return NULL;
    case 2:
      if (!begins(p, end, "==")) return NULL;
      p += 2;
      break;
    case 3:
      if (!begins(p, end, "=")) return NULL;
      p++;
      break;
    default: break;
  }
  return p < end && *p == '"' ? p + 1 : NULL;
}

static Bytes number_string(Bytes p, Bytes end) {
  if (p >= end || *p != '"') return NULL;
  p = number(p + 1, end);
  return p && p < end && *p == '"' ? p + 1 : NULL;
}

/* The type tag at a value's opening brace, and the colon behind it. */
static Bytes type_tag(Bytes p, Bytes end, int *tag) {
  static const struct { const char *text; int length, tag; } FORMS[] = {
      {"{\"S\":", 5, TAG_S},   {"{\"N\":", 5, TAG_N},     {"{\"M\":", 5, TAG_MAP},   {"{\"L\":", 5, TAG_LIST},
      {"{\"B\":", 5, TAG_B},   {"{\"SS\":", 6, TAG_SS},   {"{\"NS\":", 6, TAG_NS},   {"{\"BS\":", 6, TAG_BS},
      {"{\"BOOL\":", 8, TAG_BOOL}, {"{\"NULL\":", 8, TAG_NULL}};
  size_t i;
  for (i = 0; i < sizeof FORMS / sizeof *FORMS; i++)
    if (end - p >= FORMS[i].length && !memcmp(p, FORMS[i].text, (size_t)FORMS[i].length)) {
      *tag = FORMS[i].tag;
      return p + FORMS[i].length;
    }
  return NULL;
}

static Bytes boolean(Bytes p, Bytes end) {
  return begins(p, end, "true") ? p + 4 : begins(p, end, "false") ? p + 5 : NULL;
}

/* A set, at its opening bracket. */
static Bytes any_set(Bytes p, Bytes end, int tag) {
  int closed = 0;
  Span member;
  if (p >= end || *p != '[') return NULL;
  p++;
  if (p < end && *p == ']') return p + 1;
  while (!closed) {
    p = tag == TAG_SS ? plain_string(p, end, &member) : tag == TAG_NS ? number_string(p, end) : base64_string(p, end);
    p = separator(p, end, ']', &closed);
    if (!p) return NULL;
  }
  return p;
}

static Bytes any_value(Bytes p, Bytes end, int levels);

/* A map whose names differ, at its opening brace. There are no escapes in it, so its text is canonical. */
static Bytes any_map(Bytes p, Bytes end, int levels) {
  Span names[MOST_NAMES];
  size_t count = 0, i;
  int closed = 0;
  if (p >= end || *p != '{') return NULL;
  p++;
  if (p < end && *p == '}') return p + 1;
  while (!closed) {
    if (count == MOST_NAMES || !(p = member_name(p, end, &names[count]))) return NULL;
    for (i = 0; i < count; i++)
      if (names[i].length == names[count].length && !memcmp(names[i].at, names[count].at, names[count].length)) return NULL;
    count++;
    p = separator(any_value(p, end, levels), end, '}', &closed);
    if (!p) return NULL;
  }
  return p;
}

static Bytes any_list(Bytes p, Bytes end, int levels) {
  int closed = 0;
  if (p >= end || *p != '[') return NULL;
  p++;
  if (p < end && *p == ']') return p + 1;
  while (!closed) {
    p = separator(any_value(p, end, levels), end, ']', &closed);
    if (!p) return NULL;
  }
  return p;
}

/* What follows a type tag, except a string. `levels`: of maps and lists that may be opened. */
static Bytes content(Bytes p, Bytes end, int tag, int levels) {
  switch (tag) {
    case TAG_N: return number_string(p, end);
    case TAG_B: return base64_string(p, end);
    case TAG_BOOL:
    case TAG_NULL: return boolean(p, end);
    case TAG_SS:
    case TAG_NS:
    case TAG_BS: return any_set(p, end, tag);
    case TAG_MAP: return levels ? any_map(p, end, levels - 1) : NULL;
    case TAG_LIST: return levels ? any_list(p, end, levels - 1) : NULL;
    default: return NULL;
  }
}

static Bytes any_value(Bytes p, Bytes end, int levels) {
  int tag = 0;
  Span text;
  p = p ? type_tag(p, end, &tag) : NULL;
  if (!p) return NULL;
  p = tag == TAG_S ? plain_string(p, end, &text) : content(p, end, tag, levels);
  return p && p < end && *p == '}' ? p + 1 : NULL;
}

/* A string with its escapes resolved, at its opening quotation mark. */
static Bytes item_string(ItemReader *r, Bytes p, Value *text) {
  int escaped = 0;
  Bytes close;
  uint8_t *out;
  if (p >= r->end || *p != '"') return NULL;
  close = string(p + 1, r->end, &escaped);
  if (!close) return NULL;
  text->at = p + 1;
  text->length = (size_t)(close - p - 1);
  text->buffer = escaped;
  if (!escaped) return close + 1;
  out = r->unescaped;
  text->at = out;
  for (p++; p < close; p++) {
    if (*p != '\\') {
      *out++ = *p;
      continue;
    }
    switch (*++p) {
      case 'b': *out++ = '\b'; break;
      case 'f': *out++ = '\f'; break;
      case 'n': *out++ = '\n'; break;
      case 'r': *out++ = '\r'; break;
      case 't': *out++ = '\t'; break;
      default: *out++ = *p;
    }
  }
  text->length = (size_t)(out - r->unescaped);
  r->unescaped = out;
  return close + 1;
}

/* An unsigned number of 128 bits, times ten and plus a digit. */
static void add_digit(Value *v, unsigned digit) {
  uint64_t low, middle;
  if (!v->high && v->low < (UINT64_C(1) << 60)) {
    v->low = v->low * 10 + digit;
    return;
  }
  low = (v->low & 0xffffffffU) * 10 + digit;
  middle = (v->low >> 32) * 10 + (low >> 32);
  v->low = (middle << 32) | (low & 0xffffffffU);
  v->high = v->high * 10 + (middle >> 32);
}

/* The integer of a canonical number times ten to the power of `scale`; 0 if the number has more digits than a column holds. */
static int scaled(Value *v, int whole, int scale) {
  Bytes p = v->at, end = p + v->length;
  int negative = *p == '-', digits = 0, fraction = 0;
  v->low = v->high = 0;
  p += negative;
  if (*p == '0') p++;
  for (; p < end && *p != '.'; p++, digits++) add_digit(v, *p - '0');
  if (p < end)
    for (p++; p < end; p++, fraction++) add_digit(v, *p - '0');
  if (digits > whole || fraction > scale) return 0;
  for (; fraction < scale; fraction++) add_digit(v, 0);
  if (negative) {
    v->low = ~v->low + 1;
    v->high = ~v->high + !v->low;
  }
  return 1;
}

/* Whether a column holds a canonical number exactly; if so, its integer. */
static int fits(const Column *c, Value *v) {
  if (c->kind == AS_DECIMAL) return scaled(v, c->whole, c->scale);
  return scaled(v, 19, 0) && v->high == (v->low >> 63 ? UINT64_MAX : 0);
}

static Bytes item_map(ItemReader *r, Bytes p, const Attribute *a, int levels);

/* The value of a known attribute, at its opening brace. */
static Bytes item_value(ItemReader *r, Bytes p, const Attribute *a, int levels) {
  int tag = 0;
  int32_t column;
  Bytes start;
  p = p ? type_tag(p, r->end, &tag) : NULL;
  if (!p) return NULL;
  start = p;
  column = a->column[tag];
  if (tag == TAG_MAP && a->members)
    p = levels ? item_map(r, p, a, levels - 1) : NULL;
  else if (column < 0)
    return NULL;
  else if (tag == TAG_S)
    p = item_string(r, p, &r->found[column]);
  else {
    int quoted = tag == TAG_N || tag == TAG_B;
    const Column *c = r->items->columns + column;
    Value *found = r->found + column;
    p = content(p, r->end, tag, levels);
    if (!p) return NULL;
    found->at = start + quoted;
    found->length = (size_t)(p - start) - 2 * (size_t)quoted;
    found->buffer = 0;
    if ((c->kind == AS_LONG || c->kind == AS_DECIMAL) && !fits(c, found)) return NULL;
  }
  return p && p < r->end && *p == '}' ? p + 1 : NULL;
}

/* A map with at least one member, each of them known and there once, at its opening brace. */
static Bytes item_map(ItemReader *r, Bytes p, const Attribute *a, int levels) {
  const Attribute *first = r->items->attributes + a->first;
  int32_t next = 0, i;
  int closed = 0;
  if (p >= r->end || *p != '{') return NULL;
  p++;
  while (!closed) {
    Span name;
    p = member_name(p, r->end, &name);
    if (!p) return NULL;
    for (i = 0; i < a->members; i++) { /* most items have their attributes in one order */
      if (next == a->members) next = 0;
      if (first[next].name_length == (int64_t)name.length && !memcmp(first[next].name, name.at, name.length)) break;
      next++;
    }
    if (i == a->members || r->seen[a->first + next] == r->row) return NULL;
    r->seen[a->first + next] = r->row;
    p = separator(item_value(r, p, first + next, levels), r->end, '}', &closed);
    if (!p) return NULL;
    next++;
  }
  return p;
}

static Bytes document(ItemReader *r, Bytes p) {
  const Items *items = r->items;
  Span name;
  if (items->member_length < 0) return item_map(r, p, items->attributes, ITEM_LEVELS);
  if (p >= r->end || *p != '{') return NULL;
  p = member_name(p + 1, r->end, &name);
  if (!p || (int64_t)name.length != items->member_length || memcmp(name.at, items->member, name.length)) return NULL;
  p = item_map(r, p, items->attributes, ITEM_LEVELS);
  return p && p < r->end && *p == '}' ? p + 1 : NULL;
}

/* A text of a buffer, as a view. */
static void put_view(uint8_t *view, Bytes text, size_t length, int32_t buffer, Bytes buffer_start) {
  int32_t size = (int32_t)length, offset;
  memset(view, 0, 16);
  memcpy(view, &size, 4);
  if (length <= 12) {
    memcpy(view + 4, text, length);
    return;
  }
  offset = (int32_t)(text - buffer_start);
  memcpy(view + 4, text, 4);
  memcpy(view + 8, &buffer, 4);
  memcpy(view + 12, &offset, 4);
}

/* The texts of a set that was read, at its opening bracket. */
static void put_texts(Column *c, Bytes p, Bytes end, Bytes data) {
  while (++p < end && *p == '"') {
    Bytes close = memchr(p + 1, '"', (size_t)(end - p - 1)); /* a set has no escapes */
    if (c->count < c->capacity) put_view(c->texts + 16 * c->count, p + 1, (size_t)(close - p - 1), 0, data);
    c->count++;
    p = close + 1; /* a comma or the closing bracket */
  }
}

/* Write a value, or NULL, into the row of a column. */
static void put_value(const Items *items, Column *c, int64_t row, const Value *v) {
  int valid = v && v->at;
  set_bit(c->valid, row, valid);
  switch (c->kind) {
    case AS_TEXT:
      if (valid) put_view(c->values + 16 * row, v->at, v->length, v->buffer, v->buffer ? items->unescaped : items->data);
      else memset(c->values + 16 * row, 0, 16);
      break;
    case AS_LONG:
      if (valid) memcpy(c->values + 8 * row, &v->low, 8);
      else memset(c->values + 8 * row, 0, 8);
      break;
    case AS_DECIMAL:
      if (valid) {
        memcpy(c->values + 16 * row, &v->low, 8);
        memcpy(c->values + 16 * row + 8, &v->high, 8);
      } else
        memset(c->values + 16 * row, 0, 16);
      break;
    case AS_BOOLEAN: set_bit(c->values, row, valid && *v->at == 't'); break;
    default: {
      int32_t count;
      if (valid) put_texts(c, v->at, v->at + v->length, items->data);
      count = (int32_t)c->count;
      memcpy(c->values + 4 * (row + 1), &count, 4);
    }
  }
}

EXPORT int64_t ddb_lake_items_bytes(void) { return (int64_t)(sizeof(Items) + sizeof(Column) + sizeof(Attribute)); }

/* Read documents. The values of one that is not recognised entirely are NULL, and its bit in `read` is 0. Returns the number of
   those that were read; a negative number if there is no memory. */
EXPORT int64_t ddb_lake_read_items(const Items *items) {
  int64_t row, i, count = 0;
  ItemReader r;
  r.items = items;
  r.unescaped = items->unescaped;
  r.found = malloc(((size_t)items->column_count + 1) * sizeof *r.found);
  r.seen = malloc(((size_t)items->attribute_count + 1) * sizeof *r.seen);
  if (r.found && r.seen) {
    for (i = 0; i < items->attribute_count; i++) r.seen[i] = -1;
    for (i = 0; i < items->column_count; i++) {
      items->columns[i].count = 0;
      if (items->columns[i].kind == AS_TEXTS) memset(items->columns[i].values, 0, 4);
    }
    for (row = 0; row < items->rows; row++) {
      Bytes p = items->data + items->offsets[row];
      uint8_t *unescaped = r.unescaped;
      r.end = items->data + items->offsets[row + 1];
      r.row = row;
      for (i = 0; i < items->column_count; i++) r.found[i].at = NULL;
      p = document(&r, p);
      if (p != r.end) p = NULL;
      set_bit(items->read, row, p != NULL);
      if (p) count++;
      else r.unescaped = unescaped;
      for (i = 0; i < items->column_count; i++) put_value(items, items->columns + i, row, p ? r.found + i : NULL);
    }
  } else
    count = -1;
  free(r.found);
  free(r.seen);
  return count;
}
