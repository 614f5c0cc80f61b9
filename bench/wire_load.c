/* SPDX-License-Identifier: BSD-3-Clause */
/* See wire_load.h. */
#include "bench/wire_load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench/process.h"

enum {
    PREPARED = 256,              /* requests, used in turn */
    REPLIES_BYTES = 1 << 16,     /* read at once, at most */
};

struct load {
    struct wire w;
    struct channel *channel;     /* NULL: a socket */
    char *request[PREPARED];
    size_t length[PREPARED];
    int next, flags;             /* flags: of recv */
    size_t reply_bytes, have;    /* of one batch; of the reply under way */
    char replies[REPLIES_BYTES] __attribute__((aligned(8)));
};

const struct table_schema bench_schema = {.name = "bench.kv", .kind = TABLE_HASH, .version = 1,
                                          .key_size = KEY, .part_len = KEY, .value_size = VALUE};

static void give_up(const char *what)
{
    fprintf(stderr, "\nload: %s\n", what);
    exit(1);
}

uint32_t pick_key(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 20) % KEYS;
}

void key_of(uint32_t n, char key[KEY + 1])
{
    snprintf(key, KEY + 1, "key:%012u", n);
}

/* --- requests --------------------------------------------------------------------- */

static size_t encode_redis(char *out, enum wire_how how, int batch, uint32_t first_key)
{
    char *at = out, key[KEY + 1];
    if (how == REDIS_MGET)
        at += sprintf(at, "*%d\r\n$4\r\nMGET\r\n", batch + 1);
    for (int i = 0; i < batch; i++) {
        key_of(how == REDIS_SET ? (first_key + (uint32_t)i) % KEYS : pick_key(), key);
        if (how == REDIS_GET)
            at += sprintf(at, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", KEY, key);
        else if (how == REDIS_MGET)
            at += sprintf(at, "$%d\r\n%s\r\n", KEY, key);
        else
            at += sprintf(at, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%064d\r\n", KEY, key, VALUE,
                          7);
    }
    return (size_t)(at - out);
}

static size_t encode_lethe(char *out, const struct raw_client *raw, int batch)
{
    char keys[BATCH_MAX * KEY + 1];
    for (int i = 0; i < batch; i++)
        key_of(pick_key(), keys + i * KEY);
    return raw_encode_gets(raw, &bench_schema, keys, batch, out);
}

static size_t reply_bytes(enum wire_how how, int batch)
{
    size_t values = (size_t)batch * (5 + VALUE + 2); /* $64\r\n value \r\n */
    char head[16];
    switch (how) {
    case LETHE_GET: return raw_reply_bytes(&bench_schema, batch);
    case REDIS_SET: return (size_t)batch * 5; /* +OK\r\n */
    case REDIS_MGET: return values + (size_t)sprintf(head, "*%d\r\n", batch);
    case REDIS_GET: break;
    }
    return values;
}

static struct load *load_open(const struct wire *w, bool spin)
{
    struct load *l = calloc(1, sizeof *l);
    l->w = *w;
    if (w->raw) {
        l->channel = w->raw->channel;
        l->w.fd = w->raw->fd;
    }
    l->flags = spin ? MSG_DONTWAIT : 0;
    for (int i = 0; i < PREPARED; i++) {
        l->request[i] = aligned_alloc(8, (256 * (size_t)w->batch + 64 + 7) & ~(size_t)7);
        l->length[i] = w->how == LETHE_GET
                           ? encode_lethe(l->request[i], w->raw, w->batch)
                           : encode_redis(l->request[i], w->how, w->batch, (uint32_t)(i * w->batch));
    }
    l->reply_bytes = reply_bytes(w->how, w->batch);
    return l;
}

static void load_close(struct load *l)
{
    for (int i = 0; i < PREPARED; i++)
        free(l->request[i]);
    free(l);
}

/* --- sending and reading ------------------------------------------------------------- */

static void write_all(int fd, const char *data, size_t n)
{
    while (n) {
        ssize_t w = write(fd, data, n);
        if (w <= 0)
            give_up(strerror(errno));
        data += w;
        n -= (size_t)w;
    }
}

static void send_frames(struct load *l, int batches)
{
    for (int k = 0; k < batches; k++) {
        int i = l->next++ % PREPARED;
        while (channel_send(l->channel, l->request[i], (uint32_t)l->length[i]))
            if (!l->channel->open)
                give_up(l->channel->why);
    }
    channel_flush(l->channel);
}

/* Some batches by one system call. */
static void send_batches(struct load *l, int batches)
{
    struct iovec parts[IN_FLIGHT] = {{0}};
    if (l->channel) {
        send_frames(l, batches);
        return;
    }
    for (int k = 0; k < batches; k++) {
        int i = l->next++ % PREPARED;
        parts[k] = (struct iovec){l->request[i], l->length[i]};
    }
    ssize_t sent = writev(l->w.fd, parts, batches);
    if (sent < 0)
        give_up(strerror(errno));
    for (int k = 0; k < batches; k++) { /* what a short write left */
        size_t done = (size_t)sent < parts[k].iov_len ? (size_t)sent : parts[k].iov_len;
        sent -= (ssize_t)done;
        write_all(l->w.fd, (char *)parts[k].iov_base + done, parts[k].iov_len - done);
    }
}

static void check(const struct load *l, const char *reply)
{
    bool lethe = l->w.how == LETHE_GET;
    if (lethe ? raw_reply_ok(&bench_schema, l->w.batch, reply) : *reply != '-')
        return;
    fprintf(stderr, "\na request failed: %.80s\n", lethe ? "lethe get" : reply);
    exit(1);
}

/* Frames that are there; each is a batch. */
static int read_frames(struct load *l)
{
    const void *frame;
    uint32_t bytes;
    int batches = 0;
    while (batches < IN_FLIGHT && (frame = channel_recv(l->channel, &bytes))) {
        check(l, frame);
        batches++;
    }
    if (!l->channel->open)
        give_up(l->channel->why);
    return batches;
}

/* Reads once; how many batches are answered by it. */
static int read_batches(struct load *l)
{
    if (l->channel)
        return read_frames(l);
    ssize_t n = recv(l->w.fd, l->replies + l->have, sizeof l->replies - l->have, l->flags);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n <= 0)
        give_up(n ? strerror(errno) : "the server closed the connection");
    size_t end = l->have + (size_t)n, at = 0;
    int batches = 0;
    for (; end - at >= l->reply_bytes; at += l->reply_bytes, batches++)
        check(l, l->replies + at);
    l->have = end - at;
    memmove(l->replies, l->replies + at, l->have);
    return batches;
}

