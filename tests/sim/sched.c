/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The event queue: a binary heap by (time, order of scheduling). An event of a
 * paused process waits for its end, in order; one of an earlier life is lost.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "world.h"

static bool earlier(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void swap(struct event *a, struct event *b)
{
    struct event t = *a;
    *a = *b;
    *b = t;
}

static void push(struct world *w, struct event e)
{
    if (w->nheap == w->heap_room) {
        w->heap_room = w->heap_room ? w->heap_room * 2 : 1024;
        w->heap = realloc(w->heap, w->heap_room * sizeof *w->heap);
        if (!w->heap)
            abort();
    }
    uint32_t i = w->nheap++;
    w->heap[i] = e;
    for (; i && earlier(&w->heap[i], &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&w->heap[i], &w->heap[(i - 1) / 2]);
}

static struct event pop(struct world *w)
{
    struct event top = w->heap[0];
    w->heap[0] = w->heap[--w->nheap];
    for (uint32_t i = 0;;) {
        uint32_t least = i;
        for (uint32_t c = 2 * i + 1; c <= 2 * i + 2 && c < w->nheap; c++)
            if (earlier(&w->heap[c], &w->heap[least]))
                least = c;
        if (least == i)
            return top;
        swap(&w->heap[i], &w->heap[least]);
        i = least;
    }
}

void sched_at(struct world *w, uint64_t at_us, int proc, event_run run, uint64_t a, uint64_t b,
              void *ptr)
{
    uint32_t life = proc == NOBODY ? 0 : w->procs[proc].life;
    push(w, (struct event){at_us < w->now_us ? w->now_us : at_us, w->order++, proc, life, run, a,
                           b, ptr});
}

uint64_t proc_when_us(const struct world *w, int proc, uint64_t clock_us)
{
    const struct proc *p = &w->procs[proc];
    if (clock_us <= proc_now_us(w, proc))
        return w->now_us;
    uint64_t shown = clock_us - p->clock_us;
    return (shown * CLOCK_UNIT + CLOCK_UNIT - 1) / (uint64_t)(CLOCK_UNIT + p->drift) + 1;
}

void sched_run(struct world *w, uint64_t until_us)
{
    while (w->nheap && !w->over && w->heap[0].at_us <= until_us) {
        struct event e = pop(w);
        w->now_us = e.at_us;
        const struct proc *p = e.proc == NOBODY ? NULL : &w->procs[e.proc];
        if (p && p->life == e.life && p->paused_until_us > w->now_us) {
            e.at_us = p->paused_until_us;
            e.order = w->order++;
            push(w, e);
            continue;
        }
        w->counts.steps++;
        w->fingerprint = (w->fingerprint ^ w->now_us ^ e.a << 40) * 0x9e3779b97f4a7c15ull;
        w->fingerprint ^= w->fingerprint >> 29;
        if (!p || (p->life == e.life && p->alive))
            e.run(w, &e);
        free(e.ptr);
    }
    if (!w->over && w->now_us < until_us)
        w->now_us = until_us;
}

void sched_clear(struct world *w)
{
    for (uint32_t i = 0; i < w->nheap; i++)
        free(w->heap[i].ptr);
    free(w->heap);
    w->heap = NULL;
    w->nheap = w->heap_room = 0;
}

void trace(const struct world *w, int proc, const char *format, ...)
{
    if (!w->trace)
        return;
    va_list ap;
    va_start(ap, format);
    printf("%11.3f ms  %-7s ", (double)w->now_us / 1000.0,
           proc == NOBODY ? "world" : w->procs[proc].name);
    vprintf(format, ap);
    printf("\n");
    va_end(ap);
}
