// SPDX-License-Identifier: Apache-2.0
/*
 * A thread that writes for one loop to one file system: for systems of files whose page cache takes
 * writes only from threads that may wait (ext4).
 *
 * Thread:    the loop's.
 * Ownership: write_thread_get() takes a reference, write_thread_put() gives it back; nothing of the
 *            caller's may be under way then. Work is lent until its done() is called.
 * Errors:    NULL where no thread could be made: loop_work_submit() does the same.
 *
 * Writes into the page cache take a few microseconds each, less than waking a thread. So all of a
 * round of the loop goes to the thread at once, and what it has done comes back together. Several
 * threads would not be faster: a file is locked while it is written to.
 */
#ifndef BLOCK_WRITE_THREAD_H
#define BLOCK_WRITE_THREAD_H

#include <sys/types.h>

#include "base/loop.h"

struct write_thread;

struct write_thread *write_thread_get(struct loop *loop, dev_t device);
void write_thread_put(struct write_thread *thread);
/* As loop_work_submit(), and in the order of submission. */
void write_thread_submit(struct write_thread *thread, struct loop_work *work);

#endif
