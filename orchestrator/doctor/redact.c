/* SPDX-License-Identifier: BSD-3-Clause */
/* Secrets blotted out (redact.h). */
#include "orchestrator/doctor/redact.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static void add(struct redact *r, const char *text, size_t bytes)
{
    if (bytes < REDACT_LEAST || bytes > REDACT_MOST || r->n == REDACT_SECRETS)
        return;
    struct redact_secret *s = &r->at[r->n++];
    memcpy(s->text, text, bytes);
    s->text[bytes] = '\0';
    s->bytes = (uint32_t)bytes;
}

/* In JSON a quote and a backslash stand behind a backslash; most of a bundle is JSON. */
void redact_add(struct redact *r, const char *text, size_t bytes)
{
    char escaped[2 * REDACT_MOST];
    size_t n = 0;
    while (bytes && isspace((unsigned char)text[bytes - 1]))
        bytes--;
    add(r, text, bytes);
    for (size_t i = 0; i < bytes && bytes <= REDACT_MOST; i++) {
        if (text[i] == '"' || text[i] == '\\')
            escaped[n++] = '\\';
        escaped[n++] = text[i];
    }
    if (n > bytes)
        add(r, escaped, n);
    sodium_memzero(escaped, sizeof escaped);
}

int redact_file(struct redact *r, const char *path)
{
    char text[REDACT_MOST + 8];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return -error;
    const char *end = memchr(text, '\n', (size_t)n);
    redact_add(r, text, end ? (size_t)(end - text) : (size_t)n);
    sodium_memzero(text, sizeof text);
    return 0;
}

static uint32_t blot_secret(const struct redact_secret *s, char *text, size_t bytes)
{
    uint32_t n = 0;
    char first[3] = {(char)tolower((unsigned char)s->text[0]), (char)toupper((unsigned char)s->text[0]), 0};
    for (size_t i = 0; i + s->bytes <= bytes; i++)
        if ((text[i] == first[0] || text[i] == first[1]) && !strncasecmp(text + i, s->text, s->bytes)) {
            memset(text + i, '*', s->bytes);
            i += s->bytes - 1;
            n++;
        }
    return n;
}

static bool ends_word(char c)
{
    return isspace((unsigned char)c) || c == '"' || c == '\'' || c == ',' || c == '\0';
}

/* "Bearer TOKEN" */
static uint32_t blot_bearer(char *text, size_t bytes)
{
    static const char word[] = "bearer ";
    uint32_t n = 0;
    for (size_t i = 0; i + sizeof word < bytes; i++) {
        if ((text[i] | 0x20) != 'b' || strncasecmp(text + i, word, sizeof word - 1))
            continue;
        i += sizeof word - 1;
        size_t begun = i;
        while (i < bytes && !ends_word(text[i]))
            text[i++] = '*';
        n += i > begun;
    }
    return n;
}

/* "://user:password@" */
static uint32_t blot_passwords(char *text, size_t bytes)
{
    uint32_t n = 0;
    for (size_t i = 0; i + 3 < bytes; i++) {
        if (text[i] != ':' || text[i + 1] != '/' || text[i + 2] != '/')
            continue;
        size_t colon = 0, end = 0; /* a password may hold an @ */
        i += 3;
        for (size_t at = i; at < bytes && text[at] != '/' && !ends_word(text[at]); at++) {
            colon = !colon && text[at] == ':' ? at : colon;
            end = text[at] == '@' ? at : end;
        }
        if (!colon || end < colon)
            continue;
        memset(text + colon + 1, '*', end - colon - 1);
        n++;
    }
    return n;
}

uint32_t redact_text(const struct redact *r, char *text, size_t bytes)
{
    uint32_t n = blot_bearer(text, bytes) + blot_passwords(text, bytes);
    for (uint32_t i = 0; i < r->n; i++)
        n += blot_secret(&r->at[i], text, bytes);
    return n;
}

void redact_wipe(struct redact *r)
{
    sodium_memzero(r, sizeof *r);
}
