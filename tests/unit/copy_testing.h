// SPDX-License-Identifier: Apache-2.0
/*
 * What the tests of the copier stand on: disks that lose what was not flushed, devices that fail
 * where they are told to, and a bench that runs one copy in virtual time and checks every promise.
 *
 * Thread:    the simulation's.
 * Ownership: a disk outlives the devices on it.
 * Errors:    a broken promise fails the running cmocka test (or aborts, outside of one).
 */
#ifndef TESTS_UNIT_COPY_TESTING_H
#define TESTS_UNIT_COPY_TESTING_H

#include "base/loop_sim.h"
#include "base/random.h"
#include "block/blockdev.h"
#include "replication/copy.h"

#define KIB 1024ull
#define MIB (1024ull * 1024)

/* Tests that go through every request take each TEST_STRIDE-th only where that takes minutes: the thread sanitizer has
 * nothing to find on the one thread of a simulation, and is there to see the rest. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_STRIDE 24
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define TEST_STRIDE 24
#endif
#ifndef TEST_STRIDE
#define TEST_STRIDE 1
#endif

/* ---- disks ---- */

enum { TEST_PAGE = 4096 };

struct test_disk {
    uint64_t size;
    uint8_t *data;   /* as it reads */
    uint8_t *stable; /* as it would read after a power cut */
    uint8_t *mapped; /* a byte a page: occupies space */
    uint8_t *stable_mapped;
    uint64_t *
        dirty; /* a number a sector of 512: sequence of the first write since it was stable, 0 clean */
    uint64_t sequence;
    /* Whatever was done to it. */
    uint64_t requests[6], bytes[6];
    unsigned outstanding, most_outstanding;
    unsigned numbered; /* requests so far, of all kinds but as armed faults count */
};

struct test_disk *test_disk_new(uint64_t size);
void test_disk_free(struct test_disk *disk);
/* Content that is on stable storage. */
void test_disk_fill(struct test_disk *disk, uint64_t offset, uint64_t len, uint64_t seed);
/* Zeros that occupy no space. */
void test_disk_clear(struct test_disk *disk);
/* Loses what was not flushed: all of it, or (random given) each sector or not. */
void test_disk_lose(struct test_disk *disk, struct random *random);
void test_disk_forget_counts(struct test_disk *disk);

/* ---- devices ---- */

enum test_fault_action {
    TEST_FAIL,      /* the request fails with status, and did nothing */
    TEST_LINK_DOWN, /* the link goes down with this request; up again after down_ns */
    TEST_SILENT,    /* -ENOTCONN and loss of the cache, with no event */
};

/* Hits the requests whose kind is in ops (bits by enum block_op) and that are at least the first-th
 * of them, count times. */
struct test_fault {
    unsigned ops;
    unsigned first; /* counted from 1; over all devices of the opener */
    unsigned count; /* how often; UINT32_MAX: always */
    enum test_fault_action action;
    int status;
    uint64_t down_ns;
    unsigned seen;
};

enum { TEST_FAULTS = 8 };
#define TEST_OP(op)  (1u << (op))
#define TEST_ALL_OPS 0x3fu

struct test_dev_spec {
    uint64_t size; /* 0: the disk's */
    uint32_t block_bytes;
    uint32_t optimal_bytes;
    uint32_t max_bytes;
    uint32_t max_inflight;
    bool read_only;
    bool can_map;
    unsigned map_extents;      /* at most so many an answer, 0 no limit */
    bool map_unknown;          /* says UNKNOWN where it is data */
    unsigned map_doubts;       /* one of so many extents at random is DATA or UNKNOWN; 0 none */
    bool map_early;            /* some answers are of when they were asked for */
    bool keeps;                /* a fill device: pages that are mapped stay as they are */
    uint64_t delay_ns;         /* of every request, */
    uint64_t delay_spread_ns;  /* and so much more, at random */
    uint64_t map_delay_ns;     /* 0: as the others */
    uint64_t bytes_per_second; /* 0 no limit: transfers one after the other */
    uint64_t *line_free_at_ns; /* shared with other devices; NULL: a line of its own */
    bool lose_all;             /* of the unflushed data, all; else each sector or not */
    bool volatile_cache;
};

/* An opener that may be told to fail; the faults live here, across its devices. */
struct test_opener {
    struct block_opener base;
    struct loop *loop;
    struct test_disk *disk;
    struct test_dev_spec spec;
    struct test_fault faults[TEST_FAULTS];
    unsigned n_faults;
    struct random *random;
    unsigned fail_opens; /* the next so many opens fail with open_error */
    enum error_code open_error;
    uint64_t open_delay_ns;
    unsigned opens;
    unsigned live; /* devices that are not closed */
    bool freed;
    struct test_dev *dev; /* the newest */
    /* The open under way. */
    block_opened_fn done;
    void *arg;
    struct loop_timer timer;
    bool opening, cancelled;
};

void test_opener_init(struct test_opener *opener, struct loop *loop, struct test_disk *disk,
                      const struct test_dev_spec *spec, struct random *random);
void test_opener_fault(struct test_opener *opener, struct test_fault fault);
/* Drops the link of the open device now, for down_ns. */
void test_opener_link_down(struct test_opener *opener, uint64_t down_ns);
void test_opener_changed(struct test_opener *opener);
bool test_opener_faults_left(const struct test_opener *opener);

/* ---- one copy ---- */

struct copy_bench {
    struct loop_sim *sim;
    bool is_guest; /* on another bench's simulation */
    struct random random;
    struct loop *owner, *loop;
    struct test_disk *source, *target;
    struct test_opener source_opener, target_opener;
    struct copy_spec spec;
    struct copy *copy;

    struct copy_progress progress;
    bool ended;
    bool has_error;
    struct error error;
    bool check_stable; /* every checkpoint, against the source */
    unsigned n_progress, n_checkpoints;
    uint64_t checkpoints[4096];
    bool phases_seen[COPY_BROKEN + 1];
    uint8_t *beyond; /* the target's bytes behind the source's end, at the start */
};

/* Disks of these sizes, the target full of rubbish; devices of 512-byte blocks without delays. */
void copy_bench_init(struct copy_bench *bench, uint64_t seed, uint64_t source_bytes,
                     uint64_t target_bytes);
/* The same, on the loops of another bench, which is finished last. */
void copy_bench_init_beside(struct copy_bench *bench, struct copy_bench *host, uint64_t seed,
                            uint64_t source_bytes, uint64_t target_bytes);
void copy_bench_fini(struct copy_bench *bench);
void copy_bench_start(struct copy_bench *bench);
/* Until it has ended; false: not within limit_ns of virtual time. */
bool copy_bench_finish(struct copy_bench *bench, uint64_t limit_ns);
bool copy_bench_until_phase(struct copy_bench *bench, enum copy_phase phase, uint64_t limit_ns);
/* Frees the copy that has ended, for another one on the same disks. */
void copy_bench_end(struct copy_bench *bench);
/* Starts, finishes, expects DONE and equality; returns how long it took, in virtual time. */
uint64_t copy_bench_run_done(struct copy_bench *bench);
/* The target's stable bytes are the source's, and the bytes behind are what they were. */
void copy_bench_check_equal(struct copy_bench *bench);

#endif
