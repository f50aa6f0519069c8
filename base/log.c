// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/timefmt.h"

static _Atomic int current_level = LOG_INFO;

static const char *const level_words[] = {
    [LOG_ERROR] = "error",
    [LOG_WARNING] = "warning",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

enum log_level log_level(void)
{
    return (enum log_level)atomic_load_explicit(&current_level, memory_order_relaxed);
}

int log_level_parse(const char *word, enum log_level *ret_level)
{
    for (size_t i = 0; i < ARRAY_LEN(level_words); i++) {
        if (strcmp(word, level_words[i]) == 0) {
            *ret_level = (enum log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

void log_line(enum log_level level, const char *fmt, ...)
{
    if (level > log_level()) {
        return;
    }
    int saved_errno = errno;
    char line[1024];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char stamp[TIMEFMT_SIZE];
    timefmt_rfc3339((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000, stamp);
    int head = snprintf(line, sizeof(line), "%s %-7s ", stamp, level_words[level]);

    size_t room = sizeof(line) - (size_t)head;
    va_list args;
    va_start(args, fmt);
    int body = vsnprintf(line + head, room, fmt, args);
    va_end(args);
    if (body < 0) {
        body = 0;
    }
    size_t len = (size_t)head + ((size_t)body < room ? (size_t)body : room - 1);
    /* Texts of peers and clients pass through here: none may end a line or start another. */
    for (size_t i = (size_t)head; i < len; i++) {
        unsigned char c = (unsigned char)line[i];
        if (c < 0x20 || c == 0x7f) {
            line[i] = ' ';
        }
    }
    line[len++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, len);
    (void)written;
    errno = saved_errno;
}
