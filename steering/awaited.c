/* SPDX-License-Identifier: BSD-3-Clause */
/* An interface that comes and goes. See awaited.h. */
#include "steering/awaited.h"

#include <string.h>

/* NULL: it is what was opened. */
static const char *fault_of(const struct underlay_facts *opened, const struct underlay_facts *now)
{
    return now->index == 0                                        ? "it is gone"
           : now->index != opened->index                          ? "another one has its name"
           : !now->up                                             ? "it is down"
           : now->mtu != opened->mtu                              ? "its MTU has changed"
           : memcmp(now->mac, opened->mac, sizeof(now->mac)) != 0 ? "its MAC has changed"
                                                                  : NULL;
}

enum awaited_act awaited_next(enum awaited_state state, const struct underlay_facts *opened,
                              const struct underlay_facts *now, const char **cause)
{
    *cause = NULL;
    switch (state) {
    case AWAITED_CLOSED:
        return now->index != 0 && now->up ? AWAITED_OPEN : AWAITED_NOTHING;
    case AWAITED_USED:
        *cause = fault_of(opened, now);
        return *cause != NULL ? AWAITED_RECALL : AWAITED_NOTHING;
    case AWAITED_RETURNED:
        return AWAITED_CLOSE;
    case AWAITED_OFFERED:
    case AWAITED_RECALLED:
        break;
    }
    return AWAITED_NOTHING;
}
