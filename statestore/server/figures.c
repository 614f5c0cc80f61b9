/* SPDX-License-Identifier: BSD-3-Clause */
/* See figures.h. A family is a row: its name, and where its figure is in a snapshot. */
#include "statestore/server/figures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics/text.h"
#include "statestore/server/store.h"

struct shards {
    const struct store *store;
    struct metrics_text *to;
    uint16_t n;
    struct shard_snapshot *at;
};

/* --- roles ------------------------------------------------------------------------------ */

static const char *const roles[] = {[SHARD_PRIMARY] = "primary", [SHARD_BACKUP] = "backup",
                                    [SHARD_JOINING] = "joining", [SHARD_LOST] = "lost",
                                    [SHARD_IDLE] = "idle"};
enum { ROLES = sizeof roles / sizeof roles[0] };

const char *figures_role(const struct shard_snapshot *s)
{
    if (s->standing == VIEWS_WAITING)
        return "waiting";
    uint32_t role = s->status.role;
    return role < ROLES && roles[role] ? roles[role] : "unknown";
}

static bool is_primary(const struct shard_snapshot *s)
{
    return s->status.role == SHARD_PRIMARY && s->standing != VIEWS_WAITING;
}

static bool serves(const struct shard_snapshot *s)
{
    return is_primary(s) && s->health.collecting == SHARD_COLLECTS_NOTHING;
}

/* --- one figure a shard --------------------------------------------------------------------- */

enum of { OF_ALL, OF_PRIMARY };
struct row {
    const char *name, *help;
    enum metric_type type;
    enum of of;
    uint16_t at, bytes;
};
#define ROW(type, of, name, field, help)                                                           \
    {name, help, METRIC_##type, OF_##of, offsetof(struct shard_snapshot, field),                   \
     sizeof ((struct shard_snapshot *)0)->field}

