/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What /readyz says of a shard's snapshot (figures.h): may another store be stopped now? A row is what one
 * node of three sees of one shard, and the words it answers with. No store runs: its accessors are here.
 */
#include <stdio.h>
#include <string.h>

#include "statestore/server/figures.h"
#include "statestore/server/store.h"
#include "tests/check.h"

enum { NODES = 3, COPIES = 2, OLD = 10, NEW = 20 /* incarnations */ };

struct row {
    const char *what, *says;  /* "": ready */
    uint32_t role, standing;
    uint32_t members[3];      /* of the view, the first is the primary; 0: no more */
    uint64_t peer_since_ms;
    bool collects, hangs, pair;
    bool alone;               /* nobody else is registered */
    uint32_t again;           /* this node was started again since the view, 0: none */
};

static const struct row rows[] = {
    {"a primary with a backup", "", SHARD_PRIMARY, VIEWS_SERVING, .members = {1, 2}},
    {"a primary that is alone of all", "", SHARD_PRIMARY, VIEWS_SERVING, .members = {1}, .alone = true},
    {"a primary whose backup is to come", "has too few copies", SHARD_PRIMARY, VIEWS_SERVING, .members = {1}},
    {"a primary whose backup was started again", "has too few copies", SHARD_PRIMARY, VIEWS_SERVING, .members = {1, 2}, .again = 2},
    {"a primary that waits for a lease", "takes over", SHARD_PRIMARY, VIEWS_SERVING, .members = {1, 2}, .collects = true},
    {"a backup", "", SHARD_BACKUP, VIEWS_FOLLOWING, .members = {2, 1}},
    {"a backup without its primary", "does not hear its primary", SHARD_BACKUP, VIEWS_FOLLOWING, .members = {2, 1}, .peer_since_ms = 9},
    {"a spare", "", SHARD_IDLE, VIEWS_FOLLOWING, .members = {2, 3}},
    {"a spare without the primary", "is not in the view yet", SHARD_IDLE, VIEWS_FOLLOWING, .members = {2, 3}, .peer_since_ms = 9},
    {"a spare that is wanted", "is not in the view yet", SHARD_IDLE, VIEWS_FOLLOWING, .members = {2}},
    {"started again, and the view does not know", "is not in the view yet", SHARD_IDLE, VIEWS_FOLLOWING, .members = {2, 1}},
    {"who catches up and is wanted", "catches up", SHARD_JOINING, VIEWS_FOLLOWING, .members = {2}},
    {"who catches up when others were faster", "", SHARD_JOINING, VIEWS_FOLLOWING, .members = {2, 3}},
    {"the same, without the primary", "catches up", SHARD_JOINING, VIEWS_FOLLOWING, .members = {2, 3}, .peer_since_ms = 9},
    {"the same, one of those was started again", "catches up", SHARD_JOINING, VIEWS_FOLLOWING, .members = {2, 3}, .again = 3},
    {"nobody knows", "waits for its view", SHARD_IDLE, VIEWS_WAITING, .members = {0}},
    {"nobody is left", "is LOST", SHARD_LOST, VIEWS_LOST, .members = {2, 3}},
    {"a thread hangs", "the thread of shard 0 stands still", SHARD_PRIMARY, VIEWS_SERVING, .members = {1, 2}, .hangs = true},
    {"of a pair: the first", "", SHARD_PRIMARY, VIEWS_SERVING, .members = {1}, .pair = true},
    {"of a pair: the second", "", SHARD_BACKUP, VIEWS_FOLLOWING, .members = {1, 2}, .pair = true},
    {"of a pair: the second catches up", "catches up", SHARD_JOINING, VIEWS_FOLLOWING, .members = {1}, .pair = true},
    {"of a pair: the second is new", "is not in the view yet", SHARD_IDLE, VIEWS_FOLLOWING, .members = {1}, .pair = true},
};
static const struct row *now;

/* --- the store ----------------------------------------------------------------------------- */

static bool node(const struct views *v, uint32_t number, uint16_t shard, struct views_node *out)
{
    *out = (struct views_node){.incarnation = number == now->again ? NEW : OLD, .alive = number == 1 || !now->alone};
    return v->elects;
}

struct views *store_views(const struct store *s)
{
    static const struct views_ops ops = {.node = node};
    static struct views v = {.ops = &ops};
    v.elects = !now->pair;
    return &v;
}

void store_snapshot(const struct store *s, uint16_t shard, struct shard_snapshot *out)
{
    memset(out, 0, sizeof *out);
    out->status.role = now->role;
    out->standing = now->standing;
    out->peer_since_ms = now->peer_since_ms;
    out->health.collecting = now->collects ? SHARD_COLLECTS_LEASE : SHARD_COLLECTS_NOTHING;
    for (; out->members < 3 && now->members[out->members]; out->members++)
        out->member[out->members] = (struct msg_node){.node = now->members[out->members], .incarnation = OLD};
}

bool store_alive(const struct store *s, uint16_t shard)
{
    return !now->hangs;
}

uint16_t store_shards(const struct store *s)
{
    return 1;
}

uint32_t store_self(const struct store *s)
{
    return 1;
}

uint32_t store_nodes(const struct store *s)
{
    return NODES;
}

uint32_t store_copies(const struct store *s)
{
    return COPIES;
}

const char *store_node_name(const struct store *s, uint32_t number)
{
    return "";
}

const char *store_limit_name(const struct store *s, uint32_t i)
{
    return NULL;
}

/* --- tests --------------------------------------------------------------------------------- */

static void who_is_ready(void **state)
{
    for (now = rows; now < rows + sizeof rows / sizeof rows[0]; now++) {
        char why[300] = "";
        figures_ready(NULL, why, sizeof why);
        CHECK(*now->says ? strstr(why, now->says) != NULL : !*why, "%s: \"%s\", not \"%s\"", now->what, why, now->says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(who_is_ready)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
