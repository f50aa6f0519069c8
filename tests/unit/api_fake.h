// SPDX-License-Identifier: Apache-2.0
/*
 * A small service for tests of api/: tables with a parameter of every type, a control that can be
 * held, a few objects.
 *
 * Thread:    the fake control runs calls on a thread of its own.
 * Ownership: one fake at a time.
 * Errors:    CHECK.
 *
 * It stands in for service/ where a test needs what the real one cannot be told to do: to keep a
 * call waiting, to end a job at a word, to fail in a chosen way.
 */
#ifndef TESTS_UNIT_API_FAKE_H
#define TESTS_UNIT_API_FAKE_H

#include "service/call.h"
#include "service/changes.h"
#include "service/control.h"

/* Parameters of ReplicationService.Everything: one of each kind, in and out. */
extern const struct param fake_everything[];
extern const size_t fake_n_everything;

struct control *fake_control_start(void);
/* Calls and waiters are kept until it is released or stopped. */
void fake_control_hold(bool hold);
/* How many calls the handlers have seen. */
unsigned fake_calls(void);
/* Calls that control has and has not answered. */
unsigned fake_held(void);
void fake_job_end(void);
/* The live counter of the job. */
void fake_job_copies(unsigned bytes);
/* The next reader sees another version of the records. */
void fake_store_changes(void);
/* A commit that has changed one object. */
void fake_change(enum collection collection, const char *id, enum change_kind kind, bool later);
/* How many objects and lists were asked for. */
unsigned fake_views(void);
/* The records do not answer. */
void fake_store_fails(bool fails);
/* Objects in /volumes. */
enum { FAKE_VOLUMES = 250 };

#endif
