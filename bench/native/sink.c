/* An SMTP server that takes everything, keeps nothing and counts exactly: what a benchmark delivers to.
 *
 * sink PORT CONTROL_PORT DELAY_MS: SMTP on 127.0.0.1:PORT, one thread, one epoll loop. Every group of replies leaves DELAY_MS after the commands
 * that it answers came, each connection by itself: a next hop that is so far away. On CONTROL_PORT it takes lines and answers each with one:
 *   RESET            forget all                              -> ok
 *   STATS            the counts                              -> JSON
 *   WAIT n           the counts, once n different pairs came -> JSON
 *   MESSAGES path    first and last copy of every message    -> ok | error
 *   CHECK path       compare with what was to come           -> JSON | error
 * Mail that it has no memory for gets 451 and is not counted. It ends when its standard input does, so that it cannot be left behind.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"
#include "counting.h"

enum { READ_SIZE = 65536, MAX_EVENTS = 256, MAX_HEAD = 1 << 20, NO_TARGET = 0 };
enum kind { SMTP_LISTENER, CONTROL_LISTENER, STANDARD_INPUT, SMTP, CONTROL };
enum state { COMMANDS, HEAD, BODY };

struct connection {
    int fd;
    enum kind kind;
    enum state state;
    struct buffer in, out, recipients;
    uint64_t message; /* hash of the Message-ID of the transaction; 0 until it is known */
    uint64_t target;  /* pairs that a WAIT waits for */
    int full;         /* no memory for this transaction's recipients */
    int closing, writing, dead;
    int owed; /* delayed replies that still name this connection */
};

struct delayed {
    double due;
    struct connection *to;
    struct delayed *next;
    size_t length;
    char bytes[];
};

static struct counts counted;
static struct delayed *first_delayed, *last_delayed;
static struct connection *waiting;
static double delay;
static int poll_fd;
static uint64_t connections, refused;

/* --- connections ---------------------------------------------------------------------------------------------------- */
static int watch(int fd, enum kind kind) {
    struct connection *c = calloc(1, sizeof *c);
    if (!c) {
        close(fd);
        return -1;
    }
    *c = (struct connection){.fd = fd, .kind = kind};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    return epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
}

static void bury(struct connection *c) {
    if (c->dead && !c->owed) {
        free(c->in.bytes);
        free(c->out.bytes);
        free(c->recipients.bytes);
        free(c);
    }
}

static void end(struct connection *c) {
    if (!c->dead) {
        close(c->fd);
        c->dead = 1;
        waiting = waiting == c ? NULL : waiting;
    }
}

static void want_to_write(struct connection *c, int yes) {
    if (c->writing != yes) {
        struct epoll_event event = {.events = yes ? EPOLLOUT | EPOLLIN : EPOLLIN, .data.ptr = c};
        epoll_ctl(poll_fd, EPOLL_CTL_MOD, c->fd, &event);
        c->writing = yes;
    }
}

static void flush(struct connection *c) {
    while (c->out.length && !c->dead) {
        ssize_t sent = send(c->fd, c->out.bytes, c->out.length, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            want_to_write(c, 1);
            return;
        }
        if (sent < 0) {
            end(c);
            return;
        }
        buffer_drop(&c->out, (size_t)sent);
    }
    if (!c->dead) {
        want_to_write(c, 0);
        if (c->closing && !c->owed) {
            end(c);
        }
    }
}

static void say(struct connection *c, const char *text) {
    if (buffer_add(&c->out, text, strlen(text))) {
        end(c);
    }
}

/* Send what was said, now or after the delay. */
static void answer(struct connection *c) {
    if (c->dead || !c->out.length) {
        return;
    }
    if (delay <= 0 || c->kind != SMTP) {
        flush(c);
        return;
    }
    struct delayed *later = malloc(sizeof *later + c->out.length);
    if (!later) {
        end(c);
        return;
    }
    *later = (struct delayed){.due = now() + delay, .to = c, .length = c->out.length};
    memcpy(later->bytes, c->out.bytes, c->out.length);
    c->out.length = 0;
    c->owed++;
    if (last_delayed) {
        last_delayed->next = later;
    } else {
        first_delayed = later;
    }
    last_delayed = later;
}

static void send_due(void) {
    double at = first_delayed ? now() : 0;
    while (first_delayed && first_delayed->due <= at) {
        struct delayed *due = first_delayed;
        struct connection *c = due->to;
        first_delayed = due->next;
        last_delayed = first_delayed ? last_delayed : NULL;
        c->owed--;
        if (!c->dead) {
            buffer_add(&c->out, due->bytes, due->length) ? end(c) : flush(c);
        }
        free(due);
        bury(c);
    }
}

