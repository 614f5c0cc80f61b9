/* SPDX-License-Identifier: BSD-3-Clause */
/* What became of a get that could have been one-sided (table flag TABLE_ONE_SIDED, by verbs). All
 * but the first are asked for by a request, as any get. Columns: name, word in figures, meaning. */
#ifndef LETHE_READS_H
#define LETHE_READS_H

#define READ_OUTCOMES(X)                                                                    \
    X(READ_HIT, "hit", "answered by a read")                                                \
    X(READ_UNKNOWN, "unknown", "nothing is remembered of the key, or not any more")         \
    X(READ_NO_LEASE, "no_lease", "no lease, or it was over before the read was")            \
    X(READ_TOUCH_DUE, "touch_due", "a quarter of the time-out went by without a touch")     \
    X(READ_EXPIRED, "expired", "may be past its deadline")                                  \
    X(READ_PENDING, "pending", "a write of it was not committed yet")                       \
    X(READ_TORN, "torn", "written while it was read")                                       \
    X(READ_GONE, "gone", "the record is free, released, or another entry's")                \
    X(READ_FULL, "full", "as many reads under way as there may be")                         \
    X(READ_CLOSED, "closed", "the connection closed meanwhile")

enum read_outcome {
#define X(name, word, text) name,
    READ_OUTCOMES(X)
#undef X
    READ_OUTCOMES_END
};

#endif
