/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Building and checking txns and their results (txn.h). No state, no
 * allocation; any thread. What an op code may carry stands in one table,
 * `rules`, from which txn_validate works.
 */
#include "common/wire/txn.h"

#include <assert.h>
#include <string.h>

#include "common/wire/crc.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire is the host's byte order");
_Static_assert(sizeof(struct txn_head) == 16, "wire format");
_Static_assert(sizeof(struct txn_op) == 32, "wire format");
_Static_assert(sizeof(struct txn_patch) == 8, "wire format");
_Static_assert(sizeof(struct txn_result_head) == 16, "wire format");
_Static_assert(sizeof(struct txn_result) == 24, "wire format");
_Static_assert(sizeof(struct txn_moved) == 8, "wire format");
_Static_assert(sizeof(struct txn_scan_entry) == 16, "wire format");

static uint32_t round_up_8(uint32_t n)
{
    return (n + 7) & ~7u;
}

/* True if the bytes from `used` up to the next multiple of 8 are zero. `base`
 * is 8-byte aligned and that multiple is readable. */
static bool padding_is_zero(const void *base, uint32_t used)
{
    uint32_t pad = round_up_8(used) - used;
    if (pad == 0)
        return true;
    uint64_t last;
    memcpy(&last, (const uint8_t *)base + (used & ~7u), 8);
    return last >> (64 - 8 * pad) == 0;
}

const char *txn_status_text(enum txn_status status)
{
    static const char *const texts[] = {
#define X(name, text) [name] = text,
        TXN_STATUSES(X)
#undef X
    };
    return (unsigned)status < TXN_STATUS_END ? texts[status] : "unknown status";
}

uint8_t slot_of(const void *partition_key, uint32_t len)
{
    /* CRC is linear: keys that differ by a pattern give CRCs that differ by
     * one. The multiplication breaks that, its top bits depend on all bits. */
    uint32_t crc = crc32c(0, partition_key, len);
    return (uint8_t)((crc * 0x9E3779B1u) >> 24);
}

/* --- building --------------------------------------------------------------- */

static struct txn_head *built(const struct txn_builder *b)
{
    return (struct txn_head *)b->buf;
}

static struct txn_op *built_op(const struct txn_builder *b, int at)
{
    struct txn_op *op = (struct txn_op *)(b->buf + sizeof(struct txn_head));
    for (int i = 0; i < at; i++)
        op = (struct txn_op *)((uint8_t *)op + op->bytes);
    return op;
}

void txn_begin(struct txn_builder *b, void *buf, uint32_t room, uint8_t slot)
{
    assert(((uintptr_t)buf & 7) == 0 && room >= sizeof(struct txn_head));
    b->buf = buf;
    b->room = room < TXN_BYTES_MAX ? room : TXN_BYTES_MAX;
    b->used = sizeof(struct txn_head);
    *built(b) = (struct txn_head){.slot = slot};
}

/* A field whose bytes patches will supply may be given as NULL. */
static uint8_t *put(uint8_t *to, const void *bytes, uint32_t len)
{
    if (bytes)
        memcpy(to, bytes, len);
    else
        memset(to, 0, len);
    return to + len;
}

int txn_add_op(struct txn_builder *b, const struct txn_op *op, const void *key,
               const void *parent_key, const void *value)
{
    uint32_t used = sizeof *op + op->key_len + op->parent_key_len + op->value_len;
    uint32_t bytes = round_up_8(used);
    int at = built(b)->nops;
    if (at >= TXN_OPS_MAX || bytes > b->room - b->used)
        return -1;
    struct txn_op *o = (struct txn_op *)(b->buf + b->used);
    *o = *op;
    o->npatch = 0;
    o->bytes = (uint16_t)bytes;
    uint8_t *p = put((uint8_t *)(o + 1), key, op->key_len);
    p = put(p, parent_key, op->parent_key_len);
    p = put(p, value, op->value_len);
    memset(p, 0, bytes - used);
    b->used += bytes;
    built(b)->nops++;
    return at;
}

bool txn_add_patch(struct txn_builder *b, struct txn_patch patch)
{
    assert(built(b)->nops > 0);
    struct txn_op *op = built_op(b, built(b)->nops - 1);
    if (op->npatch >= TXN_PATCHES_MAX || sizeof patch > b->room - b->used)
        return false;
    memcpy(b->buf + b->used, &patch, sizeof patch);
    op->npatch++;
    op->bytes = (uint16_t)(op->bytes + sizeof patch);
    b->used += sizeof patch;
    return true;
}

void txn_skip_to_here(struct txn_builder *b, int at)
{
    assert(at >= 0 && at < built(b)->nops);
    built_op(b, at)->skip = (uint8_t)(built(b)->nops - 1 - at);
}

uint32_t txn_end(struct txn_builder *b)
{
    built(b)->bytes = (uint16_t)b->used;
    return b->used;
}

/* --- checking a txn ----------------------------------------------------------- */

enum value_rule { NO_VALUE, ANY_VALUE, DELTAS };

