/* SMTP clients that send a load: N connections, M messages of S octets, each with a Message-ID of its own, to groups in turn.
 *
 * source PORT CONNECTIONS MESSAGES SIZE RECIPIENTS RATE PROTOCOL PREFIX GROUPS OUT
 *   RECIPIENTS of every message: so many addresses of the list, one after another
 *   RATE      messages a second in all, evenly; 0: as fast as they are taken
 *   PROTOCOL  smtp or lmtp
 *   PREFIX    message n has the Message-ID <PREFIX.n@source.example.test>
 *   GROUPS    a file with one address a line; message n goes to lines n x RECIPIENTS and on, modulo their number
 *   OUT       a file: for every message the line "hash sent answered code" (the reply to the final dot or to whatever failed before it; 0: the
 *             connection broke)
 * Commands are pipelined as RFC 2920 allows; a connection is used for message after message. Prints one JSON line when it is done; the exit
 * status is 1 when a message was not taken.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

enum { READ_SIZE = 16384, LINE = 78, MAX_EVENTS = 64 };
enum state { GREETING, HELLO, IDLE, ENVELOPE, CONTENT, LEAVING, CLOSED };

struct connection {
    int fd;
    enum state state;
    int replies; /* of the envelope's that have come: MAIL, every RCPT, DATA */
    int failed;  /* the code of the first that refused; 0 */
    int writing;
    long number; /* the message that is being sent */
    struct buffer in, out;
    size_t body; /* octets of the common body that are still to be sent */
};

struct record {
    double sent, answered;
    int code;
};

static struct {
    int port, connections, recipients, lmtp;
    long messages, size;
    double rate;
    const char *prefix;
} wish;
static char **groups, *body;
static size_t group_count, body_length;
static struct record *records;
static long next_message, finished, open_connections;
static double began;
static int poll_fd;

static void leave(struct connection *c) {
    if (c->state == ENVELOPE || c->state == CONTENT) {
        records[c->number].answered = now();
        finished++;
    }
    if (c->state != CLOSED) {
        close(c->fd);
        c->state = CLOSED;
        open_connections--;
    }
}

static void add(struct connection *c, const char *text) {
    if (buffer_add(&c->out, text, strlen(text))) {
        perror("source");
        exit(1);
    }
}

/* 1 when all is written, 0 when the socket is full or broken. */
static int write_some(struct connection *c, const char *bytes, size_t length, size_t *written) {
    ssize_t sent = send(c->fd, bytes, length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        leave(c);
        return 0;
    }
    *written = sent < 0 ? 0 : (size_t)sent;
    return *written == length;
}

static void flush(struct connection *c) {
    size_t written = 0;
    int done = 1;
    if (c->out.length) {
        done = write_some(c, c->out.bytes, c->out.length, &written);
        buffer_drop(&c->out, written);
    }
    while (done && c->body && c->state == CONTENT) {
        done = write_some(c, body + body_length - c->body, c->body, &written);
        c->body -= written;
    }
    if (c->state != CLOSED && c->writing != !done) {
        c->writing = !done;
        struct epoll_event event = {.events = done ? EPOLLIN : EPOLLIN | EPOLLOUT, .data.ptr = c};
        epoll_ctl(poll_fd, EPOLL_CTL_MOD, c->fd, &event);
    }
}

static const char *recipient(long number, int i) {
    return groups[((size_t)number * (size_t)wish.recipients + (size_t)i) % group_count];
}

static void begin(struct connection *c) {
    char text[1024];
    c->number = next_message++;
    c->state = ENVELOPE;
    c->replies = c->failed = 0;
    records[c->number].sent = now();
    snprintf(text, sizeof text, "MAIL FROM:<author%ld@writers.example.org>\r\n", c->number % 50);
    add(c, text);
    for (int i = 0; i < wish.recipients; i++) {
        snprintf(text, sizeof text, "RCPT TO:<%s>\r\n", recipient(c->number, i));
        add(c, text);
    }
    add(c, "DATA\r\n");
}

/* When the next message is due, on this program's clock; 0 when none is left. */
static double due(void) {
    if (next_message >= wish.messages) {
        return 0;
    }
    return wish.rate > 0 ? began + (double)next_message / wish.rate : began;
}

static void next(struct connection *c) {
    double at = due();
    c->state = IDLE;
    if (at > 0 && at <= now()) {
        begin(c);
    } else if (at <= 0) {
        c->state = LEAVING;
        add(c, "QUIT\r\n");
    }
}

static void content(struct connection *c) {
    char text[2048], date[64];
    const char *to = recipient(c->number, 0);
    time_t t = time(NULL);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S +0000", gmtime(&t));
    snprintf(text, sizeof text,
             "Received: from laptop.example.org (laptop.example.org [192.0.2.7])\r\n\tby mx.example.org (Postfix) with ESMTPS id 4Q%06ld\r\n"
             "\tfor <%s>; %s\r\nDate: %s\r\nFrom: Author %ld <author%ld@writers.example.org>\r\nTo: %s\r\n"
             "Message-ID: <%s.%ld@source.example.test>\r\nSubject: Minutes of the meeting, part %ld\r\nMIME-Version: 1.0\r\n"
             "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
             "User-Agent: Mozilla Thunderbird\r\nContent-Language: en-US\r\n\r\n",
             c->number, to, date, date, c->number % 50, c->number % 50, to, wish.prefix, c->number, c->number);
    add(c, text);
    c->state = CONTENT;
    c->body = body_length;
}

static void answered(struct connection *c, int code) {
    records[c->number].answered = now();
    records[c->number].code = code;
    finished++;
    if (code != 250) {
        add(c, "RSET\r\n");
        c->state = HELLO; /* whose answer leads to the next message, as that of EHLO does */
        return;
    }
    next(c);
}

