/* SPDX-License-Identifier: BSD-3-Clause */
/* Every network function of this build. A new one is added here. */
#include "nf/lethe_nf.h"

extern const struct nf_ops nat44_ops, monitor_ops, twostep_ops, knock_ops;

const struct nf_ops *const nf_registry[] = {&nat44_ops, &monitor_ops, &twostep_ops, &knock_ops,
                                            NULL};