static const struct rule {
    uint8_t flags;      /* allowed */
    uint8_t has_key;
    uint8_t value;      /* enum value_rule */
    uint8_t has_timeout;
    uint8_t has_arg0;
} rules[TXN_CODE_END] = {
    [TXN_GET] = {TXN_TOUCH | TXN_STOP_IF_ABSENT | TXN_SKIP_IF_PRESENT, 1, NO_VALUE, 0, 0},
    [TXN_CHECK] = {0, 1, NO_VALUE, 0, 1},
    [TXN_INSERT] = {TXN_HAS_PARENT, 1, ANY_VALUE, 1, 0},
    [TXN_CAS] = {0, 1, ANY_VALUE, 1, 1},
    [TXN_DELETE] = {0, 1, NO_VALUE, 0, 1},
    [TXN_ADD] = {0, 1, DELTAS, 1, 0},
    [TXN_ADD_LIMIT] = {0, 1, DELTAS, 1, 1},
    [TXN_ALLOC] = {0, 0, ANY_VALUE, 1, 0},
    [TXN_FREE] = {0, 1, NO_VALUE, 0, 1},
    [TXN_SCAN] = {0, 0, NO_VALUE, 0, 1},
};

static const char *check_op_lengths(const struct txn_op *op, uint32_t room)
{
    const struct rule *r = &rules[op->code];
    uint32_t used = sizeof *op + op->key_len + op->parent_key_len + op->value_len;
    if (op->key_len > TXN_KEY_MAX || op->parent_key_len > TXN_KEY_MAX)
        return "op: key too long";
    if ((op->key_len != 0) != r->has_key)
        return "op: key missing, or not wanted";
    if (op->value_len > TXN_VALUE_MAX)
        return "op: value too long";
    if (r->value == NO_VALUE && op->value_len != 0)
        return "op: value not wanted";
    if (r->value == DELTAS && (op->value_len == 0 || op->value_len % 8 != 0))
        return "op: deltas are not whole 64-bit numbers";
    if (op->npatch > TXN_PATCHES_MAX)
        return "op: too many patches";
    if (op->bytes != round_up_8(used) + op->npatch * sizeof(struct txn_patch))
        return "op: its length is not that of its parts";
    if (op->bytes > room)
        return "op: longer than the txn";
    return padding_is_zero(op, used) ? NULL : "op: padding not zero";
}

static const char *check_op_fields(const struct txn_op *op, uint32_t at, uint32_t nops)
{
    const struct rule *r = &rules[op->code];
    bool has_parent = op->code == TXN_INSERT && op->flags & TXN_HAS_PARENT;
    bool skips = op->code == TXN_GET && op->flags & TXN_SKIP_IF_PRESENT;
    if (op->flags & ~r->flags)
        return "op: flag not known for its code";
    if (skips != (op->skip != 0) || at + op->skip >= nops)
        return "op: skip out of range";
    if (has_parent != (op->parent_key_len != 0) || (!has_parent && op->parent_table != 0))
        return "op: parent missing, or not wanted";
    if (op->timeout_ms != 0 && !r->has_timeout)
        return "op: time-out not wanted";
    if ((op->arg0 != 0 && !r->has_arg0) || op->arg1 != 0)
        return "op: argument not wanted";
    if (op->code == TXN_SCAN && nops != 1)
        return "op: a scan stands alone in its txn";
    return NULL;
}

static const char *check_patch(const struct txn_op *op, const struct txn_patch *p, uint32_t at)
{
    static const uint16_t source_bytes[] = {
        [PATCH_VALUE] = TXN_VALUE_MAX, [PATCH_INDEX] = 4, [PATCH_VERSION] = 8};
    if (p->op >= at)
        return "patch: source is not an earlier op";
    if (p->len == 0 || p->zero != 0)
        return "patch: empty, or reserved byte not zero";
    if (p->from > PATCH_VERSION || p->from_off + p->len > source_bytes[p->from])
        return "patch: source out of range";
    uint32_t end = (uint32_t)p->into_off + p->len;
    if ((p->into == PATCH_KEY && end <= op->key_len) ||
        (p->into == PATCH_PARENT && end <= op->parent_key_len) ||
        (p->into == PATCH_INTO_VALUE && end <= op->value_len))
        return NULL;
    return "patch: target out of range";
}

static const char *check_op(const struct txn_op *op, uint32_t room, uint32_t at, uint32_t nops)
{
    if (room < sizeof *op)
        return "txn: cut short";
    if (op->code == 0 || op->code >= TXN_CODE_END)
        return "op: unknown code";
    const char *why = check_op_lengths(op, room);
    if (!why)
        why = check_op_fields(op, at, nops);
    const struct txn_patch *patches = txn_patches(op);
    for (uint32_t i = 0; !why && i < op->npatch; i++)
        why = check_patch(op, &patches[i], at);
    return why;
}

/* The most frequent of all, a get alone, by its words: what its rule allows, and nothing
 * else. False says nothing. */
