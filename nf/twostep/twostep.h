/* SPDX-License-Identifier: BSD-3-Clause */
/* Records of twostep, for whoever sets policies. */
#ifndef NF_TWOSTEP_H
#define NF_TWOSTEP_H

#include <stdint.h>

enum twostep_verdict { TWOSTEP_PASS = 0, TWOSTEP_DROP = 1 };

struct twostep_host {
    uint32_t policy, zero;
};
struct twostep_policy {
    uint8_t verdict, zero[7]; /* enum twostep_verdict */
};

#endif