static const struct row rows[] = {
    ROW(GAUGE, ALL, "lethe_store_view_epoch", status.view_epoch, "epoch of the view"),
    ROW(GAUGE, PRIMARY, "lethe_store_copies", status.copies, "replicas in the view, told by its primary"),
    ROW(GAUGE, ALL, "lethe_store_log_position", status.position, "newest log entry"),
    ROW(GAUGE, ALL, "lethe_store_commit_position", status.commit, "newest committed log entry"),
    ROW(GAUGE, ALL, "lethe_store_replies_waiting", status.waiting, "replies held for output commit"),
    ROW(GAUGE, PRIMARY, "lethe_store_replies_suspended", health.suspended_replies,
        "replies that are committed, but not told without leases"),
    ROW(COUNTER, ALL, "lethe_store_drifts_total", status.drifts, "digests that differed between replicas"),
    ROW(COUNTER, ALL, "lethe_store_txns_total", status.txns, "txns executed"),
    ROW(COUNTER, ALL, "lethe_store_batches_total", counts.batches, "requests of clients"),
    ROW(COUNTER, ALL, "lethe_store_conflicts_total", status.conflicts, "txns of which a guard failed"),
    ROW(COUNTER, ALL, "lethe_store_exhausted_total", status.exhausted, "allocations that found no free index"),
    ROW(COUNTER, ALL, "lethe_store_expired_total", status.expired, "entries whose time was over"),
    ROW(COUNTER, ALL, "lethe_store_duplicates_total", status.duplicates, "txns answered from kept results"),
    ROW(GAUGE, ALL, "lethe_store_clients", status.clients, "clients that hold a lease"),
    ROW(GAUGE, ALL, "lethe_store_results_kept", status.results_kept, "results kept for retries"),
    ROW(GAUGE, ALL, "lethe_store_memory_bytes", status.memory_bytes, "tables and kept results"),
    ROW(GAUGE, PRIMARY, "lethe_store_timers_armed", health.timers_armed, "entries with a deadline that is watched"),
    ROW(GAUGE, PRIMARY, "lethe_store_timers_late_ms", health.timers_late_ms, "how far expiry is behind"),
    ROW(GAUGE, PRIMARY, "lethe_store_events_undelivered", health.events_pending, "expiries nobody acknowledged"),
    ROW(GAUGE, PRIMARY, "lethe_store_consumers", health.consumers, "clients times tables that take expiries"),
    ROW(GAUGE, PRIMARY, "lethe_store_proposal_open_ms", health.proposal_open_ms,
        "for so long it has asked for another view"),
    ROW(GAUGE, ALL, "lethe_store_slots_owned", health.slots_owned, "hash slots"),
    ROW(GAUGE, PRIMARY, "lethe_store_slots_queued", health.slots_queued, "hash slots ordered away"),
    ROW(GAUGE, PRIMARY, "lethe_store_slots_sending", health.slots_sending, "hash slots on their way out"),
    ROW(GAUGE, PRIMARY, "lethe_store_slots_incoming", health.slots_incoming, "hash slots on their way in"),
    ROW(COUNTER, ALL, "lethe_store_slots_sent_total", health.slots_sent, "hash slots moved away"),
    ROW(COUNTER, ALL, "lethe_store_slots_taken_total", health.slots_taken, "hash slots moved here"),
    ROW(COUNTER, ALL, "lethe_store_view_changes_total", counts.views, "views adopted"),
    ROW(COUNTER, ALL, "lethe_store_takeovers_total", counts.takeovers, "times it began to serve as a primary"),
    ROW(COUNTER, ALL, "lethe_store_takeover_ms_total", counts.takeover_ms,
        "time from the last word of the earlier primary to serving"),
    ROW(GAUGE, ALL, "lethe_store_takeover_last_ms", counts.takeover_last_ms, "the same, of the newest one"),
    ROW(GAUGE, ALL, "lethe_store_primary_unreachable_ms", peer_since_ms,
        "for so long a backup has no connection to its primary"),
    ROW(GAUGE, ALL, "lethe_store_connections", connections, "connections of any kind"),
    ROW(GAUGE, ALL, "lethe_store_clients_connected", clients_connected, "connections of clients"),
    ROW(GAUGE, ALL, "lethe_store_replicas_connected", replicas_connected, "connections of backups"),
    ROW(COUNTER, ALL, "lethe_store_connections_accepted_total", accepted, "connections let in"),
    ROW(COUNTER, ALL, "lethe_store_frames_received_total", frames_in, "messages"),
    ROW(COUNTER, ALL, "lethe_store_frames_sent_total", frames_out, "messages"),
    ROW(COUNTER, ALL, "lethe_store_received_bytes_total", bytes_in, "of messages"),
    ROW(COUNTER, ALL, "lethe_store_sent_bytes_total", bytes_out, "of messages"),
    ROW(COUNTER, ALL, "lethe_store_slow_readers_total", slow_readers,
        "connections closed because they left too much unread"),
    ROW(COUNTER, ALL, "lethe_store_auth_failures_total", auth_failures, "peers that proved nothing"),
    ROW(GAUGE, ALL, "lethe_store_one_sided_bytes", readable_bytes, "memory that clients may read by RDMA"),
    ROW(COUNTER, ALL, "lethe_store_one_sided_refused_bytes_total", unreadable_bytes,
        "memory that could not be registered for that"),
};

static uint64_t figure(const struct shard_snapshot *s, const struct row *r)
{
    uint32_t small;
    uint64_t v;
    if (r->bytes == sizeof small) {
        memcpy(&small, (const char *)s + r->at, sizeof small);
        return small;
    }
    memcpy(&v, (const char *)s + r->at, sizeof v);
    return v;
}

static void write_rows(const struct shards *all)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        text_family(all->to, rows[i].type, rows[i].name, rows[i].help);
        for (uint16_t k = 0; k < all->n; k++)
            if (rows[i].of == OF_ALL || is_primary(&all->at[k]))
                text_sample(all->to, figure(&all->at[k], &rows[i]), "shard=\"%u\"", k);
    }
}

