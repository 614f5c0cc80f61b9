/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Orders by the control socket (verbs.h): what an operator wants of shards whose
 * primary is this node. An order is given to the shard's loop and answered when the
 * core took or refused it; `stats` and the log say what becomes of it.
 *
 * A rebalance is a plan over the whole map, the same wherever it is computed as
 * long as the maps agree; each process orders those of its moves whose source is
 * here.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "statestore/server/verbs_impl.h"

static const char words[] = "in-these-words-data-may-be-lost";

static json_t *error_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
static json_t *error_of(const char *format, ...)
{
    char text[500];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *p = text; *p; p++) /* the request's bytes may not be UTF-8 */
        if ((unsigned char)*p >= 0x7f)
            *p = '?';
    return json_pack("{s:s}", "error", text);
}

/* --- who is who -------------------------------------------------------------------------------- */

static bool number(const char *text, uint32_t most, uint32_t *out)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    unsigned long v = strtoul(text, &end, 10);
    *out = (uint32_t)v;
    return !*end && v <= most;
}

static bool is_primary(struct store *s, uint16_t shard)
{
    struct shard_snapshot snap;
    store_snapshot(s, shard, &snap);
    return snap.standing == VIEWS_SERVING && snap.status.role == SHARD_PRIMARY;
}

static json_t *not_primary(struct store *s, uint16_t shard)
{
    struct views *v = store_views(s);
    uint32_t node = v->ops->primary(v, shard);
    if (!node)
        return error_of("shard %u has no primary yet; try again later", shard);
    return error_of("shard %u's primary is not here but %s; ask that one", shard,
                    store_node_name(s, node));
}

/* False: it was not taken, and why. One that may yet be taken counts as taken. */
static bool order_now(struct store *s, uint16_t shard, const struct shard_order *order,
                      char why[ORDER_SENTENCE])
{
    int rc = store_order(s, shard, order, why);
    if (rc == -EBUSY)
        snprintf(why, ORDER_SENTENCE, "shard %u has too many orders waiting; ask again", shard);
    return !rc || rc == -ETIMEDOUT;
}

static json_t *give(struct store *s, uint16_t shard, const struct shard_order *order)
{
    char why[ORDER_SENTENCE];
    if (!order_now(s, shard, order, why))
        return error_of("%s", why);
    return json_pack("{s:s, s:i}", "result", "ordered; stats and the log say how it goes", "shard",
                     shard);
}

/* --- the map ---------------------------------------------------------------------------------------- */

struct owner { uint16_t shard; uint32_t epoch; };

/* What the shards here know for certain, and for the rest where slots begin. */
static void read_map(struct store *s, struct owner map[LETHE_SLOTS])
{
    for (uint32_t i = 0; i < LETHE_SLOTS; i++)
        map[i] = (struct owner){.shard = (uint16_t)(i * store_shards(s) / LETHE_SLOTS)};
    for (uint16_t shard = 0; shard < store_shards(s); shard++) {
        struct msg_map m;
        if (store_map(s, shard, &m))
            continue;
        for (uint32_t i = 0; i < LETHE_SLOTS; i++)
            if (m.slots[i].known && m.slots[i].epoch >= map[i].epoch &&
                m.slots[i].shard < store_shards(s))
                map[i] = (struct owner){m.slots[i].shard, m.slots[i].epoch};
    }
}

/* The run of slots from `first` on that one shard owns; its last. */
static uint32_t run_of(const struct owner map[LETHE_SLOTS], uint32_t first)
{
    uint32_t last = first;
    while (last + 1 < LETHE_SLOTS && map[last + 1].shard == map[first].shard)
        last++;
    return last;
}

static json_t *on_map(struct store *s)
{
    struct owner map[LETHE_SLOTS];
    json_t *runs = json_array();
    read_map(s, map);
    for (uint32_t first = 0, last; first < LETHE_SLOTS; first = last + 1) {
        last = run_of(map, first);
        json_array_append_new(runs, json_pack("{s:i, s:i, s:i}", "first", first, "last", last,
                                              "shard", map[first].shard));
    }
    return json_pack("{s:o}", "slots", runs);
}

/* --- move, lend, hand-over ------------------------------------------------------------------------------ */

