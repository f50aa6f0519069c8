// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/timefmt.h"

/* What fn writes to standard error. */
static void capture(void (*fn)(void), char *out, size_t size)
{
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    int saved = dup(STDERR_FILENO);
    dup2(pipe_fds[1], STDERR_FILENO);
    fn();
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(pipe_fds[1]);
    size_t len = 0;
    ssize_t n;
    while ((n = read(pipe_fds[0], out + len, size - 1 - len)) > 0) {
        len += (size_t)n;
    }
    out[len] = '\0';
    close(pipe_fds[0]);
}

static void log_one_line(void)
{
    errno = ENOSPC;
    log_warning("copy[%s] %d", "a1", 7);
    assert_int_equal(errno, ENOSPC);
}

static void a_line_is_time_level_and_text(void **state)
{
    (void)state;
    char out[4096];
    capture(log_one_line, out, sizeof(out));
    char stamp[32] = "";
    memcpy(stamp, out, strlen("2025-01-01T00:00:00.000Z"));
    uint64_t ms;
    assert_int_equal(timefmt_parse_time(stamp, &ms), 0);
    assert_string_equal(out + strlen(stamp), " warning copy[a1] 7\n");
}

static void log_hostile_text(void)
{
    log_error("peer[%s]", "x\n2025 error forged\r\x1b[31m");
}

static void foreign_text_cannot_begin_a_line(void **state)
{
    (void)state;
    char out[4096];
    capture(log_hostile_text, out, sizeof(out));
    assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
    assert_null(strchr(out, '\r'));
    assert_null(strchr(out, '\x1b'));
}

static void log_long_text(void)
{
    char text[5000];
    memset(text, 'z', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_error("%s", text);
}

static void a_long_line_is_cut_and_still_ends(void **state)
{
    (void)state;
    char out[8192];
    capture(log_long_text, out, sizeof(out));
    assert_true(strlen(out) <= 1024);
    assert_int_equal(out[strlen(out) - 1], '\n');
}

static void log_every_level(void)
{
    log_error("e");
    log_warning("w");
    log_info("i");
    log_debug("d");
}

static void the_level_decides_what_is_written(void **state)
{
    (void)state;
    char out[4096];
    static const char *const words[] = {"error", "warning", "info", "debug"};
    for (unsigned i = 0; i < 4; i++) {
        enum log_level level;
        assert_int_equal(log_level_parse(words[i], &level), 0);
        log_set_level(level);
        assert_int_equal(log_level(), level);
        capture(log_every_level, out, sizeof(out));
        unsigned lines = 0;
        for (const char *at = out; (at = strchr(at, '\n')) != NULL; at++) {
            lines++;
        }
        assert_int_equal(lines, i + 1);
    }
    log_set_level(LOG_INFO);
    enum log_level level = LOG_INFO;
    assert_int_equal(log_level_parse("INFO", &level), -EINVAL);
    assert_int_equal(log_level_parse("", &level), -EINVAL);
    assert_int_equal(level, LOG_INFO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_time_level_and_text),
        cmocka_unit_test(foreign_text_cannot_begin_a_line),
        cmocka_unit_test(a_long_line_is_cut_and_still_ends),
        cmocka_unit_test(the_level_decides_what_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
