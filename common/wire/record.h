/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A record: how an entry lies in the primary's memory, for the store that writes it
 * and for a client that reads it there without asking (RDMA READ). Pure: no memory
 * of its own, no clock, no verbs.
 *
 *   line 0    version | deadline, incarnation, state | time-out | payload, 44 bytes
 *   line i    version | payload, 56 bytes
 *   payload   key || value || CRC32C(version, key, value); what follows is no reader's
 *             business
 *
 * What a reader may rely on: a line of 64 bytes, 64-aligned, comes as it was at one
 * moment, or at least its words in ascending order (soft-RoCE copies so; a processor's
 * cache and PCIe do better). The lines come in any order, with any time between.
 *
 * So a copy that is not of one moment is always found out, however long the reader took:
 *
 *   writer  state := pending | every version := 0 | payload | every version := v, line 0's
 *           last                                       (| is a release fence)
 *   reader  every line's version equal and not 0; then the CRC
 *
 * A line that was copied before the write says the old version, one from the midst of it
 * 0, one from after it v; versions are never used twice (DESIGN 3). The CRC is for what is
 * below a line: words of one line that are of two moments.
 *
 * `state` is no part of that: it says committed only after the commit, in the same line
 * as the version it is said of. Within line 0 a writer sets pending before it touches the
 * version, and committed after; a reader gets the version before the state. So "v,
 * committed" is only ever read of a v that was. (In what order the words of a line are
 * used once they were copied does not matter.)
 *
 * Whose the record number is by now: the key says it; `incarnation` besides, which also
 * changes when the hash slot is released (statestore/core/move.c), so that nobody goes on
 * reading what is another shard's by now.
 */
#ifndef LETHE_WIRE_RECORD_H
#define LETHE_WIRE_RECORD_H

#include <stdint.h>

#include "txn.h"

enum {
    LINE_BYTES = 64,
    LINE0_PAYLOAD = 44,
    LINE_PAYLOAD = 56,
    RECORD_LINES_MAX = 1 + (TXN_KEY_MAX + TXN_VALUE_MAX + 4 - LINE0_PAYLOAD + LINE_PAYLOAD - 1) / LINE_PAYLOAD,
};

enum record_state { RECORD_FREE = 0, RECORD_PENDING, RECORD_COMMITTED };

struct record {               /* line 0 */
    uint64_t version;
    uint64_t deadline_ms : 46; /* shard time, 0: never. Local: touches that are not logged move
                                  it; until 4199 */
    uint64_t incarnation : 16; /* of this record number; counts its owners */
    uint64_t state : 2;
    uint32_t timeout_ms;
    uint8_t payload[LINE0_PAYLOAD];
};
_Static_assert(sizeof(struct record) == LINE_BYTES, "line 0");
struct record_line {
    uint64_t version;
    uint8_t payload[LINE_PAYLOAD];
};

/* Of all records of a table. */
struct record_shape {
    uint16_t key_size, value_size;
    uint16_t crc_at;          /* byte of the record; 0: cut by the end of a line */
    uint8_t lines;
};
struct record_shape record_shape_of(uint32_t key_size, uint32_t value_size);
/* Lines that hold so many bytes of payload. */
uint8_t record_lines_for(uint32_t payload);

/* Writes version (not 0), key and value over all lines, closes them with the CRC, which it
 * returns. The record is pending then; deadline and time-out stay. */
uint32_t record_write(const struct record_shape *s, struct record *r, uint64_t version,
                      const void *key, const void *value);
void record_value(const struct record_shape *s, const struct record *r, void *value);
/* The CRC as stored, and as it should be. */
uint32_t record_crc(const struct record_shape *s, const struct record *r);
uint32_t record_crc_slow(const struct record_shape *s, const struct record *r);

enum record_verdict {
    RECORD_GOOD,              /* this key's, committed, of one moment */
    RECORD_TORN,              /* lines, or words, of two moments; or never written */
    RECORD_NOT_COMMITTED,
    RECORD_NOT_ITS,           /* free, or another entry's, or released */
};
/* Of a private copy of s->lines lines, 8-aligned, by whoever remembers that the key was there
 * when the record had this incarnation. */
enum record_verdict record_check(const struct record_shape *s, const struct record *copy,
                                 const void *key, uint16_t incarnation);

#ifdef LETHE_PLANTED_BUGS
/* A simulated reader (tests/sim/nic.c) looks just now, in the midst of a write. */
extern void (*record_moment)(const struct record *r);
#endif

#endif
