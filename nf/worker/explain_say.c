/* SPDX-License-Identifier: BSD-3-Clause */
/* A plan (explain.h) for people: tables, then the packets, a line a step. */
#include "nf/worker/explain.h"

#include <stdio.h>
#include <string.h>

static const char *word(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "";
}

static long number(const json_t *o, const char *key)
{
    return (long)json_integer_value(json_object_get(o, key));
}

static void say_timeout(long ms)
{
    if (!ms)
        printf("%10s", "-");
    else if (ms % 1000)
        printf("%7ld ms", ms);
    else
        printf("%8ld s", ms / 1000);
}

static void say_tables(const json_t *tables)
{
    size_t i;
    json_t *t;
    printf("\n%-10s %-24s %-9s %-8s %4s %6s %10s\n", "NF", "TABLE", "KIND", "KEPT", "KEY", "VALUE",
           "TIME-OUT");
    json_array_foreach(tables, i, t) {
        printf("%-10s %-24s %-9s %-8s %4ld %6ld ", word(t, "nf"), word(t, "table"), word(t, "kind"),
               word(t, "durability"), number(t, "key_bytes"), number(t, "value_bytes"));
        say_timeout(number(t, "timeout_ms"));
        printf("%s\n", json_is_true(json_object_get(t, "events")) ? "  tells when it is over" : "");
    }
}

static void say_step(const json_t *step)
{
    size_t i;
    json_t *op;
    bool first = true;
    printf("  %ld. %-10s %-8s ", number(step, "round_trip"), word(step, "nf"), word(step, "phase"));
    json_array_foreach(json_object_get(step, "ops"), i, op) {
        if (!strcmp(word(op, "result"), "skipped"))
            continue;
        printf("%s%s %s: %s", first ? "" : ", ", word(op, "op"), word(op, "table"),
               word(op, "result"));
        first = false;
    }
    printf("%s\n", json_is_true(json_object_get(step, "waited_for")) ? "" : "  (not waited for)");
}

static void say_case(const json_t *o)
{
    size_t i;
    json_t *step;
    printf("\n%s, from the %s: %s\n", word(o, "case"), word(o, "side"), word(o, "packet"));
    json_array_foreach(json_object_get(o, "steps"), i, step)
        say_step(step);
    printf("  = %s%s%s; %ld round trip%s, %ld read%s, %ld write%s\n", word(o, "verdict"),
           *word(o, "reason") ? ": " : *word(o, "out") ? " by the " : "",
           *word(o, "reason") ? word(o, "reason") : word(o, "out"), number(o, "round_trips"),
           number(o, "round_trips") == 1 ? "" : "s", number(o, "reads"),
           number(o, "reads") == 1 ? "" : "s", number(o, "writes"),
           number(o, "writes") == 1 ? "" : "s");
}

void explain_say(const json_t *plan)
{
    size_t i;
    json_t *o;
    printf("chain:");
    json_array_foreach(json_object_get(plan, "chain"), i, o)
        printf("%s %s", i ? "," : "", json_string_value(o));
    printf("\n");
    say_tables(json_object_get(plan, "tables"));
    json_array_foreach(json_object_get(plan, "cases"), i, o)
        say_case(o);
}
