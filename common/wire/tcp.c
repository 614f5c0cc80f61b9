/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tcp channel. One non-blocking socket, owned by one thread; both buffers
 * are allocated once and bounded.
 *
 *   rx   [ .. lent frame | complete frames | part of one | free .. ]
 *          ^head                                         ^tail
 *        Frames are multiples of 8 bytes and the buffer is aligned, so every
 *        frame lies aligned where it was read; bytes move only when the free
 *        end runs out under a partial frame. Reads take READ_BYTES at most, so
 *        an idle connection touches little of its buffer.
 *   tx   frames wait here for flush, TX_BYTES at most; then send is -EAGAIN.
 *
 * Closing: frames that arrived before the peer closed are still lent; only
 * then does `open` turn false. A send that fails leaves that to recv, too.
 *
 * Connecting: a host's name is looked up by a thread of its own (lookup.h), so that no
 * resolver is waited for; until it is done the descriptor is the lookup's. tcp_listen
 * waits for it: who listens has just started.
 */
#include "common/wire/channel.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/wire/address.h"
#include "common/wire/lookup.h"
#include "common/wire/msg.h"

enum {
    TX_BYTES = 2 * MSG_BYTES_MAX,
    READ_BYTES = 64 * 1024,
    RX_BYTES = MSG_BYTES_MAX + 2 * READ_BYTES,
    BACKLOG = 128,
    KEEPALIVE_IDLE_S = 5, KEEPALIVE_INTERVAL_S = 2, KEEPALIVE_COUNT = 5,
    UNACKNOWLEDGED_MS = 30000, /* TCP_USER_TIMEOUT */
    DRAIN_BYTES = 1024 * 1024, /* read and dropped at close */
};

struct tcp {
    struct channel c;
    int fd;
    bool connecting;
    bool read_all;             /* the last read emptied the socket */
    bool tx_blocked;           /* the socket took less than we had */
    int tx_error;              /* errno of a failed send; recv will close */
    uint32_t lent;             /* bytes of the frame lent last */
    uint32_t head, tail;       /* of rx */
    uint32_t tx_head, tx_tail;
    uint8_t *rx, *tx;
    struct lookup *lookup;     /* of the peer's name, before that; else NULL */
    struct addrinfo *found, *next; /* addresses still to try while connecting */
    char address[72];          /* of the peer, for sentences; cut if longer */
};

static struct tcp *of(struct channel *c)
{
    return (struct tcp *)c;
}

static void shut(struct tcp *t, const char *format, const char *detail)
{
    if (!t->c.open)
        return;
    t->c.open = false;
    snprintf(t->c.why, sizeof t->c.why, format, t->address, detail);
    if (t->fd >= 0)
        shutdown(t->fd, SHUT_RDWR); /* the peer learns it now, not at close */
}

static void tune(int fd)
{
    static const struct { int level, option, value; } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS},
    };
    /* All of these only make a dead peer show sooner: failing is harmless. */
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        (void)setsockopt(fd, options[i].level, options[i].option, &options[i].value, sizeof(int));
}

/* --- connecting --------------------------------------------------------------- */

/* Starts with the next address that takes a connect; on -1 errno says why the
 * last one did not. */
static int connect_next(struct tcp *t)
{
    int error = ECONNREFUSED;
    while (t->next) {
        struct addrinfo *a = t->next;
        t->next = a->ai_next;
        if (t->fd >= 0)
            close(t->fd);
        t->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (t->fd >= 0) {
            tune(t->fd);
            if (connect(t->fd, a->ai_addr, a->ai_addrlen) == 0 || errno == EINPROGRESS)
                return 0;
        }
        error = errno;
    }
    errno = error;
    return -1;
}

static void connect_failed(struct tcp *t, int error)
{
    t->c.refused = error == ECONNREFUSED;
    if (t->c.refused)
        shut(t, "nothing listens at %s (%s)", strerror(error));
    else
        shut(t, "cannot connect to %s: %s", strerror(error));
}

