/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cmocka with messages that say which row failed: every unit test includes
 * this file and nothing else of cmocka's prerequisites.
 */
#ifndef LETHE_TESTS_CHECK_H
#define LETHE_TESTS_CHECK_H

#include <dirent.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
/* keep this order */
#include <cmocka.h>

#define CHECK(cond, ...)                                                       \
    do {                                                                       \
        if (!(cond)) {                                                         \
            print_error("%s:%d: %s: ", __FILE__, __LINE__, #cond);             \
            print_error(__VA_ARGS__);                                          \
            print_error("\n");                                                 \
            fail();                                                            \
        }                                                                      \
    } while (0)

/* Threads of this process now. A detached one may still be ending when a test is over. */
static inline int check_threads(void)
{
    int n = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (struct dirent *e; (e = readdir(tasks));)
        n += e->d_name[0] != '.';
    closedir(tasks);
    return n;
}

#endif
