/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What whoever has a program's address answers the controller. The input is an HTTP status in two
 * bytes, and a body. What is taken is an object without "error"; what is refused is one line that
 * can be shown. The same bytes as an address: taken is only what has no name in it.
 */
#include "tests/fuzz/fuzz.h"

#include <jansson.h>

#include "orchestrator/controller/ask_impl.h"

static void can_be_shown(const char *why)
{
    MUST(*why && strlen(why) < ASK_WHY);
    for (; *why; why++)
        MUST((unsigned char)*why >= 0x20 && (unsigned char)*why < 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[ASK_WHY], path[ASK_PATH];
    if (size < 2)
        return 0;
    char *body = guarded_copy(data + 2, size - 2);
    json_t *o = ask_read(body, size - 2, why);
    if (o)
        MUST(json_is_object(o) && !json_object_get(o, "error"));
    else
        can_be_shown(why);
    json_decref(o);
    ask_refused(data[0] | data[1] << 8, body, size - 2, why);
    can_be_shown(why);
    size_t n = size - 2 < sizeof path - 1 ? size - 2 : sizeof path - 1;
    memcpy(path, body, n);
    path[n] = 0;
    if (ask_is_url(path))
        MUST(strspn(path + 7, "0123456789abcdefABCDEF.:[]%") == strlen(path + 7));
    free(body);
    return 0;
}
