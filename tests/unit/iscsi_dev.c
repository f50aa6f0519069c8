// SPDX-License-Identifier: Apache-2.0
/*
 * The iSCSI device against Debian's tgtd, and against a target that misbehaves on demand where tgtd cannot be made to.
 */
#include "block/iscsi_dev.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/log.h"
#include "base/random.h"
#include "tests/tools/fake_target.h"
#include "tests/tools/tgtd.h"

enum { MIB = 1 << 20, WAIT_S = 30 };

#define TARGET "iqn.2026-01.test:disk"
#define FAKE   "iqn.2026-01.test:fake"

static struct tgtd *tgtd;
static struct fake_target *fake;
static struct loop *loop;

/* --- waiting -------------------------------------------------------------------------------------------------- */

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

#define wait_for(until, arg) wait_for_in(until, arg, WAIT_S, __LINE__)
static void wait_for_in(bool (*until)(void *arg), void *arg, unsigned seconds, int line)
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

static bool is_true(void *arg)
{
    return *(bool *)arg;
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

/* Lets the loop run for a while: only to see that nothing happens. */
static void idle_ms(unsigned ms)
{
    struct wait wait = {.until = never, .deadline_ns = loop_now_ns(loop) + ms * MS_NS};

    loop_timer_init(&wait.timer, loop, wait_look, &wait);
    loop_timer_start(&wait.timer, 0);
    loop_run(loop);
}

/* --- specs, opens, probes ------------------------------------------------------------------------------------- */

static struct iscsi_spec spec_of(const char *target, unsigned lun)
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

static void take_error(struct answer *answer, const struct error *error)
{
    answer->calls++;
    answer->done = true;
    answer->error = error != NULL ? *error : (struct error){.code = ERR_NONE};
}

static void opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct answer *answer = arg;

    answer->dev = dev;
    take_error(answer, error);
}

static void probed(void *arg, const struct iscsi_lun_info *info, const struct error *error)
{
    struct answer *answer = arg;

    if (info != NULL) {
        answer->info = *info;
    }
    take_error(answer, error);
}

static void discovered(void *arg, const struct iscsi_found_target *targets, unsigned n,
                       const struct error *error)
{
    struct answer *answer = arg;

    answer->n = n;
    for (unsigned i = 0; i < n && i < ARRAY_LEN(answer->targets); i++) {
        answer->targets[i] = targets[i];
    }
    take_error(answer, error);
}

static void listed(void *arg, const uint16_t *luns, unsigned n, const struct error *error)
{
    struct answer *answer = arg;

    answer->n = n;
    for (unsigned i = 0; i < n && i < ARRAY_LEN(answer->luns); i++) {
        answer->luns[i] = luns[i];
    }
    take_error(answer, error);
}

static struct answer open_answer(const struct iscsi_spec *spec)
{
    struct answer answer = {.done = false};

    assert_non_null(iscsi_dev_open(loop, spec, opened, &answer));
    assert_false(answer.done);
    wait_for(is_true, &answer.done);
    return answer;
}

static struct answer probe_answer(const struct iscsi_spec *spec)
{
    struct answer answer = {.done = false};

    assert_non_null(iscsi_probe_start(loop, spec, probed, &answer));
    wait_for(is_true, &answer.done);
    return answer;
}

/* --- a device under watch ------------------------------------------------------------------------------------- */

struct watch {
    struct blockdev *dev;
    unsigned downs, retries, ups, changes;
    unsigned attempts;
    char detail[256];
    uint64_t down_ns;
    bool closed;
};

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

static void watch_open(struct watch *watch, const struct iscsi_spec *spec)
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

static void closed(void *arg)
{
    ((struct watch *)arg)->closed = true;
}

static void watch_close(struct watch *watch)
{
    blockdev_close(watch->dev, closed, watch);
    assert_false(watch->closed);
    wait_for(is_true, &watch->closed);
}

static bool saw_down(void *arg)
{
    return ((struct watch *)arg)->downs > 0;
}

static bool saw_up(void *arg)
{
    return ((struct watch *)arg)->ups > 0;
}

static bool saw_retry(void *arg)
{
    return ((struct watch *)arg)->retries > 0;
}

static bool saw_change(void *arg)
{
    return ((struct watch *)arg)->changes > 0;
}

/* --- requests ------------------------------------------------------------------------------------------------- */

struct io {
    struct block_req req;
    struct slice slices[300];
    bool done;
    unsigned calls;
    unsigned *counter;
};

static void io_done(struct block_req *req)
{
    struct io *io = req->arg;

    io->done = true;
    io->calls++;
    if (io->counter != NULL) {
        (*io->counter)++;
    }
}

static void io_prepare(struct io *io, enum block_op op, uint64_t offset, uint64_t len, void *data)
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

static int io_run(struct blockdev *dev, enum block_op op, uint64_t offset, uint64_t len, void *data,
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

static void fill(uint8_t *data, size_t len, uint64_t seed)
{
    struct random random;

    random_seed(&random, seed);
    random_fill(&random, data, len);
}

static void file_read(const char *file, uint64_t offset, uint8_t *data, size_t len)
{
    int fd = open(tgtd_path(tgtd, file), O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, data, len, (off_t)offset), len);
    close(fd);
}

static void file_write(const char *file, uint64_t offset, const uint8_t *data, size_t len)
{
    int fd = open(tgtd_path(tgtd, file), O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, len, (off_t)offset), len);
    close(fd);
}

static uint64_t file_blocks(const char *file)
{
    struct stat stat_buffer;

    assert_int_equal(stat(tgtd_path(tgtd, file), &stat_buffer), 0);
    return (uint64_t)stat_buffer.st_blocks;
}

/* --- set-up --------------------------------------------------------------------------------------------------- */

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

static int setup(void **state)
{
    (void)state;
    tgtd = tgtd_start();
    configure();
    return loop_new("test", &loop);
}

static int teardown(void **state)
{
    (void)state;
    tgtd_stop(tgtd);
    loop_free(loop);
    return 0;
}

/* A test that rebuilds tgtd's configuration leaves it as it was. */
static int fresh(void **state)
{
    (void)state;
    tgtd_restart(tgtd, true);
    configure();
    return 0;
}

static int fake_setup(void **state)
{
    (void)state;
    fake = fake_target_start();
    return 0;
}

static int fake_teardown(void **state)
{
    (void)state;
    fake_target_stop(fake);
    fake = NULL;
    return 0;
}

/* --- probing -------------------------------------------------------------------------------------------------- */

static void a_probe_tells_what_the_lun_is(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 3);
    struct answer answer = probe_answer(&spec);

    (void)state;
    assert_int_equal(answer.error.code, ERR_NONE);
    assert_int_equal(answer.calls, 1);
    assert_int_equal(answer.info.size_bytes, 16 * MIB);
    assert_int_equal(answer.info.block_bytes, 512);
    assert_int_equal(answer.info.peripheral_type, 0);
    assert_true(answer.info.thin && answer.info.lbpme && answer.info.lbprz && answer.info.lbpu);
    assert_false(answer.info.write_protected);
    assert_string_equal(answer.info.vendor, "IET");
    assert_string_equal(answer.info.product, "VIRTUAL-DISK");
    assert_string_equal(answer.info.revision, "0001");
    assert_string_equal(answer.info.serial, "sn-3");
    assert_int_equal(answer.info.identity_kind, ISCSI_IDENTITY_NAA);
    /* tgtd makes the NAA name of the hexadecimal digits of the id. */
    assert_non_null(strstr(answer.info.identity, "naa.6"));
    assert_non_null(strstr(answer.info.identity, "0abc"));

    spec.lun = 2;
    answer = probe_answer(&spec);
    assert_int_equal(answer.info.block_bytes, 4096);
    assert_int_equal(answer.info.size_bytes, 32 * MIB);
    assert_false(answer.info.thin);

    spec.lun = 4;
    answer = probe_answer(&spec);
    assert_true(answer.info.write_protected);
}

static void discovery_finds_targets_and_addresses(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 0);
    struct answer answer = {.done = false};
    struct sockaddr_storage address;

    (void)state;
    tgtd_target(tgtd, 2, TARGET "-2");
    spec.target[0] = 0;
    assert_non_null(iscsi_discover_start(loop, &spec, discovered, &answer));
    wait_for(is_true, &answer.done);
    assert_int_equal(answer.error.code, ERR_NONE);
    assert_int_equal(answer.n, 2);
    assert_string_equal(answer.targets[1].name, TARGET "-2");
    assert_string_equal(answer.targets[0].name, TARGET);
    assert_true(answer.targets[0].n_addresses >= 1);
    assert_int_equal(iscsi_address_parse(answer.targets[0].addresses[0], &address), 0);
    assert_true(sockaddr_equal(&address, &spec.portals[0]));
}

static void the_list_of_luns_is_complete(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 7);
    struct answer answer = {.done = false};

    (void)state;
    assert_non_null(iscsi_report_luns_start(loop, &spec, listed, &answer));
    wait_for(is_true, &answer.done);
    assert_int_equal(answer.error.code, ERR_NONE);
    assert_int_equal(answer.n, 5);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(answer.luns[i], i);
    }
}

static void what_is_wrong_is_said(void **state)
{
    struct iscsi_spec spec = spec_of("iqn.2026-01.test:nobody", 1);
    struct answer answer = probe_answer(&spec);
    struct sockaddr_in *in = (struct sockaddr_in *)&spec.portals[0];

    (void)state;
    assert_int_equal(answer.error.code, ERR_SCAN_NO_TARGET);
    assert_non_null(strstr(answer.error.detail, "nobody"));

    spec = spec_of(TARGET, 9);
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_SCAN_NO_LU);

    spec.lun = 0; /* tgtd's controller */
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_INCOMPATIBLE);
    assert_non_null(strstr(answer.error.detail, "not a disk"));

    in->sin_port = htons(1);
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_REMOTE_UNREACHABLE);
    assert_non_null(strstr(answer.error.detail, "refused"));
    assert_non_null(strstr(answer.error.detail, "127.0.0.1:1"));

    in->sin_addr.s_addr = htonl(0xffffffff);
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_REMOTE_UNREACHABLE);

    spec = spec_of(TARGET, 1);
    spec.data_digest = ISCSI_DIGEST_REQUIRE;
    assert_int_equal(probe_answer(&spec).error.code, ERR_NOT_SUPPORTED);

    spec = spec_of(TARGET, 1);
    spec.n_portals = 0;
    assert_int_equal(probe_answer(&spec).error.code, ERR_INVALID_PARAMETER);
}

