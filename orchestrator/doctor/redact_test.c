/* SPDX-License-Identifier: BSD-3-Clause */
/* Nothing of a secret is left; nothing else is lost. */
#include "tests/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "orchestrator/doctor/redact.h"

static void rows(void **state)
{
    static struct redact r;
    redact_add(&r, "00112233445566778899aabbccddeeff\n", 33);
    redact_add(&r, "hunter2-hunter2  ", 17);
    redact_add(&r, "short", 5);
    redact_add(&r, "quo\"te\\slash", 12);
    assert_int_equal(r.n, 4); /* one of them as JSON writes it, too */
    const struct { const char *in, *out; uint32_t n; } all[] = {
        {"key 00112233445566778899aabbccddeeff!", "key ********************************!", 1},
        {"00112233445566778899AABBCCDDEEFF", "********************************", 1},
        {"00112233445566778899aabbccddeef", "00112233445566778899aabbccddeef", 0},
        {"hunter2-hunter2hunter2-hunter2", "******************************", 2},
        {"a short word", "a short word", 0},
        {"Authorization: Bearer abc.def-1, x", "Authorization: Bearer *********, x", 1},
        {"authorization: bearer abc", "authorization: bearer ***", 1},
        {"Bearer ", "Bearer ", 0},
        {"http://root:pass@e:2379/v3", "http://root:****@e:2379/v3", 1},
        {"http://root:p@ss@e:2379/v3", "http://root:****@e:2379/v3", 1},
        {"http://e:2379 root@b", "http://e:2379 root@b", 0},
        {"a quo\"te\\slash", "a ************", 1},
        {"{\"a\": \"quo\\\"te\\\\slash\"}", "{\"a\": \"**************\"}", 1},
        {"http://e:2379/a@b", "http://e:2379/a@b", 0},
        {"https://e:2379", "https://e:2379", 0},
        {"", "", 0}};
    for (uint32_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char *text = strdup(all[i].in); /* so that reading too far is seen */
        uint32_t n = redact_text(&r, text, strlen(text));
        CHECK(!strcmp(text, all[i].out) && n == all[i].n, "'%s': '%s', %u", all[i].in, text, n);
        free(text);
    }
    redact_wipe(&r);
    assert_int_equal(r.n, 0);
}

static void files(void **state)
{
    static struct redact r;
    char path[] = "/tmp/redact_test_XXXXXX", text[] = "x 0123456789abcdef y";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "0123456789abcdef\nand more\n", 26), 26);
    close(fd);
    assert_int_equal(redact_file(&r, path), 0);
    unlink(path);
    assert_int_equal(redact_text(&r, text, strlen(text)), 1);
    assert_string_equal(text, "x **************** y");
    assert_int_equal(redact_file(&r, path), -2);
    redact_wipe(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows), cmocka_unit_test(files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
