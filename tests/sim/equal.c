/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Replicas of one view at one position are equal: their digests, what the
 * digests are said to be of, and entry by entry. Only members of the view that
 * stands, and in it, are compared: who was dropped has a past of its own.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tables.h"
#include "world.h"

/* The members that are there and in the view; how many. */
static int stand(const struct world *w, int shard, const struct replica **out)
{
    const struct shard_view *v = views_of(w, shard);
    int n = 0;
    for (uint32_t i = 0; i < v->nmembers; i++) {
        const struct replica *r = &w->replicas[v->members[i].node - 1][shard];
        if (!r->shard || !views_same_node(&r->self, &v->members[i]))
            continue;
        bool in = r->st.role == SHARD_PRIMARY || r->st.role == SHARD_BACKUP;
        if (in && r->st.view_epoch == v->epoch)
            out[n++] = r;
    }
    return n;
}

bool replicas_settled(const struct world *w, int shard)
{
    const struct replica *r[COPIES_MAX];
    int n = stand(w, shard, r);
    if (n < (int)views_of(w, shard)->nmembers)
        return false;
    for (int i = 0; i < n; i++)
        if (r[i]->proposal.open || r[i]->st.position != r[0]->st.position ||
            r[i]->st.commit != r[i]->st.position)
            return false;
    return true;
}

struct contents {
    struct held_entry {
        char table[TABLE_NAME_MAX];
        uint8_t key[TXN_KEY_MAX], value[TXN_VALUE_MAX];
        uint64_t numbers[7];
    } *entries;
    uint32_t n, room;
};

static void take_entry(void *ctx, const struct shard_entry *e)
{
    struct contents *c = ctx;
    if (sim_schemas[sim_table_named(e->table)].durability == DURABLE_NONE)
        return; /* the primary's alone */
    if (c->n == c->room) {
        c->room = c->room ? c->room * 2 : 64;
        c->entries = realloc(c->entries, c->room * sizeof *c->entries);
        if (!c->entries)
            abort();
    }
    struct held_entry *to = &c->entries[c->n++];
    memset(to, 0, sizeof *to);
    snprintf(to->table, sizeof to->table, "%s", e->table);
    memcpy(to->key, e->key, e->key_len);
    memcpy(to->value, e->value, e->value_len);
    uint64_t numbers[7] = {e->kind, e->slot, e->key_len, e->value_len, e->children, e->version,
                           e->replicated_deadline_ms};
    memcpy(to->numbers, numbers, sizeof numbers);
}

static int entry_order(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct held_entry));
}

static void contents_of(const struct replica *r, struct contents *c)
{
    *c = (struct contents){0};
    shard_each(r->shard, take_entry, c);
    if (c->n)
        qsort(c->entries, c->n, sizeof *c->entries, entry_order);
}

static bool same_contents(struct world *w, const struct replica *ra, const struct replica *rb)
{
    struct contents ca, cb;
    contents_of(ra, &ca);
    contents_of(rb, &cb);
    bool same = ca.n == cb.n;
    if (!same)
        run_fail(w, "replicas", "%s holds %u entries, %s holds %u", ra->name, ca.n, rb->name,
                 cb.n);
    for (uint32_t i = 0; same && i < ca.n; i++)
        if (memcmp(&ca.entries[i], &cb.entries[i], sizeof *ca.entries)) {
            const struct held_entry *a = &ca.entries[i], *b = &cb.entries[i];
            run_fail(w, "replicas", "contents of %s and %s differ: table %s slot %" PRIu64
                     " versions %" PRIu64 " and %" PRIu64 ", deadlines %" PRIu64 " and %" PRIu64
                     ", children %" PRIu64 " and %" PRIu64, ra->name, rb->name, a->table,
                     a->numbers[1], a->numbers[5], b->numbers[5], a->numbers[6], b->numbers[6],
                     a->numbers[4], b->numbers[4]);
            break;
        }
    free(ca.entries);
    free(cb.entries);
    return !w->verdict.bad;
}

static void check_slowly(struct world *w, const struct replica *r)
{
    uint64_t slow = shard_digest_slow(r->shard);
    if (slow != r->st.digest)
        run_fail(w, "replicas", "%s keeps digest %016" PRIx64 ", its contents have %016" PRIx64,
                 r->name, r->st.digest, slow);
}

bool replicas_equal(struct world *w, int shard, bool deep)
{
    const struct replica *r[COPIES_MAX];
    int n = stand(w, shard, r);
    for (int i = 1; i < n && !w->verdict.bad; i++) {
        if (r[i]->st.position != r[0]->st.position)
            continue;
        w->counts.drift_compares++;
        if (r[i]->st.digest != r[0]->st.digest)
            run_fail(w, "replicas", "digests of %s and %s differ at position %" PRIu64
                     ": %016" PRIx64 " and %016" PRIx64, r[0]->name, r[i]->name,
                     r[0]->st.position, r[0]->st.digest, r[i]->st.digest);
        if (!deep)
            continue;
        check_slowly(w, r[0]);
        check_slowly(w, r[i]);
        same_contents(w, r[0], r[i]);
    }
    return !w->verdict.bad;
}
