/* SPDX-License-Identifier: BSD-3-Clause */
/* See trace_match.h. */
#include "orchestrator/cli/pure/trace_match.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/packet/packet_text.h"

enum { ENTRIES_MAX = 8192, STAMPS_MAX = 128, GROUP_MAX = 32 };

struct entry {                /* one program's book of one packet */
    const json_t *o;
    const char *name;
    bool worker, used;
    int64_t shift_us, error_us; /* is taken off its stamps */
    int64_t first_us, last_us;
};

struct book {
    struct entry at[ENTRIES_MAX];
    uint32_t n;
    const json_t *answer;
};

struct stamp {
    int64_t us;
    const char *step, *text, *reason;
    char where[80];
};

struct way {
    struct stamp at[STAMPS_MAX];
    uint32_t n;
    json_t *missing;
    const char *end, *reason, *worker;
    int64_t error_us;
    int repeated;             /* requests that were sent again */
};

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static int64_t number_of(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static bool is(const json_t *event, const char *what)
{
    return !strcmp(text_of(event, "what"), what);
}

/* --- the books --------------------------------------------------------------------------- */

static void clock_of(const json_t *program, int64_t *shift_us, int64_t *error_us)
{
    const json_t *clock = json_object_get(program, "clock");
    int64_t asked = number_of(clock, "asked_us"), answered = number_of(clock, "answered_us"),
            now = number_of(clock, "now_us");
    bool ours = now >= asked && now <= answered;
    *shift_us = ours ? 0 : now - (asked + (answered - asked) / 2);
    *error_us = ours ? 0 : (answered - asked) / 2;
}

static const json_t *program_of(const json_t *answer, const char *name)
{
    size_t i;
    json_t *p;
    json_array_foreach(json_object_get(answer, "programs"), i, p)
        if (!strcmp(text_of(p, "name"), name))
            return p;
    return NULL;
}

static void add_entry(struct book *b, const json_t *program, const json_t *o, int64_t since_us)
{
    const json_t *events = json_object_get(o, "events");
    size_t n = json_array_size(events);
    if (!n || b->n == ENTRIES_MAX)
        return;
    struct entry *e = &b->at[b->n];
    *e = (struct entry){.o = o, .name = text_of(program, "name"),
                        .worker = !strcmp(text_of(program, "kind"), "worker")};
    clock_of(program, &e->shift_us, &e->error_us);
    e->first_us = number_of(json_array_get(events, 0), "us");
    e->last_us = number_of(json_array_get(events, n - 1), "us");
    if (e->last_us < since_us)
        return;
    e->first_us -= e->shift_us;
    e->last_us -= e->shift_us;
    b->n++;
}

static int by_time(const void *a, const void *b)
{
    int64_t x = ((const struct entry *)a)->first_us, y = ((const struct entry *)b)->first_us;
    return x < y ? -1 : x > y;
}

static void take_books(struct book *b, const json_t *answer, const json_t *since)
{
    size_t i, k;
    json_t *program, *o;
    b->answer = answer;
    json_array_foreach(json_object_get(answer, "programs"), i, program) {
        const json_t *begun = program_of(since, text_of(program, "name"));
        json_array_foreach(json_object_get(program, "packets"), k, o)
            add_entry(b, program, o, number_of(json_object_get(begun, "clock"), "now_us"));
    }
    if (b->n)
        qsort(b->at, b->n, sizeof b->at[0], by_time);
}

static bool begins(const struct entry *e, const char *what)
{
    return is(json_array_get(json_object_get(e->o, "events"), 0), what);
}

static bool same_packet(const json_t *a, const json_t *b, const char *flow)
{
    return !strcmp(text_of(a, "flow"), flow) && number_of(a, "ip_id") == number_of(b, "ip_id") &&
           number_of(a, "tcp_seq") == number_of(b, "tcp_seq") &&
           number_of(a, "bytes") == number_of(b, "bytes");
}

static const char *left_as(const json_t *o)
{
    const char *as = text_of(o, "left_as");
    return *as ? as : text_of(o, "flow");
}

static int64_t slack(const struct entry *a, const struct entry *b)
{
    return a->error_us + b->error_us;
}

/* The last one that steering had given away before the worker was done with it. Workers are gone through from
 * the last to the first, so packets that are alike stay in their order. */
static struct entry *before(struct book *b, const struct entry *w)
{
    for (uint32_t i = b->n; i-- > 0;) {
        struct entry *s = &b->at[i];
        if (!s->worker && !s->used && begins(s, "received") && same_packet(s->o, w->o, text_of(w->o, "flow")) &&
            s->first_us <= w->last_us + slack(s, w) && s->last_us <= w->last_us + slack(s, w))
            return s;
    }
    return NULL;
}

/* The first one that steering had of a worker after it. */
static struct entry *after(struct book *b, const struct entry *w)
{
    for (uint32_t i = 0; i < b->n; i++) {
        struct entry *s = &b->at[i];
        if (!s->worker && !s->used && begins(s, "from_worker") && same_packet(s->o, w->o, left_as(w->o)) &&
            s->last_us + slack(s, w) >= w->first_us)
            return s;
    }
    return NULL;
}

/* --- stamps ------------------------------------------------------------------------------ */

static struct stamp *stamp(struct way *p, int64_t us, const char *step, const char *text)
{
    static struct stamp spare; /* more than there is room for: the rest is left out */
    struct stamp *to = p->n < STAMPS_MAX ? &p->at[p->n++] : &spare;
    *to = (struct stamp){.us = us, .step = step, .text = text};
    return to;
}

static void lack(struct way *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void lack(struct way *p, const char *format, ...)
{
    char text[200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_array_append_new(p->missing, json_string(text));
}

static void steering(struct way *p, const struct entry *s)
{
    static const struct { const char *what, *step, *text; } steps[] = {
        {"received", "received", "received"},
        {"held", "held", "held: a planned change"},
        {"to_worker", "spread", "hash, table"},
        {"from_worker", "ring_out", "ring back to steering"},
        {"sent", "edge", "out of the edge"},
    };
    size_t i;
    json_t *event;
    json_array_foreach(json_object_get(s->o, "events"), i, event) {
        int64_t us = number_of(event, "us") - s->shift_us;
        for (size_t k = 0; k < sizeof steps / sizeof steps[0]; k++)
            if (is(event, steps[k].what))
                snprintf(stamp(p, us, steps[k].step, steps[k].text)->where, 80, "%s", s->name);
        if (is(event, "dropped")) {
            snprintf(stamp(p, us, "dropped", "dropped")->where, 80, "%s", s->name);
            p->end = "dropped";
            p->reason = text_of(event, "reason");
        } else if (is(event, "sent")) {
            p->end = "sent";
        }
    }
    p->error_us = s->error_us > p->error_us ? s->error_us : p->error_us;
}

static bool same_request(const json_t *a, const json_t *b)
{
    return number_of(a, "seq") == number_of(b, "seq") && number_of(a, "client") == number_of(b, "client") &&
           number_of(a, "shard") == number_of(b, "shard");
}

/* The store's book of a txn: of several stores the one that answered it. */
static const json_t *txn_of(const json_t *answer, const json_t *sent)
{
    const json_t *found = NULL;
    size_t i;
    json_t *x;
    json_array_foreach(json_object_get(answer, "txns"), i, x)
        if (same_request(x, sent) && (!found || number_of(x, "sent_us")))
            found = x;
    return found;
}

struct group { const json_t *sent[GROUP_MAX]; uint32_t n; }; /* requests under way together */

static void store_stamps(struct way *p, const struct book *b, const json_t *x, const char *worker)
{
    static const struct { const char *key, *step, *text; } steps[] = {
        {"received_us", "to_store", "way to the store"},
        {"executed_us", "execute", "its queue, the operations"},
        {"released_us", "commit", "commit: the backups have it"},
        {"sent_us", "reply", "replies gathered"},
    };
    int64_t shift_us, error_us;
    const char *store = text_of(x, "store");
    clock_of(program_of(b->answer, store), &shift_us, &error_us);
    for (int i = 0; i < 4; i++) {
        int64_t us = number_of(x, steps[i].key);
        if (!us) {
            lack(p, "%s has not told when the request was %.*s", store, (int)strcspn(steps[i].key, "_"), steps[i].key);
            continue;
        }
        struct stamp *s = stamp(p, us - shift_us, steps[i].step, steps[i].text);
        snprintf(s->where, sizeof s->where, i ? "%.0s%.30s, shard %d" : "%.30s to %.30s, shard %d", worker, store,
                 (int)number_of(x, "shard"));
    }
    p->error_us = error_us > p->error_us ? error_us : p->error_us;
}

static int64_t received_us(const struct book *b, const json_t *x)
{
    int64_t shift_us, error_us, us = number_of(x, "received_us");
    clock_of(program_of(b->answer, text_of(x, "store")), &shift_us, &error_us);
    return us ? us - shift_us + error_us : 0;
}

static int by_stamp(const void *a, const void *b)
{
    int64_t x = ((const struct stamp *)a)->us, y = ((const struct stamp *)b)->us;
    return x < y ? -1 : x > y;
}

/* Requests, and of the one that was answered last what the store did with it: by time, for a request
 * may have been sent twice. What was sent after the store had that one took none of the packet's time.
 * True: the store's steps are there. */
static bool requests(struct way *p, const struct book *b, const struct entry *w, struct group *g,
                     int64_t until_us)
{
    const json_t *last = NULL, *x;
    uint32_t first = p->n;
    for (uint32_t i = 0; i < g->n; i++) {
        x = txn_of(b->answer, g->sent[i]);
        if (!x)
            lack(p, "no store has told of request %lld of client %lld at shard %lld",
                 (long long)number_of(g->sent[i], "seq"), (long long)number_of(g->sent[i], "client"),
                 (long long)number_of(g->sent[i], "shard"));
        if (x && (!last || number_of(x, "sent_us") > number_of(last, "sent_us")))
            last = x;
    }
    int64_t had_us = last ? received_us(b, last) : 0;
    for (uint32_t i = 0; i < g->n; i++) {
        bool repeated = i && same_request(g->sent[i], g->sent[i - 1]);
        p->repeated += repeated;
        if (i && had_us && number_of(g->sent[i], "us") - w->shift_us > had_us)
            continue;
        struct stamp *s = stamp(p, number_of(g->sent[i], "us") - w->shift_us, i ? "again" : "batch",
                                repeated ? "sent again" : i ? "a further request" : "requests gathered");
        snprintf(s->where, sizeof s->where, "%s", w->name);
    }
    if (last) {
        store_stamps(p, b, last, w->name);
        /* between request and answer, whatever its clock says */
        int64_t sent_us = number_of(g->sent[0], "us") - w->shift_us;
        for (uint32_t i = first; i < p->n; i++)
            p->at[i].us = p->at[i].us < sent_us ? sent_us : p->at[i].us > until_us ? until_us : p->at[i].us;
        qsort(p->at + first + 1, p->n - first - 1, sizeof p->at[0], by_stamp);
    }
    g->n = 0;
    return last != NULL;
}

/* The step that ends with what the worker told. */
static const char *step_of(const char *what, bool served, bool begun, const char **text)
{
    static const struct { const char *what, *step, *text; } steps[] = {
        {"received", "ring_in", "ring to the worker"},
        {"conflict", "conflict", "conflict: done again"},
        {"emitted", "process", "the last network function"},
        {"dropped", "dropped", "dropped"},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (!strcmp(what, steps[i].what)) {
            *text = steps[i].text;
            return steps[i].step;
        }
    if (!strcmp(what, "begun")) {
        *text = begun ? "a network function" : "behind packets of its flow";
        return begun ? "next" : "turn";
    }
    *text = served ? "way back to the worker" : "store and the ways there";
    return served ? "answer" : "store";
}

static void worker(struct way *p, const struct book *b, const struct entry *w)
{
    struct group g = {.n = 0};
    bool begun = false, over = false;
    size_t i;
    json_t *event;
    json_array_foreach(json_object_get(w->o, "events"), i, event) {
        const char *what = text_of(event, "what"), *text;
        if (!strcmp(what, "sent")) {
            if (g.n < GROUP_MAX)
                g.sent[g.n++] = event;
            continue;
        }
        bool served = g.n && requests(p, b, w, &g, number_of(event, "us") - w->shift_us);
        const char *step = step_of(what, served, begun, &text);
        struct stamp *s = stamp(p, number_of(event, "us") - w->shift_us, step, text);
        snprintf(s->where, sizeof s->where, "%s%s%s", w->name, *text_of(event, "nf") ? ": " : "",
                 text_of(event, "nf"));
        begun |= !strcmp(what, "begun");
        if (!strcmp(what, "dropped")) {
            p->end = "dropped";
            p->reason = text_of(event, "reason");
        }
        over = !strcmp(what, "emitted") || !strcmp(what, "dropped");
        if (over)
            break; /* what is sent behind it is none of its time */
    }
    if (!over)
        lack(p, "%s has not told what became of it", w->name);
    p->worker = w->name;
    p->error_us = w->error_us > p->error_us ? w->error_us : p->error_us;
}

/* --- packets ------------------------------------------------------------------------------ */

static json_t *steps_json(const struct way *p, int64_t *total_us)
{
    json_t *all = json_array();
    int64_t begin = p->n ? p->at[0].us : 0, now = begin, end = p->n ? p->at[p->n - 1].us : 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct stamp *s = &p->at[i];
        int64_t at = end > begin && s->us > end ? end : s->us, us = at > now ? at - now : 0;
        now += us;
        json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:I, s:I}", "step", s->step, "text", s->text, "where",
                                             s->where, "at_us", (json_int_t)(now - begin), "us", (json_int_t)us));
    }
    *total_us = now - begin;
    return all;
}

