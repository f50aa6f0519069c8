// SPDX-License-Identifier: Apache-2.0
/*
 * What the tests of the iSCSI device stand on: Debian's tgtd with four LUNs, a target that misbehaves on demand where tgtd cannot be made
 * to, and a device under watch.
 *
 * Thread:    the test's, which runs the loop while it waits.
 * Ownership: of each test: watch_close() what was opened.
 * Errors:    a failure, and a wait that takes too long, fails the test.
 */
#ifndef TESTS_UNIT_ISCSI_FIXTURE_H
#define TESTS_UNIT_ISCSI_FIXTURE_H

#include "tests/unit/testing.h"

#include "block/iscsi_dev.h"
#include "tests/tools/fake_target.h"
#include "tests/tools/tgtd.h"

enum { MIB = 1 << 20, WAIT_S = 30 };

#define TARGET "iqn.2026-01.test:disk" /* of tgtd */
#define FAKE   "iqn.2026-01.test:fake"

extern struct tgtd *tgtd;
extern struct fake_target *fake; /* in tests of TEST_FAKE() */
extern struct loop *loop;

/* For cmocka_run_group_tests(): tgtd with its LUNs 1 (thin), 2 (of 4096 bytes), 3 (aio) and 4 (read only). */
int iscsi_setup(void **state);
int iscsi_teardown(void **state);
/* A test that rebuilds tgtd's configuration leaves it as it was. */
int fresh(void **state);
int fake_setup(void **state);
int fake_teardown(void **state);

#define TEST_FAKE(name)  cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)
#define TEST_FRESH(name) cmocka_unit_test_teardown(name, fresh)

/* ---- waiting ---- */

#define wait_for(until, arg) wait_for_in(until, arg, WAIT_S, __LINE__)
void wait_for_in(bool (*until)(void *arg), void *arg, unsigned seconds, int line);
bool is_true(void *arg);
/* Lets the loop run for a while: only to see that nothing happens. */
void idle_us(unsigned us);
void idle_ms(unsigned ms);

/* ---- specs, opens, probes ---- */

struct iscsi_spec spec_of(const char *target, unsigned lun);

struct answer {
    bool done;
    unsigned calls;
    struct blockdev *dev;
    struct iscsi_lun_info info;
    struct error error;
    uint16_t luns[64];
    struct iscsi_found_target targets[16];
    unsigned n;
};

/* Callbacks whose argument is a struct answer. */
void opened(void *arg, struct blockdev *dev, const struct error *error);
void probed(void *arg, const struct iscsi_lun_info *info, const struct error *error);
void discovered(void *arg, const struct iscsi_found_target *targets, unsigned n,
                const struct error *error);
void listed(void *arg, const uint16_t *luns, unsigned n, const struct error *error);

struct answer open_answer(const struct iscsi_spec *spec);
struct answer probe_answer(const struct iscsi_spec *spec);

/* ---- a device under watch ---- */

struct watch {
    struct blockdev *dev;
    unsigned downs, retries, ups, changes;
    unsigned attempts;
    char detail[256];
    uint64_t down_ns;
    bool closed;
};

void watch_open(struct watch *watch, const struct iscsi_spec *spec);
void watch_close(struct watch *watch);
/* For blockdev_close(); the argument is a struct watch, as of those that follow. */
void closed(void *arg);
bool saw_down(void *arg);
bool saw_up(void *arg);
bool saw_retry(void *arg);
bool saw_change(void *arg);

/* ---- requests ---- */

struct io {
    struct block_req req;
    struct slice slices[300];
    bool done;
    unsigned calls;
    unsigned *counter;
};

/* What io_prepare() sets. */
void io_done(struct block_req *req);
void io_prepare(struct io *io, enum block_op op, uint64_t offset, uint64_t len, void *data);
/* Waits; returns the status. */
int io_run(struct blockdev *dev, enum block_op op, uint64_t offset, uint64_t len, void *data,
           unsigned flags);
void fill(uint8_t *data, size_t len, uint64_t seed);

/* Files of tgtd. */
void file_read(const char *file, uint64_t offset, uint8_t *data, size_t len);
void file_write(const char *file, uint64_t offset, const uint8_t *data, size_t len);
uint64_t file_blocks(const char *file);

#endif
