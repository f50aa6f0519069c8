// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/iscsi_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/random.h"

struct tgtd *tgtd;
struct fake_target *fake;
struct loop *loop;

/* ---- waiting ---- */

struct wait {
    bool (*until)(void *arg);
    void *arg;
    uint64_t deadline_ns;
    struct loop_timer timer;
    bool late;
};

static void wait_look(void *arg)
{
    struct wait *wait = arg;

    wait->late = loop_now_ns(loop) > wait->deadline_ns;
    if (wait->until(wait->arg) || wait->late) {
        loop_stop(loop);
    } else {
        loop_timer_start(&wait->timer, MS_NS);
    }
}

void wait_for_in(bool (*until)(void *arg), void *arg, unsigned seconds, int line)
{
    struct wait wait = {.until = until, .arg = arg};

    wait.deadline_ns = loop_now_ns(loop) + seconds * SEC_NS;
    loop_timer_init(&wait.timer, loop, wait_look, &wait);
    loop_timer_start(&wait.timer, 0);
    loop_run(loop);
    if (wait.late) {
        print_error("line %d: what was waited for did not come in %u s\n", line, seconds);
        fail();
    }
}

bool is_true(void *arg)
{
    return *(bool *)arg;
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

void idle_us(unsigned us)
{
    struct wait wait = {.until = never, .deadline_ns = loop_now_ns(loop) + us * 1000ull};

    loop_timer_init(&wait.timer, loop, wait_look, &wait);
    loop_timer_start(&wait.timer, us * 1000ull);
    loop_run(loop);
}

void idle_ms(unsigned ms)
{
    idle_us(ms * 1000);
}

/* ---- specs, opens, probes ---- */

struct iscsi_spec spec_of(const char *target, unsigned lun)
{
    struct iscsi_spec spec = {.n_portals = 1,
                              .lun = (uint16_t)lun,
                              .isid = 0x1234567890,
                              .backoff_min_ms = 20,
                              .backoff_max_ms = 100};

    snprintf(spec.initiator, sizeof(spec.initiator), "iqn.2026-01.test:initiator");
    snprintf(spec.target, sizeof(spec.target), "%s", target);
    if (strcmp(target, FAKE) == 0) {
        fake_target_address(fake, &spec.portals[0]);
    } else {
        tgtd_address(tgtd, &spec.portals[0]);
    }
    return spec;
}

static void take_error(struct answer *answer, const struct error *error)
{
    answer->calls++;
    answer->done = true;
    answer->error = error != NULL ? *error : (struct error){.code = ERR_NONE};
}

void opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct answer *answer = arg;

    answer->dev = dev;
    take_error(answer, error);
}

void probed(void *arg, const struct iscsi_lun_info *info, const struct error *error)
{
    struct answer *answer = arg;

    if (info != NULL) {
        answer->info = *info;
    }
    take_error(answer, error);
}

void discovered(void *arg, const struct iscsi_found_target *targets, unsigned n,
                const struct error *error)
{
    struct answer *answer = arg;

    answer->n = n;
    for (unsigned i = 0; i < n && i < ARRAY_LEN(answer->targets); i++) {
        answer->targets[i] = targets[i];
    }
    take_error(answer, error);
}

void listed(void *arg, const uint16_t *luns, unsigned n, const struct error *error)
{
    struct answer *answer = arg;

    answer->n = n;
    for (unsigned i = 0; i < n && i < ARRAY_LEN(answer->luns); i++) {
        answer->luns[i] = luns[i];
    }
    take_error(answer, error);
}

struct answer open_answer(const struct iscsi_spec *spec)
{
    struct answer answer = {.done = false};

    assert_non_null(iscsi_dev_open(loop, spec, opened, &answer));
    assert_false(answer.done);
    wait_for(is_true, &answer.done);
    return answer;
}

struct answer probe_answer(const struct iscsi_spec *spec)
{
    struct answer answer = {.done = false};

    assert_non_null(iscsi_probe_start(loop, spec, probed, &answer));
    wait_for(is_true, &answer.done);
    return answer;
}

/* ---- a device under watch ---- */

static void on_event(void *arg, struct blockdev *dev, enum block_event event, unsigned attempts,
                     const char *detail)
{
    struct watch *watch = arg;

    assert_ptr_equal(dev, watch->dev);
    watch->attempts = attempts;
    snprintf(watch->detail, sizeof(watch->detail), "%s", detail);
    switch (event) {
    case BLOCK_EVENT_DOWN:
        watch->downs++;
        watch->down_ns = loop_now_ns(loop);
        break;
    case BLOCK_EVENT_RETRY:
        watch->retries++;
        break;
    case BLOCK_EVENT_UP:
        watch->ups++;
        break;
    case BLOCK_EVENT_CHANGED:
        watch->changes++;
        break;
    }
}

