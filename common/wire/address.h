/* SPDX-License-Identifier: BSD-3-Clause */
/* "host:port", "192.0.2.1:7400", "[2001:db8::1]:7400" taken apart. Pure. */
#ifndef LETHE_WIRE_ADDRESS_H
#define LETHE_WIRE_ADDRESS_H

#include <stdint.h>

enum { ADDRESS_HOST_MAX = 256 };

/* 0, or -EINVAL and a sentence saying what to write instead. Port 0 is allowed
 * (a listener's choice of any). */
int address_split(const char *address, char host[ADDRESS_HOST_MAX], uint16_t *port, char *err,
                  uint32_t err_len);

#endif