static void a_dead_portal_does_not_hide_a_good_one(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct answer answer;

    (void)state;
    spec.portals[1] = spec.portals[0];
    ((struct sockaddr_in *)&spec.portals[0])->sin_port = htons(1);
    spec.n_portals = 2;
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_NONE);
    assert_int_equal(answer.info.size_bytes, 64 * MIB);
}

static void a_lun_that_is_not_expected_is_not_opened(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct answer answer;
    struct watch watch;

    (void)state;
    snprintf(spec.identity, sizeof(spec.identity), "naa.6123");
    answer = open_answer(&spec);
    assert_null(answer.dev);
    assert_int_equal(answer.error.code, ERR_LUN_CHANGED);

    spec.identity[0] = 0;
    spec.size_bytes = 65 * MIB;
    assert_int_equal(open_answer(&spec).error.code, ERR_LUN_CHANGED);
    spec.size_bytes = 0;
    spec.block_bytes = 4096;
    assert_int_equal(open_answer(&spec).error.code, ERR_LUN_CHANGED);
    /* A larger one is the same, and seems as large as expected. */
    spec.block_bytes = 512;
    spec.size_bytes = 60 * MIB;
    watch_open(&watch, &spec);
    assert_int_equal(watch.dev->info.size_bytes, 60 * MIB);
    watch_close(&watch);
}

static void an_operation_can_be_cancelled_at_any_time(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct answer answer = {.done = false};

    (void)state;
    /* Before it began, and then a little later each time. */
    for (unsigned us = 0; us < 6000; us += 150) {
        struct iscsi_op *ops[4] = {
            iscsi_dev_open(loop, &spec, opened, &answer),
            iscsi_probe_start(loop, &spec, probed, &answer),
            iscsi_discover_start(loop, &spec, discovered, &answer),
            iscsi_report_luns_start(loop, &spec, listed, &answer),
        };
        unsigned calls = answer.calls;

        if (us > 0) {
            struct wait wait = {.until = never, .deadline_ns = loop_now_ns(loop) + us * 1000};

            loop_timer_init(&wait.timer, loop, wait_look, &wait);
            loop_timer_start(&wait.timer, us * 1000);
            loop_run(loop);
        }
        if (answer.calls != calls) {
            break; /* so late that one was through: it may not be cancelled any more */
        }
        for (unsigned i = 0; i < 4; i++) {
            iscsi_op_cancel(ops[i]);
        }
    }
    {
        unsigned calls = answer.calls;

        idle_ms(50);
        if (answer.calls == calls) {
            assert_true(answer.calls == 0);
        } else {
            /* The late round ends by itself. */
            idle_ms(1000);
        }
    }
    if (answer.dev != NULL) {
        struct watch watch = {.dev = answer.dev};

        watch_close(&watch);
    }
}

/* --- CHAP ----------------------------------------------------------------------------------------------------- */

#define SECRET "a-secret-of-us"
#define MUTUAL "a-secret-of-it"

static void set_chap(struct iscsi_chap *chap, const char *user, const char *secret)
{
    snprintf(chap->user, sizeof(chap->user), "%s", user);
    snprintf(chap->secret, sizeof(chap->secret), "%s", secret);
}

static void chap_opens_with_the_right_secret_only(void **state)
{
    struct iscsi_spec spec = spec_of("iqn.2026-01.test:chap", 1);
    struct answer answer;

    (void)state;
    tgtd_target(tgtd, 2, "iqn.2026-01.test:chap");
    tgtd_lun(tgtd, 2, &(struct tgtd_lun){.lun = 1, .file = "chap", .size_bytes = MIB});
    tgtd_account(tgtd, 2, "ini", SECRET, false);

    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_REMOTE_REFUSED);
    set_chap(&spec.chap, "ini", SECRET);
    assert_int_equal(probe_answer(&spec).error.code, ERR_NONE);
    set_chap(&spec.chap, "ini", "something-else");
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_REMOTE_REFUSED);
    assert_non_null(strstr(answer.error.detail, "authentication"));
    assert_null(strstr(answer.error.detail, "something-else"));
    set_chap(&spec.chap, "nobody", SECRET);
    assert_int_equal(probe_answer(&spec).error.code, ERR_REMOTE_REFUSED);
}

static void mutual_chap_refuses_a_target_that_does_not_prove_itself(void **state)
{
    struct iscsi_spec spec = spec_of("iqn.2026-01.test:chap", 1);
    struct answer answer;

    (void)state;
    tgtd_target(tgtd, 2, "iqn.2026-01.test:chap");
    tgtd_lun(tgtd, 2, &(struct tgtd_lun){.lun = 1, .file = "chap", .size_bytes = MIB});
    tgtd_account(tgtd, 2, "ini", SECRET, false);
    set_chap(&spec.chap, "ini", SECRET);
    set_chap(&spec.mutual_chap, "tgt", MUTUAL);
    /* It knows no secret of its own yet. */
    answer = probe_answer(&spec);
    assert_int_not_equal(answer.error.code, ERR_NONE);

    tgtd_account(tgtd, 2, "tgt", MUTUAL, true);
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_NONE);
    set_chap(&spec.mutual_chap, "tgt", "not-its-secret");
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_REMOTE_REFUSED);
    set_chap(&spec.mutual_chap, "somebody", MUTUAL);
    assert_int_equal(probe_answer(&spec).error.code, ERR_REMOTE_REFUSED);
    /* The same secret both ways is no proof. */
    set_chap(&spec.mutual_chap, "tgt", SECRET);
    assert_int_equal(probe_answer(&spec).error.code, ERR_INVALID_PARAMETER);
}

static void mutual_chap_is_not_fooled_by_the_stage_of_the_login(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    static const char zero_proof[] = "CHAP_N=tgt\nCHAP_R=0x00000000000000000000000000000000";
    const struct fake_login attacks[] = {
        /* Straight into the full feature phase: "this is the operational stage". */
        {.flags = 0x87, .text = "TargetPortalGroupTag=1"},
        /* No authentication. */
        {.flags = 0x81, .text = "AuthMethod=None"},
        /* A proof of zeros, before there was a challenge; at once to the end. */
        {.flags = 0x83, .text = zero_proof},
        {.flags = 0x81, .text = zero_proof},
        {.flags = 0x00, .text = zero_proof},
    };
    const struct fake_login replay[] = {
        {.flags = 0x00, .text = "AuthMethod=CHAP"},
        {.flags = 0x00, .text = "CHAP_A=5\nCHAP_I=1\nCHAP_C=0x0123456789abcdef"},
        {.flags = 0x83, .text = zero_proof},
    };
    const struct fake_login leave[] = {
        {.flags = 0x00, .text = "AuthMethod=CHAP"},
        {.flags = 0x00, .text = "CHAP_A=5\nCHAP_I=1\nCHAP_C=0x0123456789abcdef"},
        {.flags = 0x87, .text = "TargetPortalGroupTag=1"},
    };

    (void)state;
    set_chap(&spec.chap, "ini", SECRET);
    set_chap(&spec.mutual_chap, "tgt", MUTUAL);
    for (unsigned i = 0; i < ARRAY_LEN(attacks); i++) {
        fake_target_login(fake, &attacks[i], 1);
        assert_int_equal(probe_answer(&spec).error.code, ERR_REMOTE_REFUSED);
    }
    fake_target_login(fake, replay, 3);
    assert_int_equal(probe_answer(&spec).error.code, ERR_REMOTE_REFUSED);
    fake_target_login(fake, leave, 3);
    assert_int_equal(probe_answer(&spec).error.code, ERR_REMOTE_REFUSED);
    assert_int_equal(fake_target_count(fake, 0x12), 0); /* nothing was asked of it */
}

static void a_login_that_makes_no_sense_ends_with_an_error(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    static const uint8_t http[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n        ";
    static const uint8_t half[] = {0x23, 0x87, 0, 0, 0, 0, 0, 8};
    const struct fake_login answers[] = {
        {.raw = http, .raw_len = sizeof(http)},
        {.raw = half, .raw_len = sizeof(half), .close = true},
        {.raw = half, .raw_len = 0, .close = true},
        {.flags = 0x87, .text = "MaxRecvDataSegmentLength=0"},
        {.flags = 0x87, .text = "FirstBurstLength=-1"},
        {.flags = 0x87, .status = 0x0302},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(answers); i++) {
        struct answer answer;

        fake_target_login(fake, &answers[i], 1);
        answer = probe_answer(&spec);
        assert_true(answer.error.code == ERR_REMOTE_ERROR ||
                    answer.error.code == ERR_REMOTE_UNREACHABLE);
        assert_int_equal(answer.calls, 1);
    }
    /* Half a response and then nothing. */
    spec.connect_timeout_ms = 200;
    fake_target_login(fake, &(struct fake_login){.raw = half, .raw_len = sizeof(half)}, 1);
    assert_int_equal(probe_answer(&spec).error.code, ERR_TIMEOUT);
}

/* --- redirects ------------------------------------------------------------------------------------------------ */

static int filter_calls;

static int allow_none(void *arg, const struct sockaddr_storage *address, struct error *error)
{
    char text[SOCKADDR_TEXT_LEN];

    (void)arg;
    filter_calls++;
    sockaddr_format(address, text);
    return error_set(error, ERR_ADDRESS_NOT_ALLOWED, "%s may not be dialled", text);
}

static int allow_all(void *arg, const struct sockaddr_storage *address, struct error *error)
{
    (void)arg;
    (void)address;
    (void)error;
    filter_calls++;
    return 0;
}

static void a_redirect_goes_through_the_filter(void **state)
{
    struct iscsi_spec spec = spec_of("iqn.2026-01.test:moved", 1);
    struct answer answer;
    char port[16];

    (void)state;
    /* tgtd sends whoever wants this target to the fake one. */
    snprintf(port, sizeof(port), "%u",
             ntohs(((struct sockaddr_in *)&spec_of(FAKE, 1).portals[0])->sin_port));
    tgtd_target(tgtd, 3, "iqn.2026-01.test:moved");
    tgtd_option(tgtd, 3, "RedirectAddress", "127.0.0.2");
    tgtd_option(tgtd, 3, "RedirectPort", port);
    tgtd_option(tgtd, 3, "RedirectReason", "Temporary");

    answer = probe_answer(&spec); /* no filter: not followed */
    assert_int_equal(answer.error.code, ERR_ADDRESS_NOT_ALLOWED);
    filter_calls = 0;
    spec.address_filter = allow_none;
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_ADDRESS_NOT_ALLOWED);
    assert_int_equal(filter_calls, 1);
    assert_int_equal(fake_target_logins(fake), 0);
    spec.address_filter = allow_all;
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_NONE);
    assert_int_equal(fake_target_logins(fake), 1);
    assert_non_null(strstr(answer.info.portal, port));
    assert_string_equal(answer.info.vendor, "SMIRROR");
}