static json_t *packet_json(struct way *p, const struct entry *of)
{
    int64_t total_us;
    const char *as = text_of(of->o, "left_as");
    json_t *steps = steps_json(p, &total_us);
    bool complete = !json_array_size(p->missing) && strcmp(p->end, "unknown") != 0;
    return json_pack("{s:s, s:o, s:s, s:I, s:o, s:s, s:o, s:b, s:o, s:I, s:i, s:I, s:o}", "flow",
                     text_of(of->o, "flow"), "left_as", *as ? json_string(as) : json_null(), "side",
                     text_of(of->o, "side"), "bytes", (json_int_t)number_of(of->o, "bytes"), "worker",
                     p->worker ? json_string(p->worker) : json_null(), "end", p->end, "reason",
                     p->reason ? json_string(p->reason) : json_null(), "complete", complete, "missing", p->missing,
                     "clock_error_us", (json_int_t)p->error_us, "repeated", p->repeated, "total_us", (json_int_t)total_us, "steps", steps);
}

static bool has_steering(const json_t *answer)
{
    size_t i;
    json_t *p;
    json_array_foreach(json_object_get(answer, "programs"), i, p)
        if (!strcmp(text_of(p, "kind"), "steering"))
            return true;
    return false;
}

static json_t *of_worker(struct book *b, struct entry *w, struct entry *in, struct entry *out)
{
    struct way p = {.missing = json_array(), .end = "unknown"};
    bool steered = has_steering(b->answer);
    if (in)
        steering(&p, in);
    else
        lack(&p, steered ? "steering has not told how it came in" : "no steering has answered");
    worker(&p, b, w);
    if (out)
        steering(&p, out);
    else if (strcmp(p.end, "dropped") != 0)
        lack(&p, "steering has not told how it went out as %s", left_as(w->o));
    return packet_json(&p, w);
}

