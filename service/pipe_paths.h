// SPDX-License-Identifier: Apache-2.0
/*
 * What pipes are doing: a meter for each pair of endpoints, a bandwidth limit for each pipe.
 *
 * Thread:    pipe_paths_read() any; the rest control.
 * Ownership: meters and limits live as long as somebody uses them, also after their pipe is gone; _meter and _limit give a reference.
 * Errors:    none; out of memory stops the process.
 */
#ifndef SERVICE_PIPE_PATHS_H
#define SERVICE_PIPE_PATHS_H

#include "block/path_meter.h"

struct pipe_paths;

struct pipe_paths *pipe_paths_new(void);
void pipe_paths_free(struct pipe_paths *paths); /* NULL is fine */
struct path_meter *pipe_paths_meter(struct pipe_paths *paths, const char *pipe_id);
struct path_limit *pipe_paths_limit(struct pipe_paths *paths, const char *pipe_id,
                                    uint64_t bytes_per_second);
/* Those who use it now keep to it, too. */
void pipe_paths_set_limit(struct pipe_paths *paths, const char *pipe_id, uint64_t bytes_per_second);
void pipe_paths_forget(struct pipe_paths *paths, const char *pipe_id);
/* Zeros for a pipe that has not been used since the start. */
void pipe_paths_read(struct pipe_paths *paths, const char *pipe_id, struct path_stats *ret_stats);

#endif
