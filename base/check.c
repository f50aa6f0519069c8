// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"

#include <stdlib.h>

#include "base/log.h"

void check_failed(const char *file, int line, const char *expression)
{
    log_error("check failed at %s:%d: %s", file, line, expression);
    abort();
}
