/* SPDX-License-Identifier: BSD-3-Clause */
/* trace: where the time of one flow's packets went, through steering, worker and store. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics/trace.h"
#include "common/packet/packet_text.h"
#include "orchestrator/cli/commands.h"
#include "orchestrator/cli/pure/trace_match.h"
#include "orchestrator/cli/wait.h"

enum { LOOK_MS = 250, BAR = 30, BAR_LEAST = 8, BESIDE = 88 /* columns of the widest table without it */, PACKETS_MAX = 100, TEXT = 200 };

struct tracing {
    struct cli *cli;
    uint32_t seconds, packets;
    char flows[TRACE_FLOWS][PACKET_FLOW_TEXT]; /* ordered so far */
    uint32_t nflows;
    bool too_many;            /* translations that could not be ordered, too */
    json_t *begun;            /* what the first order was answered */
    json_t *missing;          /* who could not be told to, or asked */
};

/* --- words ----------------------------------------------------------------------------------- */

/* ADDR, ADDR:PORT or [ADDR]:PORT; without a port: any. */
static bool end_of(const char *word, struct packet_addr *a, uint16_t *port)
{
    *port = 0;
    return packet_end_read(word, a, port) || packet_addr_read(word, a);
}

static int take_flow(struct tracing *t, char **words)
{
    struct packet_tuple f = {.proto = 0};
    if (!packet_proto_read(words[0], &f.proto) || (f.proto != 1 && f.proto != 6 && f.proto != 17))
        return cli_say(CLI_USAGE, "'%s': write tcp, udp or icmp first", words[0]);
    for (int i = 1; i < 3; i++)
        if (!end_of(words[i], i == 1 ? &f.src : &f.dst, i == 1 ? &f.src_port : &f.dst_port))
            return cli_say(CLI_USAGE, "'%s' is no end point; write 10.1.0.5:40000, [2001:db8::1]:53, or an address "
                           "alone for any port", words[i]);
    if (f.proto == 1 && f.src_port != f.dst_port) /* the identifier, said once */
        f.src_port = f.dst_port = f.src_port ? f.src_port : f.dst_port;
    packet_flow_text(&f, t->flows[0]);
    t->nflows = 1;
    return 0;
}

static bool number_of(const char *word, uint32_t most, uint32_t *to)
{
    char *end = NULL;
    unsigned long n = word && *word >= '0' && *word <= '9' ? strtoul(word, &end, 10) : 0;
    if (!end || *end || !n || n > most)
        return false;
    *to = (uint32_t)n;
    return true;
}

static int take_words(struct tracing *t, int argc, char **argv)
{
    char *words[3];
    int n = 0;
    for (int i = 1; i < argc; i++) {
        bool seconds = !strcmp(argv[i], "--seconds"), packets = !strcmp(argv[i], "--packets");
        if (seconds && !number_of(argv[++i], TRACE_SECONDS_MAX, &t->seconds))
            return cli_say(CLI_USAGE, "--seconds: a whole number from 1 to %d must follow it", TRACE_SECONDS_MAX);
        if (packets && !number_of(argv[++i], PACKETS_MAX, &t->packets))
            return cli_say(CLI_USAGE, "--packets: a whole number from 1 to %d must follow it", PACKETS_MAX);
        if (!seconds && !packets && (n == 3 || *argv[i] == '-'))
            return cli_say(CLI_USAGE, "trace takes one flow, --seconds and --packets, not '%s'", argv[i]);
        if (!seconds && !packets)
            words[n++] = argv[i];
    }
    if (n != 3)
        return cli_say(CLI_USAGE, "write the flow: trace tcp|udp|icmp ADDR[:PORT] ADDR[:PORT]");
    return take_flow(t, words);
}

/* --- asking ---------------------------------------------------------------------------------- */

