// SPDX-License-Identifier: Apache-2.0
/* Layers on real files, of which fewer are open than there are. */
#include "tests/unit/testing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/random.h"
#include "block/layer_format.h"
#include "block/stack.h"

enum { LIMIT = 48, SIZE = 64 << 20 };

struct bed {
    struct loop *loop;
    struct layer_cache *cache;
    char folder[64];
    unsigned n;
    struct layer **layers;
    struct blockdev **devs;
    unsigned left; /* answers to wait for */
    unsigned most_open;
    int status; /* the last that was not 0 */
};

static void answered(struct bed *bed, int status)
{
    bed->status = status ? status : bed->status;
    bed->most_open = layer_files_open() > bed->most_open ? layer_files_open() : bed->most_open;
    if (--bed->left == 0) {
        loop_stop(bed->loop);
    }
}

static void bed_await(struct bed *bed, unsigned n)
{
    bed->left = n;
    bed->status = 0;
    loop_run(bed->loop);
}

struct slot {
    struct bed *bed;
    unsigned index;
    struct block_req req;
    struct slice slice;
    uint8_t data[4096];
};

static void slot_opened(void *arg, struct layer *layer, const struct error *error)
{
    struct slot *slot = arg;
    if (error) {
        print_error("%s\n", error->detail);
    }
    slot->bed->layers[slot->index] = layer;
    answered(slot->bed, layer ? 0 : -EIO);
}

static void layer_closed(void *arg, int status)
{
    answered(arg, status);
}

static void dev_closed(void *arg)
{
    answered(arg, 0);
}

static void req_done(struct block_req *req)
{
    struct slot *slot = req->arg;
    answered(slot->bed, req->status);
}

static void path_of(const struct bed *bed, unsigned i, char path[128])
{
    snprintf(path, 128, "%s/%u.layer", bed->folder, i);
}

static void bed_open(struct bed *bed, struct slot *slots, bool create)
{
    char path[128];
    for (unsigned i = 0; i < bed->n; i++) {
        path_of(bed, i, path);
        struct layer_spec spec = {
            .path = path, .cache = bed->cache, .size_bytes = create ? SIZE : 0};
        slots[i].bed = bed;
        slots[i].index = i;
        assert_int_equal(
            (create ? layer_create : layer_open)(bed->loop, &spec, slot_opened, &slots[i]), 0);
    }
    bed_await(bed, bed->n);
    assert_int_equal(bed->status, 0);
    for (unsigned i = 0; i < bed->n; i++) {
        struct stack_spec spec = {.layers = &bed->layers[i], .n_layers = 1};
        assert_int_equal(stack_open(bed->loop, &spec, &bed->devs[i]), 0);
    }
}

static void bed_close(struct bed *bed)
{
    for (unsigned i = 0; i < bed->n; i++) {
        blockdev_close(bed->devs[i], dev_closed, bed);
    }
    bed_await(bed, bed->n);
    for (unsigned i = 0; i < bed->n; i++) {
        layer_unref(bed->layers[i], layer_closed, bed);
    }
    bed_await(bed, bed->n);
    assert_int_equal(bed->status, 0);
    assert_int_equal(layer_files_open(), 0);
}

static void submit(struct slot *slot, enum block_op op, uint64_t offset, unsigned flags)
{
    bool data = op == BLOCK_READ || op == BLOCK_WRITE;
    slot->slice = (struct slice){.data = slot->data, .len = sizeof(slot->data)};
    slot->req = (struct block_req){.op = op,
                                   .flags = flags,
                                   .offset = offset,
                                   .len = data ? sizeof(slot->data) : 0,
                                   .slices = &slot->slice,
                                   .n_slices = data,
                                   .done = req_done,
                                   .arg = slot};
    blockdev_submit(slot->bed->devs[slot->index], &slot->req);
}

static void bed_new(struct bed *bed, struct slot **ret_slots, const char *under, unsigned n)
{
    *bed = (struct bed){.n = n};
    snprintf(bed->folder, sizeof(bed->folder), "%s/layer_files.XXXXXX", under);
    assert_non_null(mkdtemp(bed->folder));
    bed->layers = calloc(n, sizeof(struct layer *));
    bed->devs = calloc(n, sizeof(struct blockdev *));
    *ret_slots = calloc(n, sizeof(struct slot));
    assert_int_equal(loop_new("files", &bed->loop), 0);
    assert_int_equal(layer_cache_new(0, &bed->cache), 0);
}