/* One whole reply. */
static void reply(struct connection *c, int code) {
    if (c->state == GREETING) {
        c->state = HELLO;
        add(c, wish.lmtp ? "LHLO source.example.test\r\n" : "EHLO source.example.test\r\n");
    } else if (c->state == HELLO) {
        next(c);
    } else if (c->state == ENVELOPE) {
        c->failed = c->failed || code < 400 ? c->failed : code;
        if (++c->replies < wish.recipients + 2) {
            return;
        }
        if (code == 354 && c->failed) { /* an empty message where the recipient was refused, as RFC 2920 asks */
            c->state = CONTENT;
            add(c, ".\r\n");
        } else if (code == 354) {
            content(c);
        } else {
            answered(c, c->failed ? c->failed : code);
        }
    } else if (c->state == CONTENT) {
        answered(c, c->failed ? c->failed : code);
    } else {
        leave(c);
    }
}

static void readable(struct connection *c) {
    if (buffer_reserve(&c->in, READ_SIZE)) {
        perror("source");
        exit(1);
    }
    ssize_t got = recv(c->fd, c->in.bytes + c->in.length, c->in.capacity - c->in.length, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        leave(c);
        return;
    }
    c->in.length += got > 0 ? (size_t)got : 0;
    size_t at = 0;
    char *feed;
    while (c->state != CLOSED && (feed = memchr(c->in.bytes + at, '\n', c->in.length - at))) {
        char *line = c->in.bytes + at;
        at = (size_t)(feed - c->in.bytes) + 1;
        if (feed - line > 3 && line[3] != '-') { /* the last line of a reply */
            reply(c, atoi(line));
        }
    }
    buffer_drop(&c->in, at);
    flush(c);
}

static int dial(struct connection *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)wish.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (c->fd < 0 || (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)) {
        return -1;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    open_connections++;
    return epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &event);
}

static void make_body(void) {
    body = malloc((size_t)wish.size + LINE + 8);
    if (!body) {
        perror("source");
        exit(1);
    }
    size_t at = 0;
    for (long line = 0; at < (size_t)wish.size; line++) {
        for (int column = 0; column < LINE - 2; column++) {
            body[at++] = "the quick brown fox jumps over the lazy dog "[(line * 7 + column) % 44];
        }
        body[at++] = '\r';
        body[at++] = '\n';
    }
    memcpy(body + at, ".\r\n", 3);
    body_length = at + 3;
}

static int read_groups(const char *path) {
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    while (file && (length = getline(&line, &capacity, file)) > 0) {
        line[strcspn(line, "\r\n")] = 0;
        groups = realloc(groups, (group_count + 1) * sizeof *groups);
        if (!groups || !(groups[group_count++] = strdup(line))) {
            return -1;
        }
    }
    return file ? fclose(file) : -1;
}

static long report(const char *path) {
    FILE *out = fopen(path, "w");
    long refused = 0;
    double last = began;
    for (long i = 0; out && i < wish.messages; i++) {
        char id[256];
        snprintf(id, sizeof id, "%s.%ld@source.example.test", wish.prefix, i);
        fprintf(out, "%016llx %.6f %.6f %d\n", (unsigned long long)hash_text(id, strlen(id)), records[i].sent, records[i].answered,
                records[i].code);
        refused += records[i].code != 250;
        last = records[i].answered > last ? records[i].answered : last;
    }
    if (!out || fclose(out)) {
        perror(path);
        exit(1);
    }
    printf("{\"messages\": %ld, \"refused\": %ld, \"began\": %.6f, \"ended\": %.6f}\n", wish.messages, refused, began, last);
    return refused;
}

/* Milliseconds until a waiting connection has something to send; gives the connections what is due. */
static int give_due(struct connection *all) {
    for (int i = 0; i < wish.connections; i++) {
        if (all[i].state == IDLE && (due() <= 0 || due() <= now())) {
            next(&all[i]);
            flush(&all[i]);
        }
    }
    double wait = due() > 0 ? due() - now() : 0.1;
    return wait > 0 ? (int)(wait * 1000) + 1 : 100; /* overdue: all connections are busy, and one will answer */
}

int main(int argc, char **argv) {
    if (argc != 11) {
        fprintf(stderr, "usage: source PORT CONNECTIONS MESSAGES SIZE RECIPIENTS RATE PROTOCOL PREFIX GROUPS OUT\n");
        return 2;
    }
    wish.port = atoi(argv[1]), wish.connections = atoi(argv[2]), wish.messages = atol(argv[3]), wish.size = atol(argv[4]);
    wish.recipients = atoi(argv[5]), wish.rate = atof(argv[6]), wish.lmtp = !strcmp(argv[7], "lmtp"), wish.prefix = argv[8];
    if (read_groups(argv[9]) || !group_count || wish.connections < 1 || wish.messages < 1 || wish.recipients < 1) {
        fprintf(stderr, "source: no groups, connections or messages\n");
        return 2;
    }
    struct connection *all = calloc((size_t)wish.connections, sizeof *all);
    records = calloc((size_t)wish.messages, sizeof *records);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    make_body();
    began = now();
    for (int i = 0; i < wish.connections; i++) {
        if (dial(&all[i])) {
            perror("source: connect");
            return 1;
        }
    }
    struct epoll_event events[MAX_EVENTS];
    while (open_connections > 0) {
        int n = epoll_wait(poll_fd, events, MAX_EVENTS, give_due(all));
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                readable(c);
            } else {
                flush(c);
            }
        }
    }
    return report(argv[10]) ? 1 : 0;
}
