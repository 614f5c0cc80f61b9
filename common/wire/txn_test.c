/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Txns as bytes: what builders write validates and reads back; each rule of
 * txn_validate has a row that breaks just it; hash slots are evenly used.
 */
#include "tests/check.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "common/wire/crc.h"
#include "common/wire/txn.h"

enum { SLOT = 77 };

static const uint8_t KEY[13] = "key-thirteen", PARENT[8] = "parent!";
static const uint8_t VALUE[20] = "value of twenty byte";

/* NAT's create: look up; if absent allocate, record, insert parent and child. */
static uint32_t build_get_or_create(void *buf, uint32_t room)
{
    struct txn_builder b;
    txn_begin(&b, buf, room, SLOT);
    int get = txn_add_op(&b, &(struct txn_op){.code = TXN_GET, .table = 1, .key_len = 13,
                             .flags = TXN_TOUCH | TXN_SKIP_IF_PRESENT}, KEY, NULL, NULL);
    int alloc = txn_add_op(&b, &(struct txn_op){.code = TXN_ALLOC, .table = 2, .value_len = 20},
                           NULL, NULL, VALUE);
    txn_add_op(&b, &(struct txn_op){.code = TXN_INSERT, .table = 3, .key_len = 8, .value_len = 16,
                   .timeout_ms = 5000}, PARENT, NULL, VALUE);
    txn_add_patch(&b, (struct txn_patch){.op = (uint8_t)alloc, .from = PATCH_INDEX, .len = 4,
                      .into = PATCH_INTO_VALUE, .into_off = 12});
    txn_add_op(&b, &(struct txn_op){.code = TXN_INSERT, .table = 1, .flags = TXN_HAS_PARENT,
                   .key_len = 13, .value_len = 20, .parent_table = 3, .parent_key_len = 8},
               KEY, PARENT, VALUE);
    txn_add_patch(&b, (struct txn_patch){.op = (uint8_t)alloc, .from = PATCH_VERSION,
                      .from_off = 2, .len = 6, .into = PATCH_PARENT, .into_off = 2});
    txn_add_patch(&b, (struct txn_patch){.op = (uint8_t)get, .from = PATCH_VALUE, .from_off = 1,
                      .len = 13, .into = PATCH_KEY});
    txn_skip_to_here(&b, get);
    return txn_end(&b);
}

static struct txn_op *op_at(void *txn, int at)
{
    const struct txn_op *op = txn_first(txn);
    while (at-- > 0)
        op = txn_next(op);
    return (struct txn_op *)op;
}

static struct txn_patch *patch_at(void *txn, int op, int at)
{
    return (struct txn_patch *)txn_patches(op_at(txn, op)) + at;
}

static void built_txn_reads_back(void **state)
{
    uint64_t buf[TXN_BYTES_MAX / 8];
    uint32_t bytes = build_get_or_create(buf, sizeof buf);
    const struct txn_head *t = (const void *)buf;
    assert_null(txn_validate(buf, bytes));
    assert_null(txn_validate(buf, sizeof buf)); /* bytes behind it are none of its business */
    assert_int_equal(t->slot, SLOT);
    assert_int_equal(t->nops, 4);
    assert_int_equal(op_at(buf, 0)->skip, 3);
    const struct txn_op *child = op_at(buf, 3);
    assert_memory_equal(txn_key(child), KEY, 13);
    assert_memory_equal(txn_parent_key(child), PARENT, 8);
    assert_memory_equal(txn_value(child), VALUE, 20);
    assert_int_equal(child->npatch, 2);
    assert_int_equal(txn_patches(child)[1].len, 13);
    assert_int_equal(((uintptr_t)txn_patches(child) - (uintptr_t)buf) % 8, 0);
}

