/* SPDX-License-Identifier: BSD-3-Clause */
/* The store as the engine's backend: liblethe takes a copy of the bytes and
 * calls back from its poll, which is all that backend.h asks for. */
#include "client/lethe.h"
#include "nf/runtime/backend.h"

static int table_open(void *ctx, const struct table_schema *schema)
{
    return lethe_table_open(ctx, schema);
}

static int submit(void *ctx, const void *txn, uint32_t bytes, backend_done done, void *user)
{
    /* Translation happens in the client's copy; these bytes stay as they are. */
    return lethe_submit_bytes(ctx, (void *)(uintptr_t)txn, bytes, done, user);
}

static void flush(void *ctx)
{
    lethe_flush(ctx);
}

static int poll(void *ctx, uint64_t now_us)
{
    return lethe_poll(ctx, now_us);
}

static int events(void *ctx, int table, backend_event handler, void *user)
{
    return lethe_events(ctx, table, handler, user);
}

struct backend backend_lethe(struct lethe_client *client)
{
    return (struct backend){.ctx = client,
                            .table_open = table_open,
                            .submit = submit,
                            .flush = flush,
                            .poll = poll,
                            .events = events};
}
