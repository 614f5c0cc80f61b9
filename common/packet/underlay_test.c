/* SPDX-License-Identifier: BSD-3-Clause */
/* What the kernel says of a tunnel's interfaces; of this host's loopback, which all have. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/packet/underlay.h"

static void the_kernel_tells_of_an_interface(void **state)
{
    struct underlay_facts f;
    underlay_find("lo", &f);
    assert_int_not_equal(f.index, 0);
    assert_true(f.mtu > 0);
    underlay_find("no-such-one", &f);
    assert_int_equal(f.index, 0);
    assert_false(f.up);
}

/* The address need not be of the second interface. */
static void an_interface_beside_has_the_first_ones_address(void **state)
{
    struct underlay first, u;
    char err[200];
    assert_int_equal(underlay_look(&first, "net_af_packet2,iface=lo", "127.0.0.1", 4789, 2048, err, sizeof(err)), 0);
    first.address ^= 0x01000000;
    assert_int_equal(underlay_look_beside(&u, &first, "net_af_packet3,iface=lo,framecnt=512", 2048, err, sizeof(err)), 0);
    assert_int_equal(u.address, first.address);
    assert_int_equal(u.udp_port, 4789);
    assert_string_equal(u.iface, "lo");
    assert_int_equal(u.mtu, 2048 - 64 - 18);
    assert_int_equal(underlay_look_beside(&u, &first, "net_af_packet3,iface=no-such-one", 2048, err, sizeof(err)), -ENODEV);
    assert_string_equal(err, "tunnel interface no-such-one: No such device");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kernel_tells_of_an_interface),
        cmocka_unit_test(an_interface_beside_has_the_first_ones_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