static void bed_free(struct bed *bed, struct slot *slots)
{
    char path[128];
    for (unsigned i = 0; i < bed->n; i++) {
        path_of(bed, i, path);
        unlink(path);
    }
    assert_int_equal(rmdir(bed->folder), 0);
    layer_cache_free(bed->cache);
    loop_free(bed->loop);
    free(bed->layers);
    free(bed->devs);
    free(slots);
}

/* Everywhere at once: each round writes one block of every volume, some with a flush, and reads
 * those of the round before. */
static void more_volumes_than_open_files(const char *under, unsigned n)
{
    struct bed bed;
    struct slot *slots;
    layer_files_limit(LIMIT);
    bed_new(&bed, &slots, under, n);
    for (unsigned life = 0; life < 2; life++) {
        bed_open(&bed, slots, life == 0);
        for (unsigned round = 0; round < 3; round++) {
            uint64_t offset = (life * 3 + round) * 40960;
            for (unsigned i = 0; i < n; i++) {
                memset(slots[i].data, (int)(i * 7 + life * 3 + round), sizeof(slots[i].data));
                submit(&slots[i], BLOCK_WRITE, offset, i % 8 ? 0 : BLOCK_FUA);
            }
            bed_await(&bed, n);
            assert_int_equal(bed.status, 0);
            for (unsigned i = 0; i < n; i++) {
                submit(&slots[i], BLOCK_FLUSH, 0, 0);
            }
            bed_await(&bed, n);
            assert_int_equal(bed.status, 0);
        }
        for (unsigned step = 0; step < (life + 1) * 3; step++) {
            for (unsigned i = 0; i < n; i++) {
                memset(slots[i].data, 0, sizeof(slots[i].data));
                submit(&slots[i], BLOCK_READ, step * 40960, 0);
            }
            bed_await(&bed, n);
            assert_int_equal(bed.status, 0);
            for (unsigned i = 0; i < n; i++) {
                assert_int_equal(slots[i].data[0], (uint8_t)(i * 7 + step));
                assert_int_equal(slots[i].data[4095], (uint8_t)(i * 7 + step));
            }
        }
        bed_close(&bed);
    }
    print_message("%u volumes, never more than %u files open\n", n, bed.most_open);
    assert_true(bed.most_open <= LIMIT);
    bed_free(&bed, slots);
    layer_files_limit(0);
}

static void a_few_open_files_serve_many_volumes_in_memory(void **state)
{
    (void)state;
    more_volumes_than_open_files(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 200);
}

static void a_few_open_files_serve_many_volumes_on_a_disk(void **state)
{
    (void)state;
    more_volumes_than_open_files("/var/tmp", LIMIT + 8);
}

/* While it is closed somebody takes its lock, puts another file in its place, or removes it: an
 * error, and never the bytes of another file. */
