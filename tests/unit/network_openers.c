// SPDX-License-Identifier: Apache-2.0
/*
 * A volume of another system is opened as its record describes it.
 */
#include "tests/unit/network_fixture.h"

#include <stdio.h>
#include <string.h>

#include "service/network.h"
#include "service/portals.h"
#include "tests/tools/tgtd.h"

static void stop_loop(void *arg)
{
    loop_stop(arg);
}

/* ---- openers ---- */

struct opened {
    struct loop *loop;
    unsigned calls;
    struct blockdev *dev;
    struct error error;
};

static void opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct opened *result = arg;

    result->calls++;
    result->dev = dev;
    if (error != NULL) {
        result->error = *error;
    }
    loop_stop(result->loop);
}

static int open_volume(const struct volume_row *volume, struct error *ret_error)
{
    struct opened result = {0};
    struct block_opener *opener;
    int r = network_opener(control_network(fixture.control), fixture.reader, volume,
                           &(struct network_session){.isid = 7}, &opener, ret_error);

    if (r < 0) {
        return r;
    }
    assert_int_equal(loop_new("test", &result.loop), 0);
    opener->ops->open(opener, result.loop, opened, &result);
    assert_int_equal(result.calls, 0);
    loop_run(result.loop);
    assert_int_equal(result.calls, 1);
    if (result.dev != NULL) {
        assert_int_equal(result.dev->info.size_bytes, volume->size_bytes);
        blockdev_close(result.dev, stop_loop, result.loop);
        loop_run(result.loop);
        r = 0;
    } else {
        *ret_error = result.error;
        r = error_info(result.error.code)->err;
    }
    opener->ops->free(opener);
    loop_free(result.loop);
    return r;
}

static void tgtd_volume(struct tgtd *tgtd, struct volume_row *ret_volume,
                        struct access_point_row *ret_portal)
{
    char text[64];
    struct tgtd_lun lun = {.lun = 1, .file = "a", .size_bytes = 8 << 20};

    tgtd_target(tgtd, 1, target_name);
    tgtd_lun(tgtd, 1, &lun);
    snprintf(text, sizeof(text), "127.0.0.1:%u", tgtd_port(tgtd));
    char *path = portal_added(text);

    access_point_of(&fixture, path, ret_portal);
    free(path);
    *ret_volume = (struct volume_row){
        .kind = VOLUME_REMOTE, .lun = 1, .size_bytes = 8 << 20, .block_bytes = 512};
    snprintf(ret_volume->iqn, sizeof(ret_volume->iqn), "%s", target_name);
    memcpy(ret_volume->system_id, ret_portal->system_id, sizeof(ret_volume->system_id));
    memcpy(ret_volume->access_point_id, ret_portal->head.id, sizeof(ret_volume->access_point_id));
}

static void openers_open_what_the_record_describes(void **state)
{
    struct tgtd *tgtd = tgtd_start();
    struct volume_row volume;
    struct access_point_row portal;
    struct error error;

    (void)state;
    tgtd_volume(tgtd, &volume, &portal);
    assert_int_equal(open_volume(&volume, &error), 0);

    volume.size_bytes *= 2;
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_LUN_CHANGED);
    volume.size_bytes /= 2;
    strcpy(volume.identity, "naa.5000000000000001");
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_LUN_CHANGED);
    volume.identity[0] = '\0';
    volume.lun = 5;
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_SCAN_NO_LU);
    volume.lun = 1;

    /* Its own portal is dead, another of the system leads there; an address that may not be dialled is passed over. */
    struct access_point_row own = {.address = "127.0.0.1:1"};
    struct access_point_row refused = {.address = "169.254.1.1:3260"};

    memcpy(own.system_id, portal.system_id, sizeof(own.system_id));
    memcpy(refused.system_id, portal.system_id, sizeof(refused.system_id));
    row_insert(&fixture, &access_point_table, &refused);
    row_insert(&fixture, &access_point_table, &own);
    memcpy(volume.access_point_id, own.head.id, sizeof(volume.access_point_id));
    assert_int_equal(open_volume(&volume, &error), 0);

    /* Nothing else is left than what may not be dialled. */
    struct system_row system = {.element_name = "alone"};

    row_insert(&fixture, &system_table, &system);
    memcpy(refused.system_id, system.head.id, sizeof(refused.system_id));
    row_update(&fixture, &access_point_table, &refused);
    memcpy(volume.system_id, system.head.id, sizeof(volume.system_id));
    memcpy(volume.access_point_id, refused.head.id, sizeof(volume.access_point_id));
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_ADDRESS_NOT_ALLOWED);

    strcpy(volume.access_point_id, "gone");
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_REMOTE_UNREACHABLE);
    volume.kind = VOLUME_HOSTED;
    assert_true(open_volume(&volume, &error) < 0);
    tgtd_stop(tgtd);
}