static void builder_stops_when_full(void **state)
{
    uint64_t small[15], large[2 * TXN_BYTES_MAX / 8]; /* small: head, one op with its patch */
    struct txn_op op = {.code = TXN_INSERT, .key_len = 40, .value_len = 256};
    uint8_t value[256] = {1}, key[40] = {2};
    struct txn_builder b;
    txn_begin(&b, large, sizeof large, 0);
    int n = 0;
    while (txn_add_op(&b, &op, key, NULL, value) >= 0)
        n++;
    assert_int_equal(n, (TXN_BYTES_MAX - 16) / (32 + 40 + 256));
    assert_null(txn_validate(large, txn_end(&b)));

    txn_begin(&b, large, sizeof large, 0);
    for (n = 0; txn_add_op(&b, &(struct txn_op){.code = TXN_GET, .key_len = 1}, KEY, NULL, NULL) >= 0;)
        n++;
    assert_int_equal(n, TXN_OPS_MAX);

    op = (struct txn_op){.code = TXN_GET, .key_len = 40};
    memset(small, 0xee, sizeof small);
    txn_begin(&b, small, 13 * 8, 0);
    assert_int_equal(txn_add_op(&b, &op, NULL, NULL, NULL), 0);
    assert_int_equal(txn_add_op(&b, &op, NULL, NULL, NULL), -1);
    struct txn_patch patch = {.len = 1};
    assert_true(txn_add_patch(&b, patch));
    uint32_t used = b.used;
    for (n = 1; txn_add_patch(&b, patch);)
        n++;
    assert_int_equal(n, 2); /* no room for a third */
    assert_int_equal(b.used, used + 8);
    assert_int_equal(txn_end(&b), 13 * 8);
    assert_int_equal(small[13], 0xeeeeeeeeeeeeeeee); /* nothing beyond the room */

    txn_begin(&b, large, sizeof large, 0);
    txn_add_op(&b, &op, NULL, NULL, NULL);
    for (n = 0; txn_add_patch(&b, patch);)
        n++;
    assert_int_equal(n, TXN_PATCHES_MAX);
}

/* Each row breaks one thing of the txn above. */
struct broken { const char *name, *why; void (*damage)(void *txn); };

#define ROW(n, w, code)                                                                            \
    static void damage_##n(void *t) { struct txn_head *h = t; (void)h; code; }
#define ROWS(X)                                                                                    \
    X(head_bytes, "txn: cut short", h->bytes = 8)                                                   \
    X(head_odd, "txn: bad length", h->bytes -= 4)                                                   \
    X(no_ops, "txn: bad number of ops", h->nops = 0)                                                \
    X(many_ops, "txn: bad number of ops", h->nops = 17)                                             \
    X(more_ops, "txn: cut short", h->nops = 5)                                                      \
    X(fewer_ops, "txn: bytes left over after its last op", (h->nops = 3, op_at(t, 0)->skip = 2))    \
    X(code0, "op: unknown code", op_at(t, 0)->code = 0)                                             \
    X(code_end, "op: unknown code", op_at(t, 3)->code = TXN_CODE_END)                               \
    X(key_long, "op: key too long", op_at(t, 0)->key_len = 41)                                      \
    X(key_none, "op: key missing, or not wanted", op_at(t, 0)->key_len = 0)                         \
    X(alloc_key, "op: key missing, or not wanted", op_at(t, 1)->key_len = 4)                        \
    X(value_long, "op: value too long", op_at(t, 2)->value_len = 257)                               \
    X(get_value, "op: value not wanted", op_at(t, 0)->value_len = 1)                                \
    X(add_odd, "op: deltas are not whole 64-bit numbers",                                           \
      (op_at(t, 3)->code = TXN_ADD))                                                                \
    X(patches, "op: too many patches", op_at(t, 3)->npatch = 5)                                     \
    X(patch_more, "op: its length is not that of its parts", op_at(t, 3)->npatch = 3)               \
    X(op_bytes, "op: its length is not that of its parts", op_at(t, 0)->bytes += 8)                 \
    X(op_longer, "op: longer than the txn", h->bytes -= 8)                                          \
    X(padding, "op: padding not zero", ((uint8_t *)op_at(t, 0))[32 + 13] = 1)                       \
    X(flag, "op: flag not known for its code", op_at(t, 0)->flags |= 16)                            \
    X(flag_parent, "op: flag not known for its code", op_at(t, 0)->flags |= TXN_HAS_PARENT)         \
    X(flag_touch, "op: flag not known for its code", op_at(t, 2)->flags |= TXN_TOUCH)               \
    X(skip_far, "op: skip out of range", op_at(t, 0)->skip = 4)                                     \
    X(skip_none, "op: skip out of range", op_at(t, 0)->skip = 0)                                    \
    X(skip_other, "op: skip out of range", op_at(t, 1)->skip = 1)                                   \
    X(parent_flag, "op: parent missing, or not wanted", op_at(t, 3)->flags = 0)                     \
    X(parent_table, "op: parent missing, or not wanted", op_at(t, 2)->parent_table = 1)             \
    X(timeout, "op: time-out not wanted", op_at(t, 0)->timeout_ms = 1)                              \
    X(arg0, "op: argument not wanted", op_at(t, 2)->arg0 = 1)                                       \
    X(arg1, "op: argument not wanted", op_at(t, 2)->arg1 = 1)                                       \
    X(patch_self, "patch: source is not an earlier op", patch_at(t, 2, 0)->op = 2)                  \
    X(patch_later, "patch: source is not an earlier op", patch_at(t, 2, 0)->op = 3)                 \
    X(patch_empty, "patch: empty, or reserved byte not zero", patch_at(t, 2, 0)->len = 0)           \
    X(patch_zero, "patch: empty, or reserved byte not zero", patch_at(t, 2, 0)->zero = 1)           \
    X(patch_from, "patch: source out of range", patch_at(t, 2, 0)->from = 3)                        \
    X(patch_index, "patch: source out of range", patch_at(t, 2, 0)->from_off = 1)                   \
    X(patch_version, "patch: source out of range", patch_at(t, 3, 0)->from_off = 3)                 \
    X(patch_value, "patch: source out of range", patch_at(t, 3, 1)->from_off = 244)                 \
    X(patch_into, "patch: target out of range", patch_at(t, 2, 0)->into = 3)                        \
    X(patch_key, "patch: target out of range", patch_at(t, 3, 1)->into_off = 1)                     \
    X(patch_parent, "patch: target out of range", patch_at(t, 3, 0)->into_off = 3)                  \
    X(patch_in_value, "patch: target out of range", patch_at(t, 2, 0)->into_off = 13)               \
    X(patch_far, "patch: target out of range", patch_at(t, 2, 0)->into_off = 65535)
