/* SPDX-License-Identifier: BSD-3-Clause */
#include "nic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/remember.h"
#include "world.h"

enum {
    LINE = 64, LINE_WORDS = LINE / 8,
    TRIES_MAX = 7,               /* then the connection is broken */
    TRY_AGAIN_US = 60000,        /* at most: as cards' time-outs are */
    QUICK_US = 20,               /* what copying takes, mostly */
    SLOW_US = 1500, SLOW_PER_MILLE = 400,
    STUCK_US = 40000, STUCK_PER_MILLE = 15, /* longer than a lease */
    SPLIT_PER_MILLE = 150,       /* a line is not copied at once */
    SPLIT_US = 400,
    MOMENT_PER_MILLE = 250,
    NO_ROOM_PER_MILLE = 3,
    /* Memory that was given back: as long as somebody may remember it, by any clock. */
    KEPT_US = (PLACE_MS + PLACE_MS / 8 + 1) * 1000,
};
static const uint64_t SLABS_FROM = 1ull << 30;

/* --- jobs ------------------------------------------------------------------------------- */

static uint64_t name_of(const struct world *w, const struct nic_job *j)
{
    return (uint64_t)j->serial << 32 | (uint64_t)(j - w->nic.jobs);
}

/* NULL: that one is over. */
static struct nic_job *job_of(struct world *w, const struct event *e)
{
    struct nic_job *j = &w->nic.jobs[(uint32_t)e->a];
    return j->used && j->serial == e->a >> 32 ? j : NULL;
}

static void later(struct world *w, const struct nic_job *j, uint64_t after_us, event_run run,
                  uint64_t b)
{
    sched_at(w, w->now_us + after_us, NOBODY, run, name_of(w, j), b, NULL);
}

static struct conn *conn_of(struct world *w, const struct nic_job *j)
{
    return &w->conns[j->conn - 1];
}

static void end_copying(struct world *w, struct nic_job *j)
{
    w->nic.copying -= j->copying;
    j->copying = false;
}

static void end_job(struct world *w, struct nic_job *j)
{
    end_copying(w, j);
    j->used = false;
}

static uint64_t way_us(struct world *w, int from, int to)
{
    uint64_t us = 3 + rng_exp(&w->rng, 15);
    if (rng_chance(&w->rng, w->slow_per_mille))
        us += rng_exp(&w->rng, 15000);
    /* What makes a way slow is the network, or a host, which a card does not wait for. */
    return us + (rng_chance(&w->rng, 500) ? w->lag_us[from][to] : 0);
}

static bool is_lost(struct world *w, const struct nic_job *j)
{
    const struct conn *c = conn_of(w, j);
    int from = c->end[0].proc, to = c->end[1].proc;
    return w->blocked[from][to] || w->blocked[to][from] || rng_chance(&w->rng, w->drop_per_mille);
}

/* --- the store's card --------------------------------------------------------------------- */

static void ask(struct world *w, const struct event *e);

static void try_again(struct world *w, struct nic_job *j)
{
    end_copying(w, j);
    if (++j->tries < TRIES_MAX) {
        later(w, j, rng_below(&w->rng, TRY_AGAIN_US), ask, 0);
        return;
    }
    trace(w, NOBODY, "a read on #%u is given up", j->conn);
    w->counts.reads_given_up++;
    net_reset(w, j->conn);
    end_job(w, j);
}

static const uint8_t *place(const struct slabs *s, const struct nic_job *j)
{
    const struct slab *slab = j->rkey - 1 < s->n ? &s->slab[j->rkey - 1] : NULL;
    if (!slab || j->address < slab->address || j->address - slab->address > slab->bytes - j->bytes)
        return NULL;
    return slab->at + (j->address - slab->address);
}

/* The record, where it lies now; NULL: there is no such memory. */
static const uint8_t *memory_of(struct world *w, const struct nic_job *j)
{
    const struct conn *c = conn_of(w, j);
    const struct conn_end *end = &c->end[1];
    if (!end->open || !w->procs[end->proc].alive || end->life != w->procs[end->proc].life)
        return NULL;
    return place(&w->replicas[end->proc][c->shard].slabs, j);
}

static void hand_over(struct world *w, const struct nic_job *j)
{
    struct nic_end *end = net_reads(w, j->conn);
    if (!end)
        return;
    struct nic_over *o = aligned_alloc(LINE, LINE + CHANNEL_READ_BYTES), **last = &end->over;
    if (!o)
        abort();
    *o = (struct nic_over){.token = j->token, .data = (uint8_t *)o + LINE};
    memcpy(o->data, j->data, j->bytes);
    while (*last)
        last = &(*last)->next;
    *last = o;
    peer_ready(w, conn_of(w, j)->end[0].proc - NODES);
}

