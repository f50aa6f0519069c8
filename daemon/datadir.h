// SPDX-License-Identifier: Apache-2.0
/*
 * The data directory: made, locked by one process, and the small files in it that are not records.
 *
 * Thread:    the main thread.
 * Ownership: datadir_open() keeps the lock until datadir_close().
 * Errors:    struct error; the detail names the file.
 *
 *     lock          locked while a process uses the directory; holds its number
 *     token         64 hexadecimal digits, mode 0600; stays the same over restarts
 *     auth-header   the header with the token, mode 0600, for curl -H @FILE
 *     initiator-id  8 hexadecimal digits: part of our iSCSI name
 *
 * Each file but the lock is written beside its place, brought to the disk, and renamed; only when it
 * has changed, so that a start needs no space.
 */
#ifndef DAEMON_DATADIR_H
#define DAEMON_DATADIR_H

#include <stddef.h>

#include "base/error.h"

enum { TOKEN_SIZE = 65, INITIATOR_ID_SIZE = 9 };

struct datadir {
    char *path; /* absolute */
    int lock_fd;
    char *auth_header_file; /* absolute path */
    char token[TOKEN_SIZE];
    char initiator_id[INITIATOR_ID_SIZE];
};

int datadir_open(const char *path, struct datadir *ret_dir, struct error *error);
void datadir_close(struct datadir *dir);

/* Writes a file so that at any time the old or the new one is there, whole. */
int file_replace(const char *path, const char *text, size_t len, struct error *error);
/* All of a small file, with a '\0' at its end; to be freed. */
int file_read(const char *path, char **ret_text, struct error *error);

#endif
