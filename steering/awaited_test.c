/* SPDX-License-Identifier: BSD-3-Clause */
/* What is done about an interface that comes and goes, in each state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "steering/awaited.h"

#define THERE {.index = 7, .mtu = 1500, .mac = {2, 0, 0, 0, 0, 1}, .up = true}

static const struct row {
    const char *what;
    enum awaited_state state;
    struct underlay_facts now;
    enum awaited_act act;
    const char *cause;
} rows[] = {
    {"not there yet", AWAITED_CLOSED, {0}, AWAITED_NOTHING, NULL},
    {"there, but down", AWAITED_CLOSED, {.index = 7, .mtu = 1500}, AWAITED_NOTHING, NULL},
    {"there", AWAITED_CLOSED, THERE, AWAITED_OPEN, NULL},
    {"not taken yet", AWAITED_OFFERED, THERE, AWAITED_NOTHING, NULL},
    {"gone before it is taken: once it is", AWAITED_OFFERED, {0}, AWAITED_NOTHING, NULL},
    {"as it was", AWAITED_USED, THERE, AWAITED_NOTHING, NULL},
    {"gone", AWAITED_USED, {0}, AWAITED_RECALL, "it is gone"},
    {"made anew between two looks", AWAITED_USED,
     {.index = 8, .mtu = 1500, .mac = {2, 0, 0, 0, 0, 1}, .up = true}, AWAITED_RECALL, "another one has its name"},
    {"down", AWAITED_USED, {.index = 7, .mtu = 1500, .mac = {2, 0, 0, 0, 0, 1}}, AWAITED_RECALL, "it is down"},
    {"smaller", AWAITED_USED, {.index = 7, .mtu = 1400, .mac = {2, 0, 0, 0, 0, 1}, .up = true},
     AWAITED_RECALL, "its MTU has changed"},
    {"a bridge without an address of its own has its ports'", AWAITED_USED,
     {.index = 7, .mtu = 1500, .mac = {2, 0, 0, 0, 0, 2}, .up = true}, AWAITED_RECALL, "its MAC has changed"},
    {"the datapath has it still", AWAITED_RECALLED, {0}, AWAITED_NOTHING, NULL},
    {"and if it is well again", AWAITED_RECALLED, THERE, AWAITED_NOTHING, NULL},
    {"the datapath has let go", AWAITED_RETURNED, {0}, AWAITED_CLOSE, NULL},
    {"and it is there: closed first", AWAITED_RETURNED, THERE, AWAITED_CLOSE, NULL},
};

static void each_state_has_its_act(void **state)
{
    static const struct underlay_facts opened = THERE;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];
        const char *cause = "unset";
        enum awaited_act act = awaited_next(r->state, &opened, &r->now, &cause);
        if (act != r->act || (cause == NULL) != (r->cause == NULL) ||
            (cause != NULL && strcmp(cause, r->cause) != 0))
            fail_msg("%s: act %d, cause %s", r->what, (int)act, cause != NULL ? cause : "none");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_state_has_its_act),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
