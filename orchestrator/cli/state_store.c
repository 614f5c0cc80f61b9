/* SPDX-License-Identifier: BSD-3-Clause */
/* See state_store.h. */
#include "orchestrator/cli/state_store.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "client/lethe.h"
#include "common/config/site.h"
#include "orchestrator/cli/wait.h"

enum { SILENT_S = 10, NAP_MS = 20, TOGETHER = 16 };

struct state_store {
    struct lethe_client *client;
    const struct view *view;
    int table;
};

static uint64_t now_us(void)
{
    return (uint64_t)(wait_now_s() * 1e6);
}

/* --- opening ------------------------------------------------------------------------------- */

/* By tcp, whatever the workers use: every node listens there. */
static void addresses_of(const struct site *site, char *to, size_t room)
{
    size_t used = 0;
    *to = '\0';
    for (unsigned i = 0; i < site->store.nodes_count && used < room; i++)
        used += (size_t)snprintf(to + used, room - used, "%s%s", i ? "," : "", site->store.nodes[i].listen);
}

static int connect_to(const struct site *site, const char *file, struct state_store *s)
{
    char addresses[2048], err[400];
    if (site->worker.redis)
        return cli_say(CLI_REFUSED, "%s: the state is in Redis (worker.redis); look at it with redis-cli", file);
    addresses_of(site, addresses, sizeof addresses);
    struct lethe_config c = {.shards = (uint16_t)site->store.shards, .address = addresses,
                             .retry_ms = site_store_retry_ms(site), .silence_ms = site_store_silence_ms(site),
                             .tenant = site->worker.tenant, .secret_file = site->worker.secret_file};
    s->client = lethe_client_create(&c, err, sizeof err);
    return s->client ? CLI_OK : cli_say(CLI_USAGE, "%s: %s", file, err);
}

static void nap(struct state_store *s)
{
    struct pollfd in = {lethe_fd(s->client), POLLIN, 0};
    lethe_flush(s->client);
    if (lethe_poll(s->client, now_us()) > 0 || !lethe_arm(s->client))
        return;
    poll(&in, in.fd >= 0 ? 1 : 0, NAP_MS);
}

static int open_table(struct state_store *s)
{
    double until = wait_now_s() + SILENT_S;
    struct lethe_status status;
    s->table = lethe_table_open(s->client, &s->view->schema);
    if (s->table < 0)
        return cli_say(CLI_REFUSED, "table %s: %s", s->view->schema.name, strerror(-s->table));
    while (!lethe_ready(s->client)) {
        nap(s);
        lethe_status(s->client, &status);
        if (status.fatal[0])
            return cli_say(CLI_REFUSED, "%s", status.fatal);
        if (wait_now_s() > until)
            return cli_say(CLI_UNREACHABLE, "the store cannot be read: %s", status.trouble[0] ? status.trouble
                                                                                             : "it does not answer");
    }
    return CLI_OK;
}

int state_open(const char *file, const struct view *v, struct state_store **out)
{
    struct site *site;
    char err[512];
    struct state_store *s = calloc(1, sizeof *s);
    if (!s)
        return cli_say(CLI_REFUSED, "out of memory");
    s->view = v;
    if (site_load(file, NULL, 0, &site, NULL, err, sizeof err)) {
        free(s);
        return cli_say(CLI_USAGE, "%s", err);
    }
    int status = connect_to(site, file, s);
    site_free(site, NULL, 0, NULL);
    if (!status)
        status = open_table(s);
    if (status)
        state_close(s);
    else
        *out = s;
    return status;
}

void state_close(struct state_store *s)
{
    if (s && s->client)
        lethe_client_destroy(s->client);
    free(s);
}

/* --- asking ----------------------------------------------------------------------------------- */

static int silent(struct state_store *s)
{
    struct lethe_status status;
    lethe_status(s->client, &status);
    return cli_say(CLI_UNREACHABLE, "the store does not answer any more: %s", status.trouble[0] ? status.trouble
                                                                                               : "no reason is known");
}

struct getting { bool over; uint8_t status; bool found; struct row *row; const struct view *view; };

static void got(void *user, const struct txn_result_head *h)
{
    struct getting *g = user;
    const struct txn_result *r = h->status == TXN_OK ? txn_result_of(h, 0) : NULL;
    g->over = true;
    g->status = h->status;
    g->found = r && r->res == RES_HIT && r->value_len == g->view->schema.value_size;
    if (!g->found)
        return;
    g->row->version = r->version;
    g->row->left_ms = r->timeout_ms;
    memcpy(g->row->value, txn_result_value(r), r->value_len);
}

void state_slots_of(const struct view *v, const uint8_t *key, int *first, int *last)
{
    const struct table_schema *t = &v->schema;
    *first = t->kind == TABLE_POOL ? 0 : slot_of(key + t->part_off, t->part_len);
    *last = t->kind == TABLE_POOL ? LETHE_SLOTS - 1 : *first;
}

