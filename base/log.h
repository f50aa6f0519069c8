// SPDX-License-Identifier: Apache-2.0
/*
 * The log: one line per event on standard error, beginning with the object's name.
 *
 * Thread:    any; a line is written with one write(2).
 * Ownership: none.
 * Errors:    none; a line that cannot be written is lost.
 *
 * log_info("copy[%s] %s", id, "checkpoint …"): never per I/O, never a secret.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
enum log_level log_level(void);
/* "error", "warning", "info", "debug"; -EINVAL for another word. */
int log_level_parse(const char *word, enum log_level *ret_level);
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_info(...)    log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (log_level() >= LOG_DEBUG) {                                                            \
            log_line(LOG_DEBUG, __VA_ARGS__);                                                      \
        }                                                                                          \
    } while (0)

#endif
