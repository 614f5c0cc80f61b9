/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ballast: many entries in every hash slot in use, so that a slot is something to
 * move. Not part of the history; each entry says what it must hold.
 */
#ifndef TESTS_STORE_FILL_H
#define TESTS_STORE_FILL_H

#include "client/lethe.h"

/* Inserts `each` entries a slot. How many could not be, within timeout_s. */
uint32_t fill_slots(struct lethe_client *c, uint32_t each, uint32_t timeout_s);
/* Reads them all. How many are missing or hold something else. */
uint32_t fill_missing(struct lethe_client *c, uint32_t each, uint32_t timeout_s);

#endif
