/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The protocol's edge. Each input is taken
 *   - as a frame, as it is;
 *   - as a frame whose length, type and CRC are mended first, so that mutations
 *     reach the bodies;
 *   - as a lone txn and a lone result, lengths mended.
 * Whatever validates is then read as the store and the client would, every
 * length trusted (ASan sees a read beyond), and must have one encoding: built
 * again from its ops, a txn is the same bytes.
 */
#include "tests/fuzz/fuzz.h"

#include "common/wire/crc.h"
#include "common/wire/msg.h"

/* --- reading what was found valid ---------------------------------------------- */

static void read_op(const struct txn_head *t, const struct txn_op *op, int at)
{
    const struct txn_patch *p = txn_patches(op);
    MUST((const uint8_t *)op + op->bytes <= (const uint8_t *)t + t->bytes);
    read_all(txn_key(op), op->key_len);
    read_all(txn_parent_key(op), op->parent_key_len);
    read_all(txn_value(op), op->value_len);
    MUST(at + op->skip < t->nops);
    for (int i = 0; i < op->npatch; i++) {
        uint32_t room = p[i].into == PATCH_KEY      ? op->key_len
                        : p[i].into == PATCH_PARENT ? op->parent_key_len
                                                    : op->value_len;
        MUST(p[i].op < at && p[i].len > 0);
        MUST((uint32_t)p[i].into_off + p[i].len <= room);
    }
}

static void build_again(const struct txn_head *t)
{
    uint64_t buf[TXN_BYTES_MAX / 8];
    struct txn_builder b;
    txn_begin(&b, buf, t->bytes, t->slot); /* and no byte more */
    const struct txn_op *op = txn_first(t);
    for (int i = 0; i < t->nops; i++, op = txn_next(op)) {
        MUST(txn_add_op(&b, op, txn_key(op), txn_parent_key(op), txn_value(op)) == i);
        for (int n = 0; n < op->npatch; n++)
            MUST(txn_add_patch(&b, txn_patches(op)[n]));
    }
    MUST(txn_end(&b) == t->bytes);
    ((struct txn_head *)buf)->seq = t->seq;
    ((struct txn_head *)buf)->slot_epoch = t->slot_epoch;
    MUST(memcmp(buf, t, t->bytes) == 0);
}

static void read_txn(const struct txn_head *t)
{
    const struct txn_op *op = txn_first(t);
    for (int i = 0; i < t->nops; i++, op = txn_next(op))
        read_op(t, op, i);
    MUST((const uint8_t *)op == (const uint8_t *)t + t->bytes);
    build_again(t);
}

static void read_result(const struct txn_result_head *h)
{
    const struct txn_result *r = txn_result_first(h);
    if (txn_moved_of(h)) {
        read_all(txn_moved_of(h), sizeof(struct txn_moved));
        MUST(h->nres == 0);
        return;
    }
    for (int i = 0; i < h->nres; i++, r = txn_result_next(r)) {
        const struct txn_scan_entry *e;
        uint32_t offset = 0;
        MUST(txn_result_of(h, r->op) == r);
        read_all(txn_result_value(r), r->value_len);
        while ((e = txn_scan_next(r, &offset))) {
            MUST(offset <= r->value_len);
            read_all(e + 1, (size_t)e->key_len + e->value_len);
        }
    }
    MUST((const uint8_t *)r == (const uint8_t *)h + h->bytes);
    MUST(*txn_status_text(h->status));
}

static void read_schema(const struct table_schema *s)
{
    struct table_schema other = *s;
    char err[240];
    MUST(schema_compare(s, &other, err, sizeof err) == 0);
    other.version++;
    MUST(schema_compare(s, &other, err, sizeof err) != 0);
    read_all(err, strlen(err));
}

static void read_events(const struct msg_events *m)
{
    const struct msg_event *e = (const struct msg_event *)(m + 1);
    for (uint32_t i = 0; i < m->count; i++) {
        read_all(e + 1, (size_t)e->key_len + e->value_len);
        e = (const struct msg_event *)((const uint8_t *)e + e->bytes);
    }
    MUST((const uint8_t *)e == (const uint8_t *)m + m->head.bytes);
}