static void note_missing(struct tracing *t, const json_t *answer)
{
    size_t i, k;
    json_t *m, *known;
    json_array_foreach(json_object_get(answer, "missing"), i, m) {
        bool there = false;
        json_array_foreach(t->missing, k, known)
            there |= !strcmp(cli_text(known, "name"), cli_text(m, "name"));
        if (!there)
            json_array_append(t->missing, m);
    }
}

static int order(struct tracing *t, const char *flow, uint32_t seconds)
{
    json_t *answer, *body = json_pack("{s:s, s:i}", "flow", flow, "seconds", (int)seconds);
    int status = cli_post(t->cli, "/v1/trace", body, &answer);
    json_decref(body);
    if (status)
        return status;
    note_missing(t, answer);
    if (!t->begun)
        t->begun = json_incref(answer);
    json_decref(answer);
    return 0;
}

/* A NAT's packets go on as another flow: order that as well. */
static int follow(struct tracing *t, const json_t *packets, uint32_t left_s)
{
    size_t i;
    json_t *p;
    json_array_foreach(packets, i, p) {
        const char *as = cli_text(p, "left_as");
        bool known = !*as || !strcmp(as, cli_text(p, "flow"));
        for (uint32_t k = 0; k < t->nflows; k++)
            known |= !strcmp(as, t->flows[k]);
        t->too_many |= !known && t->nflows == TRACE_FLOWS;
        if (known || t->nflows == TRACE_FLOWS)
            continue;
        snprintf(t->flows[t->nflows++], PACKET_FLOW_TEXT, "%s", as);
        int status = order(t, as, left_s);
        if (status)
            return status;
    }
    return 0;
}

static uint32_t complete_ones(const json_t *packets)
{
    uint32_t n = 0;
    size_t i;
    json_t *p;
    json_array_foreach(packets, i, p)
        n += json_is_true(json_object_get(p, "complete"));
    return n;
}

/* ctrl-C ends the waiting; what came until then is shown. */
static volatile sig_atomic_t over;

static void end(int signal)
{
    (void)signal;
    over = 1;
}

/* Until there are enough whole packets, or the time is over. *answer: the last one. */
static int watch(struct tracing *t, json_t **answer, json_t **packets)
{
    signal(SIGINT, end);
    double until = wait_now_s() + t->seconds;
    int status = order(t, t->flows[0], t->seconds);
    while (!status) {
        double left = until - wait_now_s();
        json_decref(*answer);
        json_decref(*packets);
        *packets = *answer = NULL;
        status = cli_get(t->cli, "/v1/trace?limit=256", answer);
        if (status)
            break;
        json_t *all = trace_match(*answer, t->begun);
        *packets = trace_of_flow(all, t->flows[0]);
        json_decref(all);
        uint32_t whole = complete_ones(*packets);
        if (whole >= t->packets || left <= 0 || over)
            break;
        if (t->cli->terminal)
            cli_progress(t->cli, "%zu packets of the flow, %u of them complete; %.0f s", json_array_size(*packets), whole,
                         left + 0.5);
        status = follow(t, *packets, (uint32_t)left + 1);
        wait_pause_ms(LOOK_MS);
    }
    cli_progress_end(t->cli);
    if (!status)
        note_missing(t, *answer);
    return status;
}

/* Whole ones before others, and then the newest; those that stay, in their order. */
static json_t *chosen(const json_t *packets, uint32_t most)
{
    uint32_t whole = complete_ones(packets), all = (uint32_t)json_array_size(packets);
    uint32_t keep = whole < most ? whole : most, others = all - whole < most - keep ? all - whole : most - keep;
    uint32_t pass_over = all - whole - others;
    json_t *kept = json_array(), *p;
    size_t i;
    json_array_foreach(packets, i, p) {
        bool is_whole = json_is_true(json_object_get(p, "complete"));
        if (is_whole ? keep > 0 : pass_over == 0)
            json_array_append(kept, p);
        if (is_whole)
            keep -= keep > 0;
        else
            pass_over -= pass_over > 0;
    }
    return kept;
}

/* --- showing --------------------------------------------------------------------------------- */