static json_t *on_move(struct store *s, char **argv)
{
    struct shard_order order = {.kind = SHARD_ORDER_MOVE};
    struct owner map[LETHE_SLOTS];
    uint32_t first, last, to, ordered = 0;
    char *dash = strchr(argv[1], '-');
    json_t *elsewhere = NULL;
    if (dash)
        *dash = 0;
    if (!number(argv[1], LETHE_SLOTS - 1, &first) ||
        !number(dash ? dash + 1 : argv[1], LETHE_SLOTS - 1, &last) || first > last ||
        !number(argv[2], store_shards(s) - 1u, &to))
        return error_of("write: move FIRST-LAST TO, hash slots 0 to %d and a shard 0 to %u",
                        LETHE_SLOTS - 1, store_shards(s) - 1u);
    order.first = (uint8_t)first;
    order.last = (uint8_t)last;
    order.to = (uint16_t)to;
    read_map(s, map);
    bool has[STORE_SHARDS_MAX] = {false};
    for (uint32_t i = first; i <= last; i++)
        has[map[i].shard] = true;
    for (uint16_t shard = 0; shard < store_shards(s); shard++) {
        if (!has[shard] || shard == to)
            continue;
        char why[ORDER_SENTENCE];
        if (is_primary(s, shard) && order_now(s, shard, &order, why))
            ordered++;
        else if (!elsewhere)
            elsewhere = is_primary(s, shard) ? error_of("%s", why) : not_primary(s, shard);
    }
    if (ordered) {
        json_decref(elsewhere);
        return json_pack("{s:s, s:i}", "result", "ordered; stats and the log say how it goes", "shards",
                         ordered);
    }
    return elsewhere ? elsewhere : error_of("shard %u owns all of them already", to);
}

static json_t *on_lend(struct store *s, int argc, char **argv)
{
    struct shard_order order = {.kind = SHARD_ORDER_LEND};
    uint32_t to, from = UINT32_MAX;
    if (argc < 4 || argc > 5 || strlen(argv[1]) >= TABLE_NAME_MAX ||
        !number(argv[2], UINT32_MAX - 1, &order.count) || !order.count ||
        !number(argv[3], store_shards(s) - 1u, &to) ||
        (argc == 5 && !number(argv[4], store_shards(s) - 1u, &from)) || from == to)
        return error_of("write: lend TABLE COUNT TO [FROM], a pool, how many indexes, two shards");
    snprintf(order.table, sizeof order.table, "%s", argv[1]);
    order.to = (uint16_t)to;
    for (uint16_t shard = 0; argc == 4 && shard < store_shards(s); shard++) {
        if (shard == to || !is_primary(s, shard))
            continue;
        if (from != UINT32_MAX)
            return error_of("several shards here could lend: write which one behind the %u", to);
        from = shard;
    }
    if (from == UINT32_MAX)
        return error_of("no other shard has its primary here; ask another node");
    return is_primary(s, (uint16_t)from) ? give(s, (uint16_t)from, &order)
                                         : not_primary(s, (uint16_t)from);
}

static json_t *on_hand_over(struct store *s, const char *text)
{
    struct shard_order order = {.kind = SHARD_ORDER_HAND_OVER};
    struct shard_snapshot snap;
    uint32_t shard;
    if (!number(text, store_shards(s) - 1u, &shard))
        return error_of("write: hand-over SHARD, a number from 0 to %u", store_shards(s) - 1u);
    if (!store_views(s)->elects)
        return error_of("in a site without etcd the first node is the primary for ever; write "
                        "store.etcd into site.yaml");
    if (!is_primary(s, (uint16_t)shard))
        return not_primary(s, (uint16_t)shard);
    store_snapshot(s, (uint16_t)shard, &snap);
    if (snap.status.copies < 2)
        return error_of("shard %u has no backup that could take over; start another node", shard);
    return give(s, (uint16_t)shard, &order);
}

/* --- rebalance -------------------------------------------------------------------------------------------- */

