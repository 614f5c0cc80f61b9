/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rules that are watched while things happen, by one who sees everything. A
 * history shows that a rule was broken only when a client met the consequence;
 * here it is enough that it was broken.
 *
 *   commit     what a primary takes for committed each member of its view has, or had
 *              when it died, that very incarnation; of the view that stands, too
 *   lease      when a successor has served, no earlier primary tells anything that
 *              no commit proves: what was read, or refused
 *   wait       when a primary begins to serve no earlier one holds leases; not even for the
 *              moment in which nobody happens to ask it
 *   owner      what a shard told of a hash slot's owner none of its later primaries takes back
 *   client id  is leased to one client, ever
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

/* --- commit ------------------------------------------------------------------------------- */

void rules_view(struct world *w, int shard, const struct shard_view *v)
{
    struct shard_key *k = &w->keys[shard];
    if (k->npast == k->past_room) {
        k->past_room = k->past_room ? 2 * k->past_room : 64;
        k->past = realloc(k->past, k->past_room * sizeof *k->past);
        if (!k->past)
            abort();
    }
    k->past[k->npast++] = *v;
}

static const struct shard_view *view_of_epoch(const struct shard_key *k, uint64_t epoch)
{
    for (uint32_t i = k->npast; i > 0; i--)
        if (k->past[i - 1].epoch == epoch)
            return &k->past[i - 1];
    return NULL;
}

static struct held_position *held_by(struct shard_key *k, const struct msg_node *n)
{
    for (uint32_t i = k->nheld; i > 0; i--)
        if (views_same_node(&k->held[i - 1].node, n))
            return &k->held[i - 1];
    return NULL;
}

/* What each incarnation had at most. */
static void note_position(struct replica *r)
{
    struct shard_key *k = &r->world->keys[r->number];
    struct msg_node self;
    shard_self_get(r->shard, &self);
    struct held_position *h = held_by(k, &self);
    if (!h) {
        if (k->nheld == k->held_room) {
            k->held_room = k->held_room ? 2 * k->held_room : 64;
            k->held = realloc(k->held, k->held_room * sizeof *k->held);
            if (!k->held)
                abort();
        }
        h = &k->held[k->nheld++];
        *h = (struct held_position){.node = self};
    }
    if (r->st.position > h->position)
        h->position = r->st.position;
}

static void members_had(struct world *w, const struct replica *r, const struct shard_view *v)
{
    for (uint32_t i = 0; v && i < v->nmembers; i++) {
        const struct held_position *h = held_by(&w->keys[r->number], &v->members[i]);
        if (!h || h->position < r->st.commit)
            run_fail(w, "commit", "%s took position %" PRIu64 " for committed in view %" PRIu64
                     ", but incarnation %" PRIu64 " of node %u, a member of view %" PRIu64
                     ", has only %" PRIu64, r->name, r->st.commit, r->st.view_epoch,
                     v->members[i].incarnation, v->members[i].node, v->epoch, h ? h->position : 0);
    }
}

void rules_stepped(struct replica *r)
{
    struct world *w = r->world;
    const struct shard_key *k = &w->keys[r->number];
    note_position(r);
    if (r->st.role != SHARD_PRIMARY || r->st.commit == r->commit_seen || w->over)
        return;
    r->commit_seen = r->st.commit;
    members_had(w, r, view_of_epoch(k, r->st.view_epoch));
    if (k->view.epoch != r->st.view_epoch)
        members_had(w, r, &k->view);
}

/* --- what was asked, and what is told ------------------------------------------------------ */

/* A set of (client, sequence): open addressing, never full. */
enum { ASKED_ROOM = 1 << 17, ASKED_PROBES = 64 };

static bool set_has(uint64_t *set, uint64_t client, uint64_t seq, bool add)
{
    uint64_t mark = (client * 0x9e3779b97f4a7c15ull) ^ (seq * 0xc2b2ae3d27d4eb4full);
    mark = (mark ^ (mark >> 31)) | 1;
    for (uint32_t at = (uint32_t)(mark >> 7) % ASKED_ROOM, i = 0; i < ASKED_PROBES; i++) {
        if (set[at] == mark)
            return true;
        if (!set[at]) {
            if (add)
                set[at] = mark;
            return false;
        }
        at = (at + 1) % ASKED_ROOM;
    }
    return false;
}

bool rules_asked(struct world *w, uint64_t client, const struct txn_head *t)
{
    const struct txn_op *op = txn_first(t);
    bool reads = true;
    if (!w->sent_seqs && !(w->sent_seqs = calloc(2 * ASKED_ROOM, sizeof *w->sent_seqs)))
        abort();
    for (int i = 0; i < t->nops; i++, op = txn_next(op))
        reads &= op->code == TXN_CHECK || op->code == TXN_SCAN ||
                 (op->code == TXN_GET && !(op->flags & TXN_TOUCH));
    if (reads)
        set_has(w->sent_seqs + ASKED_ROOM, client, t->seq, true);
    return set_has(w->sent_seqs, client, t->seq, true);
}

