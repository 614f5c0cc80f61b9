/* SPDX-License-Identifier: BSD-3-Clause */
/* See address.h. */
#include "common/wire/address.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int refuse(const char *address, char *err, uint32_t err_len)
{
    snprintf(err, err_len,
             "'%s' is not an address; write host:port, such as 127.0.0.1:7400 or [::1]:7400",
             address);
    return -EINVAL;
}

/* 0..65535 in digits only, or -1. */
static int parse_port(const char *text)
{
    size_t len = strlen(text);
    if (len == 0 || len > 5 || strspn(text, "0123456789") != len)
        return -1;
    int port = atoi(text);
    return port <= 65535 ? port : -1;
}

int address_split(const char *address, char host[ADDRESS_HOST_MAX], uint16_t *port, char *err,
                  uint32_t err_len)
{
    const char *colon = strrchr(address, ':');
    if (!colon)
        return refuse(address, err, err_len);
    const char *start = address, *end = colon;
    if (*start == '[') {
        if (end[-1] != ']')
            return refuse(address, err, err_len);
        start++, end--;
    } else if (memchr(start, ':', (size_t)(end - start))) {
        return refuse(address, err, err_len); /* IPv6 needs its brackets */
    }
    int number = parse_port(colon + 1);
    if (number < 0 || end <= start || end - start >= ADDRESS_HOST_MAX)
        return refuse(address, err, err_len);
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = 0;
    *port = (uint16_t)number;
    return 0;
}
