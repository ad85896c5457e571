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

#include "smtp.h"

enum { READ_SIZE = 65536, MAX_EVENTS = 256 };
enum kind { SMTP_LISTENER, CONTROL_LISTENER, STANDARD_INPUT, SMTP, CONTROL };

struct connection {
    int fd;
    enum kind kind;
    struct buffer in, out;
    struct session session;
    uint64_t target; /* pairs that a WAIT waits for */
    int writing, dead;
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
static struct connection *watch(int fd, enum kind kind) {
    struct connection *c = calloc(1, sizeof *c);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (!c || epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event)) {
        free(c);
        close(fd);
        return NULL;
    }
    c->fd = fd;
    c->kind = kind;
    return c;
}

static void bury(struct connection *c) {
    if (c->dead && !c->owed) {
        free(c->in.bytes);
        free(c->out.bytes);
        free(c->session.recipients.bytes);
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
        if (c->session.closing && !c->owed) {
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

/* --- the loop ------------------------------------------------------------------------------------------------------- */
/* One message's octets, or a line; how much was taken, 0 for nothing yet. */
static size_t step(struct connection *c, char *bytes, size_t length) {
    if (c->kind == SMTP && c->session.state != COMMANDS) {
        const char *reply = NULL;
        size_t taken = smtp_data(&c->session, &counted, bytes, length, &reply);
        if (reply) {
            say(c, reply);
        }
        return taken;
    }
    char *feed = memchr(bytes, '\n', length);
    if (!feed) {
        return 0;
    }
    size_t line = (size_t)(feed - bytes);
    line -= line && bytes[line - 1] == '\r';
    if (c->kind == SMTP) {
        say(c, smtp_command(&c->session, bytes, line));
    } else {
        control_line(c, bytes, line);
    }
    return (size_t)(feed - bytes) + 1;
}

static void work(struct connection *c) {
    size_t at = 0, taken = 1;
    while (taken && !c->dead && at < c->in.length) {
        taken = step(c, c->in.bytes + at, c->in.length - at);
        at += taken;
    }
    buffer_drop(&c->in, at);
    refused += c->session.refused;
    c->session.refused = 0;
    answer(c);
    if (c->session.ended) {
        c->session.ended = 0;
        wake_waiting();
    }
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
        struct connection *c = watch(fd, kind);
        if (c && kind == SMTP) {
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
    return fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096) || !watch(fd, kind);
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
    if (poll_fd < 0 || listen_on(atoi(argv[1]), SMTP_LISTENER) || listen_on(atoi(argv[2]), CONTROL_LISTENER) || !watch(0, STANDARD_INPUT)) {
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