/* The client polls. */
static void complete(struct world *w, const struct event *e)
{
    struct nic_job *j = job_of(w, e);
    if (!j)
        return;
    hand_over(w, j);
    end_job(w, j);
}

static void answer(struct world *w, struct nic_job *j)
{
    const struct conn *c = conn_of(w, j);
    end_copying(w, j);
    if (is_lost(w, j)) {
        try_again(w, j);
        return;
    }
    int to = c->end[0].proc;
    w->counts.reads_amid += j->torn;
    sched_at(w, w->now_us + way_us(w, c->end[1].proc, to), to, complete, name_of(w, j), 0, NULL);
}

/* `words` more of a line. */
static void copy_words(struct world *w, struct nic_job *j, const uint8_t *from, uint32_t line,
                       uint32_t words)
{
    uint32_t at = j->words[line], left = LINE_WORDS - at;
    words = words < left ? words : left;
    memcpy(j->data + line * LINE + at * 8, from + line * LINE + at * 8, words * 8);
    j->words[line] += (uint8_t)words;
    if (words == left && !--j->left)
        answer(w, j);
}

static void refuse(struct world *w, struct nic_job *j)
{
    trace(w, NOBODY, "a read on #%u is refused", j->conn);
    w->counts.reads_refused++;
    net_reset(w, j->conn);
    end_job(w, j);
}

/* e->b: line */
static void copy(struct world *w, const struct event *e)
{
    struct nic_job *j = job_of(w, e);
    if (!j || !j->copying || j->words[e->b] == LINE_WORDS)
        return;
    const uint8_t *from = memory_of(w, j);
    bool split = rng_chance(&w->rng, SPLIT_PER_MILLE);
    if (!from) {
        refuse(w, j);
        return;
    }
    if (split)
        later(w, j, 1 + rng_exp(&w->rng, SPLIT_US), copy, e->b);
    copy_words(w, j, from, (uint32_t)e->b, split ? rng_below(&w->rng, LINE_WORDS) : LINE_WORDS);
}

static uint64_t spread_us(struct world *w)
{
    uint32_t way = rng_below(&w->rng, 1000);
    return way < STUCK_PER_MILLE                    ? rng_exp(&w->rng, STUCK_US)
           : way < STUCK_PER_MILLE + SLOW_PER_MILLE ? rng_exp(&w->rng, SLOW_US)
                                                    : QUICK_US;
}

static void arrive(struct world *w, const struct event *e)
{
    struct nic_job *j = job_of(w, e);
    if (!j)
        return;
    uint32_t most_us = (uint32_t)spread_us(w) + 1;
    j->copying = true;
    j->torn = false;
    w->nic.copying++;
    j->left = (uint8_t)(j->bytes / LINE);
    memset(j->words, 0, sizeof j->words);
    for (uint32_t line = 0; line < j->left; line++)
        later(w, j, rng_below(&w->rng, most_us), copy, line);
}

static void ask(struct world *w, const struct event *e)
{
    struct nic_job *j = job_of(w, e);
    if (!j)
        return;
    const struct conn *c = conn_of(w, j);
    if (is_lost(w, j))
        try_again(w, j);
    else
        later(w, j, way_us(w, c->end[0].proc, c->end[1].proc), arrive, 0);
}

/* --- while the core writes ----------------------------------------------------------------- */

/* Of that record some lines, or words, are copied now. */
static void look(struct world *w, struct nic_job *j, const uint8_t *from)
{
    uint32_t lines = j->bytes / LINE;
    j->torn = true;
    for (uint32_t line = 0; line < lines && j->copying; line++)
        if (j->words[line] < LINE_WORDS && rng_chance(&w->rng, MOMENT_PER_MILLE))
            copy_words(w, j, from, line, 1 + rng_below(&w->rng, LINE_WORDS));
}

static struct world *watched;

static void moment(const struct record *record)
{
    struct world *w = watched;
    for (uint32_t n = 0, seen = 0, all = w->nic.copying; seen < all && n < NIC_JOBS; n++) {
        struct nic_job *j = &w->nic.jobs[n];
        if (!j->used || !j->copying)
            continue;
        seen++;
        const uint8_t *from = memory_of(w, j);
        if (from == (const uint8_t *)record)
            look(w, j, from);
    }
}

void nic_begin(struct world *w)
{
    watched = w;
    record_moment = moment;
}

