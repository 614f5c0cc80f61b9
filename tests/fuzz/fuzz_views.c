/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What stands in etcd: views and registrations as JSON. What is taken keeps the
 * parser's promises and is written and read again: the same. What is refused leaves
 * the out-pointer alone.
 */
#include "tests/fuzz/fuzz.h"

#include "statestore/server/views_json.h"

enum { NODES = 16 };

static void view(const char *text, uint32_t bytes)
{
    struct shard_view v, again;
    memset(&v, 0xa5, sizeof v);
    again = v;
    if (views_json_view(text, bytes, NODES, &v)) {
        MUST(memcmp(&v, &again, sizeof v) == 0);
        return;
    }
    MUST(v.epoch >= 1 && v.nmembers >= 1 && v.nmembers <= 3);
    for (uint32_t i = 0; i < v.nmembers; i++) {
        MUST(v.members[i].node >= 1 && v.members[i].node <= NODES && v.members[i].incarnation);
        for (uint32_t j = 0; j < i; j++)
            MUST(v.members[i].node != v.members[j].node);
    }
    char *line = views_json_of_view(&v);
    MUST(line && !views_json_view(line, (uint32_t)strlen(line), NODES, &again));
    MUST(again.epoch == v.epoch && again.nmembers == v.nmembers &&
         again.accepted_loss == v.accepted_loss &&
         memcmp(again.members, v.members, sizeof v.members) == 0);
    free(line);
}

static void registration(const char *text, uint32_t bytes)
{
    struct views_registration r, again;
    memset(&r, 0xa5, sizeof r);
    again = r;
    if (views_json_registration(text, bytes, &r)) {
        MUST(memcmp(&r, &again, sizeof r) == 0);
        return;
    }
    MUST(r.incarnation && r.nholds <= VIEWS_SHARDS_MAX);
    char *line = views_json_of_registration(&r, "store-a", "127.0.0.1:7400");
    MUST(line && !views_json_registration(line, (uint32_t)strlen(line), &again));
    MUST(again.incarnation == r.incarnation && again.nholds == r.nholds &&
         memcmp(again.holds, r.holds, sizeof r.holds) == 0);
    free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = guarded_copy(data, size);
    view(copy, (uint32_t)size);
    registration(copy, (uint32_t)size);
    free(copy);
    return 0;
}