static json_t *of_steering(const struct entry *s)
{
    struct way p = {.missing = json_array(), .end = "unknown"};
    steering(&p, s);
    if (strcmp(p.end, "dropped") != 0)
        lack(&p, "no worker has told of it");
    return packet_json(&p, s);
}

json_t *trace_match(const json_t *answer, const json_t *since)
{
    json_t *all = json_array();
    struct book *b = calloc(1, sizeof *b);
    struct entry **in = calloc(ENTRIES_MAX, sizeof *in);
    if (b && in) {
        take_books(b, answer, since);
        for (uint32_t i = b->n; i-- > 0;)
            if (b->at[i].worker && (in[i] = before(b, &b->at[i])))
                in[i]->used = true;
        for (uint32_t i = 0; i < b->n; i++) {
            struct entry *e = &b->at[i];
            struct entry *out = e->worker ? after(b, e) : NULL;
            if (out)
                out->used = true;
            if (e->worker)
                json_array_append_new(all, of_worker(b, e, in[i], out));
            else if (!e->used && begins(e, "received"))
                json_array_append_new(all, of_steering(e));
        }
    }
    free(in);
    free(b);
    return all;
}

static bool same_end(const struct packet_addr *wanted, uint16_t port, const struct packet_addr *a, uint16_t a_port)
{
    return !memcmp(wanted, a, sizeof *a) && (!port || port == a_port);
}

