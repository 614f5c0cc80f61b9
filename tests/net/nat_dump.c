/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads every NAT mapping from the store and asks: does each have an outside
 * end point of its own, and do mappings and pools agree?
 *
 *   nat_dump -c site.yaml
 *
 * The site's chain must have a nat44; its tables are opened with the schemas
 * that this configuration gives, so nothing is known here of their sizes. For
 * each protocol: every entry of nat.map names an index of nat.ports, no two the
 * same one; the pool's record there is of the version that the entry names and
 * holds the entry's key; and every record in use has its entry.
 *
 * A scan is no snapshot of the whole store. What differs because a mapping came
 * or went meanwhile is gone the next time, so a fault counts only if all of
 * TRIES scans have one. Exit status: 0 sound, 1 not, 2 cannot look. One thread.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/lethe.h"
#include "nf/nat44/nat44.h"
#include "nf/worker/chain.h"

enum { TRIES = 3, SHOWN_MAX = 10, STORE_TIMEOUT_MS = 20000 };

struct row {                   /* one entry of nat.map, or one record of nat.ports */
    uint32_t index;
    uint64_t version;          /* of the pool record */
    struct nat_end_point inside;
};
struct rows { struct row *at; uint32_t n, room; };

struct scan {                  /* one txn's answer */
    struct rows *rows;
    bool pool, over, failed;
    uint64_t cursor;
};

static const char *const protos[NAT_PROTOS] = {"tcp", "udp", "icmp"};

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void rows_add(struct rows *rows, const struct row *row)
{
    if (rows->n == rows->room) {
        rows->room = rows->room ? 2 * rows->room : 4096;
        rows->at = realloc(rows->at, rows->room * sizeof *row);
        if (!rows->at)
            abort();
    }
    rows->at[rows->n++] = *row;
}

static int by_index(const void *a, const void *b)
{
    uint32_t x = ((const struct row *)a)->index, y = ((const struct row *)b)->index;
    return x < y ? -1 : x > y;
}

/* --- reading ------------------------------------------------------------------- */

static void take_entry(struct scan *s, const struct txn_scan_entry *e)
{
    const uint8_t *key = (const uint8_t *)(e + 1), *value = key + e->key_len;
    struct row row = {.version = e->version};
    if (s->pool) {
        memcpy(&row.index, key, sizeof row.index);
        memcpy(&row.inside, value, sizeof row.inside);
    } else {
        struct nat_map map;
        memcpy(&map, value, sizeof map);
        memcpy(&row.inside, key, sizeof row.inside);
        memcpy(&row.version, map.version, sizeof row.version);
        row.index = map.index;
    }
    rows_add(s->rows, &row);
}

static void scanned(void *user, const struct txn_result_head *result)
{
    struct scan *s = user;
    const struct txn_result *r = txn_result_of(result, 0);
    s->over = true;
    s->failed = result->status != TXN_OK || !r;
    if (s->failed) {
        fprintf(stderr, "nat_dump: scan: %s\n", txn_status_text(result->status));
        return;
    }
    s->cursor = r->version;
    const uint8_t *at = txn_result_value(r);
    for (uint32_t i = 0; i < r->index; i++) {
        struct txn_scan_entry e;
        memcpy(&e, at, sizeof e);
        take_entry(s, (const struct txn_scan_entry *)at);
        at += (sizeof e + e.key_len + e.value_len + 7u) & ~7u;
    }
}

static bool scan_slot(struct lethe_client *c, int table, bool pool, int slot, struct rows *rows)
{
    struct scan s = {.rows = rows, .pool = pool};
    uint64_t until = now_us() + STORE_TIMEOUT_MS * 1000ull;
    do {
        struct lethe_txn *t = lethe_txn_begin(c, (uint8_t)slot, scanned, &s);
        s.over = false;
        if (t) {
            lethe_txn_scan(t, table, s.cursor);
            lethe_txn_submit(t);
            lethe_flush(c);
        }
        while (t && !s.over && now_us() < until)
            lethe_poll(c, now_us());
        if (!s.over)
            fprintf(stderr, "nat_dump: the store does not answer a scan\n");
    } while (s.over && !s.failed && s.cursor);
    return s.over && !s.failed;
}

/* Slot by slot, mappings and records one right after the other: a mapping and
 * its record are in one slot, and little time passes between the two scans. */
static bool scan_proto(struct lethe_client *c, const int *tables, int proto, struct rows *maps,
                       struct rows *pool)
{
    maps->n = pool->n = 0;
    for (int slot = 0; slot < LETHE_SLOTS; slot++)
        if (!scan_slot(c, tables[NAT_MAP + proto], false, slot, maps) ||
            !scan_slot(c, tables[NAT_POOL + proto], true, slot, pool))
            return false;
    if (maps->n)
        qsort(maps->at, maps->n, sizeof *maps->at, by_index);
    if (pool->n)
        qsort(pool->at, pool->n, sizeof *pool->at, by_index);
    return true;
}

