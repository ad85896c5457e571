/* What has arrived: every (message, recipient) pair, and for every message its first and last copy. Exact, in memory. */
#ifndef BENCH_COUNTING_H
#define BENCH_COUNTING_H

#include <stdint.h>
#include <stdio.h>

/* An open-addressing table of hashes; a place that holds 0 is empty. */
struct pairs {
    uint64_t *places;
    size_t size, used;
};

struct message {
    uint64_t id;
    double first, last;
    uint64_t copies;
};

struct messages {
    struct message *places;
    size_t size, used;
};

struct counts {
    struct pairs pairs;
    struct messages messages;
    uint64_t copies, twice, transactions, nameless;
    double first, last;
};

struct verdict {
    uint64_t expected, lost, unexpected;
};

/* Count one transaction: all of it, or nothing when there is no memory (-1). A message id of 0 stands for a message that had none. */
int count_transaction(struct counts *c, uint64_t message, const uint64_t *recipients, size_t n, double at);

void counts_reset(struct counts *c);

/* Write a line "id first last copies" for every message; 0, or -1. */
int counts_dump(const struct counts *c, const char *path);

/* Compare with what was to arrive. The file has lines "G" (a new group follows, numbered from 0), "R address" (a recipient of it) and "M group id"
 * (a message to it). 0, or -1 when the file cannot be read. */
int counts_check(const struct counts *c, const char *path, struct verdict *v);

#endif
