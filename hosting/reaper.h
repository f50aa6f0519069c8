// SPDX-License-Identifier: Apache-2.0
/*
 * Removes files whose space takes long to be given back: the name at once, the space by a thread that has nothing else to do.
 *
 * Thread:    any that may block; not a loop.
 * Ownership: none. The thread is the process's, made at the first use.
 * Errors:    0 or negative errno of unlink(2).
 *
 * The end of the process waits for what is being given back. Where a file system discards what is freed, a large file in many pieces takes half a second to go. Who has to wait for that should not be
 * a worker that calls wait for, nor several at once.
 */
#ifndef HOSTING_REAPER_H
#define HOSTING_REAPER_H

int reaper_unlink(const char *path);

#endif
