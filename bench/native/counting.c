#define _GNU_SOURCE
#include "counting.h"

#include "common.h"

/* The place of a hash, or the empty place where it belongs. `places` are `stride` octets apart and begin with the hash. */
static void *place(void *places, size_t stride, size_t size, uint64_t hash) {
    for (size_t i = hash & (size - 1);; i = (i + 1) & (size - 1)) {
        uint64_t *at = (uint64_t *)((char *)places + i * stride);
        if (*at == hash || *at == 0) {
            return at;
        }
    }
}

/* A table with room for `more` entries at a load of at most two thirds; -1 when there is no memory. */
static int reserve(void **places, size_t stride, size_t *size, size_t used, size_t more) {
    if ((used + more) * 3 <= *size * 2) {
        return 0;
    }
    size_t larger = *size ? *size : 1 << 16;
    while ((used + more) * 3 > larger * 2) {
        larger *= 2;
    }
    char *fresh = calloc(larger, stride);
    if (!fresh) {
        return -1;
    }
    for (size_t i = 0; i < *size; i++) {
        char *old = (char *)*places + i * stride;
        if (*(uint64_t *)old) {
            memcpy(place(fresh, stride, larger, *(uint64_t *)old), old, stride);
        }
    }
    free(*places);
    *places = fresh;
    *size = larger;
    return 0;
}

static void count_message(struct counts *c, uint64_t id, size_t n, double at) {
    struct message *m = place(c->messages.places, sizeof *m, c->messages.size, id);
    if (!m->id) {
        *m = (struct message){.id = id, .first = at};
        c->messages.used++;
    }
    m->last = at;
    m->copies += n;
}

int count_transaction(struct counts *c, uint64_t message, const uint64_t *recipients, size_t n, double at) {
    if (reserve((void **)&c->pairs.places, sizeof(uint64_t), &c->pairs.size, c->pairs.used, n) ||
        reserve((void **)&c->messages.places, sizeof(struct message), &c->messages.size, c->messages.used, 1)) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t hash = hash_pair(message, recipients[i]);
        uint64_t *at_place = place(c->pairs.places, sizeof hash, c->pairs.size, hash);
        if (*at_place) {
            c->twice++;
        } else {
            *at_place = hash;
            c->pairs.used++;
        }
    }
    count_message(c, message ? message : 1, n, at);
    c->nameless += !message;
    c->transactions++;
    c->copies += n;
    c->first = c->first > 0 ? c->first : at;
    c->last = at;
    return 0;
}

void counts_reset(struct counts *c) {
    free(c->pairs.places);
    free(c->messages.places);
    *c = (struct counts){0};
}

int counts_dump(const struct counts *c, const char *path) {
    FILE *file = fopen(path, "w");
    if (!file) {
        return -1;
    }
    for (size_t i = 0; i < c->messages.size; i++) {
        const struct message *m = &c->messages.places[i];
        if (m->id) {
            fprintf(file, "%016llx %.6f %.6f %llu\n", (unsigned long long)m->id, m->first, m->last,
                    (unsigned long long)m->copies);
        }
    }
    return fclose(file) ? -1 : 0;
}

struct expectation {
    struct buffer recipients; /* hashes, group after group */
    struct buffer starts;     /* where each group begins in them, in hashes */
};

static int has(const struct counts *c, uint64_t hash) {
    return c->pairs.size && *(uint64_t *)place(c->pairs.places, sizeof hash, c->pairs.size, hash) == hash;
}

static int check_message(const struct counts *c, const struct expectation *e, size_t group, uint64_t id, struct verdict *v) {
    const size_t *starts = (const size_t *)e->starts.bytes;
    size_t groups = e->starts.length / sizeof(size_t), all = e->recipients.length / sizeof(uint64_t);
    if (group >= groups) {
        return -1;
    }
    const uint64_t *recipients = (const uint64_t *)e->recipients.bytes;
    for (size_t i = starts[group]; i < (group + 1 < groups ? starts[group + 1] : all); i++) {
        v->expected++;
        v->lost += !has(c, hash_pair(id, recipients[i]));
    }
    return 0;
}

static int check_line(const struct counts *c, struct expectation *e, char *line, size_t length, struct verdict *v) {
    if (line[0] == 'G') {
        size_t start = e->recipients.length / sizeof(uint64_t);
        return buffer_add(&e->starts, (char *)&start, sizeof start);
    }
    if (line[0] == 'R' && length > 2) {
        uint64_t hash = hash_text(line + 2, length - 2);
        return buffer_add(&e->recipients, (char *)&hash, sizeof hash);
    }
    char *id = NULL;
    size_t group = line[0] == 'M' ? strtoul(line + 1, &id, 10) : 0;
    if (!id || *id != ' ') {
        return -1;
    }
    return check_message(c, e, group, hash_text(id + 1, strlen(id + 1)), v);
}

int counts_check(const struct counts *c, const char *path, struct verdict *v) {
    FILE *file = fopen(path, "r");
    if (!file) {
        return -1;
    }
    struct expectation e = {0};
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    int failed = 0;
    *v = (struct verdict){0};
    while (!failed && (length = getline(&line, &capacity, file)) > 0) {
        if (line[length - 1] == '\n') {
            line[--length] = 0;
        }
        failed = length > 0 && check_line(c, &e, line, (size_t)length, v);
    }
    /* What was expected and arrived are pairs of the table; whatever else is in it was not expected. */
    v->unexpected = c->pairs.used - (v->expected - v->lost);
    free(line);
    free(e.recipients.bytes);
    free(e.starts.bytes);
    fclose(file);
    return failed ? -1 : 0;
}
