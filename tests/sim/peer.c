// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/list.h"
#include "service/lun_opener.h"
#include "tests/sim/machine.h"

enum { NAME = 64 };

struct peer_lun {
    struct list link;
    char target[NAME];
    struct test_disk *disk;
    struct test_disk *survivor; /* of a power cut of ours */
    struct test_dev_spec spec;
    struct list sessions;
    uint64_t lost_until_ns;
};

/* One opener, and the device that it opens. */
struct session {
    struct test_opener opener; /* first: it is freed as one */
    struct block_opener_ops ops;
    const struct block_opener_ops *inner;
    struct peer_lun *lun;
    struct list link;
};

static struct list luns;
static struct random numbers;

static uint64_t pick_of(const uint64_t *values, unsigned n)
{
    return values[random_below(&numbers, n)];
}

#define ANY(...)                                                                                   \
    pick_of((const uint64_t[]){__VA_ARGS__},                                                       \
            sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

void peer_begin(uint64_t seed)
{
    list_init(&luns);
    random_seed(&numbers, seed * 7 + 3);
}

struct peer_lun *peer_lun_new(const char *target, uint64_t size)
{
    struct peer_lun *lun = calloc(1, sizeof(*lun));

    CHECK(lun != NULL && strlen(target) < NAME);
    strcpy(lun->target, target);
    lun->disk = test_disk_new(size);
    lun->spec = (struct test_dev_spec){
        .block_bytes = 512,
        .optimal_bytes = 65536,
        .max_bytes = (uint32_t)ANY(65536, 262144),
        .max_inflight = (uint32_t)ANY(1, 4, 16),
        .can_map = random_chance(&numbers, 1, 2),
        .map_doubts = (unsigned)ANY(0, 4),
        .delay_ns = ANY(0, 100000, MS_NS),
        .delay_spread_ns = ANY(0, 200000, 5 * MS_NS),
        .volatile_cache = random_chance(&numbers, 3, 4),
    };
    list_init(&lun->sessions);
    list_push_back(&luns, &lun->link);
    return lun;
}

void peer_end(void)
{
    list_for_each_safe(link, following, &luns)
    {
        struct peer_lun *lun = list_entry(link, struct peer_lun, link);

        CHECK(list_empty(&lun->sessions) && lun->survivor == NULL);
        test_disk_free(lun->disk);
        free(lun);
    }
}

/* ---- what the service opens ---- */

static void session_open(struct block_opener *base, struct loop *loop, block_opened_fn done,
                         void *arg)
{
    struct session *session = container_of(base, struct session, opener.base);

    session->opener.fail_opens = loop_now_ns(loop) < session->lun->lost_until_ns;
    session->inner->open(base, loop, done, arg);
}

static void session_free(struct block_opener *base)
{
    struct session *session = container_of(base, struct session, opener.base);

    session->inner->free(base);
    list_remove(&session->link);
    free(session);
}

struct block_opener *__wrap_lun_opener_new(struct network *network,
                                           const struct lun_opener_spec *spec);
struct block_opener *__wrap_lun_opener_new(struct network *network,
                                           const struct lun_opener_spec *spec)
{
    struct session *session = calloc(1, sizeof(*session));

    (void)network;
    CHECK(session != NULL);
    list_for_each(link, &luns)
    {
        struct peer_lun *lun = list_entry(link, struct peer_lun, link);

        if (strcmp(lun->target, spec->iscsi.target) == 0) {
            session->lun = lun;
        }
    }
    CHECK(session->lun != NULL);
    test_opener_init(&session->opener, NULL, session->lun->disk, &session->lun->spec, &numbers);
    session->inner = session->opener.base.ops;
    session->ops = *session->inner;
    session->ops.open = session_open;
    session->ops.free = session_free;
    session->opener.base.ops = &session->ops;
    list_push_back(&session->lun->sessions, &session->link);
    return &session->opener.base;
}

/* ---- what happens to them ---- */

void peer_lun_lost(struct peer_lun *lun, uint64_t ns)
{
    lun->lost_until_ns = loop_sim_now_ns(machine_sim()) + ns;
    list_for_each(link, &lun->sessions)
    {
        test_opener_link_down(&list_entry(link, struct session, link)->opener, ns);
    }
}

void peer_lun_slow(struct peer_lun *lun, uint64_t delay_ns)
{
    lun->spec.delay_ns = delay_ns;
    lun->spec.delay_spread_ns = delay_ns;
    list_for_each(link, &lun->sessions)
    {
        struct session *session = list_entry(link, struct session, link);

        session->opener.spec.delay_ns = delay_ns;
        session->opener.spec.delay_spread_ns = delay_ns;
    }
}

void peer_lun_fails(struct peer_lun *lun, unsigned ops, unsigned count, int status)
{
    list_for_each(link, &lun->sessions)
    {
        struct session *session = list_entry(link, struct session, link);

        session->opener.n_faults = 0;
        test_opener_fault(
            &session->opener,
            (struct test_fault){.ops = ops, .count = count, .action = TEST_FAIL, .status = status});
    }
}

uint64_t peer_lun_lost_until_ns(const struct peer_lun *lun)
{
    return lun->lost_until_ns;
}

struct test_disk *peer_lun_disk(struct peer_lun *lun)
{
    return lun->disk;
}

void peer_lun_write(struct peer_lun *lun, uint64_t offset, const void *data, uint64_t len)
{
    memcpy(lun->disk->data + offset, data, len);
    memcpy(lun->disk->stable + offset, data, len);
    for (uint64_t page = offset / TEST_PAGE; page <= (offset + len - 1) / TEST_PAGE; page++) {
        lun->disk->mapped[page] = lun->disk->stable_mapped[page] = 1;
    }
}

/* ---- power ---- */

static struct test_disk *copy_of(const struct test_disk *disk)
{
    struct test_disk *copy = test_disk_new(disk->size);

    memcpy(copy->data, disk->data, disk->size);
    memcpy(copy->stable, disk->stable, disk->size);
    memcpy(copy->mapped, disk->mapped, disk->size / TEST_PAGE + 1);
    memcpy(copy->stable_mapped, disk->stable_mapped, disk->size / TEST_PAGE + 1);
    memcpy(copy->dirty, disk->dirty, (disk->size / 512 + 1) * sizeof(*disk->dirty));
    copy->sequence = disk->sequence;
    return copy;
}

void peer_power_cut(void)
{
    list_for_each(link, &luns)
    {
        struct peer_lun *lun = list_entry(link, struct peer_lun, link);

        CHECK(lun->survivor == NULL);
        lun->survivor = copy_of(lun->disk);
        if (random_chance(&numbers, 1, 2)) {
            test_disk_lose(lun->survivor, &numbers);
        }
    }
}

void peer_power_on(void)
{
    list_for_each(link, &luns)
    {
        struct peer_lun *lun = list_entry(link, struct peer_lun, link);

        CHECK(list_empty(&lun->sessions) && lun->survivor != NULL);
        test_disk_free(lun->disk);
        lun->disk = lun->survivor;
        lun->survivor = NULL;
    }
}
