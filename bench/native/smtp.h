/* What the sink understands of SMTP: one session's state, command by command and message by message. */
#ifndef BENCH_SMTP_H
#define BENCH_SMTP_H

#include "common.h"
#include "counting.h"

enum { MAX_HEAD = 1 << 20 };
enum state { COMMANDS, HEAD, BODY };

struct session {
    enum state state;
    struct buffer recipients; /* hashes */
    uint64_t message;         /* hash of the Message-ID of the transaction; 0 until it is known */
    int full;                 /* no memory for this transaction's recipients */
    int closing;              /* QUIT was said */
    int ended;                /* messages that have ended since somebody looked */
    uint64_t refused;         /* copies that there was no memory for */
};

/* One command line without its end; the reply, whole lines. */
const char *smtp_command(struct session *s, const char *line, size_t length);

/* Take what can be taken of a message's octets; how many were taken. `reply` is set when that ended the message. */
size_t smtp_data(struct session *s, struct counts *counted, const char *bytes, size_t length, const char **reply);

#endif