static void told_results(struct replica *r, const struct msg_results *m)
{
    struct world *w = r->world;
    const struct shard_key *k = &w->keys[r->number];
    const struct txn_result_head *t = (const struct txn_result_head *)(m + 1);
    if (m->head.view_epoch >= k->served_epoch || !w->sent_seqs)
        return;
    for (uint32_t i = 0; i < m->nres; i++) {
        bool read = t->status == TXN_OK && set_has(w->sent_seqs + ASKED_ROOM, m->client, t->seq, false);
        if (read || t->status == TXN_CONFLICT || t->status == TXN_STALE_CLIENT)
            run_fail(w, "lease", "%s, primary of view %" PRIu64 ", tells client %" PRIu64
                     " what no commit proves (%s), and view %" PRIu64 " has served", r->name,
                     m->head.view_epoch, m->client, read ? "a read" : txn_status_text((enum txn_status)t->status),
                     k->served_epoch);
        t = (const struct txn_result_head *)((const uint8_t *)t + t->bytes);
    }
}

void rules_serves(struct replica *r, uint64_t epoch)
{
    struct world *w = r->world;
    for (int node = 0; node < NODES; node++) {
        const struct replica *o = &w->replicas[node][r->number];
        struct shard_health h;
        if (o == r || !o->shard || o->st.role != SHARD_PRIMARY || o->st.view_epoch >= epoch)
            continue;
        shard_health_get(o->shard, &h);
        bool may_tell = !h.proposal_open_ms && !h.collecting &&
                        (h.lease_left_ms == SHARD_NO_LEASE ||
                         o->stepped_ms + h.lease_left_ms > replica_now_ms(o));
        if (may_tell)
            run_fail(w, "lease", "%s serves view %" PRIu64 ", and %s holds the leases of view %"
                     PRIu64 " still", r->name, epoch, o->name, o->st.view_epoch);
    }
}

static void told_map(struct replica *r, const struct msg_map *m)
{
    struct world *w = r->world;
    for (int i = 0; i < LETHE_SLOTS; i++) {
        const struct map_slot *slot = &m->slots[i];
        struct told_owner *told = &w->told[r->number][i];
        if (!slot->known || m->head.view_epoch < told->view_epoch)
            continue;
        if (slot->epoch < told->epoch)
            run_fail(w, "owner", "%s tells that hash slot %d is under epoch %u; under an earlier "
                     "view its shard had told of epoch %u", r->name, i, slot->epoch, told->epoch);
        *told = (struct told_owner){m->head.view_epoch, slot->epoch};
    }
}

/* Told under which nonce: the same answer may be told again. */
static void told_client(struct replica *r, uint32_t conn, const struct msg_client *m)
{
    struct world *w = r->world;
    const struct conn_end *end = &w->conns[conn - 1].end[0];
    int peer = end->proc - NODES;
    if (!m->client || peer < 0 || end->life != w->procs[end->proc].life)
        return;
    uint32_t life = w->peers[peer].hist_client;
    for (uint32_t i = 0; i < w->nleased; i++) {
        const struct leased_id *l = &w->leased[i];
        if (l->client != m->client || (l->life == life && l->nonce == m->nonce))
            continue;
        run_fail(w, "client id", "%s leases id %" PRIu64 " to client %u, and client %u has it",
                 r->name, m->client, life, l->life);
        return;
    }
    if (w->nleased == w->leased_room) {
        w->leased_room = w->leased_room ? 2 * w->leased_room : 64;
        w->leased = realloc(w->leased, w->leased_room * sizeof *w->leased);
        if (!w->leased)
            abort();
    }
    w->leased[w->nleased++] = (struct leased_id){m->client, m->nonce, life};
}

void rules_tells(struct replica *r, uint32_t conn, const void *frame)
{
    const struct msg_head *h = frame;
    if (h->type == MSG_RESULTS)
        told_results(r, frame);
    if (h->type == MSG_MAP)
        told_map(r, frame);
    if (h->type == MSG_CLIENT)
        told_client(r, conn, frame);
}

void rules_clear(struct world *w)
{
    for (int shard = 0; shard < SHARDS; shard++) {
        free(w->keys[shard].past);
        w->keys[shard].past = NULL;
        w->keys[shard].npast = w->keys[shard].past_room = 0;
        free(w->keys[shard].held);
        w->keys[shard].held = NULL;
        w->keys[shard].nheld = w->keys[shard].held_room = 0;
    }
    free(w->leased);
    w->leased = NULL;
    w->nleased = w->leased_room = 0;
    free(w->sent_seqs);
    w->sent_seqs = NULL;
}