static void openers_prove_themselves_and_insist_on_proof(void **state)
{
    struct tgtd *tgtd = tgtd_start();
    struct volume_row volume;
    struct access_point_row portal;
    struct error error;
    char path[PATH_SIZE];

    (void)state;
    tgtd_volume(tgtd, &volume, &portal);
    tgtd_account(tgtd, 1, "smirror", "correct horse battery", false);
    snprintf(path, sizeof(path), "/accesspoints/%s", portal.head.id);
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_REMOTE_REFUSED);
    secret_added(path, NULL, "smirror", "wrong horse battery");
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_REMOTE_REFUSED);
    assert_null(strstr(error.detail, "horse"));
    secret_added(path, NULL, "smirror", "correct horse battery");
    assert_int_equal(open_volume(&volume, &error), 0);

    /* Now the target has to prove itself, and cannot. */
    secret_added(path, "CHAP-Mutual", "array", "another staple here");
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_REMOTE_REFUSED);
    tgtd_account(tgtd, 1, "array", "another staple here", true);
    assert_int_equal(open_volume(&volume, &error), 0);
    secret_added(path, "CHAP-Mutual", "array", "a different staple");
    assert_true(open_volume(&volume, &error) < 0);
    assert_int_equal(error.code, ERR_REMOTE_REFUSED);
    assert_null(strstr(error.detail, "staple"));
    tgtd_stop(tgtd);
}

static void a_cancelled_open_still_answers_once(void **state)
{
    struct tgtd *tgtd = tgtd_start();
    struct volume_row volume;
    struct access_point_row portal;
    struct error error;
    struct block_opener *opener;

    (void)state;
    tgtd_volume(tgtd, &volume, &portal);
    tgtd_freeze(tgtd);
    for (unsigned when = 0; when < 2; when++) {
        struct opened result = {0};
        struct loop_timer timer;

        assert_int_equal(network_opener(control_network(fixture.control), fixture.reader, &volume,
                                        &(struct network_session){.isid = 7}, &opener, &error),
                         0);
        assert_int_equal(loop_new("test", &result.loop), 0);
        opener->ops->open(opener, result.loop, opened, &result);
        if (when == 1) { /* while it logs in */
            loop_timer_init(&timer, result.loop, stop_loop, result.loop);
            loop_timer_start(&timer, 100 * MS_NS);
            loop_run(result.loop);
            assert_int_equal(result.calls, 0);
        }
        opener->ops->cancel(opener);
        opener->ops->cancel(opener);
        assert_int_equal(result.calls, 0);
        loop_run(result.loop);
        assert_int_equal(result.calls, 1);
        assert_null(result.dev);
        opener->ops->cancel(opener); /* nothing to do */
        opener->ops->free(opener);
        loop_free(result.loop);
    }
    tgtd_thaw(tgtd);
    tgtd_stop(tgtd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(openers_open_what_the_record_describes),
        WITH_SERVICE(openers_prove_themselves_and_insist_on_proof),
        WITH_SERVICE(a_cancelled_open_still_answers_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
