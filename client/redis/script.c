/* SPDX-License-Identifier: BSD-3-Clause */
/* The script's text: the tables as Lua, then txn.lua, which is linked in as it is. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/redis/impl.h"

__asm__(".section .rodata\n"
        ".globl lethe_txn_lua\nlethe_txn_lua: .incbin \"" LETHE_TXN_LUA "\"\n"
        ".byte 0\n.previous\n");
extern const char lethe_txn_lua[];

struct text { char *at; uint32_t used, room; };

static void say(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->at + t->used, t->room - t->used, format, args);
    va_end(args);
    t->used += n > 0 && (uint32_t)n < t->room - t->used ? (uint32_t)n : 0;
}

static int number_of(const struct lethe_redis *r, const char *name)
{
    for (int i = 0; i < r->ntables; i++)
        if (!strncmp(r->tables[i].schema.name, name, TABLE_NAME_MAX))
            return i;
    return -1;
}

/* Names come from schemas that schema_validate passed: printable, no quotes. */
static void say_table(struct text *t, const struct lethe_redis *r, int i)
{
    const struct table_schema *s = &r->tables[i].schema;
    say(t, "[%d]={name='%.*s',kind=%u,flags=%u,ks=%u,vs=%u,to=%u,max=%u,rest=%u,react={", i,
        TABLE_NAME_MAX, s->name, s->kind, s->flags, s->key_size, s->value_size, s->timeout_ms,
        s->max_entries, s->quarantine_ms);
    for (int k = 0; k < TABLE_REACTIONS; k++) {
        const struct table_reaction *react = &s->reactions[k];
        int target = react->kind ? number_of(r, react->table) : -1;
        if (target >= 0)
            say(t, "{%u,%u,%u,%d},", react->kind, react->off, react->len, target);
    }
    say(t, "}},");
}

bool redis_script_build(struct lethe_redis *r)
{
    struct text t = {.room = SCRIPT_ROOM, .at = malloc(SCRIPT_ROOM)};
    if (!t.at)
        return false;
    say(&t, "local T={");
    for (int i = 0; i < r->ntables; i++)
        say_table(&t, r, i);
    say(&t, "}\n%s", lethe_txn_lua);
    free(r->script);
    r->script = t.at;
    r->script_version++;
    return true;
}
