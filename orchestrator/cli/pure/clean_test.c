/* SPDX-License-Identifier: BSD-3-Clause */
/* Text of others: rows of what came and what is shown. */
#include "tests/check.h"

#include <stdlib.h>

#include "orchestrator/cli/pure/clean.h"

static void what_commands_is_shown_as_a_question(void **state)
{
    static const struct { const char *text; bool lines; const char *shown; } rows[] = {
        {"nf-7f-a", false, "nf-7f-a"},
        {"", false, ""},
        {"\033[2J\033]0;title\a", false, "?[2J?]0;title?"},
        {"a\rb\bc\177d", false, "a?b?c?d"},
        {"a\nb\tc", false, "a b c"},
        {"a\nb\tc", true, "a\nb\tc"},
        {"\xc2\x9b" "31m", false, "?31m"},          /* CSI as one character */
        {"\x9b" "31m \xff\xc3", false, "?31m ??"},  /* no UTF-8: a terminal of 8 bits would obey */
        {"\xc3\xa4 \xe2\x86\x92 \xf0\x9f\x90\xa7 \xc2\xb5s", false, "\xc3\xa4 \xe2\x86\x92 \xf0\x9f\x90\xa7 \xc2\xb5s"},
        {"\xe2\x80\xae" "abc\xe2\x81\xa6\xe2\x80\xa8", false, "?abc??"}, /* from right to left; a line's end */
        {"\xe2\x80", false, "??"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *text = strdup(rows[i].text);
        clean_text(text, rows[i].lines);
        CHECK(!strcmp(text, rows[i].shown), "row %zu: '%s'", i, text);
        free(text);
    }
}

static void answers_are_cleaned_to_the_last_key(void **state)
{
    json_t *o = clean_json(json_loads("{\"a\": [1, true, null, 1.5, \"\\u001b[2J\", {\"\\u009bk\": \"v\"}], \"b\": {}}", 0, NULL));
    char *text = json_dumps(o, JSON_COMPACT);
    assert_string_equal(text, "{\"a\":[1,true,null,1.5,\"?[2J\",{\"?k\":\"v\"}],\"b\":{}}");
    free(text);
    json_decref(o);
    assert_null(clean_json(NULL));
    o = clean_json(json_loads("\"\\u001b\"", JSON_DECODE_ANY, NULL));
    assert_string_equal(json_string_value(o), "?");
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_commands_is_shown_as_a_question),
        cmocka_unit_test(answers_are_cleaned_to_the_last_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