/* --- control -------------------------------------------------------------------------------------------------------- */
static void say_counts(struct connection *c) {
    char text[512];
    snprintf(text, sizeof text,
             "{\"copies\": %llu, \"pairs\": %zu, \"twice\": %llu, \"transactions\": %llu, \"messages\": %zu, \"nameless\": %llu, "
             "\"connections\": %llu, \"refused\": %llu, \"first\": %.6f, \"last\": %.6f}\n",
             (unsigned long long)counted.copies, counted.pairs.used, (unsigned long long)counted.twice,
             (unsigned long long)counted.transactions, counted.messages.used, (unsigned long long)counted.nameless,
             (unsigned long long)connections, (unsigned long long)refused, counted.first, counted.last);
    say(c, text);
}

static void wake_waiting(void) {
    if (waiting && counted.pairs.used >= waiting->target) {
        struct connection *c = waiting;
        waiting = NULL;
        say_counts(c);
        answer(c);
    }
}

static void say_verdict(struct connection *c, const char *path) {
    struct verdict v;
    char text[160];
    if (counts_check(&counted, path, &v)) {
        say(c, "error\n");
        return;
    }
    snprintf(text, sizeof text, "{\"expected\": %llu, \"lost\": %llu, \"unexpected\": %llu}\n",
             (unsigned long long)v.expected, (unsigned long long)v.lost, (unsigned long long)v.unexpected);
    say(c, text);
}

static void control_line(struct connection *c, char *line, size_t length) {
    line[length] = 0;
    if (!strcmp(line, "RESET")) {
        counts_reset(&counted);
        connections = refused = 0;
        say(c, "ok\n");
    } else if (!strcmp(line, "STATS")) {
        say_counts(c);
    } else if (!strncmp(line, "WAIT ", 5)) {
        c->target = strtoull(line + 5, NULL, 10);
        waiting = c;
        wake_waiting();
    } else if (!strncmp(line, "MESSAGES ", 9)) {
        say(c, counts_dump(&counted, line + 9) ? "error\n" : "ok\n");
    } else if (!strncmp(line, "CHECK ", 6)) {
        say_verdict(c, line + 6);
    } else {
        say(c, "error\n");
    }
}

/* --- SMTP ----------------------------------------------------------------------------------------------------------- */
static void forget_transaction(struct connection *c) {
    c->recipients.length = 0;
    c->message = 0;
    c->full = 0;
}

/* RCPT TO:<address> parameters */
static void recipient(struct connection *c, const char *line, size_t length) {
    const char *open = memchr(line, '<', length);
    const char *close = open ? memrchr(open, '>', length - (size_t)(open - line)) : NULL;
    if (!close) {
        say(c, "501 5.1.3 Bad recipient address syntax\r\n");
        return;
    }
    uint64_t hash = hash_text(open + 1, (size_t)(close - open) - 1);
    if (buffer_add(&c->recipients, (char *)&hash, sizeof hash)) {
        c->full = 1;
        say(c, "451 4.3.1 No memory\r\n");
        return;
    }
    say(c, "250 2.1.5 Ok\r\n");
}

static int is(const char *line, size_t length, const char *verb) {
    return length >= strlen(verb) && !strncasecmp(line, verb, strlen(verb));
}

