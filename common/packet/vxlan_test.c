/* SPDX-License-Identifier: BSD-3-Clause */
/* VXLAN: golden bytes, what is written is read, and every cut, flip and
 * random frame against a reader that goes byte by byte (packet_forge.h's sums). */
#include "tests/check.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "common/packet/packet_forge.h"
#include "common/packet/vxlan.h"

enum { ROOM = 512 };

static const uint8_t to[6] = {2, 0, 0, 0, 0, 0xb}, from[6] = {2, 0, 0, 0, 0, 0xa};

static struct vxlan_path path_of(uint32_t src, uint32_t dst)
{
    struct vxlan_path p;
    vxlan_path_set(&p, to, from, htonl(src), htonl(dst), VXLAN_PORT);
    return p;
}

static void golden_bytes(void **state)
{
    /* 10.9.0.1:49153 -> 10.9.1.1:4789, VNI 4097, 60 bytes inside; written by hand from the RFCs */
    static const uint8_t golden[VXLAN_OVERHEAD] = {
        0x02, 0x00, 0x00, 0x00, 0x00, 0x0b, 0x02, 0x00, 0x00, 0x00, 0x00, 0x0a, 0x08, 0x00,
        0x45, 0x00, 0x00, 0x60, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x25, 0x7a,
        0x0a, 0x09, 0x00, 0x01, 0x0a, 0x09, 0x01, 0x01,
        0xc0, 0x01, 0x12, 0xb5, 0x00, 0x4c, 0x00, 0x00,
        0x08, 0x00, 0x00, 0x00, 0x00, 0x10, 0x01, 0x00};
    uint8_t out[VXLAN_OVERHEAD];
    struct vxlan_path p = path_of(IP4(10, 9, 0, 1), IP4(10, 9, 1, 1));
    memset(out, 0xee, sizeof(out));
    vxlan_write(out, &p, 4097, 60, 49153);
    for (int i = 0; i < VXLAN_OVERHEAD; i++)
        CHECK(out[i] == golden[i], "byte %d: %02x, not %02x", i, out[i], golden[i]);
}

/* Another reader: byte by byte, each rule in the order of vxlan.h. */
static enum vxlan_fault oracle(const uint8_t *f, uint32_t len, uint32_t port, struct vxlan_outer *o)
{
    if (len < 15 || forge_get16(f + 12) != 0x0800)
        return VXLAN_OTHER;
    if (len < 34)
        return VXLAN_TRUNCATED;
    if (f[23] != 17)
        return VXLAN_OTHER;
    uint32_t header = (f[14] % 16) * 4u, total = forge_get16(f + 16), end = 14 + total;
    if (f[14] / 16 != 4 || header < 20 || total < header || 14 + header > len ||
        forge_sum(0, f + 14, header) != 0xffff)
        return VXLAN_BAD_OUTER;
    if (forge_get16(f + 20) & 0x3fff)
        return VXLAN_FRAGMENT;
    const uint8_t *udp = f + 14 + header;
    if (end > len || total - header < 8)
        return VXLAN_TRUNCATED;
    if (forge_get16(udp + 2) != port)
        return VXLAN_OTHER;
    uint32_t udp_len = forge_get16(udp + 4);
    if (udp_len > total - header)
        return VXLAN_BAD_OUTER;
    if (udp_len < 30)
        return VXLAN_TRUNCATED;
    if ((udp[8] & 8) == 0)
        return VXLAN_BAD_HEADER;
    o->src = htonl(forge_get32(f + 26));
    o->dst = htonl(forge_get32(f + 30));
    o->src_port = (uint16_t)forge_get16(udp);
    o->vni = forge_get32(udp + 12) >> 8;
    o->inner = 14 + header + 16;
    o->inner_len = udp_len - 16;
    return VXLAN_OK;
}

static void agree(const uint8_t *frame, uint32_t len, const char *what, uint64_t seed)
{
    struct vxlan_outer a, b;
    uint8_t *copy = malloc(len ? len : 1); /* to the byte: ASan sees a read beyond it */
    assert_non_null(copy);
    memcpy(copy, frame, len);
    memset(&a, 0, sizeof(a));
    memset(&b, 0, sizeof(b));
    enum vxlan_fault got = vxlan_parse(copy, len, VXLAN_PORT, &a);
    enum vxlan_fault want = oracle(copy, len, VXLAN_PORT, &b);
    CHECK(got == want, "%s, seed %lu: %s, not %s", what, (unsigned long)seed, vxlan_fault_text(got),
          vxlan_fault_text(want));
    if (got == VXLAN_OK) {
        CHECK(memcmp(&a, &b, sizeof(a)) == 0, "%s, seed %lu", what, (unsigned long)seed);
        CHECK(a.inner + a.inner_len <= len && a.inner_len >= 14, "%s, seed %lu", what,
              (unsigned long)seed);
    }
    free(copy);
}

static uint32_t whole_frame(uint8_t *frame, uint64_t *rng, uint32_t inner_len)
{
    struct vxlan_path p = path_of((uint32_t)forge_random(rng), (uint32_t)forge_random(rng));
    for (uint32_t i = 0; i < inner_len; i++)
        frame[VXLAN_OVERHEAD + i] = (uint8_t)forge_random(rng);
    vxlan_write(frame, &p, (uint32_t)forge_random(rng) & VXLAN_VNI_MAX, inner_len,
                vxlan_entropy((uint32_t)forge_random(rng)));
    return VXLAN_OVERHEAD + inner_len;
}