static void redirects_to_names_and_in_circles_end(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    char circle[64];
    struct answer answer;

    (void)state;
    spec.address_filter = allow_all;
    fake_target_login(
        fake, &(struct fake_login){.status = 0x0101, .text = "TargetAddress=example.org:3260,1"},
        1);
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_ADDRESS_NOT_ALLOWED);
    snprintf(circle, sizeof(circle), "TargetAddress=127.0.0.2:%u,1",
             ntohs(((struct sockaddr_in *)&spec.portals[0])->sin_port));
    filter_calls = 0;
    fake_target_login(fake, &(struct fake_login){.status = 0x0101, .text = circle}, 1);
    answer = probe_answer(&spec);
    assert_int_equal(answer.error.code, ERR_REMOTE_ERROR);
    assert_int_equal(filter_calls, 5);
}

/* --- reading and writing -------------------------------------------------------------------------------------- */

static void round_trip(unsigned lun, const char *file, uint64_t size, uint32_t block)
{
    struct iscsi_spec spec = spec_of(TARGET, lun);
    struct watch watch;
    struct random random;
    uint8_t *written = malloc(4 * MIB);
    uint8_t *seen = malloc(4 * MIB);

    watch_open(&watch, &spec);
    assert_int_equal(watch.dev->info.size_bytes, size);
    assert_int_equal(watch.dev->info.block_bytes, block);
    random_seed(&random, 7);
    for (unsigned i = 0; i < 60; i++) {
        /* Now and then longer than one command may be. */
        uint64_t max = i % 20 == 0 ? 4 * MIB : 300 * 1024;
        uint64_t len = (1 + random_below(&random, max / block)) * block;
        uint64_t offset = random_below(&random, (size - len) / block + 1) * block;

        fill(written, len, i);
        assert_int_equal(
            io_run(watch.dev, BLOCK_WRITE, offset, len, written, i % 3 == 0 ? BLOCK_FUA : 0), 0);
        file_read(file, offset, seen, len);
        assert_memory_equal(seen, written, len);
        memset(seen, 0, len);
        assert_int_equal(io_run(watch.dev, BLOCK_READ, offset, len, seen, 0), 0);
        assert_memory_equal(seen, written, len);
    }
    assert_int_equal(io_run(watch.dev, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, size, block, seen, 0), -EINVAL);
    watch_close(&watch);
    free(written);
    free(seen);
}

static void what_is_written_is_in_the_file_512(void **state)
{
    (void)state;
    round_trip(1, "thin", 64 * MIB, 512);
}

static void what_is_written_is_in_the_file_4096(void **state)
{
    (void)state;
    round_trip(2, "big", 32 * MIB, 4096);
}

static void many_requests_at_once_keep_their_data(void **state)
{
    enum { COUNT = 400, LEN = 64 * 1024 };
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    struct io *ios = calloc(COUNT, sizeof(*ios));
    uint8_t *data = malloc((size_t)COUNT * LEN);
    uint8_t *seen = calloc(COUNT, LEN);
    struct iscsi_dev_stats stats;

    (void)state;
    watch_open(&watch, &spec);
    fill(data, (size_t)COUNT * LEN, 1);
    for (unsigned round = 0; round < 2; round++) {
        unsigned done = 0;

        for (unsigned i = 0; i < COUNT; i++) {
            io_prepare(&ios[i], round == 0 ? BLOCK_WRITE : BLOCK_READ, (uint64_t)i * LEN, LEN,
                       (round == 0 ? data : seen) + (size_t)i * LEN);
            ios[i].counter = &done;
            blockdev_submit(watch.dev, &ios[i].req);
        }
        assert_int_equal(done, 0);
        for (unsigned i = 0; i < COUNT; i++) {
            wait_for(is_true, &ios[i].done);
            assert_int_equal(ios[i].req.status, 0);
        }
        assert_int_equal(done, COUNT);
    }
    assert_memory_equal(data, seen, (size_t)COUNT * LEN);
    iscsi_dev_stats(watch.dev, &stats);
    assert_int_equal(stats.bytes_read, (uint64_t)COUNT * LEN);
    assert_int_equal(stats.bytes_written, (uint64_t)COUNT * LEN);
    assert_int_equal(stats.logins, 1);
    watch_close(&watch);
    free(ios);
    free(data);
    free(seen);
}

static void slices_of_any_shape_are_put_together(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    struct io *io = malloc(sizeof(*io));
    struct random random;
    uint8_t *data = malloc(MIB);
    uint8_t *seen = malloc(MIB);

    (void)state;
    watch_open(&watch, &spec);
    random_seed(&random, 3);
    for (unsigned round = 0; round < 10; round++) {
        uint64_t total = 0;
        unsigned n = 0;

        fill(data, MIB, round);
        /* Lengths that know nothing of blocks, some of them zero. */
        while (n < 299 && total < 600000) {
            uint64_t len = random_below(&random, round < 5 ? 4000 : 40);

            io->slices[n++].len = len;
            total += len;
        }
        if (total % 512 != 0) {
            io->slices[n++].len = 512 - total % 512;
            total += 512 - total % 512;
        }
        for (unsigned pass = 0; pass < 2; pass++) {
            uint8_t *at = pass == 0 ? data : seen;
            struct slice slices[300];

            memcpy(slices, io->slices, sizeof(slices));
            io_prepare(io, pass == 0 ? BLOCK_WRITE : BLOCK_READ, MIB, total, NULL);
            memcpy(io->slices, slices, sizeof(slices));
            for (unsigned i = 0; i < n; i++) {
                io->slices[i].buffer = NULL;
                io->slices[i].data = at;
                at += io->slices[i].len;
            }
            io->req.slices = io->slices;
            io->req.n_slices = n;
            blockdev_submit(watch.dev, &io->req);
            wait_for(is_true, &io->done);
            assert_int_equal(io->req.status, 0);
        }
        assert_memory_equal(data, seen, total);
        file_read("thin", MIB, seen, total);
        assert_memory_equal(data, seen, total);
    }
    watch_close(&watch);
    free(io);
    free(data);
    free(seen);
}

static void a_write_protected_lun_is_read_only(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 4);
    struct watch watch;
    uint8_t block[512] = {1};

    (void)state;
    watch_open(&watch, &spec);
    assert_true(watch.dev->info.read_only);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, 512, block, 0), -EROFS);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, 512, block, 0), 0);
    watch_close(&watch);
}

static void header_digests_protect_the_session(void **state)
{
    struct iscsi_spec spec = spec_of("iqn.2026-01.test:digest", 1);
    struct watch watch;
    uint8_t data[8192];
    uint8_t seen[8192];

    (void)state;
    tgtd_target(tgtd, 5, "iqn.2026-01.test:digest");
    tgtd_option(tgtd, 5, "HeaderDigest", "CRC32C,None");
    tgtd_lun(tgtd, 5, &(struct tgtd_lun){.lun = 1, .file = "digest", .size_bytes = MIB});
    spec.header_digest = ISCSI_DIGEST_REQUIRE;
    watch_open(&watch, &spec);
    fill(data, sizeof(data), 5);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 4096, sizeof(data), data, 0), 0);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 4096, sizeof(seen), seen, 0), 0);
    assert_memory_equal(data, seen, sizeof(data));
    watch_close(&watch);
}

static void a_required_header_digest_is_not_given_up(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);

    (void)state;
    spec.header_digest = ISCSI_DIGEST_REQUIRE; /* the fake target says None */
    assert_int_equal(probe_answer(&spec).error.code, ERR_REMOTE_ERROR);
    spec.header_digest = ISCSI_DIGEST_PREFER;
    assert_int_equal(probe_answer(&spec).error.code, ERR_NONE);
}

/* --- zeros and maps ------------------------------------------------------------------------------------------- */

static void zeroing_gives_the_space_back(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    uint8_t *data = malloc(8 * MIB);
    uint64_t before;
    unsigned i;

    (void)state;
    watch_open(&watch, &spec);
    fill(data, 8 * MIB, 11);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, 8 * MIB, data, 0), 0);
    before = file_blocks("thin");
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, MIB, 6 * MIB, NULL, BLOCK_MAY_UNMAP), 0);
    assert_true(file_blocks("thin") + 5 * MIB / 512 < before);
    memset(data, 1, 8 * MIB);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, MIB, 6 * MIB, data, 0), 0);
    assert_true(mem_is_zero(data, 6 * MIB));
    /* Without leave the space stays. */
    fill(data, 8 * MIB, 12);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, 8 * MIB, data, 0), 0);
    before = file_blocks("thin");
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, 512, 4 * MIB, NULL, BLOCK_FUA), 0);
    assert_true(file_blocks("thin") + 64 > before);
    memset(data, 1, 8 * MIB);
    file_read("thin", 512, data, 4 * MIB);
    assert_true(mem_is_zero(data, 4 * MIB));
    /* And nothing beyond. */
    file_read("thin", 512 + 4 * MIB, data, 512);
    for (i = 0; i < 512 && data[i] == 0; i++) {
        ;
    }
    assert_true(i < 512);
    assert_int_equal(io_run(watch.dev, BLOCK_DISCARD, 0, 8 * MIB, NULL, 0), 0);
    assert_true(watch.dev->info.discard_zeroes);
    file_read("thin", 0, data, 8 * MIB);
    assert_true(mem_is_zero(data, 8 * MIB));
    watch_close(&watch);
    free(data);
}

