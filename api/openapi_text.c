// SPDX-License-Identifier: Apache-2.0
/* openapi/openapi.yaml, taken in by the assembler when this file is compiled. */
#include "api/reads.h"

/* clang-format off */
__asm__(".pushsection .rodata\n"
        ".local openapi_begin\n"
        ".local openapi_end\n"
        "openapi_begin:\n"
        ".incbin \"" OPENAPI_FILE "\"\n"
        "openapi_end:\n"
        ".popsection\n");
/* clang-format on */
extern const char openapi_begin[] __attribute__((visibility("hidden")));
extern const char openapi_end[] __attribute__((visibility("hidden")));

const char *read_openapi(size_t *ret_len)
{
    *ret_len = (size_t)(openapi_end - openapi_begin);
    return openapi_begin;
}