static bool is_lone_get(const struct txn_head *t, uint32_t bytes)
{
    static const struct txn_op free_fields = {.table = 0xff, .key_len = 0xff, .bytes = 0xffff,
                                              .flags = TXN_TOUCH | TXN_STOP_IF_ABSENT};
    static const struct txn_op get = {.code = TXN_GET};
    const struct txn_op *op = txn_first(t);
    uint64_t have[4], may[4], want[4];
    if (bytes < sizeof *t + sizeof *op || t->nops != 1 || t->bytes > bytes)
        return false;
    memcpy(have, op, sizeof have);
    memcpy(may, &free_fields, sizeof may);
    memcpy(want, &get, sizeof want);
    for (int i = 0; i < 4; i++)
        if ((have[i] & ~may[i]) != want[i])
            return false;
    uint32_t used = (uint32_t)sizeof *op + op->key_len;
    return op->key_len - 1u < TXN_KEY_MAX && op->bytes == round_up_8(used) &&
           t->bytes == sizeof *t + op->bytes && padding_is_zero(op, used);
}

const char *txn_validate(const void *txn, uint32_t bytes)
{
    const struct txn_head *t = txn;
    assert(((uintptr_t)txn & 7) == 0);
    if (is_lone_get(t, bytes))
        return NULL;
    if (bytes < sizeof *t || t->bytes > bytes || t->bytes < sizeof *t)
        return "txn: cut short";
    if (t->bytes % 8 != 0 || t->bytes > TXN_BYTES_MAX)
        return "txn: bad length";
    if (t->nops == 0 || t->nops > TXN_OPS_MAX)
        return "txn: bad number of ops";
    uint32_t left = t->bytes - (uint32_t)sizeof *t;
    const struct txn_op *op = txn_first(t);
    for (uint32_t i = 0; i < t->nops; i++, op = txn_next(op)) {
        const char *why = check_op(op, left, i, t->nops);
        if (why)
            return why;
        left -= op->bytes;
    }
    return left == 0 ? NULL : "txn: bytes left over after its last op";
}

/* --- checking a result --------------------------------------------------------- */

static const char *check_result(const struct txn_result *r, uint32_t room, int after_op)
{
    if (room < sizeof *r)
        return "result: cut short";
    if (r->op >= TXN_OPS_MAX || (int)r->op <= after_op)
        return "result: ops out of order";
    if (r->res < RES_HIT || r->res > RES_FAILED)
        return "result: unknown outcome";
    if (r->bytes != round_up_8((uint32_t)sizeof *r + r->value_len))
        return "result: its length is not that of its parts";
    if (r->bytes > room)
        return "result: longer than its txn's results";
    return padding_is_zero(r, (uint32_t)sizeof *r + r->value_len) ? NULL
                                                                  : "result: padding not zero";
}

static const char *check_moved(const struct txn_result_head *h)
{
    const struct txn_moved *to = txn_moved_of(h);
    bool good = h->bytes == sizeof *h + sizeof *to && h->nres == 0 && to->zero == 0 &&
                to->shard < LETHE_SLOTS;
    return good ? NULL : "results: moved, but not where";
}

const char *txn_result_validate(const void *result, uint32_t bytes)
{
    const struct txn_result_head *h = result;
    assert(((uintptr_t)result & 7) == 0);
    if (bytes < sizeof *h || h->bytes > bytes || h->bytes < sizeof *h)
        return "results: cut short";
    if (h->bytes % 8 != 0 || h->bytes > TXN_RESULT_MAX)
        return "results: bad length";
    if (h->status >= TXN_STATUS_END)
        return "results: unknown status";
    if (h->nres > TXN_OPS_MAX || h->failed_op >= TXN_OPS_MAX)
        return "results: bad op number";
    if (h->zero[0] | h->zero[1] | h->zero[2])
        return "results: reserved field not zero";
    if (h->status == TXN_MOVED)
        return check_moved(h);
    uint32_t left = h->bytes - (uint32_t)sizeof *h;
    const struct txn_result *r = txn_result_first(h);
    int after_op = -1;
    for (uint32_t i = 0; i < h->nres; i++, r = txn_result_next(r)) {
        const char *why = check_result(r, left, after_op);
        if (why)
            return why;
        left -= r->bytes;
        after_op = r->op;
    }
    return left == 0 ? NULL : "results: bytes left over after the last one";
}

const struct txn_result *txn_result_of(const struct txn_result_head *h, int op)
{
    const struct txn_result *r = txn_result_first(h);
    for (int i = 0; i < h->nres; i++, r = txn_result_next(r))
        if (r->op == op)
            return r;
    return NULL;
}

const struct txn_scan_entry *txn_scan_next(const struct txn_result *r, uint32_t *offset)
{
    uint32_t left = r->value_len > *offset ? r->value_len - *offset : 0;
    const void *at = txn_result_value(r) + *offset;
    const struct txn_scan_entry *e = at;
    if (left < sizeof *e)
        return NULL;
    uint32_t bytes = round_up_8((uint32_t)sizeof *e + e->key_len + e->value_len);
    if (e->key_len > TXN_KEY_MAX || e->value_len > TXN_VALUE_MAX || bytes > left)
        return NULL;
    *offset += bytes;
    return e;
}
