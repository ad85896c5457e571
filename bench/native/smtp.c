#define _GNU_SOURCE
#include "smtp.h"

#include <strings.h>

static void forget_transaction(struct session *s) {
    s->recipients.length = 0;
    s->message = 0;
    s->full = 0;
}

/* RCPT TO:<address> parameters */
static const char *recipient(struct session *s, const char *line, size_t length) {
    const char *open = memchr(line, '<', length);
    const char *close = open ? memrchr(open, '>', length - (size_t)(open - line)) : NULL;
    if (!close) {
        return "501 5.1.3 Bad recipient address syntax\r\n";
    }
    uint64_t hash = hash_text(open + 1, (size_t)(close - open) - 1);
    if (buffer_add(&s->recipients, (char *)&hash, sizeof hash)) {
        s->full = 1;
        return "451 4.3.1 No memory\r\n";
    }
    return "250 2.1.5 Ok\r\n";
}

static int is(const char *line, size_t length, const char *verb) {
    return length >= strlen(verb) && !strncasecmp(line, verb, strlen(verb));
}

const char *smtp_command(struct session *s, const char *line, size_t length) {
    if (is(line, length, "RCPT TO:")) {
        return recipient(s, line, length);
    }
    if (is(line, length, "MAIL FROM:")) {
        forget_transaction(s);
        return "250 2.1.0 Ok\r\n";
    }
    if (is(line, length, "DATA")) {
        int any = s->recipients.length > 0 && !s->full;
        s->state = any ? HEAD : COMMANDS;
        return any ? "354 Go ahead\r\n" : "554 5.5.1 No valid recipients\r\n";
    }
    if (is(line, length, "EHLO")) {
        return "250-sink.example.test\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-DSN\r\n"
               "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n";
    }
    if (is(line, length, "QUIT")) {
        s->closing = 1;
        return "221 2.0.0 Bye\r\n";
    }
    if (is(line, length, "RSET") || is(line, length, "NOOP") || is(line, length, "HELO")) {
        forget_transaction(s);
        return "250 2.0.0 Ok\r\n";
    }
    return "500 5.5.2 Unknown command\r\n";
}

/* The hash of what stands between < and > after the field's name; 0 where there is no such field. */
static uint64_t message_id(const char *head, size_t length) {
    for (const char *line = head, *stop = head + length; line < stop;) {
        const char *feed = memchr(line, '\n', (size_t)(stop - line));
        if (is(line, (size_t)(stop - line), "Message-ID:")) {
            const char *open = memchr(line, '<', (size_t)(stop - line));
            const char *close = open ? memchr(open, '>', (size_t)(stop - open)) : NULL;
            return close ? hash_text(open + 1, (size_t)(close - open) - 1) : 0;
        }
        line = feed ? feed + 1 : stop;
    }
    return 0;
}

static const char *end_of_data(struct session *s, struct counts *counted) {
    size_t n = s->recipients.length / sizeof(uint64_t);
    int failed = count_transaction(counted, s->message, (uint64_t *)s->recipients.bytes, n, now());
    s->refused += failed ? n : 0;
    s->ended++;
    s->state = COMMANDS;
    forget_transaction(s);
    return failed ? "451 4.3.1 No memory\r\n" : "250 2.0.0 Ok\r\n";
}

size_t smtp_data(struct session *s, struct counts *counted, const char *bytes, size_t length, const char **reply) {
    if (s->state == HEAD) {
        const char *blank = memmem(bytes, length, "\r\n\r\n", 4);
        const char *dot = memmem(bytes, length, "\r\n.\r\n", 5);
        int empty = length >= 3 && !memcmp(bytes, ".\r\n", 3); /* a message of nothing has no line end before its dot */
        if (empty) {
            *reply = end_of_data(s, counted);
            return 3;
        }
        if (!blank && !dot && length < MAX_HEAD) {
            return 0;
        }
        s->message = message_id(bytes, blank ? (size_t)(blank - bytes) + 2 : length);
        s->state = BODY;
    }
    const char *dot = memmem(bytes, length, "\r\n.\r\n", 5);
    if (!dot) { /* all but the beginning of what may be the end */
        return length > 4 ? length - 4 : 0;
    }
    *reply = end_of_data(s, counted);
    return (size_t)(dot - bytes) + 5;
}
