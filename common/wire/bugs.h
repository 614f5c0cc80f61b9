/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Planted bugs of who reads records past the store's processor (record.c, client/): as those
 * of the store's core (SHARD_BUGS in statestore/core/shard.h), compiled in only with
 * -DLETHE_PLANTED_BUGS, chosen at run time, each to be found by the simulator (tests/sim).
 *
 * "Line versions not compared" alone is none of them: the CRC is over the version, the key and
 * the value, so that what the versions tell apart it tells apart, too; they are the cheaper look.
 */
#ifndef LETHE_WIRE_BUGS_H
#define LETHE_WIRE_BUGS_H

#define READER_BUGS(X)                                                                            \
    X(BUG_TORN_TAKEN, "neither line versions nor CRC of a copied record compared")                \
    X(BUG_CRC_NOT_COMPARED, "CRC of a copied record not compared")                                \
    X(BUG_PENDING_TAKEN, "a pending record taken for a committed one")                            \
    X(BUG_RECORD_NOT_ITS, "neither incarnation nor key of a copied record compared")              \
    X(BUG_READER_NO_LEASE, "reader's lease looked at neither before the read nor after")          \
    X(BUG_PLACES_OUTLIVE_ERA, "places remembered over changes of epoch and connections")
/* Those that the simulator does not find yet. */
#define READER_BUGS_NEXT(X)                                                                       \
    X(BUG_READER_LEASE_FROM_RECEIPT, "reader's lease counted from the receipt of its grant")
enum reader_bug {
    READER_BUG_NONE,
#define X(name, text) name,
    READER_BUGS(X) READER_BUGS_NEXT(X)
#undef X
};
#ifdef LETHE_PLANTED_BUGS
extern enum reader_bug reader_bug;
#define READER_BUG(b) (reader_bug == (b))
#else
#define READER_BUG(b) 0
#endif

#endif
