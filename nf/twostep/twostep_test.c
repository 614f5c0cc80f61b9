/* SPDX-License-Identifier: BSD-3-Clause */
/* twostep: a key that is known only after a look-up, on the real engine and store. */
#include "tests/check.h"

#include "common/packet/packet_forge.h"
#include "nf/nat44/nat44.h"
#include "nf/testing/rig.h"
#include "nf/twostep/twostep.h"

extern const struct nf_ops twostep_ops, monitor_ops;

#define HOST   IP4(10, 0, 0, 1)
#define OTHER  IP4(10, 0, 0, 2)
#define REMOTE IP4(198, 51, 100, 7)

struct hits {
    uint32_t policy;
    int64_t hits;
    int hosts;
};

static void take(void *ctx, const struct shard_entry *e)
{
    struct hits *h = ctx;
    uint32_t number;
    memcpy(&number, e->key, sizeof number);
    if (!strcmp(e->table, "twostep.hits") && number == h->policy)
        memcpy(&h->hits, e->value, sizeof h->hits);
    h->hosts += !strcmp(e->table, "twostep.hosts");
}

static struct hits look(struct rig *r, uint32_t policy)
{
    struct hits h = {.policy = policy};
    rig_each(r, take, &h);
    return h;
}

static const struct rig_out *offer(struct rig *r, uint32_t src)
{
    const struct forge f = {.src = src, .dst = REMOTE, .proto = 17, .sport = 9, .dport = 53};
    uint8_t frame[FORGE_ROOM];
    return rig_send(r, SIDE_INSIDE, frame, forge_frame(&f, frame));
}

static void set_host(struct rig *r, uint32_t host, uint32_t policy)
{
    struct packet_addr key = packet_ipv4(htobe32(host));
    struct twostep_host value = {.policy = policy};
    rig_insert(r, "twostep.hosts", &key, &value);
}

static void set_policy(struct rig *r, uint32_t number, enum twostep_verdict verdict)
{
    struct twostep_policy value = {.verdict = (uint8_t)verdict};
    rig_insert(r, "twostep.policies", &number, &value);
}

static void the_first_entry_names_the_second(void **state)
{
    const struct nf_ops *const chain[] = {&twostep_ops};
    const void *const configs[] = {NULL};
    struct rig *r = rig_create(chain, configs, 1, 1);

    set_host(r, HOST, 7);
    set_policy(r, 7, TWOSTEP_DROP);
    set_policy(r, 0, TWOSTEP_PASS);
    const struct rig_out *o = offer(r, HOST);
    assert_false(o->emitted);
    assert_string_equal(o->reason, "twostep_policy");
    o = offer(r, OTHER);
    CHECK(o->emitted, "%s", o->reason);
    assert_int_equal(look(r, 7).hits, 1);
    assert_int_equal(look(r, 0).hits, 1);
    assert_int_equal(look(r, 0).hosts, 2);
    assert_int_equal(rig_stats(r).lookups, 4); /* two packets, two rounds */
    rig_destroy(r);
}

static void no_policy_means_pass(void **state)
{
    const struct nf_ops *const chain[] = {&twostep_ops};
    const void *const configs[] = {NULL};
    struct rig *r = rig_create(chain, configs, 1, 2);

    for (int i = 0; i < 5; i++)
        assert_true(offer(r, HOST)->emitted);
    assert_int_equal(look(r, 0).hits, 5);
    assert_int_equal(look(r, 0).hosts, 1);
    rig_destroy(r);
}

/* Two rounds, a get-or-create and additions, in one chain with a NAT. */
static void in_a_chain(void **state)
{
    static char *external[] = {"203.0.113.1"};
    const struct nat_config nat = {.external = external, .external_count = 1};
    const struct nf_ops *const chain[] = {&monitor_ops, &twostep_ops, &nat44_ops};
    const void *const configs[] = {NULL, NULL, &nat};
    struct rig *r = rig_create(chain, configs, 3, 3);
    uint8_t frame[FORGE_ROOM];

    const struct rig_out *o = offer(r, HOST);
    CHECK(o->emitted, "%s", o->reason);
    assert_int_equal(forge_get32(o->frame + 26), IP4(203, 0, 113, 1));
    struct forge back = {.src = REMOTE,
                         .dst = IP4(203, 0, 113, 1),
                         .proto = 17,
                         .sport = 53,
                         .dport = (uint16_t)forge_get16(o->frame + 34),
                         .data = 3};
    o = rig_send(r, SIDE_OUTSIDE, frame, forge_frame(&back, frame));
    CHECK(o->emitted, "%s", o->reason);
    assert_int_equal(forge_get32(o->frame + 30), HOST);
    CHECK(!forge_check(o->frame, o->len), "%s", forge_check(o->frame, o->len));
    assert_int_equal(look(r, 0).hits, 2);
    rig_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_entry_names_the_second),
        cmocka_unit_test(no_policy_means_pass),
        cmocka_unit_test(in_a_chain),
    };
    return cmocka_run_group_tests_name("twostep", tests, NULL, NULL);
}