static bool is_of(const char *text, const struct packet_tuple *w)
{
    struct packet_tuple f;
    if (!packet_flow_read(text, &f) || f.proto != w->proto)
        return false;
    return (same_end(&w->src, w->src_port, &f.src, f.src_port) && same_end(&w->dst, w->dst_port, &f.dst, f.dst_port)) ||
           (same_end(&w->src, w->src_port, &f.dst, f.dst_port) && same_end(&w->dst, w->dst_port, &f.src, f.src_port));
}

json_t *trace_of_flow(const json_t *packets, const char *flow)
{
    struct packet_tuple wanted;
    json_t *kept = json_array(), *p;
    size_t i;
    bool sound = packet_flow_read(flow, &wanted);
    json_array_foreach(packets, i, p)
        if (sound && (is_of(text_of(p, "flow"), &wanted) || is_of(text_of(p, "left_as"), &wanted)))
            json_array_append(kept, p);
    return kept;
}

/* --- over packets --------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    json_int_t x = *(const json_int_t *)a, y = *(const json_int_t *)b;
    return x < y ? -1 : x > y;
}

static json_t *row_of(json_t *rows, const json_t *step)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
        if (json_equal(json_object_get(row, "step"), json_object_get(step, "step")))
            return row;
    row = json_pack("{s:O, s:O, s:[]}", "step", json_object_get(step, "step"), "text",
                    json_object_get(step, "text"), "us");
    json_array_append_new(rows, row);
    return row;
}

/* A step may come twice in a packet: two network functions. Its times are added. */
static void add_packet(json_t *rows, const json_t *packet)
{
    size_t i;
    json_t *step, *row;
    json_array_foreach(json_object_get(packet, "steps"), i, step)
        if (i) {
            row = row_of(rows, step);
            json_object_set_new(row, "sum", json_integer(number_of(row, "sum") + number_of(step, "us")));
        }
    json_array_foreach(rows, i, row)
        if (json_object_get(row, "sum")) {
            json_array_append(json_object_get(row, "us"), json_object_get(row, "sum"));
            json_object_del(row, "sum");
        }
}