static void a_target_that_refuses_unmap_gets_zeros_written(void **state)
{
    struct iscsi_spec spec =
        spec_of(TARGET, 3); /* announces UNMAP and WRITE SAME and does neither */
    struct watch watch;
    uint8_t *data = malloc(4 * MIB);

    (void)state;
    watch_open(&watch, &spec);
    fill(data, 4 * MIB, 13);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, 4 * MIB, data, 0), 0);
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, 512, 3 * MIB, NULL, BLOCK_MAY_UNMAP), 0);
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, 512, MIB, NULL, BLOCK_FUA), 0);
    file_read("aio", 512, data, 3 * MIB);
    assert_true(mem_is_zero(data, 3 * MIB));
    assert_int_equal(watch.downs, 0);
    assert_false(watch.dev->info.can_discard);
    watch_close(&watch);
    /* Advice that nobody takes. */
    watch_open(&watch, &spec);
    assert_true(watch.dev->info.can_discard);
    assert_int_equal(io_run(watch.dev, BLOCK_DISCARD, 0, MIB, NULL, 0), -EOPNOTSUPP);
    assert_false(watch.dev->info.can_discard);
    watch_close(&watch);
    free(data);
}

static void the_map_tells_data_from_holes(void **state)
{
    struct iscsi_spec spec = spec_of("iqn.2026-01.test:map", 1);
    struct watch watch;
    static struct block_extent extents[64][4096];
    static struct io ios[64];
    uint8_t data[65536];
    unsigned done = 0;
    uint64_t at = 0;
    unsigned n_data = 0;

    (void)state;
    tgtd_target(tgtd, 6, "iqn.2026-01.test:map");
    tgtd_lun(tgtd, 6,
             &(struct tgtd_lun){.lun = 1, .file = "map", .size_bytes = 64 * MIB, .thin = true});
    fill(data, sizeof(data), 1);
    for (unsigned i = 0; i < 16; i++) {
        file_write("map", i * 4 * MIB + MIB, data, sizeof(data));
    }
    watch_open(&watch, &spec);
    assert_true(watch.dev->info.can_map);
    /* All in one question … */
    io_prepare(&ios[0], BLOCK_MAP, 0, 64 * MIB, NULL);
    ios[0].req.extents = extents[0];
    ios[0].req.max_extents = 4096;
    blockdev_submit(watch.dev, &ios[0].req);
    wait_for(is_true, &ios[0].done);
    assert_int_equal(ios[0].req.status, 0);
    assert_int_equal(ios[0].req.n_extents, 33);
    for (unsigned i = 0; i < 33; i++) {
        assert_int_equal(extents[0][i].offset, at);
        at += extents[0][i].len;
        if (extents[0][i].kind == BLOCK_EXTENT_DATA) {
            assert_int_equal(extents[0][i].offset, n_data * 4 * MIB + MIB);
            assert_int_equal(extents[0][i].len, sizeof(data));
            n_data++;
        } else {
            assert_int_equal(extents[0][i].kind, BLOCK_EXTENT_ZERO);
        }
    }
    assert_int_equal(at, 64 * MIB);
    assert_int_equal(n_data, 16);
    /* … and in many at a time, with room for a few only. */
    for (unsigned i = 0; i < 64; i++) {
        io_prepare(&ios[i], BLOCK_MAP, i * MIB, MIB, NULL);
        ios[i].req.extents = extents[i];
        ios[i].req.max_extents = 2;
        ios[i].counter = &done;
        blockdev_submit(watch.dev, &ios[i].req);
    }
    for (unsigned i = 0; i < 64; i++) {
        wait_for(is_true, &ios[i].done);
        assert_int_equal(ios[i].req.status, 0);
        assert_int_equal(extents[i][0].offset, i * MIB);
        assert_int_equal(extents[i][0].kind, i % 4 == 1 ? BLOCK_EXTENT_DATA : BLOCK_EXTENT_ZERO);
        assert_int_equal(extents[i][0].len, i % 4 == 1 ? sizeof(data) : MIB);
        assert_int_equal(ios[i].req.n_extents, i % 4 == 1 ? 2 : 1);
    }
    assert_int_equal(done, 64);
    watch_close(&watch);
}

/* --- loss and return ------------------------------------------------------------------------------------------ */

static void a_killed_target_fails_every_request_once_and_comes_back(void **state)
{
    enum { COUNT = 200, LEN = 128 * 1024 };
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    struct io *ios = calloc(COUNT, sizeof(*ios));
    uint8_t *data = malloc((size_t)COUNT * LEN);
    unsigned lost = 0;
    unsigned done = 0;
    struct iscsi_dev_stats stats;

    (void)state;
    watch_open(&watch, &spec);
    fill(data, (size_t)COUNT * LEN, 2);
    for (unsigned i = 0; i < COUNT; i++) {
        io_prepare(&ios[i], i % 2 ? BLOCK_WRITE : BLOCK_READ, (uint64_t)i * LEN, LEN,
                   data + (size_t)i * LEN);
        ios[i].counter = &done;
        blockdev_submit(watch.dev, &ios[i].req);
    }
    wait_for(is_true, &ios[0].done);
    tgtd_kill(tgtd);
    wait_for(saw_down, &watch);
    for (unsigned i = 0; i < COUNT; i++) {
        wait_for(is_true, &ios[i].done);
        assert_int_equal(ios[i].calls, 1);
        assert_true(ios[i].req.status == 0 || ios[i].req.status == -ENOTCONN);
        lost += ios[i].req.status != 0;
    }
    assert_int_equal(done, COUNT);
    assert_true(lost > 0);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, LEN, data, 0), -ENOTCONN);
    wait_for(saw_retry, &watch);
    assert_non_null(strstr(watch.detail, "refused"));
    assert_int_equal(watch.ups, 0);
    tgtd_restart(tgtd, false);
    wait_for(saw_up, &watch);
    assert_int_equal(watch.downs, 1);
    fill(data, LEN, 3);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, LEN, data, 0), 0);
    memset(data, 0, LEN);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, LEN, data, 0), 0);
    iscsi_dev_stats(watch.dev, &stats);
    assert_int_equal(stats.logins, 2);
    assert_int_equal(stats.link_losses, 1);
    watch_close(&watch);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(ios[i].calls, 1);
    }
    free(ios);
    free(data);
}

/* --- the fence ------------------------------------------------------------------------------------------------ */

/* The target says that it was reset: for the device that is a lost link. */
static void lose_link(struct watch *watch)
{
    uint8_t block[512] = {0};

    watch->downs = watch->ups = 0;
    fake_target_fault(
        fake, &(struct fake_fault){.opcode = 0x8a, .count = 1, .status = 2, .key = 6, .asc = 0x29});
    assert_int_equal(io_run(watch->dev, BLOCK_WRITE, 0, sizeof(block), block, 0), -ENOTCONN);
    wait_for(saw_down, watch);
}

static void a_fenced_lun_is_reset_before_it_is_written_again(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t block[512] = {1};

    (void)state;
    /* Nobody has asked for it. */
    watch_open(&watch, &spec);
    lose_link(&watch);
    wait_for(saw_up, &watch);
    watch_close(&watch);
    assert_int_equal(fake_target_resets(fake), 0);

    /* At each redial. */
    spec.fence = true;
    watch_open(&watch, &spec);
    assert_int_equal(fake_target_resets(fake), 0);
    for (unsigned i = 1; i <= 2; i++) {
        lose_link(&watch);
        wait_for(saw_up, &watch);
        assert_int_equal(fake_target_resets(fake), i);
        assert_int_equal(watch.downs, 1);
        assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, sizeof(block), block, 0), 0);
    }
    watch_close(&watch);

    /* At the open. */
    fake_target_answer_resets(fake, 0);
    spec.fence_open = true;
    watch_open(&watch, &spec);
    assert_int_equal(fake_target_resets(fake), 1);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, sizeof(block), block, 0), 0);
    assert_int_equal(watch.downs, 0);
    watch_close(&watch);
}

/* Two sessions, as block/multi_dev.c uses them. */
static void a_session_fences_and_others_can_be_told(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch first, second;
    uint8_t block[4096] = {1};
    char names[2][512];

    (void)state;
    watch_open(&first, &spec);
    spec.isid++;
    watch_open(&second, &spec);
    iscsi_dev_name(first.dev, names[0], sizeof(names[0]));
    iscsi_dev_name(second.dev, names[1], sizeof(names[1]));
    assert_string_equal(names[0], names[1]);
    assert_true(strlen(names[0]) > 8);

    iscsi_dev_fence(first.dev);
    wait_for(saw_up, &first);
    assert_int_equal(first.downs + first.retries, 0);
    iscsi_dev_fenced(second.dev);
    assert_int_equal(io_run(second.dev, BLOCK_WRITE, 0, sizeof(block), block, 0), 0);
    assert_int_equal(io_run(first.dev, BLOCK_WRITE, 0, sizeof(block), block, 0), 0);
    assert_int_equal(first.downs + second.downs, 0);
    assert_false(iscsi_dev_was_reset(second.dev));

    /* One that was not told takes it for what it may be. */
    first.ups = 0;
    iscsi_dev_fence(first.dev);
    wait_for(saw_up, &first);
    assert_int_equal(io_run(second.dev, BLOCK_WRITE, 0, sizeof(block), block, 0), -ENOTCONN);
    assert_int_equal(second.downs, 1);
    assert_true(iscsi_dev_was_reset(second.dev));
    wait_for(saw_up, &second);
    assert_false(iscsi_dev_was_reset(second.dev));
    watch_close(&first);
    watch_close(&second);
}

