/* SPDX-License-Identifier: BSD-3-Clause */
/* The API's description inside the program (openapi.h). The assembler reads the file. */
#include "orchestrator/controller/openapi.h"

__asm__(".section .rodata\n"
        ".global openapi_text\n"
        ".type openapi_text, @object\n"
        "openapi_text:\n"
        ".incbin \"" LETHE_OPENAPI "\"\n"
        ".byte 0\n"
        ".previous\n");