/* --- measuring ----------------------------------------------------------------------- */

/* Clocks at one moment. */
struct reading {
    uint64_t wall, server, backup, mine, batches;
};

static struct reading reading_of(const struct wire *w, uint64_t batches)
{
    return (struct reading){wall_ns(), process_cpu_ns(w->server),
                            w->backup ? process_cpu_ns(w->backup) : 0, thread_cpu_ns(), batches};
}

/* What a load does between two moments. */
struct interval {
    const struct wire *w;
    uint64_t warm_until, ns, batches; /* batches: answered so far */
    struct reading from, to;     /* wall 0: not yet */
};

static struct interval interval_of(const struct wire *w, double seconds)
{
    return (struct interval){.w = w, .warm_until = wall_ns() + (uint64_t)(seconds * 2e8),
                             .ns = (uint64_t)(seconds * 1e9)};
}

/* True: it goes on. */
static bool answered(struct interval *i, int batches)
{
    uint64_t now = wall_ns();
    i->batches += (uint64_t)batches;
    if (!i->from.wall && now >= i->warm_until)
        i->from = reading_of(i->w, i->batches);
    else if (i->from.wall && !i->to.wall && now >= i->from.wall + i->ns)
        i->to = reading_of(i->w, i->batches);
    return !i->to.wall;
}

static struct sample sample_of(const struct interval *i)
{
    const struct reading *from = &i->from, *to = &i->to;
    double ops = (double)(to->batches - from->batches) * i->w->batch;
    return (struct sample){ops / ((double)(to->wall - from->wall) / 1e9),
                           (double)(to->server - from->server) / 1e3 / ops,
                           (double)(to->mine - from->mine) / 1e3 / ops,
                           (double)(to->backup - from->backup) / 1e3 / ops};
}

struct sample wire_measure(const struct wire *w, double seconds)
{
    struct interval i = interval_of(w, seconds);
    struct load *l = load_open(w, false);
    send_batches(l, IN_FLIGHT);
    for (int outstanding = IN_FLIGHT; outstanding;) {
        int n = read_batches(l);
        if (!answered(&i, n))
            outstanding -= n;
        else if (n > 0)
            send_batches(l, n);
    }
    load_close(l);
    return sample_of(&i);
}

/* Sockets: those that epoll names. Channels: all in turn. */
struct sample wire_measure_crowd(const struct wire *w, int n, double seconds)
{
    struct interval i = interval_of(w, seconds);
    struct epoll_event ready[CROWD];
    struct load *l[CROWD];
    int ep = epoll_create1(0), outstanding = n;
    bool sockets = !w->raw || !w->raw->channel;
    for (int k = 0; k < n; k++) {
        ready[k].data.ptr = l[k] = load_open(&w[k], true);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = l[k]};
        if (sockets && epoll_ctl(ep, EPOLL_CTL_ADD, l[k]->w.fd, &ev))
            give_up(strerror(errno));
        send_batches(l[k], 1);
    }
    while (outstanding) {
        int m = sockets ? epoll_wait(ep, ready, CROWD, -1) : n;
        for (int k = 0; k < m; k++) {
            int got = read_batches(ready[k].data.ptr);
            if (!got)
                continue;
            if (answered(&i, got))
                send_batches(ready[k].data.ptr, 1);
            else
                outstanding--;
        }
    }
    for (int k = 0; k < n; k++)
        load_close(l[k]);
    close(ep);
    return sample_of(&i);
}

long wire_run(const struct wire *w, long batches)
{
    struct load *l = load_open(w, false);
    long done = 0;
    for (; done < batches; done++) {
        send_batches(l, 1);
        while (!read_batches(l))
            continue;
    }
    load_close(l);
    return done;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

double wire_latency_us(const struct wire *w, int samples, bool spin)
{
    enum { WARM = 200 };
    uint64_t *took = calloc((size_t)samples, sizeof *took);
    struct load *l = load_open(w, spin);
    for (int i = -WARM; i < samples; i++) {
        uint64_t since = wall_ns();
        send_batches(l, 1);
        while (!read_batches(l))
            continue;
        if (i >= 0)
            took[i] = wall_ns() - since;
    }
    load_close(l);
    qsort(took, (size_t)samples, sizeof *took, compare_u64);
    double p50 = (double)took[samples / 2] / 1e3;
    free(took);
    return p50;
}

void wire_fill_redis(int fd)
{
    static char request[1 << 16], reply[4096];
    for (uint32_t n = 0; n < KEYS; n += BATCH_MAX) {
        write_all(fd, request, encode_redis(request, REDIS_SET, BATCH_MAX, n));
        for (size_t want = reply_bytes(REDIS_SET, BATCH_MAX); want;) {
            ssize_t got = read(fd, reply, want);
            if (got <= 0)
                give_up("redis-server closed the connection");
            want -= (size_t)got;
        }
    }
}
