/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A channel: a reliable, ordered, bounded carrier of frames (msg.h) between
 * two threads, processes or hosts. Implementations: inproc, tcp, shm (shm.h); verbs
 * fits the same six functions.
 *
 * Threads: one end belongs to one thread. Nothing here blocks.
 * Buffers: send copies (all of the frame or nothing). recv lends a frame until
 *   the next recv or close on that channel; frames are 8-byte aligned and have
 *   passed msg_validate: a peer that sends garbage closes the channel, and
 *   `why` says why; tcp says it to the peer, too, in an ERROR.
 * Credits: send returns -EAGAIN when the peer has no room; the caller keeps
 *   the frame. That is the only back-pressure; there is no hidden queue.
 */
#ifndef LETHE_WIRE_CHANNEL_H
#define LETHE_WIRE_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

struct channel;

/* A one-sided read of the peer's memory: what its store said in MSG_PLACES. */
struct channel_read {
    uint64_t address;
    uint32_t rkey, bytes;
    uint64_t token;           /* the caller's */
};
enum {
    CHANNEL_READ_BYTES = 512, /* of one read */
    CHANNEL_READS = 128,      /* under way */
};

struct channel_ops {
    const char *name;
    /* 0, -EAGAIN (no room), -ENOTCONN (closed by either side), -EMSGSIZE. */
    int (*send)(struct channel *c, const void *frame, uint32_t bytes);
    /* Pushes out what send buffered (one system call for a burst). */
    void (*flush)(struct channel *c);
    /* Frame and its bytes; NULL when there is none, or the channel is closed.
     * tcp may say NULL once without asking the kernel again after a read that
     * emptied the socket: who sleeps polls the descriptor, who spins calls again. */
    const void *(*recv)(struct channel *c, uint32_t *bytes);
    /* A descriptor to sleep on, or -1; *events in poll(2)'s terms. Before
     * sleeping call arm: false means something came in meanwhile, poll again. */
    int (*fd)(struct channel *c, short *events);
    bool (*arm)(struct channel *c);
    void (*close)(struct channel *c);
    /* One-sided reads; NULL: this transport has none. They leave with the next flush. 0, -EAGAIN
     * (CHANNEL_READS are under way), -ENOTCONN, -EMSGSIZE, -ENOMEM (no memory could be registered
     * for them; it will not mend). The peer may write meanwhile: the copy is of no one moment.
     * One that the peer refuses closes the channel. */
    int (*read)(struct channel *c, const struct channel_read *r);
    /* A read that is over, in any order: what was read, 64-byte aligned, lent until the next call;
     * NULL: none now. What is under way when the channel closes is never over. A
     * sleeper is woken by them as by frames; arm says false while there is one. */
    const void *(*read_done)(struct channel *c, uint64_t *token);
    /* Ends both directions, at once: when it returns nothing that the peer sends, or sent, can
     * come in any more, but for what has arrived already. That is still lent by recv, also what
     * this side was not told of yet; then the channel is closed. Returns how many writes of ours
     * are not known to have arrived. NULL: this channel has nobody writing into our memory. */
    uint32_t (*fence)(struct channel *c);
};

/* Every implementation's struct starts with this. */
struct channel {
    const struct channel_ops *ops;
    bool open;                /* false once either side closed */
    bool refused;             /* closed, because nothing listens where we dialled */
    uint32_t looks;           /* how often recv took in what the peer had sent meanwhile: frames of
                                 one look were all there before it; 0: it does not count them */
    bool cheap;               /* recv, and flush to a reader awake, make no system call */
    char why[160];            /* why it closed, for a person; "" while open */
};

static inline int channel_send(struct channel *c, const void *f, uint32_t n) { return c->ops->send(c, f, n); }
static inline void channel_flush(struct channel *c) { c->ops->flush(c); }
static inline const void *channel_recv(struct channel *c, uint32_t *n) { return c->ops->recv(c, n); }
static inline int channel_fd(struct channel *c, short *ev) { return c->ops->fd(c, ev); }
static inline bool channel_arm(struct channel *c) { return c->ops->arm(c); }
static inline bool channel_can_read(const struct channel *c) { return c->ops->read; }
static inline int channel_read(struct channel *c, const struct channel_read *r) { return c->ops->read(c, r); }
static inline const void *channel_read_done(struct channel *c, uint64_t *t) { return c->ops->read_done(c, t); }
static inline uint32_t channel_fence(struct channel *c) { return c->ops->fence ? c->ops->fence(c) : 0; }
/* Closes and frees; NULL is allowed. */
static inline void channel_close(struct channel *c) { if (c) c->ops->close(c); }

/* --- tcp -------------------------------------------------------------------- */

/* Starts a non-blocking connect to "host:port"; the channel is usable at once
 * (send says -EAGAIN until connected). A host's name is looked up meanwhile; one that does
 * not resolve closes the channel. NULL and err on a bad address. */
struct channel *tcp_connect(const char *address, char *err, uint32_t err_len);
/* A listening descriptor, or -errno with a sentence in err ("port 7400 of
 * 127.0.0.1 is in use; ..."). */
int tcp_listen(const char *address, char *err, uint32_t err_len);
/* The next accepted connection, or NULL. */
struct channel *tcp_accept(int listen_fd);

/* --- inproc ------------------------------------------------------------------ */

/* Two ends of a pair of byte rings; `ring_bytes` is a power of two, at least
 * 2 * MSG_BYTES_MAX. 0 or -ENOMEM. Each end is closed by its own owner. */
int inproc_pair(uint32_t ring_bytes, struct channel **a, struct channel **b);

#endif