/* --- the client's -------------------------------------------------------------------------- */

static bool post(struct world *w, uint32_t conn, const struct channel_read *r)
{
    uint32_t n = 0;
    while (n < NIC_JOBS && w->nic.jobs[n].used)
        n++;
    if (n == NIC_JOBS)
        return false;
    struct nic_job *j = &w->nic.jobs[n];
    *j = (struct nic_job){.used = true, .serial = j->serial + 1, .conn = conn, .token = r->token,
                          .address = r->address, .rkey = r->rkey, .bytes = r->bytes};
    later(w, j, 0, ask, 0);
    return true;
}

int nic_post(struct world *w, struct nic_end *end, const struct channel_read *r)
{
    if (r->bytes > CHANNEL_READ_BYTES)
        return -EMSGSIZE;
    if (end->under_way == CHANNEL_READS || rng_chance(&w->rng, NO_ROOM_PER_MILLE))
        return -EAGAIN;
    end->under_way++;
    end->posted[end->nposted++] = *r;
    return 0;
}

void nic_flush(struct world *w, uint32_t conn, struct nic_end *end)
{
    uint32_t n = 0;
    while (n < end->nposted && post(w, conn, &end->posted[n]))
        n++;
    end->nposted -= n;
    memmove(end->posted, end->posted + n, end->nposted * sizeof *end->posted);
}

const void *nic_done(struct nic_end *end, uint64_t *token)
{
    free(end->lent);
    struct nic_over *o = end->lent = end->over;
    if (!o)
        return NULL;
    end->over = o->next;
    end->under_way--;
    *token = o->token;
    return o->data;
}

void nic_close(struct world *w, uint32_t conn, struct nic_end *end)
{
    uint64_t unused;
    while (nic_done(end, &unused))
        ;
    for (uint32_t n = 0; n < NIC_JOBS; n++)
        if (w->nic.jobs[n].used && w->nic.jobs[n].conn == conn)
            end_job(w, &w->nic.jobs[n]);
}

/* --- the store's memory -------------------------------------------------------------------- */

/* Of the same size and gone; its memory is used again as it is. */
static struct slab *find_gone(struct slabs *s, uint64_t bytes, uint64_t now_us)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (s->slab[i].until_us && s->slab[i].until_us <= now_us && s->slab[i].bytes == bytes)
            return &s->slab[i];
    return NULL;
}

static struct slab *add_slab(struct slabs *s, uint64_t bytes)
{
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 16;
        s->slab = realloc(s->slab, s->room * sizeof *s->slab);
        if (!s->slab)
            abort();
    }
    const struct slab *last = s->n ? &s->slab[s->n - 1] : NULL;
    struct slab *new = &s->slab[s->n++];
    *new = (struct slab){.bytes = bytes, .address = last ? last->address + last->bytes : SLABS_FROM};
    new->at = aligned_alloc(LINE, bytes);
    if (!new->at)
        abort();
    return new;
}

static void *make(void *ctx, uint64_t bytes, uint32_t *rkey)
{
    struct replica *r = ctx;
    struct slabs *s = &r->slabs;
    struct slab *new = find_gone(s, bytes, r->world->now_us);
    if (!new)
        new = add_slab(s, bytes);
    memset(new->at, 0, bytes);
    new->until_us = 0;
    *rkey = (uint32_t)(new - s->slab) + 1;
    return new->at;
}

static void give_back(void *ctx, void *at, uint64_t bytes)
{
    struct replica *r = ctx;
    for (uint32_t i = 0; i < r->slabs.n; i++)
        if (r->slabs.slab[i].at == at && r->slabs.slab[i].bytes == bytes)
            r->slabs.slab[i].until_us = r->world->now_us + KEPT_US;
}

struct shard_slabs nic_slabs(struct replica *r)
{
    return (struct shard_slabs){.ctx = r, .make = make, .give_back = give_back};
}

void nic_slabs_destroy(struct replica *r)
{
    for (uint32_t i = 0; i < r->slabs.n; i++)
        free(r->slabs.slab[i].at);
    free(r->slabs.slab);
    r->slabs = (struct slabs){0};
}

void nic_translate(const struct replica *r, void *frame)
{
    struct msg_places *m = frame;
    struct msg_place *p = (struct msg_place *)(m + 1);
    for (uint32_t i = 0; i < m->nplaces; i++, p++) {
        const struct slab *s = &r->slabs.slab[p->rkey - 1];
        p->address = s->address + (p->address - (uint64_t)(uintptr_t)s->at);
    }
}
