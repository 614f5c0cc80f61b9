/* SPDX-License-Identifier: BSD-3-Clause */
/* Insert and read again (fill.h). */
#include "fill.h"

#include <string.h>

#include "keys.h"
#include "record.h"

static const struct table_schema ballast = {.name = "history.ballast", .kind = TABLE_HASH, .version = 1,
                                            .key_size = 8, .part_len = 4, .value_size = 128};

struct filling {
    uint32_t good, answered;
    uint64_t sum; /* of the numbers read: each once */
};

static void make(uint32_t slot, uint32_t n, uint32_t key[2], uint8_t value[128])
{
    key[0] = keys_part(slot);
    key[1] = n;
    for (int i = 0; i < 128; i += 8)
        memcpy(value + i, key, 8); /* says whose it is */
}

static void inserted(void *user, const struct txn_result_head *r)
{
    struct filling *f = user;
    f->answered++;
    f->good += r->status == TXN_OK;
}

static void seen(void *user, const struct txn_result_head *h)
{
    struct filling *f = user;
    const struct txn_result *r = txn_result_of(h, 0);
    f->answered++;
    if (h->status != TXN_OK || !r || r->res != RES_HIT || r->value_len != 128)
        return;
    uint32_t key[2], slot;
    uint8_t value[128];
    memcpy(key, txn_result_value(r), 8);
    for (slot = 0; slot < keys_slots() && keys_part(slot) != key[0]; slot++)
        ;
    if (slot == keys_slots())
        return;
    make(slot, key[1], key, value);
    f->good += !memcmp(value, txn_result_value(r), 128);
    f->sum += key[1];
}

static bool ask(struct lethe_client *c, int table, bool insert, uint32_t slot, uint32_t n,
                struct filling *f)
{
    uint32_t key[2];
    uint8_t value[128];
    struct lethe_txn *t = lethe_txn_begin(c, keys_slot(slot), insert ? inserted : seen, f);
    if (!t)
        return false;
    make(slot, n, key, value);
    if (insert)
        lethe_txn_insert(t, table, key, value, 0);
    else
        lethe_txn_get(t, table, key, 0);
    lethe_txn_submit(t);
    return true;
}

static uint32_t run(struct lethe_client *c, bool insert, uint32_t each, uint32_t timeout_s)
{
    struct filling f = {0};
    uint64_t until_us = record_now_us() + timeout_s * 1000000ull;
    uint32_t all = each * keys_slots(), asked = 0;
    int table = lethe_table_open(c, &ballast);
    while (f.answered < all && record_now_us() < until_us) {
        while (asked < all && lethe_ready(c) &&
               ask(c, table, insert, asked % keys_slots(), asked / keys_slots(), &f))
            asked++;
        lethe_flush(c);
        lethe_poll(c, record_now_us());
    }
    bool each_once = insert || f.sum == (uint64_t)all * (each - 1) / 2;
    return all - f.good + (each_once ? 0 : 1);
}

uint32_t fill_slots(struct lethe_client *c, uint32_t each, uint32_t timeout_s)
{
    return run(c, true, each, timeout_s);
}

uint32_t fill_missing(struct lethe_client *c, uint32_t each, uint32_t timeout_s)
{
    return run(c, false, each, timeout_s);
}