static const char *micros(double us)
{
    static char kept[4][24];
    static unsigned next;
    char *to = kept[next++ % 4];
    if (us < 10000)
        snprintf(to, sizeof kept[0], "%.0f us", us);
    else
        snprintf(to, sizeof kept[0], us < 100000 ? "%.1f ms" : "%.0f ms", us / 1000);
    return to;
}

/* As wide as the terminal has room for. */
static int bar_width(const struct cli *cli)
{
    int room = (int)cli->columns - BESIDE;
    return room > BAR ? BAR : room < BAR_LEAST ? BAR_LEAST : room;
}

/* From `at` on, `part` long, of a whole of 1. */
static const char *bar(int wide, double at, double part)
{
    static char text[4 * BAR + 4];
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    int begin = (int)(at * wide), cells = (int)(part * wide * 8 + 0.5);
    cells = cells ? cells : part > 0;
    char *to = text + sprintf(text, "%*s", begin < wide ? begin : wide - 1, "");
    for (; cells >= 8; cells -= 8)
        to += sprintf(to, "█");
    sprintf(to, "%s", eighths[cells]);
    return text;
}

/* What took long catches the eye. */
static enum cli_colour weight(double share)
{
    return share >= 0.5 ? CLI_BAD : share >= 0.2 ? CLI_CARE : CLI_PLAIN;
}

static void show_packet(struct cli *cli, uint32_t number, const json_t *p)
{
    static const char *const heads[] = {">AT", "STEP", "WHERE", ">TIME", ">SHARE", "WHERE THE TIME WENT"};
    double total = cli_number(p, "total_us", 0), error = cli_number(p, "clock_error_us", 0);
    const json_t *steps = json_object_get(p, "steps");
    json_t *s;
    size_t i;
    printf("%spacket %u: %s%s, %.0f bytes%s%s, %s%s%s in %s", cli_paint(cli, CLI_HEAD), number, cli_text(p, "flow"),
           cli_paint(cli, CLI_PLAIN), cli_number(p, "bytes", 0), *cli_text(p, "left_as") ? ", left as " : "",
           cli_text(p, "left_as"), cli_text(p, "end"), *cli_text(p, "reason") ? ": " : "", cli_text(p, "reason"),
           micros(total));
    if (cli_number(p, "repeated", 0) > 0)
        printf(", requests sent again: %.0f", cli_number(p, "repeated", 0));
    printf(error > 0 ? " (clocks of other hosts: give or take %s)\n" : "\n", micros(error));
    struct cli_table *t = cli_table(heads, 6);
    json_array_foreach(steps, i, s) {
        double us = cli_number(s, "us", 0), at = cli_number(s, "at_us", 0), share = total > 0 ? us / total : 0;
        cli_cell(t, CLI_FAINT, "+%s", micros(at));
        cli_cell(t, weight(share), "%s", cli_text(s, "text"));
        cli_cell(t, CLI_PLAIN, "%s", cli_text(s, "where"));
        cli_cell(t, weight(share), "%s", i ? micros(us) : "");
        cli_cell(t, weight(share), i ? "%.0f %%" : "", share * 100);
        cli_cell(t, weight(share), "%s", i && total > 0 ? bar(bar_width(cli), (at - us) / total, share) : "");
    }
    cli_table_print(cli, t, stdout);
    json_array_foreach(json_object_get(p, "missing"), i, s)
        printf("%smissing: %s%s\n", cli_paint(cli, CLI_CARE), json_string_value(s), cli_paint(cli, CLI_PLAIN));
    putchar('\n');
}