/* --- families of their own shape -------------------------------------------------------------- */

static void write_roles(const struct shards *all)
{
    struct metrics_text *to = all->to;
    text_family(to, METRIC_GAUGE, "lethe_store_role", "1: what this replica is");
    for (uint16_t k = 0; k < all->n; k++) {
        const char *now = figures_role(&all->at[k]);
        for (int r = 0; r < ROLES; r++)
            if (roles[r])
                text_sample(to, !strcmp(roles[r], now), "shard=\"%u\",role=\"%s\"", k, roles[r]);
        text_sample(to, !strcmp("waiting", now), "shard=\"%u\",role=\"waiting\"", k);
    }
    text_family(to, METRIC_GAUGE, "lethe_store_serving", "1: a primary that answers");
    for (uint16_t k = 0; k < all->n; k++)
        text_sample(to, serves(&all->at[k]), "shard=\"%u\"", k);
    text_family(to, METRIC_GAUGE, "lethe_store_copies_wanted", "replicas each shard should have");
    text_value(to, store_copies(all->store));
    text_family(to, METRIC_GAUGE, "lethe_store_lease_left_ms", "of a primary's shortest lease; 0: reads wait");
    for (uint16_t k = 0; k < all->n; k++)
        if (is_primary(&all->at[k]) && all->at[k].health.lease_left_ms != SHARD_NO_LEASE)
            text_sample(to, all->at[k].health.lease_left_ms, "shard=\"%u\"", k);
}

static void write_replicas(const struct shards *all)
{
    text_family(all->to, METRIC_GAUGE, "lethe_store_replica_lag_entries",
                "log entries that a replica has not acknowledged to its primary");
    for (uint16_t k = 0; k < all->n; k++)
        for (uint32_t i = 0; is_primary(&all->at[k]) && i < all->at[k].nreplicas; i++) {
            const struct shard_replica *r = &all->at[k].replicas[i];
            text_sample(all->to, r->lag, "shard=\"%u\",peer=\"%s\",kind=\"%s\"", k,
                        store_node_name(all->store, r->node), r->joining ? "joining" : "member");
        }
}

static void write_ops(const struct shards *all)
{
    static const char *const kinds[] = {[TXN_GET] = "get", [TXN_CHECK] = "check",
        [TXN_INSERT] = "insert", [TXN_CAS] = "cas", [TXN_DELETE] = "delete", [TXN_ADD] = "add",
        [TXN_ADD_LIMIT] = "add_limit", [TXN_ALLOC] = "alloc", [TXN_FREE] = "free",
        [TXN_SCAN] = "scan"};
    static const char *const statuses[] = {[TXN_OK] = "ok", [TXN_CONFLICT] = "conflict",
        [TXN_LIMIT] = "limit", [TXN_EXHAUSTED] = "exhausted", [TXN_NO_MEMORY] = "no_memory",
        [TXN_BUSY] = "busy", [TXN_BAD_REQUEST] = "bad_request", [TXN_STALE_CLIENT] = "stale_client",
        [TXN_FORGOTTEN] = "forgotten", [TXN_NOT_PRIMARY] = "not_primary", [TXN_LOST] = "lost",
        [TXN_MOVED] = "moved"};
    _Static_assert(sizeof kinds / sizeof kinds[0] == TXN_CODE_END &&
                       sizeof statuses / sizeof statuses[0] == TXN_STATUS_END, "all named");
    text_family(all->to, METRIC_COUNTER, "lethe_store_operations_total", "operations executed");
    for (uint16_t k = 0; k < all->n; k++)
        for (int i = TXN_GET; i < TXN_CODE_END; i++)
            text_sample(all->to, all->at[k].counts.ops[i], "shard=\"%u\",kind=\"%s\"", k, kinds[i]);
    text_family(all->to, METRIC_COUNTER, "lethe_store_replies_total", "txns answered");
    for (uint16_t k = 0; k < all->n; k++)
        for (int i = 0; i < TXN_STATUS_END; i++)
            text_sample(all->to, all->at[k].counts.results[i], "shard=\"%u\",status=\"%s\"", k,
                        statuses[i]);
}

