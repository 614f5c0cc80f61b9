/* SPDX-License-Identifier: BSD-3-Clause */
/* See interim.c. */
#ifndef SIM_INTERIM_H
#define SIM_INTERIM_H

#include "world.h"

/* The node's process died. */
void interim_died(struct world *w, int node);

/* A client that hears this goes elsewhere. */
bool interim_goes_elsewhere(const void *frame);

#endif