static void show_summary(struct cli *cli, const json_t *summary, uint32_t n)
{
    static const char *const heads[] = {"STEP", ">PACKETS", ">P50", ">MOST", ">SHARE", "OF ALL TIME"};
    struct cli_table *t = cli_table(heads, 6);
    size_t i;
    json_t *s;
    json_array_foreach(summary, i, s) {
        double share = cli_number(s, "share", 0);
        cli_cell(t, weight(share), "%s", cli_text(s, "text"));
        cli_cell(t, CLI_PLAIN, "%.0f", cli_number(s, "packets", 0));
        cli_cell(t, CLI_PLAIN, "%s", micros(cli_number(s, "p50_us", 0)));
        cli_cell(t, CLI_PLAIN, "%s", micros(cli_number(s, "max_us", 0)));
        cli_cell(t, weight(share), "%.0f %%", share * 100);
        cli_cell(t, weight(share), "%s", bar(bar_width(cli), 0, share));
    }
    printf("%s%u packet%s%s\n", cli_paint(cli, CLI_HEAD), n, n == 1 ? "" : "s", cli_paint(cli, CLI_PLAIN));
    cli_table_print(cli, t, stdout);
}

static void show(struct tracing *t, const json_t *packets, const json_t *summary, size_t all)
{
    size_t i;
    json_t *o;
    json_array_foreach(packets, i, o)
        show_packet(t->cli, (uint32_t)i + 1, o);
    show_summary(t->cli, summary, (uint32_t)json_array_size(packets));
    if (all > json_array_size(packets))
        printf("%zu more packets were traced; --packets %zu shows more\n", all - json_array_size(packets),
               all < PACKETS_MAX ? all : (size_t)PACKETS_MAX);
}

static void say_missing(struct tracing *t)
{
    size_t i;
    json_t *m;
    json_array_foreach(t->missing, i, m)
        fprintf(stderr, "lethe: no answer of %s: %s; its steps are not known\n", cli_text(m, "name"),
                cli_text(m, "why"));
    if (t->too_many)
        fprintf(stderr, "lethe: the packets were translated to more flows than the %d that can be traced at a time; "
                "of the others it is not known how they went out. Name the ports of one flow\n", TRACE_FLOWS);
}

/* --- the command -------------------------------------------------------------------------------- */

static json_t *as_json(struct tracing *t, json_t *packets, json_t *summary, const json_t *answer)
{
    json_t *flows = json_array();
    for (uint32_t i = 0; i < t->nflows; i++)
        json_array_append_new(flows, json_string(t->flows[i]));
    json_t *programs = json_array(), *p;
    size_t i;
    json_array_foreach(json_object_get(answer, "programs"), i, p)
        json_array_append_new(programs, json_pack("{s:O, s:O, s:O}", "name", json_object_get(p, "name"), "kind",
                                                  json_object_get(p, "kind"), "clock", json_object_get(p, "clock")));
    return json_pack("{s:o, s:O, s:O, s:o, s:O}", "flows", flows, "packets", packets, "summary", summary, "programs",
                     programs, "missing", t->missing);
}

int cmd_trace(struct cli *cli, int argc, char **argv)
{
    struct tracing t = {.cli = cli, .seconds = 10, .packets = 3, .missing = json_array()};
    json_t *answer = NULL, *packets = NULL;
    int status = take_words(&t, argc, argv);
    if (!status)
        status = cli_find(cli);
    if (!status)
        status = watch(&t, &answer, &packets);
    if (!status) {
        json_t *shown = chosen(packets, t.packets), *summary = trace_summary(shown);
        char flow[PACKET_FLOW_TEXT];
        say_missing(&t);
        if (cli->json)
            status = cli_json(cli, as_json(&t, shown, summary, answer));
        else if (json_array_size(shown))
            show(&t, shown, summary, json_array_size(packets));
        if (!json_array_size(shown) && over)
            status = cli_say(CLI_NOT_YET, "stopped before a packet of %s came", trace_flow_shown(t.flows[0], flow));
        else if (!json_array_size(shown))
            status = cli_say(CLI_NOT_YET, "no packet of %s came in %u s; the flow is as it comes in, before a NAT",
                             trace_flow_shown(t.flows[0], flow), t.seconds);
        json_decref(shown);
        json_decref(summary);
    }
    json_decref(answer);
    json_decref(packets);
    json_decref(t.begun);
    json_decref(t.missing);
    return status;
}