static void write_histograms(const struct shards *all)
{
    char shard[24];
    text_family(all->to, METRIC_HISTOGRAM, "lethe_store_batch_size_txns", "txns of a client's request");
    for (uint16_t k = 0; k < all->n; k++) {
        snprintf(shard, sizeof shard, "shard=\"%u\"", k);
        text_histogram(all->to, &all->at[k].batch_txns, 0, 10, shard);
    }
    text_family(all->to, METRIC_HISTOGRAM, "lethe_store_commit_us",
                "from appending to the log until every replica in the view has it");
    for (uint16_t k = 0; k < all->n; k++) {
        snprintf(shard, sizeof shard, "shard=\"%u\"", k);
        text_histogram(all->to, &all->at[k].commit_us, 3, 21, shard);
    }
}

/* What a table's row of a family says; false: nothing of this table. */
static bool table_figure(const struct shard_table *t, int which, uint64_t *v)
{
    const uint64_t all[] = {t->entries, t->max_entries, t->bytes, t->events_pending, t->entries,
                            t->pool_free, t->pool_resting};
    *v = all[which];
    return which < 4 ? which != 1 || t->max_entries : t->kind == TABLE_POOL;
}

static void write_tables(const struct shards *all)
{
    static const struct { const char *name, *help; } families[] = {
        {"lethe_store_table_entries", "entries"},
        {"lethe_store_table_entries_max", "limit of entries; none: no limit"},
        {"lethe_store_table_memory_bytes", "memory"},
        {"lethe_store_table_events_undelivered", "expiries nobody acknowledged"},
        {"lethe_store_pool_used", "indexes given out"},
        {"lethe_store_pool_free", "indexes free, of slots owned here"},
        {"lethe_store_pool_resting", "indexes freed a short while ago"}};
    char name[2 * TABLE_NAME_MAX];
    uint64_t v;
    for (int f = 0; f < (int)(sizeof families / sizeof families[0]); f++) {
        text_family(all->to, METRIC_GAUGE, families[f].name, families[f].help);
        for (uint16_t k = 0; k < all->n; k++)
            for (uint32_t i = 0; i < all->at[k].ntables; i++)
                if (table_figure(&all->at[k].tables[i], f, &v))
                    text_sample(all->to, v, "shard=\"%u\",table=\"%s\",role=\"%s\"", k,
                                text_label(name, sizeof name, all->at[k].tables[i].name),
                                figures_role(&all->at[k]));
    }
}

static void write_limits(const struct shards *all)
{
    static const struct { const char *name, *help; enum metric_type type; } families[] = {
        {"lethe_store_limit_bytes", "a memory limit; 0: none", METRIC_GAUGE},
        {"lethe_store_limit_used_bytes", "memory counted against it", METRIC_GAUGE},
        {"lethe_store_limit_denied_total", "operations it refused", METRIC_COUNTER}};
    char label[200];
    const char *who;
    for (int f = 0; f < 3; f++) {
        text_family(all->to, families[f].type, families[f].name, families[f].help);
        for (uint16_t k = 0; k < all->n; k++)
            for (uint32_t i = 0; i < SNAPSHOT_LIMITS && (who = store_limit_name(all->store, i)); i++) {
                const struct shard_limit_status *l = &all->at[k].limits[i];
                text_sample(all->to, f == 0 ? l->bytes : f == 1 ? l->used : l->refused,
                            "shard=\"%u\",limit=\"%u\",reason=\"%s\"", k, i,
                            text_label(label, sizeof label, who));
            }
    }
}