static void read_frame(const struct msg_head *head)
{
    const uint8_t *end = (const uint8_t *)head + head->bytes, *at;
    read_all(head, head->bytes);
    switch (head->type) {
    case MSG_BATCH:
        at = (const uint8_t *)head + sizeof(struct msg_batch);
        for (uint32_t i = 0; i < ((const struct msg_batch *)head)->ntxn; i++) {
            read_txn((const void *)at);
            at += ((const struct txn_head *)at)->bytes;
        }
        MUST(at == end);
        break;
    case MSG_RESULTS:
        at = (const uint8_t *)head + sizeof(struct msg_results);
        for (uint32_t i = 0; i < ((const struct msg_results *)head)->nres; i++) {
            read_result((const void *)at);
            at += ((const struct txn_result_head *)at)->bytes;
        }
        MUST(at == end);
        break;
    case MSG_TABLE_OPEN:
        read_schema(&((const struct msg_table_open *)head)->schema);
        break;
    case MSG_TABLE:
        read_all(((const struct msg_table *)head)->text,
                 strlen(((const struct msg_table *)head)->text));
        break;
    case MSG_ERROR:
        read_all(((const struct msg_error *)head)->text,
                 strlen(((const struct msg_error *)head)->text));
        break;
    case MSG_EVENTS:
        read_events((const struct msg_events *)head);
        break;
    case MSG_MOVE_ACK:
        read_all(((const struct msg_move_ack *)head)->text,
                 strlen(((const struct msg_move_ack *)head)->text));
        break;
    default:
        break;
    }
}

/* --- mending --------------------------------------------------------------------- */

static void mend_crc(void *frame, uint32_t bytes)
{
    struct msg_head *head = frame;
    if ((head->type == MSG_APPEND || head->type == MSG_TAIL) && bytes >= sizeof(struct msg_append)) {
        struct msg_append *m = frame;
        m->body_bytes = bytes - (uint32_t)sizeof *m;
        m->crc = crc32c(0, m + 1, m->body_bytes);
    }
    if (head->type == MSG_CHUNK && bytes >= sizeof(struct msg_chunk)) {
        struct msg_chunk *m = frame;
        m->body_bytes = bytes - (uint32_t)sizeof *m;
        m->crc = crc32c(0, m + 1, m->body_bytes);
    }
    if (head->type == MSG_MOVE_PART && bytes >= sizeof(struct msg_move_part)) {
        struct msg_move_part *m = frame;
        m->body_bytes = bytes - (uint32_t)sizeof *m;
        m->crc = crc32c(0, m + 1, m->body_bytes);
    }
}

static void mend_events(void *frame, uint32_t bytes)
{
    struct msg_events *m = frame;
    if (m->head.type == MSG_EVENTS && bytes >= sizeof *m)
        m->body_bytes = bytes - (uint32_t)sizeof *m;
}

static void try_mended_frame(const uint8_t *data, size_t size)
{
    uint32_t bytes = (uint32_t)size & ~7u;
    if (bytes < sizeof(struct msg_head))
        return;
    struct msg_head *head = guarded_copy(data, bytes);
    head->bytes = bytes;
    head->type = (uint8_t)(1 + head->type % (MSG_TYPE_END - 1));
    head->proto = (uint8_t)(1 + head->proto % MSG_PROTO_MAX);
    mend_crc(head, bytes);
    mend_events(head, bytes);
    if (!msg_validate(head, bytes))
        read_frame(head);
    free(head);
}

static void try_txn(const uint8_t *data, size_t size)
{
    uint32_t bytes = (uint32_t)size & ~7u;
    struct txn_head *t = guarded_copy(data, bytes);
    if (bytes >= sizeof *t && bytes <= TXN_BYTES_MAX)
        t->bytes = (uint16_t)bytes;
    if (!txn_validate(t, bytes))
        read_txn(t);
    free(t);
}

static void try_result(const uint8_t *data, size_t size)
{
    uint32_t bytes = (uint32_t)size & ~7u;
    struct txn_result_head *h = guarded_copy(data, bytes);
    if (bytes >= sizeof *h && bytes <= TXN_RESULT_MAX)
        h->bytes = (uint16_t)bytes;
    if (!txn_result_validate(h, bytes))
        read_result(h);
    free(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    void *frame = guarded_copy(data, size);
    if (!msg_validate(frame, (uint32_t)size))
        read_frame(frame);
    free(frame);
    try_mended_frame(data, size);
    try_txn(data, size);
    try_result(data, size);
    return 0;
}