int state_get(struct state_store *s, const uint8_t key[TXN_KEY_MAX], struct row *row, bool *found)
{
    struct getting g = {.row = row, .view = s->view};
    double until = wait_now_s() + SILENT_S;
    int first, last;
    uint32_t index;
    *row = (struct row){.version = 0};
    memcpy(row->key, key, TXN_KEY_MAX);
    memcpy(&index, key, sizeof index);
    state_slots_of(s->view, key, &first, &last);
    uint8_t slot = s->view->schema.kind == TABLE_POOL ? slot_of_index(index) : (uint8_t)first;
    struct lethe_txn *t = lethe_txn_begin(s->client, slot, got, &g);
    if (!t)
        return silent(s);
    lethe_txn_get(t, s->table, key, 0);
    lethe_txn_submit(t);
    while (!g.over && wait_now_s() < until)
        nap(s);
    if (!g.over)
        return silent(s);
    *found = g.found;
    return g.status == TXN_OK ? CLI_OK : cli_say(CLI_REFUSED, "table %s: %s", s->view->schema.name,
                                                 txn_status_text((enum txn_status)g.status));
}

/* --- scanning ----------------------------------------------------------------------------------- */

struct scanning {
    struct state_store *store;
    const struct state_scan *what;
    struct rows *rows;
    uint64_t seen;
    uint8_t status;           /* the first that was not TXN_OK */
    bool no_memory;
    double heard_s;
    int next;                 /* slot to be begun */
    uint32_t busy;
    struct one { struct scanning *of; uint64_t cursor; int slot; bool asked; } at[TOGETHER]; /* slot -1: none */
};

static void take_row(struct scanning *c, const struct txn_scan_entry *e)
{
    const struct table_schema *t = &c->store->view->schema;
    const uint8_t *key = (const uint8_t *)(e + 1);
    struct row row = {.version = e->version, .left_ms = e->left_ms};
    if (e->key_len != t->key_size || e->value_len != t->value_size)
        return;
    memcpy(row.key, key, e->key_len);
    memcpy(row.value, key + e->key_len, e->value_len);
    if (c->what->wanted && !c->what->wanted(c->what->ctx, &row))
        return;
    c->seen++;
    if (c->rows->n < c->what->most && !rows_add(c->rows, &row))
        c->no_memory = true;
}

static void scanned(void *user, const struct txn_result_head *h)
{
    struct one *o = user;
    struct scanning *c = o->of;
    const struct txn_result *r = h->status == TXN_OK ? txn_result_of(h, 0) : NULL;
    const struct txn_scan_entry *e;
    uint32_t offset = 0;
    c->busy--;
    c->heard_s = wait_now_s();
    o->asked = false;
    o->cursor = r ? r->version : 0;
    if (h->status != TXN_OK && c->status == TXN_OK)
        c->status = h->status;
    while (r && (e = txn_scan_next(r, &offset)))
        take_row(c, e);
    if (!o->cursor)
        o->slot = -1;
}

static bool enough(const struct scanning *c)
{
    return c->status != TXN_OK || c->no_memory || (!c->what->count && c->rows->n >= c->what->most);
}

/* Asks for each slot's next page, and begins further slots. */
static void ask_on(struct scanning *c)
{
    for (uint32_t i = 0; i < TOGETHER && !enough(c); i++) {
        struct one *o = &c->at[i];
        if (o->slot < 0 && c->next <= c->what->last)
            *o = (struct one){.of = c, .slot = c->next++};
        struct lethe_txn *t = o->slot >= 0 && !o->asked ? lethe_txn_begin(c->store->client, (uint8_t)o->slot, scanned, o)
                                                        : NULL;
        if (!t)
            continue;
        lethe_txn_scan(t, c->store->table, o->cursor);
        lethe_txn_submit(t);
        o->asked = true;
        c->busy++;
    }
}

static bool is_over(const struct scanning *c)
{
    bool more = c->next <= c->what->last;
    for (uint32_t i = 0; i < TOGETHER; i++)
        more |= c->at[i].slot >= 0;
    return !c->busy && (enough(c) || !more);
}

int state_scan(struct state_store *s, const struct state_scan *what, struct rows *rows, uint64_t *seen)
{
    /* callbacks of what was not answered come later, or never: it stays where it is */
    static struct scanning c;
    c = (struct scanning){.store = s, .what = what, .rows = rows, .next = what->first, .heard_s = wait_now_s()};
    for (uint32_t i = 0; i < TOGETHER; i++)
        c.at[i].slot = -1;
    while (!is_over(&c)) {
        ask_on(&c);
        nap(s);
        if (wait_now_s() - c.heard_s > SILENT_S)
            return silent(s);
    }
    *seen = c.seen;
    rows_sort(rows);
    if (c.no_memory)
        return cli_say(CLI_REFUSED, "out of memory");
    return c.status == TXN_OK ? CLI_OK : cli_say(CLI_REFUSED, "table %s: %s", s->view->schema.name,
                                                 txn_status_text((enum txn_status)c.status));
}