static void command(struct connection *c, const char *line, size_t length) {
    if (is(line, length, "RCPT TO:")) {
        recipient(c, line, length);
    } else if (is(line, length, "MAIL FROM:")) {
        forget_transaction(c);
        say(c, "250 2.1.0 Ok\r\n");
    } else if (is(line, length, "DATA")) {
        int any = c->recipients.length > 0 && !c->full;
        c->state = any ? HEAD : COMMANDS;
        say(c, any ? "354 Go ahead\r\n" : "554 5.5.1 No valid recipients\r\n");
    } else if (is(line, length, "EHLO")) {
        say(c, "250-sink.example.test\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-DSN\r\n"
               "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n");
    } else if (is(line, length, "QUIT")) {
        say(c, "221 2.0.0 Bye\r\n");
        c->closing = 1;
    } else if (is(line, length, "RSET") || is(line, length, "NOOP") || is(line, length, "HELO")) {
        forget_transaction(c);
        say(c, "250 2.0.0 Ok\r\n");
    } else {
        say(c, "500 5.5.2 Unknown command\r\n");
    }
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

static void end_of_data(struct connection *c) {
    size_t n = c->recipients.length / sizeof(uint64_t);
    int failed = count_transaction(&counted, c->message, (uint64_t *)c->recipients.bytes, n, now());
    refused += failed ? n : 0;
    say(c, failed ? "451 4.3.1 No memory\r\n" : "250 2.0.0 Ok\r\n");
    forget_transaction(c);
    c->state = COMMANDS;
    wake_waiting();
}

/* Take what can be taken of a message's octets, from `at` on; where the rest begins. */
static size_t data(struct connection *c, size_t at) {
    char *bytes = c->in.bytes + at;
    size_t length = c->in.length - at;
    if (c->state == HEAD) {
        char *blank = memmem(bytes, length, "\r\n\r\n", 4);
        char *dot = memmem(bytes, length, "\r\n.\r\n", 5);
        if (!blank && !dot && length < MAX_HEAD) {
            return at;
        }
        c->message = message_id(bytes, blank ? (size_t)(blank - bytes) + 2 : length);
        c->state = BODY;
    }
    char *dot = memmem(bytes, length, "\r\n.\r\n", 5);
    if (!dot) { /* all but the beginning of what may be the end */
        return at + (length > 4 ? length - 4 : 0);
    }
    end_of_data(c);
    return at + (size_t)(dot - bytes) + 5;
}

/* --- the loop ------------------------------------------------------------------------------------------------------- */
static void work(struct connection *c) {
    size_t at = 0;
    while (!c->dead) {
        if (c->state != COMMANDS) {
            size_t next = data(c, at);
            int more = c->state == COMMANDS;
            at = next;
            if (more) {
                continue;
            }
            break;
        }
        char *line = c->in.bytes + at;
        char *feed = memchr(line, '\n', c->in.length - at);
        if (!feed) {
            break;
        }
        size_t length = (size_t)(feed - line);
        at += length + 1;
        length -= length && line[length - 1] == '\r';
        c->kind == SMTP ? command(c, line, length) : control_line(c, line, length);
    }
    buffer_drop(&c->in, at);
    answer(c);
}

static void readable(struct connection *c) {
    if (buffer_reserve(&c->in, READ_SIZE)) {
        end(c);
        return;
    }
    ssize_t got = recv(c->fd, c->in.bytes + c->in.length, c->in.capacity - c->in.length, 0);
    if (got > 0) {
        c->in.length += (size_t)got;
        work(c);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        end(c);
    }
}

static void accept_all(int listener, enum kind kind) {
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct connection *c = calloc(1, sizeof *c);
        if (!c) {
            close(fd);
            continue;
        }
        *c = (struct connection){.fd = fd, .kind = kind};
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
        if (kind == SMTP) {
            connections++;
            say(c, "220 sink.example.test ESMTP\r\n");
            answer(c);
        }
    }
}

static int listen_on(int port, enum kind kind) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    return fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096) || watch(fd, kind);
}

static void serve(struct connection *c, uint32_t events) {
    if (c->kind == SMTP_LISTENER || c->kind == CONTROL_LISTENER) {
        accept_all(c->fd, c->kind == SMTP_LISTENER ? SMTP : CONTROL);
        return;
    }
    if (c->kind == STANDARD_INPUT) {
        char byte;
        if (read(c->fd, &byte, 1) <= 0) {
            exit(0);
        }
        return;
    }
    if (events & EPOLLOUT) {
        flush(c);
    }
    if (!c->dead && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        readable(c);
    }
    bury(c);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: sink PORT CONTROL_PORT DELAY_MS\n");
        return 2;
    }
    delay = atof(argv[3]) / 1000;
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (poll_fd < 0 || listen_on(atoi(argv[1]), SMTP_LISTENER) || listen_on(atoi(argv[2]), CONTROL_LISTENER) || watch(0, STANDARD_INPUT)) {
        perror("sink");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    struct epoll_event events[MAX_EVENTS];
    for (;;) {
        double wait = first_delayed ? first_delayed->due - now() : 0;
        int timeout = first_delayed ? (wait > 0 ? (int)(wait * 1000) + 1 : 0) : -1;
        int n = epoll_wait(poll_fd, events, MAX_EVENTS, timeout);
        for (int i = 0; i < n; i++) {
            serve(events[i].data.ptr, events[i].events);
        }
        send_due();
    }
}