static bool has_connection(void *arg)
{
    struct pollfd pfd = {.fd = *(int *)arg, .events = POLLIN};

    return poll(&pfd, 1, 0) > 0;
}

static void a_session_comes_from_the_address_that_was_wanted(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct sockaddr_in *source = (struct sockaddr_in *)&spec.source;
    struct sockaddr_in *portal = (struct sockaddr_in *)&spec.portals[0];
    struct sockaddr_in peer;
    socklen_t len = sizeof(*portal);
    struct answer answer = {.done = false};
    uint8_t block[512] = {1};
    struct watch watch;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    (void)state;
    source->sin_family = AF_INET;
    assert_int_equal(inet_pton(AF_INET, "127.0.0.7", &source->sin_addr), 1);
    watch_open(&watch, &spec);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, sizeof(block), block, 0), 0);
    watch_close(&watch);

    portal->sin_port = 0;
    assert_int_equal(bind(listener, (struct sockaddr *)portal, len), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)portal, &len), 0);
    struct iscsi_op *op = iscsi_dev_open(loop, &spec, opened, &answer);
    wait_for(has_connection, &listener);
    int fd = accept(listener, (struct sockaddr *)&peer, &len);
    assert_true(fd >= 0);
    assert_int_equal(ntohl(peer.sin_addr.s_addr), 0x7f000007);
    idle_ms(20);
    assert_int_equal(accept(listener, NULL, NULL), -1); /* and only from there */
    iscsi_op_cancel(op);
    close(fd);
    close(listener);

    /* An address that is not ours, one of another family. */
    assert_int_equal(inet_pton(AF_INET, "192.0.2.7", &source->sin_addr), 1);
    answer = open_answer(&spec);
    assert_null(answer.dev);
    assert_int_equal(answer.error.code, ERR_REMOTE_UNREACHABLE);
    assert_non_null(strstr(answer.error.detail, "192.0.2.7"));
    spec.source.ss_family = AF_INET6;
    answer = open_answer(&spec);
    assert_int_equal(answer.error.code, ERR_REMOTE_UNREACHABLE);
}

static void a_lun_that_is_not_the_right_one_is_not_reset(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    struct answer answer;

    (void)state;
    spec.fence = true;
    watch_open(&watch, &spec);
    fake_target_identity(fake, 9);
    lose_link(&watch);
    wait_for(saw_change, &watch);
    watch_close(&watch);
    spec.fence_open = true;
    snprintf(spec.identity, sizeof(spec.identity), "naa.600100000000000000000000000000ff");
    answer = open_answer(&spec);
    assert_null(answer.dev);
    assert_int_equal(answer.error.code, ERR_LUN_CHANGED);
    assert_int_equal(fake_target_resets(fake), 0);
}

/* Function not supported, rejected by the session layer, no answer: it comes up all the same, but later. */
static void a_target_that_refuses_the_reset_is_given_time(void **state)
{
    static const int responses[] = {5, -2, -1};
    struct iscsi_spec spec = spec_of(FAKE, 1);
    uint8_t block[512] = {1};

    (void)state;
    spec.fence_open = true;
    for (unsigned i = 0; i < ARRAY_LEN(responses); i++) {
        uint64_t began_ns = loop_now_ns(loop);
        struct watch watch;

        fake_target_answer_resets(fake, responses[i]);
        watch_open(&watch, &spec);
        assert_int_equal(fake_target_resets(fake), 1);
        assert_true(loop_now_ns(loop) - began_ns >= 2 * SEC_NS);
        assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, sizeof(block), block, 0), 0);
        watch_close(&watch);
    }
}

static void a_session_that_is_lost_while_fencing_is_dialled_again(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;

    (void)state;
    spec.fence = true;
    watch_open(&watch, &spec);
    lose_link(&watch);
    /* Login, questions, the quiet time: then the target ends the session. */
    unsigned logins = fake_target_logins(fake);
    idle_ms(300);
    assert_int_equal(fake_target_logins(fake), logins + 1);
    fake_target_hang_up(fake);
    wait_for(saw_retry, &watch);
    wait_for(saw_up, &watch);
    assert_int_equal(fake_target_resets(fake), 1);
    watch_close(&watch);

    /* Closed in the middle of it. */
    watch_open(&watch, &spec);
    lose_link(&watch);
    idle_ms(300);
    watch_close(&watch);
}

/* tgtd keeps the old session and its tasks when the same initiator comes again. */
static void no_write_of_an_older_session_lands_after_the_fence(void **state)
{
    enum { COUNT = 64, LEN = 128 * 1024 };
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct iscsi_spec other = spec;
    struct watch old, new, bystander;
    struct io *ios = calloc(COUNT, sizeof(*ios));
    uint8_t *data = malloc((size_t)COUNT * LEN);
    uint8_t *found = malloc((size_t)COUNT * LEN);

    (void)state;
    snprintf(other.initiator, sizeof(other.initiator), "iqn.2026-01.test:bystander");
    watch_open(&bystander, &other);
    watch_open(&old, &spec);
    fill(data, (size_t)COUNT * LEN, 77);
    tgtd_freeze(tgtd);
    for (unsigned i = 0; i < COUNT; i++) {
        io_prepare(&ios[i], BLOCK_WRITE, (uint64_t)i * LEN, LEN, data + (size_t)i * LEN);
        blockdev_submit(old.dev, &ios[i].req);
    }
    idle_ms(50);
    watch_close(&old);
    tgtd_thaw(tgtd);

    spec.fence = spec.fence_open = true;
    watch_open(&new, &spec);
    fill(data, (size_t)COUNT * LEN, 78);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(
            io_run(new.dev, BLOCK_WRITE, (uint64_t)i * LEN, LEN, data + (size_t)i * LEN, 0), 0);
    }
    idle_ms(200);
    file_read("thin", 0, found, (size_t)COUNT * LEN);
    assert_memory_equal(found, data, (size_t)COUNT * LEN);
    watch_close(&new);

    /* The reset was a real one: who else has a session hears of it. */
    assert_int_equal(io_run(bystander.dev, BLOCK_READ, 0, LEN, data, 0), -ENOTCONN);
    assert_int_equal(bystander.downs, 1);
    watch_close(&bystander);
    free(found);
    free(data);
    free(ios);
}

static void nothing_is_written_to(const char *file)
{
    static uint8_t data[64 * MIB];

    file_read(file, 0, data, sizeof(data));
    assert_true(mem_is_zero(data, sizeof(data)));
}

static void changed_after_restart(const struct tgtd_lun *lun, const char *word)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    struct io ios[20];
    uint8_t *data = malloc(20 * 65536);
    unsigned done = 0;

    watch_open(&watch, &spec);
    fill(data, 20 * 65536, 4);
    tgtd_kill(tgtd);
    wait_for(saw_down, &watch);
    tgtd_restart(tgtd, true);
    tgtd_target(tgtd, 1, TARGET);
    unlink(tgtd_path(tgtd, "other"));
    tgtd_lun(tgtd, 1, lun);
    /* Whatever is submitted now and later must not arrive. */
    while (watch.changes == 0) {
        for (unsigned i = 0; i < ARRAY_LEN(ios); i++) {
            io_prepare(&ios[i], BLOCK_WRITE, i * 65536, 65536, data + i * 65536);
            ios[i].counter = &done;
            blockdev_submit(watch.dev, &ios[i].req);
        }
        for (unsigned i = 0; i < ARRAY_LEN(ios); i++) {
            wait_for(is_true, &ios[i].done);
            assert_true(ios[i].req.status == -ENOTCONN || ios[i].req.status == -ESTALE);
        }
        idle_ms(2);
    }
    assert_int_equal(watch.changes, 1);
    assert_int_equal(watch.ups, 0);
    assert_non_null(strstr(watch.detail, word));
    assert_non_null(strstr(iscsi_dev_last_error(watch.dev), word));
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, 65536, data, 0), -ESTALE);
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, 65536, data, 0), -ESTALE);
    nothing_is_written_to("other");
    watch_close(&watch);
    unlink(tgtd_path(tgtd, "thin"));
    unlink(tgtd_path(tgtd, "big"));
    unlink(tgtd_path(tgtd, "aio"));
    unlink(tgtd_path(tgtd, "ro"));
    free(data);
}

static void a_lun_with_another_name_is_not_written(void **state)
{
    (void)state;
    changed_after_restart(&(struct tgtd_lun){.lun = 1,
                                             .file = "other",
                                             .size_bytes = 64 * MIB,
                                             .thin = true,
                                             .scsi_id = "SMIRROR 0001234"},
                          "another one");
}

static void a_lun_with_other_blocks_is_not_written(void **state)
{
    (void)state;
    changed_after_restart(
        &(struct tgtd_lun){.lun = 1, .file = "other", .size_bytes = 64 * MIB, .block_bytes = 4096},
        "blocks of 4096");
}

static void a_lun_that_has_shrunk_is_not_written(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 2);
    struct watch watch;

    (void)state;
    watch_open(&watch, &spec);
    tgtd_kill(tgtd);
    wait_for(saw_down, &watch);
    tgtd_restart(tgtd, true);
    tgtd_target(tgtd, 1, TARGET);
    tgtd_lun(tgtd, 1,
             &(struct tgtd_lun){.lun = 1, .file = "thin", .size_bytes = 64 * MIB, .thin = true});
    tgtd_lun(
        tgtd, 1,
        &(struct tgtd_lun){.lun = 2, .file = "big", .size_bytes = 31 * MIB, .block_bytes = 4096});
    wait_for(saw_change, &watch);
    assert_non_null(strstr(watch.detail, "shrunk"));
    watch_close(&watch);
}

