/* SPDX-License-Identifier: BSD-3-Clause */
/* true or false in site.yaml. libcyaml's own kind takes every word that it does not know for true:
 * "enabled: flase" would enable. */
#ifndef LETHE_CONFIG_TRUTH_H
#define LETHE_CONFIG_TRUTH_H

#include <cyaml/cyaml.h>

enum { CONFIG_TRUTHS = 6 };
static const cyaml_strval_t config_truths[CONFIG_TRUTHS] __attribute__((unused)) = {
    {"true", 1}, {"false", 0}, {"yes", 1}, {"no", 0}, {"on", 1}, {"off", 0}};

/* An optional key; absent: false. `member` is a bool. */
#define CONFIG_TRUTH(key, structure, member)                                                       \
    CYAML_FIELD_ENUM(key, CYAML_FLAG_OPTIONAL | CYAML_FLAG_STRICT | CYAML_FLAG_CASE_INSENSITIVE,   \
                     structure, member, config_truths, CONFIG_TRUTHS)

#endif