static void finish_row(json_t *row, double total_us)
{
    json_t *list = json_object_get(row, "us");
    size_t n = json_array_size(list);
    json_int_t *us = calloc(n + 1, sizeof *us), sum = 0;
    for (size_t i = 0; us && i < n; i++) {
        us[i] = json_integer_value(json_array_get(list, i));
        sum += us[i];
    }
    if (us)
        qsort(us, n, sizeof *us, by_number);
    json_object_set_new(row, "packets", json_integer((json_int_t)n));
    json_object_set_new(row, "p50_us", json_integer(us && n ? us[(n - 1) / 2] : 0));
    json_object_set_new(row, "max_us", json_integer(us && n ? us[n - 1] : 0));
    json_object_set_new(row, "share", json_real(total_us > 0 ? (double)sum / total_us : 0));
    json_object_del(row, "us");
    free(us);
}

json_t *trace_summary(const json_t *packets)
{
    json_t *rows = json_array(), *o;
    double total_us = 0;
    size_t i;
    json_array_foreach(packets, i, o) {
        add_packet(rows, o);
        total_us += (double)number_of(o, "total_us");
    }
    json_array_foreach(rows, i, o)
        finish_row(o, total_us);
    return rows;
}

const char *trace_flow_shown(const char *flow, char to[PACKET_FLOW_TEXT])
{
    size_t n = 0;
    for (const char *at = flow; *at && n + 1 < PACKET_FLOW_TEXT; at++) {
        bool any = !strncmp(at, ":0", 2) && (!at[2] || at[2] == ' ');
        if (any)
            at++;
        else
            to[n++] = *at;
    }
    to[n] = '\0';
    return to;
}