/* --- judging --------------------------------------------------------------------- */

static void complain(uint32_t *faults, const char *proto, const char *what, const struct row *row)
{
    char addr[16];
    if (++*faults > SHOWN_MAX)
        return;
    inet_ntop(AF_INET, row->inside.addr.b + 12, addr, sizeof addr);
    printf("%s: %s: index %u, version %" PRIu64 ", inside %s:%u\n", proto, what, row->index,
           row->version, addr, ntohs(row->inside.port));
}

static uint32_t judge(const char *proto, const struct rows *maps, const struct rows *pool)
{
    uint32_t faults = 0, p = 0;
    for (uint32_t m = 0; m < maps->n; m++) {
        const struct row *map = &maps->at[m];
        if (m && maps->at[m - 1].index == map->index)
            complain(&faults, proto, "two mappings share an outside end point", map);
        while (p < pool->n && pool->at[p].index < map->index)
            complain(&faults, proto, "a pool record is in use without a mapping", &pool->at[p++]);
        if (p == pool->n || pool->at[p].index != map->index)
            complain(&faults, proto, "a mapping whose pool record is free", map);
        else if (pool->at[p].version != map->version ||
                 memcmp(&pool->at[p].inside, &map->inside, sizeof map->inside) != 0)
            complain(&faults, proto, "a mapping and its pool record differ", map);
        if (p < pool->n && pool->at[p].index == map->index)
            p++;
    }
    for (; p < pool->n; p++)
        complain(&faults, proto, "a pool record is in use without a mapping", &pool->at[p]);
    return faults;
}

/* Faults over all protocols, or -1. */
static int look(struct lethe_client *c, const int *tables)
{
    static struct rows maps, pool;
    uint32_t faults = 0, n[NAT_PROTOS];
    for (int proto = 0; proto < NAT_PROTOS; proto++) {
        if (!scan_proto(c, tables, proto, &maps, &pool))
            return -1;
        faults += judge(protos[proto], &maps, &pool);
        n[proto] = maps.n;
    }
    printf("mappings: %u tcp, %u udp, %u icmp; faults: %u\n", n[NAT_TCP], n[NAT_UDP], n[NAT_ICMP],
           faults);
    return (int)faults;
}

/* --- starting -------------------------------------------------------------------- */

static const struct nf_instance *find_nat(const struct chain *chain)
{
    for (int i = 0; i < chain->n; i++)
        if (chain->nf[i]->ops == &nat44_ops)
            return chain->nf[i];
    return NULL;
}

/* NULL after a sentence. */
static struct lethe_client *connect_to(const struct chain *chain, const struct nf_instance *nat,
                                       int *tables)
{
    char err[300];
    char *addresses = site_store_addresses(chain->site);
    struct lethe_config config = {.shards = (uint16_t)chain->site->store.shards,
                                  .address = addresses,
                                  .tenant = chain->site->worker.tenant,
                                  .secret_file = chain->site->worker.secret_file};
    struct lethe_client *c = lethe_client_create(&config, err, sizeof err);
    free(addresses);
    if (!c) {
        fprintf(stderr, "nat_dump: %s\n", err);
        return NULL;
    }
    for (int i = 0; i < nat->ntables; i++)
        tables[i] = lethe_table_open(c, &nat->tables[i]);
    uint64_t until = now_us() + STORE_TIMEOUT_MS * 1000ull;
    struct lethe_status status = {0};
    while (!lethe_ready(c) && now_us() < until && !status.fatal[0]) {
        lethe_poll(c, now_us());
        lethe_status(c, &status);
    }
    if (lethe_ready(c))
        return c;
    fprintf(stderr, "nat_dump: %s\n", status.fatal[0] ? status.fatal : status.trouble);
    lethe_client_destroy(c);
    return NULL;
}

int main(int argc, char **argv)
{
    struct chain chain;
    char err[500];
    int tables[NF_TABLES_MAX], faults = 1;
    if (argc != 3 || strcmp(argv[1], "-c") != 0) {
        fprintf(stderr, "usage: nat_dump -c site.yaml\n");
        return 2;
    }
    if (chain_load(argv[2], &chain, err, sizeof err)) {
        fprintf(stderr, "nat_dump: %s\n", err);
        return 2;
    }
    const struct nf_instance *nat = find_nat(&chain);
    if (!nat)
        fprintf(stderr, "nat_dump: %s: chain: has no nat44\n", argv[2]);
    struct lethe_client *c = nat ? connect_to(&chain, nat, tables) : NULL;
    for (int try = 0; c && try < TRIES && faults > 0; try++)
        faults = look(c, tables);
    if (c)
        lethe_client_destroy(c);
    chain_free(&chain);
    return !c || faults < 0 ? 2 : faults > 0;
}
