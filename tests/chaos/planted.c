/* SPDX-License-Identifier: BSD-3-Clause */
/* lethe-store with a planted bug (SHARD_BUGS in statestore/core/shard.h): a primary that acknowledges before
 * its backups have it. For the chaos suite, which has to catch it; it is never installed. */
#include "statestore/core/shard.h"

__attribute__((constructor)) static void plant(void)
{
    shard_bug = BUG_ACK_BEFORE_BACKUP;
}