static void a_lun_that_grew_is_the_same(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 2);
    struct watch watch;

    (void)state;
    watch_open(&watch, &spec);
    tgtd_kill(tgtd);
    wait_for(saw_down, &watch);
    tgtd_restart(tgtd, true);
    tgtd_target(tgtd, 1, TARGET);
    tgtd_lun(tgtd, 1,
             &(struct tgtd_lun){.lun = 1, .file = "thin", .size_bytes = 64 * MIB, .thin = true});
    tgtd_lun(
        tgtd, 1,
        &(struct tgtd_lun){.lun = 2, .file = "big", .size_bytes = 40 * MIB, .block_bytes = 4096});
    wait_for(saw_up, &watch);
    assert_int_equal(watch.dev->info.size_bytes, 32 * MIB);
    watch_close(&watch);
}

static void a_lun_that_is_gone_is_awaited(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 2);
    struct watch watch;
    struct tgtd_lun lun = {.lun = 2, .file = "big", .size_bytes = 32 * MIB, .block_bytes = 4096};

    (void)state;
    watch_open(&watch, &spec);
    tgtd_kill(tgtd);
    wait_for(saw_down, &watch);
    tgtd_restart(tgtd, true);
    tgtd_target(tgtd, 1, TARGET);
    tgtd_lun(tgtd, 1,
             &(struct tgtd_lun){.lun = 1, .file = "thin", .size_bytes = 64 * MIB, .thin = true});
    watch.retries = 0;
    wait_for(saw_retry, &watch);
    watch.retries = 0;
    wait_for(saw_retry, &watch);
    assert_non_null(strstr(watch.detail, "no LUN 2"));
    tgtd_lun(tgtd, 1, &lun);
    wait_for(saw_up, &watch);
    assert_int_equal(watch.changes, 0);
    watch_close(&watch);
}

static void a_lun_removed_under_the_session_is_a_loss(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t block[512];

    (void)state;
    watch_open(&watch, &spec);
    fake_target_fault(
        fake, &(struct fake_fault){.opcode = 0x88, .count = 1, .status = 2, .key = 5, .asc = 0x25});
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, 512, block, 0), -ENOTCONN);
    assert_int_equal(watch.downs, 1);
    wait_for(saw_up, &watch);
    watch_close(&watch);
}

static void a_frozen_target_is_noticed_within_the_deadline(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    struct io io;
    uint8_t block[4096];
    uint64_t began;

    (void)state;
    spec.stall_timeout_ms = 500;
    watch_open(&watch, &spec);
    /* With a request outstanding … */
    tgtd_freeze(tgtd);
    began = loop_now_ns(loop);
    io_prepare(&io, BLOCK_READ, 0, sizeof(block), block);
    blockdev_submit(watch.dev, &io.req);
    wait_for(is_true, &io.done);
    assert_int_equal(io.req.status, -ENOTCONN);
    assert_int_equal(watch.downs, 1);
    assert_true(loop_now_ns(loop) - began < 2 * SEC_NS);
    assert_true(loop_now_ns(loop) - began >= 490 * MS_NS);
    assert_non_null(strstr(watch.detail, "not answered"));
    tgtd_thaw(tgtd);
    wait_for(saw_up, &watch);
    /* … and without. */
    watch.downs = watch.ups = 0;
    tgtd_freeze(tgtd);
    began = loop_now_ns(loop);
    wait_for(saw_down, &watch);
    assert_true(loop_now_ns(loop) - began < 3 * SEC_NS);
    tgtd_thaw(tgtd);
    wait_for(saw_up, &watch);
    /* An idle session of a live target stays. */
    watch.downs = 0;
    idle_ms(1500);
    assert_int_equal(watch.downs, 0);
    watch_close(&watch);
}

static void a_silent_command_does_not_hang_for_ever(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t block[512];

    (void)state;
    spec.stall_timeout_ms = 300;
    watch_open(&watch, &spec);
    /* The target stays silent to this one, and NOPs are answered: the link is alive, the command is not. */
    fake_target_fault(fake, &(struct fake_fault){.opcode = 0x88, .count = 1, .silent = true});
    {
        struct io io;

        io_prepare(&io, BLOCK_READ, 0, 512, block);
        blockdev_submit(watch.dev, &io.req);
        idle_ms(1000);
        assert_false(io.done);
        assert_int_equal(watch.downs, 0);
        watch_close(&watch);
        assert_true(io.done);
        assert_int_equal(io.req.status, -ECANCELED);
        assert_int_equal(io.calls, 1);
    }
}

static void a_logout_request_leads_to_a_new_login(void **state)
{
    static const uint8_t events[] = {1, 2, 4};
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t block[512];

    (void)state;
    watch_open(&watch, &spec);
    for (unsigned i = 0; i < ARRAY_LEN(events); i++) {
        int status;

        watch.ups = watch.downs = 0;
        fake_target_async(fake, events[i]);
        status = io_run(watch.dev, BLOCK_READ, 0, 512, block, 0);
        assert_true(status == 0 || status == -ENOTCONN);
        if (events[i] == 2) { /* "will drop the connection": this one says so and does not */
            idle_ms(20);
            assert_int_equal(watch.downs, 0);
            continue;
        }
        wait_for(saw_down, &watch);
        wait_for(saw_up, &watch);
        assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, 512, block, 0), 0);
    }
    watch_close(&watch);
}

/* --- answers that are not GOOD -------------------------------------------------------------------------------- */

/* Its cache may be gone, and nobody but the device sees it. */
static void a_reset_in_the_middle_of_a_session_is_a_lost_link(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    struct io io;
    uint8_t data[512] = {0};

    (void)state;
    watch_open(&watch, &spec);
    fake_target_fault(
        fake, &(struct fake_fault){.opcode = 0x8a, .count = 1, .status = 2, .key = 6, .asc = 0x29});
    io_prepare(&io, BLOCK_WRITE, 0, sizeof(data), data);
    blockdev_submit(watch.dev, &io.req);
    wait_for(is_true, &io.done);
    assert_int_equal(io.req.status, -ENOTCONN);
    wait_for(saw_down, &watch);
    wait_for(saw_up, &watch);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, sizeof(data), data, 0), 0);
    watch_close(&watch);
}

static void passing_troubles_are_retried(void **state)
{
    static const struct fake_fault faults[] = {
        {.opcode = 0x100, .count = 3, .status = 2, .key = 6, .asc = 0x38, .ascq = 7},
        {.opcode = 0x100, .count = 2, .status = 2, .key = 6, .asc = 0x2a, .ascq = 9},
        {.opcode = 0x100, .count = 1, .status = 2, .key = 6, .asc = 0x3f, .ascq = 3},
        {.opcode = 0x100, .count = 1, .status = 2, .key = 6, .asc = 0x3f, .ascq = 0x0e},
        {.opcode = 0x100, .count = 3, .status = 8},
        {.opcode = 0x100, .count = 3, .status = 0x28},
        {.opcode = 0x100, .count = 3, .status = 0x40},
        {.opcode = 0x100, .count = 3, .status = 2, .key = 0x0b},
        {.opcode = 0x100, .count = 2, .status = 2, .key = 2, .asc = 4, .ascq = 1},
    };
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t *data = malloc(200 * 1024);

    (void)state;
    watch_open(&watch, &spec);
    for (unsigned i = 0; i < ARRAY_LEN(faults); i++) {
        struct iscsi_dev_stats before, after;

        /* 200 KiB go in 25 PDUs: the answer comes while most of them still wait to be sent. */
        for (unsigned pass = 0; pass < 2; pass++) {
            iscsi_dev_stats(watch.dev, &before);
            fake_target_fault(fake, &faults[i]);
            fill(data, 200 * 1024, i * 2 + pass);
            assert_int_equal(
                io_run(watch.dev, pass ? BLOCK_READ : BLOCK_WRITE, 512, 200 * 1024, data, 0), 0);
            assert_memory_equal(data, fake_target_data(fake) + 512, 200 * 1024);
            iscsi_dev_stats(watch.dev, &after);
            assert_int_equal(after.retries - before.retries, faults[i].count);
        }
    }
    assert_int_equal(watch.downs, 0);
    assert_int_equal(fake_target_logins(fake), 1);
    watch_close(&watch);
    free(data);
}

static void lasting_troubles_have_their_status(void **state)
{
    static const struct {
        struct fake_fault fault;
        enum block_op op;
        int status;
        const char *word;
    } cases[] = {
        {{.status = 2, .key = 3, .asc = 0x11}, BLOCK_READ, -EIO, "MEDIUM ERROR"},
        {{.status = 2, .key = 4, .asc = 0x44}, BLOCK_WRITE, -EIO, "HARDWARE ERROR"},
        {{.status = 2, .key = 7, .asc = 0x27, .ascq = 7}, BLOCK_WRITE, -ENOSPC, "no space"},
        {{.status = 2, .key = 7, .asc = 0x27}, BLOCK_WRITE, -EROFS, "write protected"},
        {{.status = 0x18}, BLOCK_WRITE, -EBUSY, "RESERVATION CONFLICT"},
        {{.status = 0x18}, BLOCK_READ, -EBUSY, "RESERVATION CONFLICT"},
        {{.status = 2, .key = 5, .asc = 0x24}, BLOCK_READ, -EIO, "invalid field"},
    };
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t *data = calloc(1, 200 * 1024);

    (void)state;
    watch_open(&watch, &spec);
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct fake_fault fault = cases[i].fault;

        fault.opcode = 0x100;
        fault.count = 1;
        fake_target_fault(fake, &fault);
        assert_int_equal(io_run(watch.dev, cases[i].op, 0, 200 * 1024, data, 0), cases[i].status);
        assert_non_null(strstr(iscsi_dev_last_error(watch.dev), cases[i].word));
        assert_int_equal(io_run(watch.dev, cases[i].op, 0, 200 * 1024, data, 0), 0);
    }
    assert_int_equal(watch.downs, 0);
    watch_close(&watch);
    free(data);
}

static void io_done_free(struct block_req *req)
{
    struct io *io = req->arg;

    free(io->slices[0].data);
    io->slices[0].data = NULL;
    io_done(req);
}