void watch_open(struct watch *watch, const struct iscsi_spec *spec)
{
    struct answer answer = open_answer(spec);

    memset(watch, 0, sizeof(*watch));
    if (answer.dev == NULL) {
        print_error("open: %s\n", answer.error.detail);
    }
    assert_non_null(answer.dev);
    watch->dev = answer.dev;
    watch->dev->on_event = on_event;
    watch->dev->event_arg = watch;
}

void closed(void *arg)
{
    ((struct watch *)arg)->closed = true;
}

void watch_close(struct watch *watch)
{
    blockdev_close(watch->dev, closed, watch);
    assert_false(watch->closed);
    wait_for(is_true, &watch->closed);
}

bool saw_down(void *arg)
{
    return ((struct watch *)arg)->downs > 0;
}

bool saw_up(void *arg)
{
    return ((struct watch *)arg)->ups > 0;
}

bool saw_retry(void *arg)
{
    return ((struct watch *)arg)->retries > 0;
}

bool saw_change(void *arg)
{
    return ((struct watch *)arg)->changes > 0;
}

/* ---- requests ---- */

void io_done(struct block_req *req)
{
    struct io *io = req->arg;

    io->done = true;
    io->calls++;
    if (io->counter != NULL) {
        (*io->counter)++;
    }
}

void io_prepare(struct io *io, enum block_op op, uint64_t offset, uint64_t len, void *data)
{
    memset(io, 0, sizeof(*io));
    io->req.op = op;
    io->req.offset = offset;
    io->req.len = len;
    io->req.done = io_done;
    io->req.arg = io;
    if (data != NULL) {
        io->slices[0] = (struct slice){.data = data, .len = len};
        io->req.slices = io->slices;
        io->req.n_slices = 1;
    }
}

int io_run(struct blockdev *dev, enum block_op op, uint64_t offset, uint64_t len, void *data,
           unsigned flags)
{
    struct io *io = malloc(sizeof(*io));
    int status;

    io_prepare(io, op, offset, len, data);
    io->req.flags = flags;
    blockdev_submit(dev, &io->req);
    assert_false(io->done);
    wait_for(is_true, &io->done);
    assert_int_equal(io->calls, 1);
    status = io->req.status;
    free(io);
    return status;
}

void fill(uint8_t *data, size_t len, uint64_t seed)
{
    struct random random;

    random_seed(&random, seed);
    random_fill(&random, data, len);
}

void file_read(const char *file, uint64_t offset, uint8_t *data, size_t len)
{
    int fd = open(tgtd_path(tgtd, file), O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, data, len, (off_t)offset), len);
    close(fd);
}

void file_write(const char *file, uint64_t offset, const uint8_t *data, size_t len)
{
    int fd = open(tgtd_path(tgtd, file), O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, len, (off_t)offset), len);
    close(fd);
}

uint64_t file_blocks(const char *file)
{
    struct stat stat_buffer;

    assert_int_equal(stat(tgtd_path(tgtd, file), &stat_buffer), 0);
    return (uint64_t)stat_buffer.st_blocks;
}

/* ---- set-up ---- */

static void configure(void)
{
    tgtd_target(tgtd, 1, TARGET);
    tgtd_lun(tgtd, 1,
             &(struct tgtd_lun){.lun = 1, .file = "thin", .size_bytes = 64 * MIB, .thin = true});
    tgtd_lun(
        tgtd, 1,
        &(struct tgtd_lun){.lun = 2, .file = "big", .size_bytes = 32 * MIB, .block_bytes = 4096});
    tgtd_lun(tgtd, 1,
             &(struct tgtd_lun){.lun = 3,
                                .file = "aio",
                                .size_bytes = 16 * MIB,
                                .bstype = "aio",
                                .thin = true,
                                .scsi_id = "SMIRROR 0abc",
                                .serial = "sn-3"});
    tgtd_lun(tgtd, 1,
             &(struct tgtd_lun){.lun = 4, .file = "ro", .size_bytes = MIB, .read_only = true});
}

int iscsi_setup(void **state)
{
    (void)state;
    log_set_level(getenv("SMIRROR_TEST_LOG") != NULL ? LOG_DEBUG : LOG_ERROR);
    tgtd = tgtd_start();
    configure();
    return loop_new("test", &loop);
}

int iscsi_teardown(void **state)
{
    (void)state;
    tgtd_stop(tgtd);
    loop_free(loop);
    return 0;
}

int fresh(void **state)
{
    (void)state;
    tgtd_restart(tgtd, true);
    configure();
    return 0;
}

int fake_setup(void **state)
{
    (void)state;
    fake = fake_target_start();
    return 0;
}

int fake_teardown(void **state)
{
    (void)state;
    fake_target_stop(fake);
    fake = NULL;
    return 0;
}
