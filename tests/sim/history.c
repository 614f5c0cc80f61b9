/* SPDX-License-Identifier: BSD-3-Clause */
/* The history's growing arrays, and how an operation is shown to a person. */
#include "history.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/wire/txn.h"

static void *grown(void *array, uint32_t *room, uint32_t need, size_t each)
{
    if (need <= *room)
        return array;
    while (*room < need)
        *room = *room ? *room * 2 : 64;
    array = realloc(array, *room * each);
    if (!array)
        abort();
    return array;
}

void hist_clear(struct history *h)
{
    free(h->ops);
    free(h->acts);
    free(h->keys);
    free(h->stalls);
    free(h->events);
    memset(h, 0, sizeof *h);
}

uint16_t hist_add_key(struct history *h, const struct hist_key *key)
{
    h->keys = grown(h->keys, &h->room_keys, h->nkeys + 1, sizeof *h->keys);
    h->keys[h->nkeys] = *key;
    return (uint16_t)h->nkeys++;
}

void hist_add_stall(struct history *h, uint64_t from_us, uint64_t to_us, bool promotion)
{
    h->stalls = grown(h->stalls, &h->room_stalls, h->nstalls + 1, sizeof *h->stalls);
    h->stalls[h->nstalls++] = (struct hist_stall){from_us, to_us, promotion};
}

void hist_add_event(struct history *h, const struct hist_event *event)
{
    h->events = grown(h->events, &h->room_events, h->nevents + 1, sizeof *h->events);
    h->events[h->nevents++] = *event;
}

uint32_t hist_invoke(struct history *h, uint32_t client, uint16_t slot, uint64_t now_us)
{
    h->ops = grown(h->ops, &h->room_ops, h->nops + 1, sizeof *h->ops);
    struct hist_op *op = &h->ops[h->nops];
    *op = (struct hist_op){.id = h->nops,
                           .client = client,
                           .slot = slot,
                           .first_act = h->nacts,
                           .invoked_us = now_us,
                           .completed_us = HIST_NEVER};
    return h->nops++;
}

int hist_act_late(struct history *h, uint32_t id, struct hist_act act)
{
    struct hist_op *op = &h->ops[id];
    if (op->nacts == HIST_ACTS_MAX)
        abort();
    bool at_end = op->first_act + op->nacts == h->nacts;
    h->acts = grown(h->acts, &h->room_acts, h->nacts + op->nacts + 1, sizeof *h->acts);
    if (!at_end) {
        memcpy(h->acts + h->nacts, h->acts + op->first_act, op->nacts * sizeof *h->acts);
        op->first_act = h->nacts;
        h->nacts += op->nacts;
    }
    h->acts[h->nacts++] = act;
    return op->nacts++;
}

int hist_act(struct history *h, struct hist_act act)
{
    return hist_act_late(h, h->nops - 1, act);
}

void hist_complete(struct history *h, uint32_t id, enum hist_outcome outcome, uint8_t status,
                   uint64_t now_us)
{
    struct hist_op *op = &h->ops[id];
    op->outcome = (uint8_t)outcome;
    op->status = status;
    op->completed_us = now_us;
}

static void print_version(FILE *out, const char *before, uint64_t version)
{
    if (version == HIST_ANY)
        fprintf(out, "%sany", before);
    else if (version == 0)
        fprintf(out, "%sabsent", before);
    else
        fprintf(out, "%sv%" PRIu64, before, version);
}

static void print_act(FILE *out, const struct history *h, const struct hist_act *a)
{
    static const char *const words[] = {"not done:", "saw", "wrote", "removed"};
    const char *key = a->key == HIST_NO_KEY ? "(some index)" : h->keys[a->key].name;
    fprintf(out, "; %s%s %s", words[a->what], a->touch ? "+touch" : "", key);
    if (a->what == HIST_SEE)
        print_version(out, " ", a->version);
    if (a->what == HIST_WRITE && a->version)
        print_version(out, " ", a->version);
    if (a->what == HIST_WRITE)
        print_version(out, " over ", a->guard);
    if (a->what == HIST_REMOVE)
        print_version(out, " ", a->guard);
    if (a->token)
        fprintf(out, " token %u.%d", hist_token_op(a->token), hist_token_act(a->token));
    if (a->delta)
        fprintf(out, " %+" PRId64, a->delta);
    if (a->has_value)
        fprintf(out, " = %" PRId64, a->value);
}

void hist_print_op(FILE *out, const struct history *h, uint32_t id)
{
    const struct hist_op *op = &h->ops[id];
    static const char *const outcomes[] = {"unknown", "ok", "refused"};
    fprintf(out, "  op %u client %u slot %u [%.3f .. ", op->id, op->client, op->slot,
            (double)op->invoked_us / 1000.0);
    if (op->completed_us == HIST_NEVER)
        fprintf(out, "never] ms ");
    else
        fprintf(out, "%.3f] ms ", (double)op->completed_us / 1000.0);
    fprintf(out, "%s", outcomes[op->outcome]);
    if (op->outcome == HIST_REFUSED)
        fprintf(out, " (%s)", txn_status_text((enum txn_status)op->status));
    for (int i = 0; i < op->nacts && i < 16; i++)
        print_act(out, h, &hist_acts(h, op)[i]);
    fprintf(out, "\n");
}