/* A target may answer a write while most of its data still wait to be sent. Whoever owns the data frees them then. */
static void early_answers_to_writes_leave_nothing_behind(void **state)
{
    enum { COUNT = 48, LEN = 256 * 1024 };
    static const uint8_t answers[] = {0x18, 0x08, 0x00};
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct io *ios = calloc(COUNT, sizeof(*ios));

    (void)state;
    for (unsigned round = 0; round < ARRAY_LEN(answers); round++) {
        struct watch watch;
        unsigned refused = 0;

        watch_open(&watch, &spec);
        /* What waits in the socket's buffer is about ten of these. */
        fake_target_fault(fake,
                          &(struct fake_fault){
                              .opcode = 0x8a, .count = 1, .ahead = 30, .status = answers[round]});
        for (unsigned i = 0; i < COUNT; i++) {
            uint8_t *data = malloc(LEN);

            fill(data, LEN, i % 4);
            io_prepare(&ios[i], BLOCK_WRITE, (i % 4) * LEN, LEN, data);
            ios[i].req.done = io_done_free;
            blockdev_submit(watch.dev, &ios[i].req);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            wait_for(is_true, &ios[i].done);
            assert_int_equal(ios[i].calls, 1);
            refused += ios[i].req.status == -EBUSY;
        }
        if (answers[round] != 0) {
            assert_true((refused > 1) == (answers[round] == 0x18));
            assert_int_equal(watch.downs, 0);
        } /* else: "good" for data that it has not got: the session need not survive that */
        watch_close(&watch);
    }
    free(ios);
}

static void after_a_reset_the_lun_is_looked_at_before_more_is_written(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    struct io ios[40];
    uint8_t data[4096];
    unsigned writes;

    (void)state;
    watch_open(&watch, &spec);
    memset(data, 0x77, sizeof(data));
    memset(fake_target_data(fake), 0, FAKE_BYTES);
    /* It becomes another LUN, and the first write meets the unit attention that says so. */
    fake_target_identity(fake, 2);
    fake_target_fault(
        fake, &(struct fake_fault){
                  .opcode = 0x8a, .count = 1, .status = 2, .key = 6, .asc = 0x3f, .ascq = 3});
    io_prepare(&ios[0], BLOCK_WRITE, 0, sizeof(data), data);
    blockdev_submit(watch.dev, &ios[0].req);
    wait_for(is_true, &ios[0].done);
    assert_int_equal(ios[0].req.status, -ESTALE);
    wait_for(saw_change, &watch);
    writes = fake_target_count(fake, 0x8a);
    for (unsigned i = 0; i < ARRAY_LEN(ios); i++) {
        io_prepare(&ios[i], BLOCK_WRITE, i * sizeof(data), sizeof(data), data);
        blockdev_submit(watch.dev, &ios[i].req);
    }
    for (unsigned i = 0; i < ARRAY_LEN(ios); i++) {
        wait_for(is_true, &ios[i].done);
        assert_int_equal(ios[i].req.status, -ESTALE);
    }
    assert_int_equal(fake_target_count(fake, 0x8a), writes);
    assert_true(mem_is_zero(fake_target_data(fake), FAKE_BYTES));
    watch_close(&watch);
}

static void a_capacity_that_shrank_is_found_out(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    uint8_t block[512];

    (void)state;
    watch_open(&watch, &spec);
    fake_target_blocks(fake, 1024); /* without a unit attention: a read beyond the new end */
    assert_int_equal(io_run(watch.dev, BLOCK_READ, FAKE_BYTES - 512, 512, block, 0), -ESTALE);
    wait_for(saw_change, &watch);
    assert_non_null(strstr(watch.detail, "shrunk"));
    watch_close(&watch);
}

static void a_small_command_window_is_kept_and_learned(void **state)
{
    enum { COUNT = 200 };
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    static struct io ios[COUNT];
    static uint8_t data[COUNT][4096];
    unsigned done = 0;

    (void)state;
    fake_target_window(fake, 4);
    watch_open(&watch, &spec);
    assert_int_equal(watch.dev->info.max_inflight, 64);
    for (unsigned i = 0; i < COUNT; i++) {
        memset(data[i], (int)i, sizeof(data[i]));
        io_prepare(&ios[i], BLOCK_WRITE, i * sizeof(data[0]), sizeof(data[0]), data[i]);
        ios[i].counter = &done;
        blockdev_submit(watch.dev, &ios[i].req);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        wait_for(is_true, &ios[i].done);
        assert_int_equal(ios[i].req.status, 0);
    }
    assert_memory_equal(data, fake_target_data(fake), sizeof(data));
    assert_in_range(watch.dev->info.max_inflight, 1, 8);
    watch_close(&watch);
}

static void task_set_full_reduces_what_is_in_flight(void **state)
{
    enum { COUNT = 64 };
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    static struct io ios[COUNT];
    static uint8_t data[COUNT][512];

    (void)state;
    watch_open(&watch, &spec);
    fake_target_fault(
        fake, &(struct fake_fault){.opcode = 0x88, .skip = 10, .count = 30, .status = 0x28});
    for (unsigned i = 0; i < COUNT; i++) {
        io_prepare(&ios[i], BLOCK_READ, i * 512, 512, data[i]);
        blockdev_submit(watch.dev, &ios[i].req);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        wait_for(is_true, &ios[i].done);
        assert_int_equal(ios[i].req.status, 0);
    }
    assert_in_range(watch.dev->info.max_inflight, 1, 40);
    watch_close(&watch);
}

static void unmap_keeps_to_the_limits(void **state)
{
    enum { COUNT = 10 };
    struct iscsi_spec spec =
        spec_of(FAKE, 1); /* 2000 blocks, 4 descriptors a command, granules of 8 */
    struct watch watch;
    static struct io ios[COUNT];
    uint8_t *data = fake_target_data(fake);

    (void)state;
    watch_open(&watch, &spec);
    assert_true(watch.dev->info.can_discard);
    memset(data, 0x55, FAKE_BYTES);
    /* All of it: 2048 blocks in two commands. */
    assert_int_equal(io_run(watch.dev, BLOCK_DISCARD, 0, FAKE_BYTES, NULL, 0), 0);
    assert_int_equal(fake_target_count(fake, 0x42), 2);
    assert_true(mem_is_zero(data, FAKE_BYTES));
    /* Ten scattered ones, while one command may be out: four, four, two. */
    memset(data, 0x55, FAKE_BYTES);
    for (unsigned i = 0; i < COUNT; i++) {
        io_prepare(&ios[i], BLOCK_DISCARD, i * 65536, 8192, NULL);
        blockdev_submit(watch.dev, &ios[i].req);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        wait_for(is_true, &ios[i].done);
        assert_int_equal(ios[i].req.status, 0);
        assert_true(mem_is_zero(data + i * 65536, 8192));
        assert_int_equal(data[i * 65536 + 8192], 0x55);
    }
    /* Less than a granule: nothing to do. Edges stay. */
    memset(data, 0x55, FAKE_BYTES);
    assert_int_equal(io_run(watch.dev, BLOCK_DISCARD, 512, 4096, NULL, 0), 0);
    assert_int_equal(data[4096], 0x55);
    assert_int_equal(io_run(watch.dev, BLOCK_DISCARD, 512, 8192, NULL, 0), 0);
    assert_int_equal(data[4095], 0x55);
    assert_true(mem_is_zero(data + 4096, 4096));
    assert_int_equal(data[8192], 0x55);
    /* Zeros have no edges. */
    memset(data, 0x55, FAKE_BYTES);
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, 512, 9216, NULL, BLOCK_MAY_UNMAP), 0);
    assert_int_equal(data[511], 0x55);
    assert_true(mem_is_zero(data + 512, 9216));
    assert_int_equal(data[512 + 9216], 0x55);
    /* UNMAP refused, WRITE SAME refused: written, and all of it. */
    memset(data, 0x55, FAKE_BYTES);
    fake_target_fault(fake, &(struct fake_fault){
                                .opcode = 0x42, .count = 100, .status = 2, .key = 5, .asc = 0x20});
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, 512, 600 * 1024, NULL, BLOCK_MAY_UNMAP), 0);
    assert_true(mem_is_zero(data + 512, 600 * 1024));
    assert_int_equal(data[512 + 600 * 1024], 0x55);
    memset(data, 0x55, FAKE_BYTES);
    fake_target_fault(fake, &(struct fake_fault){
                                .opcode = 0x93, .count = 100, .status = 2, .key = 5, .asc = 0x20});
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, 512, 200 * 1024, NULL, 0), 0);
    assert_true(mem_is_zero(data + 512, 200 * 1024));
    assert_int_equal(data[512 + 200 * 1024], 0x55);
    watch_close(&watch);
}

static void refused_commands_find_another_way(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1);
    struct watch watch;
    struct block_extent extent;
    struct io io;
    uint8_t data[4096];

    (void)state;
    watch_open(&watch, &spec);
    fake_target_fault(
        fake, &(struct fake_fault){.opcode = 0x91, .count = 1, .status = 2, .key = 5, .asc = 0x20});
    assert_int_equal(io_run(watch.dev, BLOCK_FLUSH, 0, 0, NULL, 0), 0);
    assert_int_equal(fake_target_count(fake, 0x35), 1);
    fake_target_fault(
        fake, &(struct fake_fault){.opcode = 0x35, .count = 1, .status = 2, .key = 5, .asc = 0x20});
    assert_int_equal(io_run(watch.dev, BLOCK_FLUSH, 0, 0, NULL, 0),
                     0); /* no cache that is told of */
    fake_target_fault(
        fake, &(struct fake_fault){.opcode = 0x88, .count = 1, .status = 2, .key = 5, .asc = 0x20});
    assert_int_equal(io_run(watch.dev, BLOCK_READ, 0, sizeof(data), data, 0), 0);
    fill(data, sizeof(data), 1);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 8192, sizeof(data), data, 0), 0);
    assert_memory_equal(data, fake_target_data(fake) + 8192, sizeof(data));
    assert_int_equal(fake_target_count(fake, 0x28), 1);
    assert_int_equal(fake_target_count(fake, 0x2a), 1);

    assert_true(watch.dev->info.can_map);
    fake_target_fault(fake, &(struct fake_fault){
                                .opcode = 0x9e12, .count = 1, .status = 2, .key = 5, .asc = 0x20});
    io_prepare(&io, BLOCK_MAP, 0, MIB, NULL);
    io.req.extents = &extent;
    io.req.max_extents = 1;
    blockdev_submit(watch.dev, &io.req);
    wait_for(is_true, &io.done);
    assert_int_equal(io.req.status, -EOPNOTSUPP);
    assert_false(watch.dev->info.can_map);
    watch_close(&watch);
}