static void what_is_written_is_read(void **state)
{
    uint8_t frame[ROOM];
    uint64_t rng = 1;
    for (uint32_t n = 14; n <= 400; n++) {
        struct vxlan_outer o;
        uint32_t src = (uint32_t)forge_random(&rng), vni = (uint32_t)forge_random(&rng) & 0xffffff;
        struct vxlan_path p = path_of(src, ~src);
        vxlan_write(frame, &p, vni, n, 50000);
        assert_int_equal(vxlan_parse(frame, VXLAN_OVERHEAD + n, VXLAN_PORT, &o), VXLAN_OK);
        assert_int_equal(o.src, htonl(src));
        assert_int_equal(o.dst, htonl(~src));
        assert_int_equal(o.vni, vni);
        assert_int_equal(o.src_port, 50000);
        assert_int_equal(o.inner, VXLAN_OVERHEAD);
        assert_int_equal(o.inner_len, n);
        assert_null(forge_check(frame, VXLAN_OVERHEAD + n));
        assert_int_equal(forge_get16(frame + 20), 0x4000); /* DF, no fragment */
        assert_int_equal(vxlan_parse(frame, VXLAN_OVERHEAD + n, VXLAN_PORT + 1, &o), VXLAN_OTHER);
    }
}

static void mend(uint8_t *frame)
{
    uint32_t header = (frame[14] & 15) * 4u;
    if (header < 20)
        return;
    forge_be16(frame + 24, 0);
    forge_be16(frame + 24, ~forge_sum(0, frame + 14, header) & 0xffff);
}

static void cuts_and_flips_as_the_oracle_says(void **state)
{
    uint8_t frame[ROOM], flipped[ROOM];
    uint64_t rng = 2;
    uint32_t len = whole_frame(frame, &rng, 60);
    for (uint32_t n = 0; n <= len; n++)
        agree(frame, n, "cut", n);
    for (uint32_t bit = 0; bit < 8 * VXLAN_OVERHEAD; bit++)
        for (int mended = 0; mended < 2; mended++) {
            memcpy(flipped, frame, len);
            flipped[bit / 8] ^= (uint8_t)(1 << bit % 8);
            if (mended)
                mend(flipped);
            agree(flipped, len, mended ? "flip, mended" : "flip", bit);
        }
}

static void random_frames_as_the_oracle_says(void **state)
{
    uint8_t frame[ROOM];
    unsigned seen[VXLAN_FAULT_END] = {0};
    for (uint64_t seed = 1; seed <= 60000; seed++) {
        uint64_t rng = seed;
        struct vxlan_outer o;
        memset(frame, 0, sizeof(frame));
        uint32_t len = whole_frame(frame, &rng, 14 + (uint32_t)(forge_random(&rng) % 100));
        for (uint64_t changes = forge_random(&rng) % 4; changes > 0; changes--)
            frame[12 + forge_random(&rng) % (VXLAN_OVERHEAD - 12)] = (uint8_t)forge_random(&rng);
        if (forge_random(&rng) % 2)
            mend(frame);
        if (forge_random(&rng) % 4 == 0)
            len = (uint32_t)(forge_random(&rng) % (len + 1));
        agree(frame, len, "random", seed);
        seen[vxlan_parse(frame, len, VXLAN_PORT, &o)]++;
    }
    for (int f = 0; f < VXLAN_FAULT_END; f++)
        CHECK(seen[f] > 20, "%s was met %u times only", vxlan_fault_text((enum vxlan_fault)f), seen[f]);
}

static void ip_options_are_stepped_over_and_padding_is_left(void **state)
{
    uint8_t frame[ROOM] = {0};
    uint64_t rng = 3;
    struct vxlan_outer o;
    uint32_t len = whole_frame(frame, &rng, 20);
    memmove(frame + 38, frame + 34, len - 34);
    memset(frame + 34, 1, 4); /* no-operation */
    frame[14] = 0x46;
    forge_be16(frame + 16, forge_get16(frame + 16) + 4);
    mend(frame);
    assert_int_equal(vxlan_parse(frame, len + 4 + 9, VXLAN_PORT, &o), VXLAN_OK);
    assert_int_equal(o.inner, VXLAN_OVERHEAD + 4);
    assert_int_equal(o.inner_len, 20);
}

static void entropy_is_of_the_dynamic_range_and_spread(void **state)
{
    uint64_t rng = 4;
    unsigned quarter[4] = {0};
    for (int i = 0; i < 40000; i++) {
        uint16_t port = vxlan_entropy((uint32_t)forge_random(&rng));
        assert_true(port >= VXLAN_ENTROPY_FIRST);
        quarter[(port - VXLAN_ENTROPY_FIRST) / 4096]++;
    }
    for (int i = 0; i < 4; i++)
        CHECK(quarter[i] > 9000 && quarter[i] < 11000, "%u", quarter[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(cuts_and_flips_as_the_oracle_says),
        cmocka_unit_test(random_frames_as_the_oracle_says),
        cmocka_unit_test(ip_options_are_stepped_over_and_padding_is_left),
        cmocka_unit_test(entropy_is_of_the_dynamic_range_and_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
