/* SPDX-License-Identifier: BSD-3-Clause */
/* What flow_pulse counted since its last drain, as one line of JSON. */
#include "tests/net/flow_pulse.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void note(struct pulse *p, const char *text, ...)
{
    va_list args;
    if (p->examples == EXAMPLES)
        return;
    va_start(args, text);
    vsnprintf(p->example[p->examples++], sizeof p->example[0], text, args);
    va_end(args);
}

static void say_way(const char *name, uint64_t sent, uint64_t arrived, const struct way_counts *c)
{
    printf("\"%s\": {\"sent\": %lu, \"lost\": %lu, \"reordered\": %lu, \"duplicated\": %lu, \"late\": %lu, "
           "\"slowest_ms\": %.1f}, ", name, sent, sent - arrived, c->reordered, c->duplicated, c->late,
           (double)c->slowest_us / 1e3);
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Of the rulers. One that was silent since is a hole, too. */
static void say_holes(const struct pulse *p)
{
    uint64_t hole[RULERS];
    uint32_t n = p->udp_n < RULERS ? p->udp_n : RULERS;
    if (p->calm || n == 0) {
        printf("\"hole_ms\": null, ");
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct flow *f = &p->udp[i];
        uint64_t since = p->drain_us > f->answered_us ? p->drain_us - f->answered_us : 0;
        hole[i] = since > f->hole_us ? since : f->hole_us;
    }
    qsort(hole, n, sizeof *hole, by_size);
    printf("\"hole_ms\": {\"flows\": %u, \"median\": %.1f, \"longest\": %.1f}, ", n,
           (double)hole[n / 2] / 1e3, (double)hole[n - 1] / 1e3);
}

static uint32_t silent_flows(const struct pulse *p)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->udp_made; i++)
        n += !p->udp[i].broken && udp_silent(p, &p->udp[i]);
    return n;
}

void report(struct pulse *p)
{
    uint64_t up_sent = 0, up_arrived = 0, down_sent = 0, down_arrived = 0, again, needless, out_of_order;
    for (uint32_t i = 0; i < p->udp_made; i++) {
        const struct flow *f = &p->udp[i];
        up_sent += f->up.sent - f->up.base_sent;
        up_arrived += f->up.arrived;
        down_sent += f->down.sent - f->down.base_sent;
        down_arrived += f->down.arrived;
    }
    tcp_kernel(p, &again, &needless, &out_of_order);
    printf("{\"phase\": \"%s\", \"seconds\": %.2f, ", p->name, (double)(p->drain_us - p->began_us) / 1e6);
    say_way("up", up_sent, up_arrived, &p->up);
    say_way("down", down_sent, down_arrived, &p->down);
    say_holes(p);
    printf("\"tcp\": {\"exchanges\": %lu, \"slowest_ms\": %.1f, \"sent_again\": %ld, \"needlessly\": %ld, "
           "\"out_of_order\": %ld}, ", p->exchanges, (double)p->tcp_slowest_us / 1e3,
           (long)(again - p->tcp_again), (long)(needless - p->tcp_needless),
           (long)(out_of_order - p->tcp_out_of_order));
    printf("\"connections\": %u, \"broken\": %u, \"refused\": %lu, \"socket_drops\": %u, \"examples\": [",
           p->udp_n + p->tcp_n, p->tcp_broken + p->udp_broken + silent_flows(p), p->refused, udp_socket_drops(p));
    for (uint32_t i = 0; i < p->examples; i++)
        printf("%s\"%s\"", i ? ", " : "", p->example[i]);
    printf("]}\n");
    fflush(stdout);
}

void phase_reset(struct pulse *p)
{
    for (uint32_t i = 0; i < p->udp_made; i++) {
        struct flow *f = &p->udp[i];
        f->up.base_sent = f->up.sent;
        f->down.base_sent = f->down.sent;
        f->up.arrived = f->down.arrived = 0;
        f->answered = f->up.sent;
        f->hole_us = 0;
        if (f->asked_us)
            f->asked_us += p->now_us - p->drain_us; /* nobody was asked meanwhile */
        f->answered_us = p->now_us;
    }
    tcp_kernel(p, &p->tcp_again, &p->tcp_needless, &p->tcp_out_of_order);
    p->up = p->down = (struct way_counts){0};
    p->exchanges = p->tcp_slowest_us = p->refused = 0;
    p->examples = 0;
    p->began_us = p->ruler_us = p->pulse_us = p->press_us = p->now_us;
}
