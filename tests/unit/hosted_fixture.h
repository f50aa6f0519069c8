// SPDX-License-Identifier: Apache-2.0
/*
 * Hosted volumes of a service without its HTTP face: each change of service/hosted.h as one call, and what the volumes
 * read, met through handles.
 *
 * Thread:    the test's; handles live on a loop of the test's thread.
 * Ownership: hosted_io_end() before the service stops; hosted_disconnect() after each look at a volume.
 * Errors:    a failure fails the test; ..._try() returns it.
 */
#ifndef TESTS_UNIT_HOSTED_FIXTURE_H
#define TESTS_UNIT_HOSTED_FIXTURE_H

#include "block/blockdev.h"
#include "service/hosted.h"
#include "tests/unit/service_fixture.h"

enum hosted_change {
    HOSTED_CREATE,  /* name, size */
    HOSTED_DERIVE,  /* id, name, watched, offline */
    HOSTED_REFRESH, /* id (source), other_id (target), watched */
    HOSTED_RESTORE, /* id (source), other_id (replica), name (kept) */
    HOSTED_BLANK,   /* id */
    HOSTED_DELETE,  /* id */
    HOSTED_GROW,    /* id, size */
};

struct hosted_ask {
    enum hosted_change change;
    char id[ID_SIZE];
    char other_id[ID_SIZE];
    char name[32];
    uint64_t size_bytes;
    bool watched;
    bool offline;
    /* In the body, after the change; may fail the call. */
    int (*after)(struct call *call, struct hosted_ask *ask);
    unsigned runs; /* of the body */
    char ret_id[ID_SIZE];
};

void hosted_do(struct service_fixture *fixture, struct hosted_ask *ask);
/* 0 or the errno of *ret_error. */
int hosted_try(struct service_fixture *fixture, struct hosted_ask *ask, struct error *ret_error);

/* By its ElementName; false: there is none. */
bool hosted_find(struct service_fixture *fixture, const char *name, struct volume_row *ret_row);

/* The device as the volume's users have it, on the test's loop; NULL when it is not open. */
void hosted_io_begin(void);
void hosted_io_end(void);
struct blockdev *hosted_connect(struct service_fixture *fixture, const char *id);
void hosted_disconnect(struct blockdev *dev);

#endif
