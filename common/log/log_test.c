/* SPDX-License-Identifier: BSD-3-Clause */
/* Lines into a pipe are JSON, whatever the detail holds; lines into a terminal
 * (a pty) are for people; long ones are cut and say so. */
#include "tests/check.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "common/log/log.h"

static char line[8192];

/* What `call` writes to stderr while stderr is `to`. */
#define CAPTURE(to, from, call)                                                                    \
    do {                                                                                           \
        int saved = dup(STDERR_FILENO);                                                            \
        dup2(to, STDERR_FILENO);                                                                   \
        call;                                                                                      \
        dup2(saved, STDERR_FILENO);                                                                \
        close(saved);                                                                              \
        ssize_t n = read(from, line, sizeof line - 1);                                             \
        line[n > 0 ? n : 0] = 0;                                                                   \
    } while (0)

static const char *field(const char *name)
{
    static char copy[4096];
    json_error_t e;
    json_t *o = json_loads(line, 0, &e);
    CHECK(o, "no JSON: %s: %s", e.text, line);
    const char *value = json_string_value(json_object_get(o, name));
    CHECK(value, "no %s in %s", name, line);
    snprintf(copy, sizeof copy, "%s", value ? value : "");
    json_decref(o);
    return copy;
}

static void pipe_gets_json(void **state)
{
    int p[2];
    assert_int_equal(pipe(p), 0);
    log_init("lethe-store", "a", LOG_LEVEL_INFO);
    CAPTURE(p[1], p[0], log_warn("backup joined", "node=%d name=\"%s\"", 2, "x\ny\\\xff"));
    assert_string_equal(field("event"), "backup joined");
    assert_string_equal(field("level"), "warn");
    assert_string_equal(field("program"), "lethe-store");
    assert_string_equal(field("instance"), "a");
    assert_string_equal(field("detail"), "node=2 name=\"x y\\?\"");
    assert_string_equal(field("name"), "x y\\?");
    assert_int_equal(strlen(field("time")), strlen("2026-01-01T00:00:00.000Z"));
    assert_int_equal(line[strlen(line) - 1], '\n');
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);

    static char lengthy[5000];
    memset(lengthy, '"', sizeof lengthy - 1); /* each is two bytes in JSON */
    CAPTURE(p[1], p[0], log_error("long", "%s", lengthy));
    const char *detail = field("detail");
    assert_int_equal(strlen(detail), 1023);
    assert_string_equal(detail + 1020, "...");
    close(p[0]), close(p[1]);
}

static int number(const char *name)
{
    json_t *o = json_loads(line, 0, NULL);
    CHECK(json_is_integer(json_object_get(o, name)), "no number %s in %s", name, line);
    int value = (int)json_integer_value(json_object_get(o, name));
    json_decref(o);
    return value;
}

static void words_become_fields(void **state)
{
    int p[2];
    assert_int_equal(pipe(p), 0);
    log_init("lethe-store", "a", LOG_LEVEL_INFO);
    CAPTURE(p[1], p[0], log_info("view change", "shard=%d members=\"12\" cause=\"the \"old\", it left\" x=3",
                                 7));
    assert_int_equal(number("shard"), 7);
    assert_int_equal(number("x"), 3);
    assert_string_equal(field("members"), "12");
    assert_string_equal(field("cause"), "the \"old\", it left");
    CAPTURE(p[1], p[0], log_info("odd", "a=b=c level=none =x k= word id=12345678901234567890 q=\"open"));
    assert_string_equal(field("a"), "b=c");
    assert_string_equal(field("level"), "info"); /* the line's own */
    assert_string_equal(field("k"), "");
    assert_string_equal(field("id"), "12345678901234567890");
    assert_string_equal(field("q"), "open");
    CAPTURE(p[1], p[0], log_info("none", "just words; cause:\"no\" \"\""));
    assert_string_equal(field("detail"), "just words; cause:\"no\" \"\"");
    CAPTURE(p[1], p[0], log_info("end", "cause=\""));
    assert_string_equal(field("cause"), "");
    close(p[0]), close(p[1]);
}

static void lines_below_the_level_are_dropped(void **state)
{
    int p[2];
    assert_int_equal(pipe2(p, O_NONBLOCK), 0);
    log_init("lethe-store", NULL, LOG_LEVEL_WARN);
    CAPTURE(p[1], p[0], log_info("quiet", "x=%d", 1));
    assert_string_equal(line, "");
    CAPTURE(p[1], p[0], log_error("loud", "x=%d", 1));
    assert_string_equal(field("event"), "loud");
    close(p[0]), close(p[1]);
}

static void terminal_gets_text(void **state)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(slave >= 0);
    setenv("NO_COLOR", "1", 1);
    log_init("lethe-nf", "w1", LOG_LEVEL_INFO);
    CAPTURE(slave, master, log_info("worker ready", "port=%d", 3));
    CHECK(strstr(line, " info  lethe-nf/w1  worker ready  port=3"), "%s", line);
    assert_null(strchr(line, '\033'));
    unsetenv("NO_COLOR");
    log_init("lethe-nf", "w1", LOG_LEVEL_INFO);
    CAPTURE(slave, master, log_info("worker ready", "port=%d", 3));
    assert_non_null(strstr(line, "\033[32minfo"));
    close(slave), close(master);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipe_gets_json),
        cmocka_unit_test(words_become_fields),
        cmocka_unit_test(lines_below_the_level_are_dropped),
        cmocka_unit_test(terminal_gets_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