static void write_views(const struct shards *all)
{
    struct views_service sv;
    struct views *v = store_views(all->store);
    v->ops->service(v, &sv);
    text_family(all->to, METRIC_GAUGE, "lethe_store_view_service_away_ms",
                "for so long nothing was heard of etcd; 0: it is there");
    text_sample(all->to, sv.away_ms, "kind=\"%s\"", sv.kind);
    text_family(all->to, METRIC_COUNTER, "lethe_store_view_service_requests_total", "asked of it");
    text_sample(all->to, sv.requests, "kind=\"%s\"", sv.kind);
    text_family(all->to, METRIC_COUNTER, "lethe_store_view_service_failures_total",
                "requests that failed");
    text_sample(all->to, sv.failures, "kind=\"%s\"", sv.kind);
}

void figures_collect(void *store, struct metrics_text *to)
{
    const struct store *s = store;
    struct shards all = {.store = s, .to = to, .n = store_shards(s)};
    all.at = calloc(all.n, sizeof *all.at);
    to->failed |= !all.at;
    for (uint16_t k = 0; all.at && k < all.n; k++)
        store_snapshot(s, k, &all.at[k]);
    if (all.at) {
        write_roles(&all);
        write_rows(&all);
        write_replicas(&all);
        write_ops(&all);
        write_histograms(&all);
        write_tables(&all);
        write_limits(&all);
        write_views(&all);
    }
    free(all.at);
}

/* --- probes ------------------------------------------------------------------------------------ */

void figures_healthy(void *store, char *why, uint32_t len)
{
    for (uint16_t k = 0; k < store_shards(store) && !*why; k++)
        if (!store_alive(store, k))
            snprintf(why, len, "the thread of shard %u stands still", k);
}

/* False: the view has fewer copies than it could have. A member that was started again since is
 * none (it is empty, and the view does not say so yet); who is not registered cannot be waited
 * for. Where nobody registers (a static pair) a primary does not know whether there is a backup to wait
 * for, and a backup has to be one. */
static bool has_copies(const struct store *s, uint16_t shard, const struct shard_snapshot *n)
{
    struct views *v = store_views(s);
    struct views_node row;
    uint32_t alive = 0, there = 0;
    if (!v->elects)
        return n->status.role == SHARD_PRIMARY || n->status.role == SHARD_BACKUP;
    for (uint32_t node = 1; node <= store_nodes(s); node++)
        alive += v->ops->node(v, node, shard, &row) && row.alive;
    for (uint32_t i = 0; i < n->members; i++) {
        bool earlier_self = n->member[i].node == store_self(s) && n->status.role == SHARD_IDLE;
        there += !earlier_self && (!v->ops->node(v, n->member[i].node, shard, &row) ||
                                   row.incarnation <= n->member[i].incarnation);
    }
    return there >= (alive < store_copies(s) ? alive : store_copies(s));
}

/* Ready is whoever may be followed by the next: if that one is stopped now, no shard loses its
 * last copy. So also a spare asks for the copies of others. */
static const char *not_ready(const struct store *s, uint16_t shard, const struct shard_snapshot *n)
{
    if (n->standing == VIEWS_WAITING)
        return "waits for its view";
    if (n->status.role == SHARD_LOST || n->standing == VIEWS_LOST)
        return "is LOST: no caught-up copy is left";
    if (n->status.role == SHARD_PRIMARY && !serves(n))
        return "takes over";
    if (n->status.role == SHARD_BACKUP && n->peer_since_ms)
        return "does not hear its primary";
    if (has_copies(s, shard, n) && !n->peer_since_ms) /* who catches up when others were faster is a spare */
        return NULL;
    return n->status.role == SHARD_JOINING ? "catches up"
           : n->status.role == SHARD_IDLE  ? "is not in the view yet"
                                           : "has too few copies: another one is to catch up";
}

void figures_ready(void *store, char *why, uint32_t len)
{
    struct shard_snapshot n;
    figures_healthy(store, why, len);
    for (uint16_t k = 0; k < store_shards(store) && !*why; k++) {
        store_snapshot(store, k, &n);
        const char *not = not_ready(store, k, &n);
        if (not)
            snprintf(why, len, "shard %u %s%s%s", k, not, n.trouble[0] ? ": " : "", n.trouble);
    }
}