ROWS(ROW)
#define ENTRY(n, w, code) {#n, w, damage_##n},
static const struct broken broken[] = {ROWS(ENTRY)};

static void damage_is_named(void **state)
{
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        uint64_t buf[TXN_BYTES_MAX / 8];
        uint32_t bytes = build_get_or_create(buf, sizeof buf);
        broken[i].damage(buf);
        const char *why = txn_validate(buf, bytes);
        CHECK(why && strcmp(why, broken[i].why) == 0, "%s: got '%s'", broken[i].name,
              why ? why : "valid");
    }
}

static void cut_txn_is_refused_at_every_length(void **state)
{
    uint64_t buf[TXN_BYTES_MAX / 8];
    uint32_t bytes = build_get_or_create(buf, sizeof buf);
    for (uint32_t n = 0; n < bytes; n++) {
        uint64_t *copy = malloc(n ? n : 1); /* exact size: ASan sees a read beyond */
        memcpy(copy, buf, n);
        CHECK(txn_validate(copy, n), "%u of %u bytes", n, bytes);
        if (n >= 16) {
            ((struct txn_head *)copy)->bytes = (uint16_t)n;
            CHECK(txn_validate(copy, n), "%u of %u bytes, head adapted", n, bytes);
        }
        free(copy);
    }
}

static void scan_stands_alone(void **state)
{
    uint64_t buf[64];
    struct txn_builder b;
    txn_begin(&b, buf, sizeof buf, 1);
    txn_add_op(&b, &(struct txn_op){.code = TXN_SCAN, .arg0 = 99}, NULL, NULL, NULL);
    assert_null(txn_validate(buf, txn_end(&b)));
    txn_add_op(&b, &(struct txn_op){.code = TXN_GET, .key_len = 4}, KEY, NULL, NULL);
    assert_string_equal(txn_validate(buf, txn_end(&b)), "op: a scan stands alone in its txn");
}

/* --- results ------------------------------------------------------------------ */

static uint32_t build_result(void *buf)
{
    memset(buf, 0, 512);
    struct txn_result_head *h = buf;
    struct txn_result *hit = (struct txn_result *)(h + 1);
    *hit = (struct txn_result){.op = 0, .res = RES_HIT, .value_len = 20, .version = 9, .bytes = 48};
    memcpy(hit + 1, VALUE, 20);
    struct txn_result *done = (struct txn_result *)((uint8_t *)hit + 48);
    *done = (struct txn_result){.op = 3, .res = RES_DONE, .index = 5, .version = 10, .bytes = 24};
    *h = (struct txn_result_head){.seq = 4, .nres = 2, .bytes = 16 + 48 + 24};
    return h->bytes;
}

