/* SPDX-License-Identifier: BSD-3-Clause */
/* The control socket's answers (verbs.h). Numbers that may pass 2^53, the
 * digests, are hexadecimal strings. */
#include "statestore/server/verbs_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/metrics/metrics.h"
#include "statestore/server/figures.h"
#include "statestore/server/traced.h"

static void set_number(json_t *o, const char *key, uint64_t value)
{
    json_object_set_new(o, key, json_integer((json_int_t)value));
}

static void set_hex(json_t *o, const char *key, uint64_t value)
{
    char text[20];
    snprintf(text, sizeof text, "%016" PRIx64, value);
    json_object_set_new(o, key, json_string(text));
}

static void set_status(json_t *o, const struct shard_status *st)
{
    const struct { const char *key; uint64_t value; } rows[] = {
        {"position", st->position}, {"commit", st->commit}, {"copies", st->copies},
        {"view_epoch", st->view_epoch}, {"waiting", st->waiting}, {"drifts", st->drifts},
        {"entries", st->entries}, {"pool_used", st->pool_used}, {"pool_free", st->pool_free},
        {"pool_resting", st->pool_resting}, {"txns", st->txns}, {"conflicts", st->conflicts},
        {"exhausted", st->exhausted}, {"expired", st->expired},
        {"touches_logged", st->touches_logged}, {"duplicates", st->duplicates},
        {"clients", st->clients}, {"results_kept", st->results_kept},
        {"memory_bytes", st->memory_bytes}, {"shard_time_ms", st->shard_time_ms},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        set_number(o, rows[i].key, rows[i].value);
    set_hex(o, "digest", st->digest);
}

/* What it waits for, what is whose. A key's unit, or what it counts, is its end. */
static void set_health(json_t *o, const struct store *s, const struct shard_snapshot *snap)
{
    static const char *const collecting[] = {
        [SHARD_COLLECTS_NOTHING] = "", [SHARD_COLLECTS_MEMBERS] = "word of a member",
        [SHARD_COLLECTS_TAIL] = "a longer log", [SHARD_COLLECTS_LEASE] = "an earlier lease's end"};
    const struct shard_health *h = &snap->health;
    const struct shard_loans *n = &snap->loans;
    const struct { const char *key; uint64_t value; } rows[] = {
        {"collecting_lease_wait_ms", h->lease_wait_ms}, {"proposal_open_ms", h->proposal_open_ms},
        {"suspended_replies", h->suspended_replies}, {"slots_owned", h->slots_owned},
        {"slots_queued", h->slots_queued}, {"slots_sending", h->slots_sending},
        {"slots_incoming", h->slots_incoming}, {"slots_sent_total", h->slots_sent},
        {"slots_taken_total", h->slots_taken}, {"pool_lent", n->lent},
        {"pool_lent_to_shards", n->lent_to_shards}, {"pool_borrowed", n->borrowed},
        {"pool_borrowed_from_shards", n->borrowed_from_shards}, {"pool_to_lend", h->indexes_to_lend},
        {"events_pending", h->events_pending}, {"consumers", h->consumers},
    };
    json_object_set_new(o, "lease_left_ms", h->lease_left_ms == SHARD_NO_LEASE
                                                ? json_null()
                                                : json_integer((json_int_t)h->lease_left_ms));
    json_object_set_new(o, "collecting", json_string(collecting[h->collecting]));
    json_object_set_new(o, "collecting_from",
                        json_string(h->collects_from ? store_node_name(s, h->collects_from) : ""));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        set_number(o, rows[i].key, rows[i].value);
}

/* What each node's replica of the shard is known to hold. */
static json_t *nodes_object(const struct store *s, uint16_t shard)
{
    struct views *v = store_views(s);
    struct views_node n;
    json_t *all = json_array();
    for (uint32_t i = 1; i <= store_nodes(s); i++) {
        if (!v->ops->node(v, i, shard, &n))
            continue;
        char incarnation[24];
        snprintf(incarnation, sizeof incarnation, "%" PRIu64, n.incarnation);
        json_array_append_new(all, json_pack("{s:s, s:b, s:s, s:I, s:I}", "name",
                                             store_node_name(s, i), "registered", n.alive,
                                             "incarnation", incarnation, "holds_epoch",
                                             (json_int_t)n.epoch, "holds_position",
                                             (json_int_t)n.position));
    }
    return all;
}

static json_t *limits_object(const struct store *s, const struct shard_snapshot *snap)
{
    json_t *all = json_array();
    const char *who;
    for (uint32_t i = 0; i < SNAPSHOT_LIMITS && (who = store_limit_name(s, i)); i++)
        json_array_append_new(all, json_pack("{s:s, s:I, s:I, s:I}", "who", who, "bytes",
                                             (json_int_t)snap->limits[i].bytes, "used",
                                             (json_int_t)snap->limits[i].used, "refused",
                                             (json_int_t)snap->limits[i].refused));
    return all;
}

static json_t *shard_object(const struct store *s, uint16_t shard)
{
    struct shard_snapshot snap;
    store_snapshot(s, shard, &snap);
    json_t *o = json_object();
    set_number(o, "shard", shard);
    json_object_set_new(o, "role", json_string(figures_role(&snap)));
    set_status(o, &snap.status);
    set_health(o, s, &snap);
    set_number(o, "port", store_port(s, shard));
    set_number(o, "connections", snap.connections);
    set_number(o, "clients_connected", snap.clients_connected);
    set_number(o, "replicas_connected", snap.replicas_connected);
    set_number(o, "frames_in", snap.frames_in);
    set_number(o, "frames_out", snap.frames_out);
    set_number(o, "slow_readers", snap.slow_readers);
    set_number(o, "auth_failures", snap.auth_failures);
    set_number(o, "one_sided_bytes", snap.readable_bytes);
    set_number(o, "one_sided_refused_bytes", snap.unreadable_bytes);
    set_number(o, "fences", snap.fences);
    set_number(o, "fence_frames", snap.fence_frames);
    set_number(o, "writes_lost", snap.writes_lost);
    set_number(o, "primary_unreachable_ms", snap.peer_since_ms);
    json_object_set_new(o, "primary", json_string(store_node_name(s, snap.primary_node)));
    json_object_set_new(o, "primary_by", json_string(snap.primary_by));
    json_object_set_new(o, "moves_by", json_string(snap.moves_by));
    json_object_set_new(o, "nodes", nodes_object(s, shard));
    set_number(o, "copies_wanted", store_copies(s));
    if (snap.moves_to)
        set_number(o, "sends_to_shard", snap.moves_to - 1);
    json_object_set_new(o, "limits", limits_object(s, &snap));
    json_object_set_new(o, "trouble", json_string(snap.trouble));
    return o;
}

/* The view service. */
static json_t *views_object(const struct store *s)
{
    struct views *v = store_views(s);
    struct views_service sv;
    v->ops->service(v, &sv);
    json_t *o = json_pack("{s:s, s:I, s:I, s:I, s:i, s:I, s:s}", "kind", sv.kind, "away_ms",
                          (json_int_t)sv.away_ms, "requests", (json_int_t)sv.requests, "failures",
                          (json_int_t)sv.failures, "proposals", (int)sv.proposals, "proposal_ms",
                          (json_int_t)sv.proposal_ms, "trouble", sv.trouble);
    if (sv.site[0])
        json_object_set_new(o, "site", json_string(sv.site));
    return o;
}

static json_t *shards(const struct store *s)
{
    json_t *all = json_array();
    for (uint16_t i = 0; i < store_shards(s); i++)
        json_array_append_new(all, shard_object(s, i));
    return all;
}

static json_t *digests(const struct store *s)
{
    json_t *all = json_array();
    for (uint16_t i = 0; i < store_shards(s); i++) {
        struct shard_snapshot snap;
        store_snapshot(s, i, &snap);
        json_t *o = json_object();
        set_number(o, "shard", i);
        json_object_set_new(o, "role", json_string(figures_role(&snap)));
        set_number(o, "view_epoch", snap.status.view_epoch);
        set_number(o, "position", snap.status.position);
        set_hex(o, "digest", snap.status.digest);
        set_number(o, "mark_position", snap.mark_position);
        set_hex(o, "mark_digest", snap.mark_digest);
        json_array_append_new(all, o);
    }
    return all;
}

static void write_reply(json_t *o, char *reply, uint32_t room)
{
    size_t n = json_dumpb(o, reply, room - 1, JSON_COMPACT);
    if (n && n < room)
        reply[n] = 0;
    else
        snprintf(reply, room, "{\"error\": \"the answer does not fit\"}");
    json_decref(o);
}

static void answer_order(struct store *s, int argc, char **argv, json_t **o)
{
    json_t *answer = verbs_order(s, argc, argv);
    if (answer) {
        json_decref(*o);
        *o = answer;
    } else {
        json_object_set_new(*o, "error",
                            json_string("unknown request; try: stats, digest, map, tables, trace, move, lend, "
                                        "hand-over, rebalance, accept-loss"));
    }
}

void verbs_handle(void *ctx, int argc, char **argv, char *reply, uint32_t room)
{
    const struct verbs *v = ctx;
    bool stats = argc == 1 && !strcmp(argv[0], "stats");
    json_t *o = stats ? metrics_json(v->metrics) : json_object();
    if (stats) {
        json_object_set_new(o, "views", views_object(v->store));
        json_object_set_new(o, "shards", shards(v->store));
    } else if (argc == 1 && !strcmp(argv[0], "digest"))
        json_object_set_new(o, "shards", digests(v->store));
    else if (!strcmp(argv[0], "trace")) {
        json_decref(o);
        o = traced_verb(v->store, argc, argv);
    } else if (argc == 1 && !strcmp(argv[0], "tables")) {
        json_decref(o);
        o = verbs_tables(v->store);
    } else
        answer_order(v->store, argc, argv, &o);
    write_reply(o, reply, room);
}