static void fua_reaches_the_disk_one_way_or_the_other(void **state)
{
    struct iscsi_spec spec = spec_of(FAKE, 1); /* no DPOFUA */
    struct watch watch;
    uint8_t data[4096] = {1};

    (void)state;
    watch_open(&watch, &spec);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, sizeof(data), data, 0), 0);
    assert_int_equal(fake_target_count(fake, 0x91), 0);
    assert_int_equal(io_run(watch.dev, BLOCK_WRITE, 0, sizeof(data), data, BLOCK_FUA), 0);
    assert_int_equal(fake_target_count(fake, 0x91), 1);
    assert_int_equal(io_run(watch.dev, BLOCK_ZERO, 0, sizeof(data), NULL, BLOCK_FUA), 0);
    assert_int_equal(fake_target_count(fake, 0x91), 2);
    watch_close(&watch);
}

/* --- closing -------------------------------------------------------------------------------------------------- */

static void closing_with_requests_outstanding_completes_them(void **state)
{
    enum { COUNT = 100, LEN = 65536 };
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct io *ios = calloc(COUNT, sizeof(*ios));
    uint8_t *data = calloc(COUNT, LEN);

    (void)state;
    for (unsigned round = 0; round < 12; round++) {
        struct watch watch;

        watch_open(&watch, &spec);
        for (unsigned i = 0; i < COUNT; i++) {
            io_prepare(&ios[i], round % 2 ? BLOCK_READ : BLOCK_WRITE, (uint64_t)i * LEN, LEN,
                       data + (size_t)i * LEN);
            blockdev_submit(watch.dev, &ios[i].req);
        }
        if (round > 2) {
            wait_for(is_true, &ios[round * 8].done);
        } else if (round > 0) {
            idle_ms(round);
        }
        watch_close(&watch);
        for (unsigned i = 0; i < COUNT; i++) {
            assert_int_equal(ios[i].calls, 1);
            assert_true(ios[i].req.status == 0 || ios[i].req.status == -ECANCELED);
        }
    }
    free(ios);
    free(data);
}

static void close_inside_done(struct block_req *req)
{
    struct watch *watch = req->arg;

    watch->attempts++;
    if (watch->attempts == 1) {
        blockdev_close(watch->dev, closed, watch);
    }
}

static void closing_inside_a_completion_is_safe(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    struct io ios[30];
    static uint8_t data[30][4096];

    (void)state;
    watch_open(&watch, &spec);
    for (unsigned i = 0; i < ARRAY_LEN(ios); i++) {
        io_prepare(&ios[i], BLOCK_READ, i * 4096, 4096, data[i]);
        ios[i].req.done = close_inside_done;
        ios[i].req.arg = &watch;
        blockdev_submit(watch.dev, &ios[i].req);
    }
    wait_for(is_true, &watch.closed);
    assert_int_equal(watch.attempts, ARRAY_LEN(ios));
}

static void close_inside_event(void *arg, struct blockdev *dev, enum block_event event,
                               unsigned attempts, const char *detail)
{
    (void)attempts;
    (void)detail;
    assert_int_equal(event, BLOCK_EVENT_DOWN);
    blockdev_close(dev, closed, arg);
}

static void closing_while_the_link_is_down_is_safe(void **state)
{
    struct iscsi_spec spec = spec_of(TARGET, 1);
    struct watch watch;
    struct io io;
    uint8_t block[512];

    (void)state;
    /* In the back-off, and in the middle of a dial that nobody answers. */
    for (unsigned round = 0; round < 3; round++) {
        watch_open(&watch, &spec);
        if (round == 2) {
            io_prepare(&io, BLOCK_READ, 0, 512, block);
            watch.dev->on_event = close_inside_event;
            tgtd_freeze(tgtd);
            blockdev_submit(watch.dev, &io.req);
            idle_ms(5);
            tgtd_kill(tgtd);
            wait_for(is_true, &watch.closed);
            assert_true(io.done);
            tgtd_restart(tgtd, false);
            continue;
        }
        tgtd_kill(tgtd);
        wait_for(saw_down, &watch);
        if (round == 1) {
            tgtd_restart(tgtd, false);
            tgtd_freeze(tgtd);
            idle_ms(150);
        }
        watch_close(&watch);
        if (round == 1) {
            tgtd_thaw(tgtd);
        }
        tgtd_restart(tgtd, false);
    }
}

static void addresses_are_numbers(void **state)
{
    struct sockaddr_storage address;

    (void)state;
    assert_int_equal(iscsi_address_parse("192.0.2.1:3261,1", &address), 0);
    assert_int_equal(sockaddr_port(&address), 3261);
    assert_int_equal(iscsi_address_parse("192.0.2.1", &address), 0);
    assert_int_equal(sockaddr_port(&address), 3260);
    assert_int_equal(iscsi_address_parse("[2001:db8::1]:3260,1", &address), 0);
    assert_int_equal(address.ss_family, AF_INET6);
    assert_int_equal(iscsi_address_parse("example.org:3260,1", &address), -EINVAL);
    assert_int_equal(iscsi_address_parse("localhost:3260,1", &address), -EINVAL);
    assert_int_equal(iscsi_address_parse("192.0.2.1:3260,", &address), -EINVAL);
    assert_int_equal(iscsi_address_parse("", &address), -EINVAL);
}

#define TEST_FAKE(name)  cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)
#define TEST_FRESH(name) cmocka_unit_test_teardown(name, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_numbers),
        cmocka_unit_test(a_probe_tells_what_the_lun_is),
        TEST_FRESH(discovery_finds_targets_and_addresses),
        cmocka_unit_test(the_list_of_luns_is_complete),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(a_dead_portal_does_not_hide_a_good_one),
        cmocka_unit_test(a_lun_that_is_not_expected_is_not_opened),
        cmocka_unit_test(an_operation_can_be_cancelled_at_any_time),
        TEST_FRESH(chap_opens_with_the_right_secret_only),
        TEST_FRESH(mutual_chap_refuses_a_target_that_does_not_prove_itself),
        TEST_FAKE(mutual_chap_is_not_fooled_by_the_stage_of_the_login),
        TEST_FAKE(a_login_that_makes_no_sense_ends_with_an_error),
        TEST_FAKE(a_redirect_goes_through_the_filter),
        TEST_FAKE(redirects_to_names_and_in_circles_end),
        cmocka_unit_test(what_is_written_is_in_the_file_512),
        cmocka_unit_test(what_is_written_is_in_the_file_4096),
        cmocka_unit_test(many_requests_at_once_keep_their_data),
        cmocka_unit_test(slices_of_any_shape_are_put_together),
        cmocka_unit_test(a_write_protected_lun_is_read_only),
        TEST_FRESH(header_digests_protect_the_session),
        TEST_FAKE(a_required_header_digest_is_not_given_up),
        cmocka_unit_test(zeroing_gives_the_space_back),
        cmocka_unit_test(a_target_that_refuses_unmap_gets_zeros_written),
        TEST_FRESH(the_map_tells_data_from_holes),
        cmocka_unit_test(a_killed_target_fails_every_request_once_and_comes_back),
        TEST_FRESH(a_lun_with_another_name_is_not_written),
        TEST_FRESH(a_lun_with_other_blocks_is_not_written),
        TEST_FRESH(a_lun_that_has_shrunk_is_not_written),
        TEST_FRESH(a_lun_that_grew_is_the_same),
        TEST_FRESH(a_lun_that_is_gone_is_awaited),
        TEST_FAKE(a_lun_removed_under_the_session_is_a_loss),
        cmocka_unit_test(a_frozen_target_is_noticed_within_the_deadline),
        TEST_FAKE(a_silent_command_does_not_hang_for_ever),
        TEST_FAKE(a_logout_request_leads_to_a_new_login),
        TEST_FAKE(a_reset_in_the_middle_of_a_session_is_a_lost_link),
        TEST_FAKE(a_fenced_lun_is_reset_before_it_is_written_again),
        TEST_FRESH(a_session_fences_and_others_can_be_told),
        TEST_FRESH(a_session_comes_from_the_address_that_was_wanted),
        TEST_FAKE(a_lun_that_is_not_the_right_one_is_not_reset),
        TEST_FAKE(a_target_that_refuses_the_reset_is_given_time),
        TEST_FAKE(a_session_that_is_lost_while_fencing_is_dialled_again),
        cmocka_unit_test_setup(no_write_of_an_older_session_lands_after_the_fence, fresh),
        TEST_FAKE(passing_troubles_are_retried),
        TEST_FAKE(lasting_troubles_have_their_status),
        TEST_FAKE(early_answers_to_writes_leave_nothing_behind),
        TEST_FAKE(after_a_reset_the_lun_is_looked_at_before_more_is_written),
        TEST_FAKE(a_capacity_that_shrank_is_found_out),
        TEST_FAKE(a_small_command_window_is_kept_and_learned),
        TEST_FAKE(task_set_full_reduces_what_is_in_flight),
        TEST_FAKE(unmap_keeps_to_the_limits),
        TEST_FAKE(refused_commands_find_another_way),
        TEST_FAKE(fua_reaches_the_disk_one_way_or_the_other),
        cmocka_unit_test(closing_with_requests_outstanding_completes_them),
        cmocka_unit_test(closing_inside_a_completion_is_safe),
        cmocka_unit_test(closing_while_the_link_is_down_is_safe),
    };

    log_set_level(getenv("SMIRROR_TEST_LOG") != NULL ? LOG_DEBUG : LOG_ERROR);
    return cmocka_run_group_tests(tests, setup, teardown);
}