/* "0,2,3" -> wanted[]; how many, 0: wrong. */
static uint32_t read_shards(struct store *s, char *text, bool wanted[STORE_SHARDS_MAX])
{
    char *rest = NULL;
    uint32_t shard, n = 0;
    for (char *word = strtok_r(text, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        if (!number(word, store_shards(s) - 1u, &shard) || wanted[shard])
            return 0;
        wanted[shard] = true;
        n++;
    }
    return n;
}

/* From shards with too much to those with too little, lowest numbers first; the
 * highest slots of a source go. plan[slot]: where to. */
static void plan_moves(const struct owner map[LETHE_SLOTS], uint16_t shards,
                       const bool wanted[STORE_SHARDS_MAX], uint32_t n, uint16_t plan[LETHE_SLOTS])
{
    int over[STORE_SHARDS_MAX] = {0}; /* slots too many */
    uint32_t seen = 0;
    for (uint32_t i = 0; i < LETHE_SLOTS; i++) {
        over[map[i].shard]++;
        plan[i] = map[i].shard;
    }
    for (uint16_t shard = 0; shard < shards; shard++)
        if (wanted[shard])
            over[shard] -= (int)(LETHE_SLOTS / n + (seen++ < LETHE_SLOTS % n));
    uint16_t to = 0;
    for (uint16_t from = 0; from < shards; from++)
        for (int i = LETHE_SLOTS - 1; i >= 0 && over[from] > 0; i--) {
            if (map[i].shard != from)
                continue;
            while (to < shards && over[to] >= 0)
                to++;
            if (to == shards)
                return;
            plan[i] = to;
            over[from]--;
            over[to]++;
        }
}

static void order_run(struct store *s, json_t *moves, uint16_t from, uint32_t first, uint32_t last,
                      uint16_t to)
{
    struct shard_order order = {.kind = SHARD_ORDER_MOVE, .first = (uint8_t)first,
                                .last = (uint8_t)last, .to = to};
    struct views *v = store_views(s);
    char why[ORDER_SENTENCE] = "";
    bool ours = is_primary(s, from), ordered = ours && order_now(s, from, &order, why);
    json_array_append_new(
        moves, json_pack("{s:i, s:i, s:i, s:i, s:b, s:s, s:s}", "first", first, "last", last, "from",
                         from, "to", to, "ordered", ordered, "why", why, "primary",
                         store_node_name(s, v->ops->primary(v, from))));
}

static json_t *on_rebalance(struct store *s, char *text)
{
    bool wanted[STORE_SHARDS_MAX] = {false};
    struct owner map[LETHE_SLOTS];
    uint16_t plan[LETHE_SLOTS];
    uint32_t n = read_shards(s, text, wanted);
    json_t *moves = json_array();
    if (!n) {
        json_decref(moves);
        return error_of("write: rebalance SHARD,SHARD,... those that are to own equal shares, each "
                        "from 0 to %u", store_shards(s) - 1u);
    }
    read_map(s, map);
    plan_moves(map, store_shards(s), wanted, n, plan);
    for (uint32_t first = 0, last; first < LETHE_SLOTS; first = last + 1) {
        last = first;
        while (last + 1 < LETHE_SLOTS && map[last + 1].shard == map[first].shard &&
               plan[last + 1] == plan[first])
            last++;
        if (plan[first] != map[first].shard)
            order_run(s, moves, map[first].shard, first, last, plan[first]);
    }
    return json_pack("{s:s, s:o}", "result",
                     "moves not ordered here are ordered by asking their primary the same", "plan",
                     moves);
}

/* --- accepting a loss ---------------------------------------------------------------------------------------- */

static bool node_named(const struct store *s, const char *name, uint32_t *out)
{
    for (uint32_t i = 1; i <= store_nodes(s); i++)
        if (!strcmp(store_node_name(s, i), name)) {
            *out = i;
            return true;
        }
    return false;
}

static json_t *on_accept_loss(struct store *s, int argc, char **argv)
{
    struct views *v = store_views(s);
    uint32_t shard, fenced[STORE_NODES_MAX], n = 0;
    char why[400];
    if (argc < 3 || !number(argv[1], store_shards(s) - 1u, &shard) || strcmp(argv[2], words))
        return error_of("write: accept-loss SHARD %s [--fenced NODE ...]. This node will serve what it "
                        "holds of the shard, be that nothing; what only others held is lost", words);
    for (int i = 3; i < argc; i++) {
        if (!strcmp(argv[i], "--fenced"))
            continue;
        if (n == STORE_NODES_MAX || !node_named(s, argv[i], &fenced[n]))
            return error_of("%s is no node of this site", argv[i]);
        n++;
    }
    if (is_primary(s, (uint16_t)shard))
        return error_of("shard %u is served here; nothing is lost", shard);
    if (v->ops->accept_loss(v, (uint16_t)shard, fenced, n, why, sizeof why))
        return error_of("%s", why);
    return json_pack("{s:s, s:i}", "result", "proposed; stats shows when this node serves", "shard",
                     shard);
}

/* --- dispatch ---------------------------------------------------------------------------------------------------- */

json_t *verbs_order(struct store *s, int argc, char **argv)
{
    const char *verb = argc ? argv[0] : "";
    if (!strcmp(verb, "map") && argc == 1)
        return on_map(s);
    if (!strcmp(verb, "move"))
        return argc == 3 ? on_move(s, argv) : error_of("write: move FIRST-LAST TO");
    if (!strcmp(verb, "lend"))
        return on_lend(s, argc, argv);
    if (!strcmp(verb, "hand-over"))
        return argc == 2 ? on_hand_over(s, argv[1]) : error_of("write: hand-over SHARD");
    if (!strcmp(verb, "rebalance"))
        return argc == 2 ? on_rebalance(s, argv[1]) : error_of("write: rebalance SHARD,SHARD,...");
    if (!strcmp(verb, "accept-loss"))
        return on_accept_loss(s, argc, argv);
    return NULL;
}
