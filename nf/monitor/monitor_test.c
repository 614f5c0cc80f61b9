/* SPDX-License-Identifier: BSD-3-Clause */
/* monitor, alone and inside of nat44, on the real engine and store. */
#include "tests/check.h"

#include "common/packet/packet_forge.h"
#include "nf/nat44/nat44.h"
#include "nf/testing/rig.h"

extern const struct nf_ops monitor_ops;

struct flow {
    struct packet_tuple tuple;
    int64_t counts[4];
};
struct flows {
    int n;
    struct flow flow[16];
};

static void take(void *ctx, const struct shard_entry *e)
{
    struct flows *f = ctx;
    if (strcmp(e->table, "monitor.flows"))
        return;
    assert_true(f->n < 16);
    memcpy(&f->flow[f->n].tuple, e->key, sizeof f->flow[0].tuple);
    memcpy(f->flow[f->n++].counts, e->value, sizeof f->flow[0].counts);
}

static struct flows look(struct rig *r)
{
    struct flows f = {0};
    rig_each(r, take, &f);
    return f;
}

static const struct rig_out *offer(struct rig *r, enum packet_side side, struct forge f)
{
    uint8_t frame[FORGE_ROOM];
    const struct rig_out *o = rig_send(r, side, frame, forge_frame(&f, frame));
    CHECK(o->emitted, "dropped as %s", o->reason);
    return o;
}

static struct forge udp(uint32_t src, uint16_t sport, uint32_t dst, uint16_t dport, uint16_t data)
{
    return (struct forge){
        .src = src, .dst = dst, .proto = 17, .sport = sport, .dport = dport, .data = data};
}

#define HOST   IP4(10, 0, 0, 1)
#define REMOTE IP4(198, 51, 100, 7)

static void counts_both_directions(void **state)
{
    const struct nf_ops *const chain[] = {&monitor_ops};
    const void *const configs[] = {NULL};
    struct rig *r = rig_create(chain, configs, 1, 1);
    const int64_t want[4] = {3, 3 * 128, 2, 2 * 528};

    for (int i = 0; i < 3; i++)
        offer(r, SIDE_INSIDE, udp(HOST, 1000, REMOTE, 53, 100));
    for (int i = 0; i < 2; i++)
        offer(r, SIDE_OUTSIDE, udp(REMOTE, 53, HOST, 1000, 500));
    offer(r, SIDE_INSIDE, udp(HOST, 1001, REMOTE, 53, 0));
    struct flows f = look(r);
    assert_int_equal(f.n, 2);
    int at = f.flow[0].tuple.src_port == htobe16(1000) ? 0 : 1;
    assert_memory_equal(f.flow[at].counts, want, sizeof want);
    assert_int_equal(rig_stats(r).lookups, 0);
    rig_destroy(r);
}

static void idle_flows_are_forgotten(void **state)
{
    const struct nf_ops *const chain[] = {&monitor_ops};
    const void *const configs[] = {NULL};
    struct rig *r = rig_create(chain, configs, 1, 2);

    offer(r, SIDE_INSIDE, udp(HOST, 1000, REMOTE, 53, 1));
    rig_advance(r, 299000);
    offer(r, SIDE_INSIDE, udp(HOST, 1000, REMOTE, 53, 1));
    rig_advance(r, 299000);
    assert_int_equal(look(r).n, 1);
    rig_advance(r, 40000); /* 300 s and a little: touches are logged lazily */
    assert_int_equal(look(r).n, 0);
    rig_destroy(r);
}

/* As monitor.c has it. */
struct config {
    unsigned idle_s, max_flows;
    bool count_ended;
};

static void ended_flows_are_counted_once(void **state)
{
    const struct nf_ops *const chain[] = {&monitor_ops};
    const struct config config = {.idle_s = 60, .count_ended = true};
    const void *const configs[] = {&config};
    struct rig *r = rig_create(chain, configs, 1, 5);

    for (uint16_t i = 0; i < 10; i++)
        offer(r, SIDE_INSIDE, udp(HOST, (uint16_t)(1000 + i), REMOTE, 53, 1));
    rig_advance(r, 50000);
    offer(r, SIDE_INSIDE, udp(HOST, 1000, REMOTE, 53, 1)); /* this one lives on */
    rig_advance(r, 40000);
    assert_int_equal(look(r).n, 1);
    assert_int_equal(rig_count(r, 0, 0), 9);
    rig_advance(r, 60000);
    assert_int_equal(look(r).n, 0);
    assert_int_equal(rig_count(r, 0, 0), 10);
    rig_destroy(r);
}

/* Inside of the NAT a flow is one, whichever way its packets go. */
static void sees_one_flow_inside_of_a_nat(void **state)
{
    static char *external[] = {"203.0.113.1"};
    const struct nat_config nat = {.external = external, .external_count = 1};
    const struct nf_ops *const chain[] = {&monitor_ops, &nat44_ops};
    const void *const configs[] = {NULL, &nat};
    struct rig *r = rig_create(chain, configs, 2, 3);
    const int64_t want[4] = {1, 38, 1, 48};

    const struct rig_out *o = offer(r, SIDE_INSIDE, udp(HOST, 1000, REMOTE, 53, 10));
    uint16_t port = (uint16_t)forge_get16(o->frame + 34);
    o = offer(r, SIDE_OUTSIDE, udp(REMOTE, 53, IP4(203, 0, 113, 1), port, 20));
    assert_int_equal(forge_get32(o->frame + 30), HOST);
    struct flows f = look(r);
    assert_int_equal(f.n, 1);
    assert_memory_equal(f.flow[0].counts, want, sizeof want);
    rig_destroy(r);
}

/* A burst of one flow is one run: one addition to the store, nothing lost. */
static void a_burst_loses_no_count(void **state)
{
    static uint8_t frames[32][RIG_FRAME];
    uint32_t lens[32];
    const struct nf_ops *const chain[] = {&monitor_ops};
    const void *const configs[] = {NULL};
    struct rig *r = rig_create(chain, configs, 1, 4);
    const struct rig_out *out;

    for (int i = 0; i < 32; i++) {
        struct forge f = udp(HOST, 1000, REMOTE, 53, (uint16_t)i);
        lens[i] = forge_frame(&f, frames[i]);
    }
    assert_int_equal(rig_burst(r, SIDE_INSIDE, (const uint8_t(*)[RIG_FRAME])frames, lens, 32, &out),
                     32);
    assert_int_equal(look(r).flow[0].counts[0], 32);
    assert_int_equal(look(r).flow[0].counts[1], 32 * 28 + 31 * 32 / 2);
    rig_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_both_directions),
        cmocka_unit_test(idle_flows_are_forgotten),
        cmocka_unit_test(ended_flows_are_counted_once),
        cmocka_unit_test(sees_one_flow_inside_of_a_nat),
        cmocka_unit_test(a_burst_loses_no_count),
    };
    return cmocka_run_group_tests_name("monitor", tests, NULL, NULL);
}
