/* SPDX-License-Identifier: BSD-3-Clause */
/* The planted bug that is active; builds without planted bugs have none. */
#include "shard.h"

#ifdef LETHE_PLANTED_BUGS
enum shard_bug shard_bug = BUG_NONE;
#else
typedef int no_planted_bugs;
#endif
