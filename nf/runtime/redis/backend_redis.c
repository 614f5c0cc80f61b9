/* SPDX-License-Identifier: BSD-3-Clause */
/* See backend_redis.h; in a library of its own, because it needs hiredis. */
#include "nf/runtime/backend_redis.h"

#include "client/redis/lethe_redis.h"

static int table_open(void *ctx, const struct table_schema *schema)
{
    return lethe_redis_table_open(ctx, schema);
}

static int submit(void *ctx, const void *txn, uint32_t bytes, backend_done done, void *user)
{
    return lethe_redis_submit(ctx, txn, bytes, done, user);
}

static void flush(void *ctx)
{
    lethe_redis_flush(ctx);
}

static int poll(void *ctx, uint64_t now_us)
{
    return lethe_redis_poll(ctx, now_us);
}

struct backend backend_redis(struct lethe_redis *client)
{
    return (struct backend){
        .ctx = client, .table_open = table_open, .submit = submit, .flush = flush, .poll = poll};
}
