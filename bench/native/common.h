/* What the sink and the source share: one clock, one hash, a table of hashes, a growing buffer.
 *
 * The clock is CLOCK_MONOTONIC, which is the same for all processes of a machine (Python's time.monotonic() reads it too), so the times of
 * both programs can be subtracted from each other.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* splitmix64's finalizer: every bit of the input changes half of the output. Never 0, which marks an empty place in a table. */
static inline uint64_t mix(uint64_t x) {
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ULL;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebULL;
    x ^= x >> 31;
    return x ? x : 1;
}

/* FNV-1a over the letters in lower case, mixed. At two million hashes the chance that any two agree is one in ten million. */
static inline uint64_t hash_text(const char *text, size_t length) {
    uint64_t h = 0xcbf29ce484222325ULL;
    for (size_t i = 0; i < length; i++) {
        h = (h ^ (uint64_t)tolower((unsigned char)text[i])) * 0x100000001b3ULL;
    }
    return mix(h);
}

/* The copy of one message for one recipient. */
static inline uint64_t hash_pair(uint64_t message, uint64_t recipient) {
    return mix(message + 0x9e3779b97f4a7c15ULL * recipient);
}

struct buffer {
    char *bytes;
    size_t length, capacity;
};

/* Room for `more` octets; 0, or -1 when there is no memory. */
static inline int buffer_reserve(struct buffer *b, size_t more) {
    if (b->capacity - b->length >= more) {
        return 0;
    }
    size_t capacity = b->capacity ? b->capacity : 256;
    while (capacity - b->length < more) {
        capacity *= 2;
    }
    char *bytes = realloc(b->bytes, capacity);
    if (!bytes) {
        return -1;
    }
    b->bytes = bytes;
    b->capacity = capacity;
    return 0;
}

static inline int buffer_add(struct buffer *b, const char *bytes, size_t length) {
    if (buffer_reserve(b, length)) {
        return -1;
    }
    memcpy(b->bytes + b->length, bytes, length);
    b->length += length;
    return 0;
}

static inline void buffer_drop(struct buffer *b, size_t length) {
    b->length -= length;
    memmove(b->bytes, b->bytes + length, b->length);
}

#endif