/* The name is looked up: true when there is an address to try. */
static bool looked_up(struct tcp *t)
{
    const char *why;
    if (!t->lookup)
        return true;
    if (!lookup_done(t->lookup, &t->found, &why))
        return false;
    t->next = t->found;
    lookup_drop(t->lookup);
    t->lookup = NULL;
    if (!t->found)
        shut(t, "cannot resolve the host of %s: %s; write an address, or a name that resolves", why);
    else if (connect_next(t) < 0)
        connect_failed(t, errno);
    return t->c.open;
}

/* True once connected. */
static bool progress(struct tcp *t)
{
    if (!t->connecting)
        return true;
    if (!t->c.open || !looked_up(t))
        return false;
    struct pollfd p = {.fd = t->fd, .events = POLLOUT};
    if (poll(&p, 1, 0) <= 0)
        return false;
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error == 0) {
        t->connecting = false;
        freeaddrinfo(t->found);
        t->found = t->next = NULL;
        return true;
    }
    if (!t->next)
        connect_failed(t, error);
    else if (connect_next(t) < 0)
        connect_failed(t, errno);
    return false;
}

/* --- sending -------------------------------------------------------------------- */

static void tcp_flush(struct channel *c)
{
    struct tcp *t = of(c);
    if (!c->open || t->tx_error || t->tx_head == t->tx_tail || !progress(t))
        return;
    ssize_t n = send(t->fd, t->tx + t->tx_head, t->tx_tail - t->tx_head, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        t->tx_error = errno;
    t->tx_head += n > 0 ? (uint32_t)n : 0;
    t->tx_blocked = t->tx_head != t->tx_tail;
    if (!t->tx_blocked)
        t->tx_head = t->tx_tail = 0;
}

static bool make_room(struct tcp *t, uint32_t bytes)
{
    uint32_t waiting = t->tx_tail - t->tx_head;
    if (waiting + bytes > TX_BYTES)
        return false;
    if (t->tx_tail + bytes > TX_BYTES) {
        memmove(t->tx, t->tx + t->tx_head, waiting);
        t->tx_head = 0;
        t->tx_tail = waiting;
    }
    return true;
}

static int tcp_send(struct channel *c, const void *frame, uint32_t bytes)
{
    struct tcp *t = of(c);
    if (bytes < sizeof(struct msg_head) || bytes > MSG_BYTES_MAX || bytes % 8 != 0)
        return -EMSGSIZE;
    bool connected = progress(t);
    if (!c->open || t->tx_error)
        return -ENOTCONN;
    if (!connected)
        return -EAGAIN;
    if (!make_room(t, bytes)) {
        tcp_flush(c);
        if (t->tx_error)
            return -ENOTCONN;
        if (!make_room(t, bytes))
            return -EAGAIN;
    }
    memcpy(t->tx + t->tx_tail, frame, bytes);
    t->tx_tail += bytes;
    return 0;
}

/* --- receiving -------------------------------------------------------------------- */

/* Bytes of the frame at `at` if it is complete; 0 if not yet; UINT32_MAX if its
 * length cannot be one. */
static uint32_t frame_at(const struct tcp *t, uint32_t at)
{
    if (t->tail - at < sizeof(struct msg_head))
        return 0;
    uint32_t bytes = ((const struct msg_head *)(t->rx + at))->bytes;
    if (bytes < sizeof(struct msg_head) || bytes > MSG_BYTES_MAX || bytes % 8 != 0)
        return UINT32_MAX;
    return bytes <= t->tail - at ? bytes : 0;
}

/* True if bytes came in. Closes the channel at the stream's end. */
static bool read_more(struct tcp *t)
{
    if (t->read_all) {
        t->read_all = false; /* poll, or the next call, asks the kernel again */
        return false;
    }
    if (t->head == t->tail)
        t->head = t->tail = 0;
    if (RX_BYTES - t->tail < READ_BYTES) {
        memmove(t->rx, t->rx + t->head, t->tail - t->head);
        t->tail -= t->head;
        t->head = 0;
    }
    uint32_t room = RX_BYTES - t->tail < READ_BYTES ? RX_BYTES - t->tail : READ_BYTES;
    ssize_t n = recv(t->fd, t->rx + t->tail, room, 0);
    if (n > 0) {
        t->tail += (uint32_t)n;
        t->c.looks++;
        t->read_all = (uint32_t)n < room;
        return true;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n < 0)
        shut(t, "connection with %s broke: %s", strerror(errno));
    else if (t->head != t->tail)
        shut(t, "%s closed the connection %s", "in the middle of a frame");
    else
        shut(t, "%s closed the connection%s", "");
    return false;
}

/* Garbage: the peer is told what was wrong, as well as it can be, and the channel closed. */
static void refuse(struct tcp *t, const char *why)
{
    struct msg_error m = {.code = EBADMSG};
    snprintf(m.text, sizeof m.text, "what you sent is no valid message: %s", why);
    msg_head_set(&m, MSG_ERROR, sizeof m, 0, 0);
    msg_speak(&m, MSG_PROTO_MIN);
    if (tcp_send(&t->c, &m, sizeof m) == 0)
        tcp_flush(&t->c);
    shut(t, "%s sent what is no valid message: %s", why);
}

static const void *tcp_recv(struct channel *c, uint32_t *bytes)
{
    struct tcp *t = of(c);
    t->head += t->lent;
    t->lent = 0;
    if (t->tx_blocked)
        tcp_flush(c);
    if (!c->open || !progress(t))
        return NULL;
    uint32_t n;
    while ((n = frame_at(t, t->head)) == 0)
        if (!read_more(t))
            return NULL;
    const void *frame = t->rx + t->head;
    const char *why = n == UINT32_MAX ? "frame of a bad length" : msg_validate(frame, n);
    if (why) {
        refuse(t, why);
        return NULL;
    }
    t->lent = n;
    *bytes = n;
    return frame;
}

/* --- sleeping, closing ------------------------------------------------------------- */

static int tcp_fd(struct channel *c, short *events)
{
    struct tcp *t = of(c);
    if (!c->open)
        return -1;
    if (t->lookup) {
        *events = POLLIN;
        return lookup_fd(t->lookup);
    }
    *events = t->connecting ? POLLOUT : POLLIN;
    if (t->tx_blocked)
        *events |= POLLOUT;
    return t->fd;
}

static bool tcp_arm(struct channel *c)
{
    struct tcp *t = of(c);
    /* What the kernel holds, poll will see; what we hold, only we know. */
    return !c->open || frame_at(t, t->head + t->lent) == 0;
}

static void tcp_close(struct channel *c)
{
    struct tcp *t = of(c);
    tcp_flush(c);
    if (t->fd >= 0) {
        /* Unread bytes would turn the close into a reset, which may destroy
         * the last frames (an ERROR, say) before the peer has read them. */
        shutdown(t->fd, SHUT_WR);
        for (int left = DRAIN_BYTES; left > 0; left -= READ_BYTES)
            if (recv(t->fd, t->rx, READ_BYTES, MSG_DONTWAIT) <= 0)
                break;
        close(t->fd);
    }
    lookup_drop(t->lookup);
    if (t->found)
        freeaddrinfo(t->found);
    free(t->rx);
    free(t->tx);
    free(t);
}

static const struct channel_ops tcp_ops = {
    .name = "tcp", .send = tcp_send, .flush = tcp_flush, .recv = tcp_recv,
    .fd = tcp_fd, .arm = tcp_arm, .close = tcp_close,
};

static struct tcp *create(int fd)
{
    struct tcp *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->c.ops = &tcp_ops;
    t->c.open = true;
    t->fd = fd;
    t->rx = malloc(RX_BYTES);
    t->tx = malloc(TX_BYTES);
    if (!t->rx || !t->tx) {
        free(t->rx);
        free(t->tx);
        free(t);
        return NULL;
    }
    return t;
}

/* --- addresses, listening ------------------------------------------------------------ */

static int resolve(const char *address, int flags, struct addrinfo **found, uint16_t *port,
                   char host[ADDRESS_HOST_MAX], char *err, uint32_t err_len)
{
    int bad = address_split(address, host, port, err, err_len);
    if (bad)
        return bad;
    struct addrinfo hints = {.ai_flags = flags, .ai_socktype = SOCK_STREAM};
    char service[8];
    snprintf(service, sizeof service, "%u", *port);
    hints.ai_flags |= AI_NUMERICSERV;
    bool loopback = strcasecmp(host, "localhost") == 0; /* RFC 6761 6.3: no need to look it up */
    if (loopback)
        hints.ai_flags &= ~AI_PASSIVE;
    int why = getaddrinfo(loopback ? NULL : host, service, &hints, found);
    if (why == 0)
        return 0;
    snprintf(err, err_len, "cannot resolve host '%s': %s; write an address, or a name that resolves",
             host, lookup_error(why));
    return -EHOSTUNREACH;
}

/* Addresses that are written as such, and localhost: at once. */
static bool literal(const char *host)
{
    struct addrinfo *found, hints = {.ai_flags = AI_NUMERICHOST};
    if (strcasecmp(host, "localhost") == 0)
        return true;
    if (getaddrinfo(host, NULL, &hints, &found) != 0)
        return false;
    freeaddrinfo(found);
    return true;
}

struct channel *tcp_connect(const char *address, char *err, uint32_t err_len)
{
    struct addrinfo *found = NULL;
    char host[ADDRESS_HOST_MAX];
    uint16_t port;
    if (address_split(address, host, &port, err, err_len) != 0)
        return NULL;
    bool by_name = !literal(host);
    if (!by_name && resolve(address, 0, &found, &port, host, err, err_len) != 0)
        return NULL;
    struct tcp *t = port != 0 ? create(-1) : NULL;
    if (!t) {
        snprintf(err, err_len, port ? "out of memory for a connection to %s"
                                    : "'%s': nothing can listen at port 0; write its port", address);
        if (found)
            freeaddrinfo(found);
        return NULL;
    }
    snprintf(t->address, sizeof t->address, "%s", address);
    t->connecting = true;
    t->found = t->next = found;
    if (by_name ? !(t->lookup = lookup_start(host, port)) : connect_next(t) < 0)
        connect_failed(t, errno);
    return &t->c;
}

static void say_why_not(int error, const char *host, uint16_t port, char *err, uint32_t err_len)
{
    switch (error) {
    case EADDRINUSE:
        snprintf(err, err_len, "port %u of %s is in use by another program; choose another "
                 "`listen`, or stop it", port, host);
        break;
    case EACCES:
        snprintf(err, err_len, "port %u of %s needs privilege; choose a `listen` port of 1024 or "
                 "more, or give the program CAP_NET_BIND_SERVICE", port, host);
        break;
    case EADDRNOTAVAIL:
        snprintf(err, err_len, "%s is no address of this host; write one of its own in `listen`, "
                 "or 0.0.0.0 for all", host);
        break;
    default:
        snprintf(err, err_len, "cannot listen on port %u of %s: %s", port, host, strerror(error));
    }
}

int tcp_listen(const char *address, char *err, uint32_t err_len)
{
    struct addrinfo *found;
    char host[ADDRESS_HOST_MAX];
    uint16_t port;
    int bad = resolve(address, AI_PASSIVE, &found, &port, host, err, err_len);
    if (bad)
        return bad;
    int error = 0, fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* Lets a restarted program have its port while old connections linger; a
     * live listener still excludes us. */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) < 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
        error = errno;
    freeaddrinfo(found);
    if (error == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    say_why_not(error, host, port, err, err_len);
    return -error;
}

struct channel *tcp_accept(int listen_fd)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    int fd = accept4(listen_fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return NULL;
    struct tcp *t = create(fd);
    if (!t) {
        close(fd);
        return NULL;
    }
    tune(fd);
    char host[56], port[8];
    if (getnameinfo((struct sockaddr *)&peer, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        snprintf(t->address, sizeof t->address, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    return &t->c;
}
