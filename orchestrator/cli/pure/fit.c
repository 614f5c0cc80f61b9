/* SPDX-License-Identifier: BSD-3-Clause */
/* See fit.h. */
#include "orchestrator/cli/pure/fit.h"

enum { BETWEEN = 2 };

static bool goes_on(char c)
{
    return (c & 0xc0) == 0x80;
}

int fit_width(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += !goes_on(*text);
    return n;
}

static int total(const int *wide, uint32_t n)
{
    int sum = -BETWEEN;
    for (uint32_t i = 0; i < n; i++)
        sum += wide[i] ? wide[i] + BETWEEN : 0;
    return sum;
}

void fit_columns(int *wide, const int *least, uint32_t n, int room)
{
    int over = total(wide, n) - room;
    while (over > 0) {
        uint32_t widest = n;
        for (uint32_t i = 0; i < n; i++)
            if (wide[i] > least[i] && (widest == n || wide[i] > wide[widest]))
                widest = i;
        if (widest == n)
            break;
        wide[widest]--;
        over--;
    }
    for (uint32_t i = n; i-- > 1 && total(wide, n) > room;)
        wide[i] = 0;
}

int fit_bytes(const char *text, int wide, bool *cut)
{
    int columns = 0, n = 0;
    *cut = fit_width(text) > wide;
    for (; text[n] && (goes_on(text[n]) || columns < wide - *cut); n++)
        columns += !goes_on(text[n]);
    return n;
}
