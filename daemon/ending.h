// SPDX-License-Identifier: Apache-2.0
/*
 * Signals: SIGTERM and SIGINT ask for the orderly end, and a watchdog sees to it that the process
 * ends in time.
 *
 * Thread:    ending_begin() on the main thread before any other thread exists; ending_wait() on the
 * main thread. Ownership: none. Errors:    negative errno from ending_begin().
 *
 * All signals that we look at are blocked everywhere and taken by one thread. After the first
 * SIGTERM or SIGINT it waits 4.5 s; if the process is still there then, it ends with EXIT_HARD:
 * what was committed is safe, copies go on from their checkpoints at the next start. It says so in the
 * log first; when that hangs too (standard error is a pipe that nobody reads), a timer ends the
 * process after 4.75 s.
 */
#ifndef DAEMON_ENDING_H
#define DAEMON_ENDING_H

enum {
    EXIT_ORDERLY = 0,
    EXIT_NO_START = 1,
    EXIT_USAGE = 2,
    EXIT_HARD = 3,
    ENDING_MS = 4500,
    ENDING_LAST_MS = 4750,
};

int ending_begin(void);
/* Returns when the end has been asked for, at once when that was before. */
void ending_wait(void);

#endif
