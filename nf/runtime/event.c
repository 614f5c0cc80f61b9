/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Expiries: what the backend delivers of the NFs' tables with TABLE_EVENTS, shown
 * to `expired` of the NF whose table it is, from within the backend's poll. The
 * NF sees no packet and no entry; it counts and adds. When the backend has no room
 * for an add the event is refused and comes again, with all that goes before it
 * sent once more: at least once, as the event itself.
 *
 * An engine that is discarding keeps listening: an event holds no packet.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/lethe.h"
#include "nf/runtime/internal.h"

static int position_of(const struct chain_nf *nf, int number)
{
    for (int i = 0; i < nf->inst->ntables; i++)
        if (nf->table[i] == number)
            return i;
    return -1;
}

/* False: no room. Anything but an add is the NF's bug, and left out. */
static bool adds_send(struct engine *e, const struct chain_nf *nf, const struct nf_call *c)
{
    for (int i = 0; i < c->nupdates; i++)
        if (c->updates[i].kind == UPDATE_ADD && add_submit(e, nf, &c->updates[i]))
            return false;
    return true;
}

static void counts_keep(struct chain_nf *nf, const struct nf_call *c)
{
    for (uint32_t left = c->counted; left; left &= left - 1)
        nf->counts[__builtin_ctz(left)] += c->counts[__builtin_ctz(left)];
}

static bool on_event(void *user, const struct lethe_event *from)
{
    struct chain_nf *nf = user;
    struct engine *e = nf->e;
    int position = position_of(nf, from->table);
    struct nf_event event = {.table = (uint8_t)position, .slot = from->slot,
                             .key_len = from->key_len, .value_len = from->value_len,
                             .key = from->key, .value = from->value,
                             .version = from->version, .time_ms = from->time_ms};
    if (position < 0)
        return true;
    call_open_empty(e, nf);
    nf_ops_of(nf)->expired(nf->inst->self, &event, &e->call);
    call_close(e);
    if (!adds_send(e, nf, &e->call))
        return false;
    counts_keep(nf, &e->call);
    e->stats.events++;
    return true;
}

int events_listen(struct engine *e, struct chain_nf *nf, char *err, uint32_t err_len)
{
    const struct backend *b = &e->cfg.backend;
    for (int i = 0; nf_ops_of(nf)->expired && i < nf->inst->ntables; i++) {
        const struct table_schema *s = &nf->inst->tables[i];
        if (!(s->flags & TABLE_EVENTS))
            continue;
        int rc = b->events ? b->events(b->ctx, nf->table[i], on_event, nf) : -ENOTSUP;
        if (rc) {
            snprintf(err, err_len, "events of table %s of %s: %s", s->name, nf_ops_of(nf)->name,
                     strerror(-rc));
            return rc;
        }
    }
    return 0;
}