static void results_read_back(void **state)
{
    uint64_t buf[64];
    uint32_t bytes = build_result(buf);
    const struct txn_result_head *h = (const void *)buf;
    assert_null(txn_result_validate(buf, bytes));
    assert_int_equal(txn_result_of(h, 0)->version, 9);
    assert_int_equal(txn_result_of(h, 3)->index, 5);
    assert_null(txn_result_of(h, 1));
    assert_memory_equal(txn_result_value(txn_result_of(h, 0)), VALUE, 20);
}

static struct txn_result *second(void *t)
{
    return (struct txn_result *)((uint8_t *)t + 64);
}

#define RESULT_ROWS(X)                                                                             \
    X(r_short, "results: cut short", r->bytes = 8)                                                  \
    X(r_odd, "results: bad length", r->bytes -= 2)                                                  \
    X(r_status, "results: unknown status", r->status = TXN_STATUS_END)                              \
    X(r_many, "results: bad op number", r->nres = 17)                                               \
    X(r_failed, "results: bad op number", r->failed_op = 16)                                        \
    X(r_zero, "results: reserved field not zero", r->zero[2] = 1)                                   \
    X(r_moved, "results: moved, but not where", r->status = TXN_MOVED)                              \
    X(r_moved_ops, "results: moved, but not where",                                                 \
      (r->status = TXN_MOVED, r->bytes = 24, r->nres = 1))                                          \
    X(r_moved_bare, "results: moved, but not where",                                                \
      (r->status = TXN_MOVED, r->bytes = 16, r->nres = 0))                                          \
    X(r_more, "result: cut short", r->nres = 3)                                                     \
    X(r_fewer, "results: bytes left over after the last one", r->nres = 1)                          \
    X(r_order, "result: ops out of order", second(t)->op = 0)                                       \
    X(r_op, "result: ops out of order", second(t)->op = 16)                                         \
    X(r_res, "result: unknown outcome", second(t)->res = 0)                                         \
    X(r_res5, "result: unknown outcome", second(t)->res = 5)                                        \
    X(r_len, "result: its length is not that of its parts", second(t)->value_len = 1)               \
    X(r_bytes, "result: its length is not that of its parts", second(t)->bytes = 32)                \
    X(r_long, "result: longer than its txn's results",                                              \
      (second(t)->bytes = 32, second(t)->value_len = 8))                                            \
    X(r_pad, "result: padding not zero", ((uint8_t *)t)[16 + 24 + 20] = 1)
#define RESULT_ROW(n, w, code)                                                                     \
    static void damage_##n(void *t) { struct txn_result_head *r = t; (void)r; code; }
RESULT_ROWS(RESULT_ROW)
static const struct broken broken_results[] = {RESULT_ROWS(ENTRY)};

static void result_damage_is_named(void **state)
{
    for (size_t i = 0; i < sizeof broken_results / sizeof broken_results[0]; i++) {
        uint64_t buf[64];
        uint32_t bytes = build_result(buf);
        broken_results[i].damage(buf);
        const char *why = txn_result_validate(buf, bytes);
        CHECK(why && strcmp(why, broken_results[i].why) == 0, "%s: got '%s'",
              broken_results[i].name, why ? why : "valid");
    }
}

static void moved_says_where(void **state)
{
    struct { struct txn_result_head h; struct txn_moved to; } r = {
        .h = {.seq = 1, .bytes = sizeof r, .status = TXN_MOVED},
        .to = {.slot = 9, .shard = 3, .slot_epoch = 77}};
    assert_null(txn_result_validate(&r, sizeof r));
    assert_ptr_equal(txn_moved_of(&r.h), &r.to);
    r.h.status = TXN_OK;
    assert_null(txn_moved_of(&r.h));
    r.h.status = TXN_MOVED, r.to.shard = LETHE_SLOTS;
    assert_string_equal(txn_result_validate(&r, sizeof r), "results: moved, but not where");
    r.to.shard = 3, r.to.zero = 1;
    assert_string_equal(txn_result_validate(&r, sizeof r), "results: moved, but not where");
}

