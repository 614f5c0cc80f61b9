/* SPDX-License-Identifier: BSD-3-Clause */
/* What was answered, read (ask_impl.h): by HTTP these may be anybody's bytes. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "common/wire/address.h"
#include "orchestrator/controller/ask_impl.h"

/* One line, cut, of what can be shown. */
static void show(char *to, size_t room, const char *text, size_t bytes)
{
    size_t n = 0;
    for (; n < bytes && n + 1 < room && text[n] != '\n' && text[n] != '\r' && text[n]; n++)
        to[n] = (unsigned char)text[n] >= 0x20 && (unsigned char)text[n] < 0x7f ? text[n] : '?';
    to[n] = 0;
}

json_t *ask_read(const char *reply, size_t bytes, char why[ASK_WHY])
{
    json_t *o = json_loadb(reply, bytes, 0, NULL), *error = json_object_get(o, "error");
    const char *text = json_string_value(error);
    if (json_is_object(o) && !error)
        return o;
    show(why, ASK_WHY, text ? text : "", text ? strlen(text) : 0);
    if (!*why)
        snprintf(why, ASK_WHY, "it answered what is no JSON object");
    json_decref(o);
    return NULL;
}

void ask_refused(long status, const char *reply, size_t bytes, char why[ASK_WHY])
{
    int n = snprintf(why, ASK_WHY, "HTTP status %ld", status);
    if (!bytes)
        return;
    n += snprintf(why + n, ASK_WHY - (size_t)n, ": ");
    show(why + n, ASK_WHY - (size_t)n, reply, bytes);
}

bool ask_is_url(const char *path)
{
    char host[ADDRESS_HOST_MAX], err[200];
    unsigned char binary[16];
    uint16_t port;
    if (strncmp(path, "http://", 7) || address_split(path + 7, host, &port, err, sizeof err) || !port)
        return false;
    return inet_pton(strchr(host, ':') ? AF_INET6 : AF_INET, host, binary) == 1;
}
