// SPDX-License-Identifier: Apache-2.0
/*
 * A mirror between two disks that lose what was not flushed, with its map on a disk whose power can be cut, in virtual time.
 *
 * Thread:    the simulation's.
 * Ownership: the bench has everything.
 * Errors:    a broken promise aborts.
 */
#ifndef TESTS_UNIT_MIRROR_TESTING_H
#define TESTS_UNIT_MIRROR_TESTING_H

#include "replication/mirror.h"
#include "tests/unit/copy_testing.h"
#include "tests/unit/layer_disk.h"

#define MIRROR_MAP "pool/m.changes"

struct mirror_bench {
    struct loop_sim *sim;
    bool is_guest; /* on another bench's simulation */
    struct loop *owner, *loop;
    struct random random;
    uint64_t size;
    struct test_disk *source, *target;
    struct test_opener source_opener, target_opener;
    struct layer_disk *map_disk;
    struct mirror_spec spec;
    struct mirror *mirror;
    struct blockdev *below, *dev;

    struct mirror_progress progress;
    bool has_error;
    struct error error;
    bool ended, ended_with_error;
    unsigned n_phases;
    enum mirror_phase phases[256]; /* as they were told, each change once */
    bool restored;                 /* it was told that a restore is done */
    unsigned n_done;
    bool done_failed;
    struct error done_error;
};

/* Disks of random content, not equal; nothing is started. */
void mirror_bench_init(struct mirror_bench *bench, uint64_t seed, uint64_t size);
/* The same, with a data loop of its own, under the owner's loop of another bench, which is finished last. */
void mirror_bench_init_beside(struct mirror_bench *bench, const struct mirror_bench *host,
                              uint64_t seed, uint64_t size);
void mirror_bench_make_equal(struct mirror_bench *bench);
void mirror_bench_fini(struct mirror_bench *bench);
void mirror_bench_open_below(struct mirror_bench *bench);
/* Makes the mirror, opens what is below and puts the device on it. */
void mirror_bench_start(struct mirror_bench *bench);
/* Closes the device, ends the mirror, closes what is below. */
void mirror_bench_stop(struct mirror_bench *bench, bool remove_map);
/* The power goes: the source and the map lose what was not synced (the leg too, with leg_too). Everything is closed. */
void mirror_bench_crash(struct mirror_bench *bench, bool leg_too);

bool mirror_bench_until(struct mirror_bench *bench, enum mirror_phase phase, uint64_t limit_ns);
void mirror_bench_until_equal(struct mirror_bench *bench);
void mirror_bench_done(void *arg, const struct error *error);
/* Until n_done has grown to n. */
bool mirror_bench_until_done(struct mirror_bench *bench, unsigned n, uint64_t limit_ns);
int mirror_bench_do(struct mirror_bench *bench, enum block_op op, uint64_t offset, void *data,
                    uint64_t len, unsigned flags);
/* Random bytes. */
int mirror_bench_write(struct mirror_bench *bench, uint64_t offset, uint64_t len, unsigned flags);
int mirror_bench_flush(struct mirror_bench *bench);
/* The same on both, as they read and on stable storage. */
void mirror_bench_check_equal(struct mirror_bench *bench);

#endif