static void scan_entries_are_walked_within_bounds(void **state)
{
    uint64_t buf[32] = {0};
    struct txn_result *r = (void *)buf;
    struct txn_scan_entry *e = (void *)(r + 1);
    *r = (struct txn_result){.res = RES_DONE, .value_len = 2 * 24, .index = 2, .bytes = 72};
    e[0] = (struct txn_scan_entry){.version = 1, .key_len = 4, .value_len = 4};
    struct txn_scan_entry *e2 = (void *)((uint8_t *)e + 24);
    *e2 = (struct txn_scan_entry){.version = 2, .key_len = 8};
    uint32_t at = 0;
    assert_ptr_equal(txn_scan_next(r, &at), e);
    assert_ptr_equal(txn_scan_next(r, &at), e2);
    assert_int_equal(at, 48);
    assert_null(txn_scan_next(r, &at));
    e2->key_len = 9; /* would end beyond the value */
    at = 24;
    assert_null(txn_scan_next(r, &at));
}

/* --- slots, CRC, texts ---------------------------------------------------------- */

static void crc_matches_rfc_3720(void **state)
{
    uint8_t bytes[32];
    memset(bytes, 0, 32);
    assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, 32);
    assert_int_equal(crc32c(0, bytes, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, bytes, 32), 0x46dd794e);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    for (int cut = 0; cut <= 32; cut++)
        assert_int_equal(crc32c(crc32c(0, bytes, cut), bytes + cut, 32 - cut), 0x46dd794e);
}

/* Chi-squared over the 256 slots: 255 degrees of freedom, so 255 +- 23 if even;
 * 400 is beyond six standard deviations. */
static void check_even(const char *name, const uint32_t used[LETHE_SLOTS], uint32_t keys)
{
    double expect = (double)keys / LETHE_SLOTS, chi = 0;
    uint32_t empty = 0;
    for (int s = 0; s < LETHE_SLOTS; s++) {
        chi += (used[s] - expect) * (used[s] - expect) / expect;
        empty += used[s] == 0;
    }
    CHECK(chi < 400 && empty == 0, "%s: chi squared %.0f, %u slots empty", name, chi, empty);
}

static void slots_are_evenly_used(void **state)
{
    uint32_t addresses[LETHE_SLOTS] = {0}, ports[LETHE_SLOTS] = {0}, both[LETHE_SLOTS] = {0};
    enum { KEYS = 16384 };
    struct { uint8_t prefix[12]; uint32_t addr; uint16_t port; uint8_t proto, zero; } key;
    memset(&key, 0, sizeof key);
    key.prefix[10] = key.prefix[11] = 0xff;
    key.proto = 6;
    for (uint32_t i = 0; i < KEYS; i++) {
        key.addr = htonl(0x0a000001 + i), key.port = htons(40000);
        addresses[slot_of(&key, sizeof key)]++;
        key.addr = htonl(0x0a000002), key.port = htons((uint16_t)(1024 + i));
        ports[slot_of(&key, sizeof key)]++;
        key.addr = htonl(0x0a000001 + i / 128), key.port = htons((uint16_t)(32768 + 2 * (i % 128)));
        both[slot_of(&key, sizeof key)]++;
    }
    check_even("sequential addresses", addresses, KEYS);
    check_even("sequential ports", ports, KEYS);
    check_even("few ports of few addresses", both, KEYS);
}

static void slot_of_is_fixed_for_ever(void **state)
{
    assert_int_equal(slot_of("", 0), 0);
    assert_int_equal(slot_of("lethe", 5), 27);
    assert_int_equal(slot_of_index(0), 0);
    assert_int_equal(slot_of_index(64), 1);
    assert_int_equal(slot_of_index(64 * 256 + 63), 0);
}

static void statuses_have_texts(void **state)
{
    for (int s = 0; s < TXN_STATUS_END; s++)
        assert_true(strlen(txn_status_text(s)) > 3);
    assert_string_equal(txn_status_text(TXN_STATUS_END), "unknown status");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built_txn_reads_back),
        cmocka_unit_test(builder_stops_when_full),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(cut_txn_is_refused_at_every_length),
        cmocka_unit_test(scan_stands_alone),
        cmocka_unit_test(results_read_back),
        cmocka_unit_test(result_damage_is_named),
        cmocka_unit_test(moved_says_where),
        cmocka_unit_test(scan_entries_are_walked_within_bounds),
        cmocka_unit_test(crc_matches_rfc_3720),
        cmocka_unit_test(slots_are_evenly_used),
        cmocka_unit_test(slot_of_is_fixed_for_ever),
        cmocka_unit_test(statuses_have_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