static void a_file_that_was_tampered_with_is_not_used(void **state)
{
    (void)state;
    struct bed bed;
    struct slot *slots;
    char path[128];
    char other[160];
    log_set_level(LOG_ERROR);
    layer_files_limit(1); /* and what every loop gets */
    bed_new(&bed, &slots, "/var/tmp", 40);
    bed_open(&bed, slots, true);
    for (unsigned i = 0; i < bed.n; i++) {
        slots[i].data[0] = (uint8_t)(i + 1);
        submit(&slots[i], BLOCK_WRITE, 0, BLOCK_FUA);
        bed_await(&bed, 1);
        assert_int_equal(bed.status, 0);
    }
    path_of(&bed, 0, path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    submit(&slots[0], BLOCK_READ, 0, 0);
    bed_await(&bed, 1);
    assert_int_equal(bed.status, -EIO);
    close(fd);
    submit(&slots[0], BLOCK_READ, 0, 0);
    bed_await(&bed, 1);
    assert_int_equal(bed.status, 0);
    assert_int_equal(slots[0].data[0], 1);

    path_of(&bed, 1, path);
    snprintf(other, sizeof(other), "%s.away", path);
    assert_int_equal(rename(path, other), 0);
    submit(&slots[1], BLOCK_READ, 0, 0);
    bed_await(&bed, 1);
    assert_int_equal(bed.status, -EIO);
    fd = open(path, O_RDWR | O_CREAT, 0600);
    close(fd);
    submit(&slots[1], BLOCK_READ, 0, 0);
    bed_await(&bed, 1);
    assert_int_equal(bed.status, -EIO);
    assert_int_equal(rename(other, path), 0);
    submit(&slots[1], BLOCK_READ, 0, 0);
    bed_await(&bed, 1);
    assert_int_equal(bed.status, 0);
    assert_int_equal(slots[1].data[0], 2);
    bed_close(&bed);
    bed_free(&bed, slots);
    layer_files_limit(0);
}

static void on_file(struct bed *bed, unsigned i, uint64_t offset, const void *data, size_t len)
{
    char path[128];
    path_of(bed, i, path);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, len, (off_t)offset), len);
    assert_int_equal(fsync(fd), 0);
    close(fd);
}

/* Runs of data that no entry speaks of, as a crash leaves them: found, and given back. */
static void scrubs_give_space_back(const char *under)
{
    static uint8_t junk[1 << 20];
    struct bed bed;
    struct slot *slots;
    struct stack_job *job;
    struct stat st;
    char path[128];
    bed_new(&bed, &slots, under, 1);
    bed_open(&bed, slots, true);
    memset(slots[0].data, 5, sizeof(slots[0].data));
    submit(&slots[0], BLOCK_WRITE, 1 << 20, BLOCK_FUA);
    bed_await(&bed, 1);
    bed_close(&bed);
    path_of(&bed, 0, path);
    assert_int_equal(stat(path, &st), 0);
    off_t before = st.st_blocks;
    memset(junk, 0xaa, sizeof(junk));
    on_file(&bed, 0, LAYER_DATA_OFFSET, junk, 8192);
    on_file(&bed, 0, LAYER_DATA_OFFSET + (1 << 20) - 8192, junk, 8192);
    on_file(&bed, 0, LAYER_DATA_OFFSET + (1 << 20) + 4096, junk, 65536);
    on_file(&bed, 0, LAYER_DATA_OFFSET + (40 << 20), junk, sizeof(junk));
    bed_open(&bed, slots, false);
    uint64_t full = layer_used_bytes(bed.layers[0]);
    assert_true(full >= (uint64_t)before * 512 + 16384 + 65536 + sizeof(junk));
    struct stack_job_spec spec = {.kind = STACK_SCRUB, .done = layer_closed, .arg = &bed};
    assert_int_equal(stack_job_start(bed.devs[0], &spec, &job), 0);
    bed_await(&bed, 1);
    assert_int_equal(bed.status, 0);
    assert_int_equal(stack_stats(bed.devs[0])->reclaimed_bytes, 16384 + 65536 + sizeof(junk));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(layer_used_bytes(bed.layers[0]), (uint64_t)st.st_blocks * 512);
    /* The file system may keep blocks of its own tree. */
    assert_true(st.st_blocks <= before + 4 * 8);
    memset(slots[0].data, 0, sizeof(slots[0].data));
    submit(&slots[0], BLOCK_READ, 1 << 20, 0);
    bed_await(&bed, 1);
    assert_int_equal(slots[0].data[4095], 5);
    bed_close(&bed);
    bed_free(&bed, slots);
}

static void scrubs_give_space_back_in_memory(void **state)
{
    (void)state;
    scrubs_give_space_back(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
}

static void scrubs_give_space_back_on_a_disk(void **state)
{
    (void)state;
    scrubs_give_space_back("/var/tmp");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_few_open_files_serve_many_volumes_in_memory),
        cmocka_unit_test(a_few_open_files_serve_many_volumes_on_a_disk),
        cmocka_unit_test(a_file_that_was_tampered_with_is_not_used),
        cmocka_unit_test(scrubs_give_space_back_in_memory),
        cmocka_unit_test(scrubs_give_space_back_on_a_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
