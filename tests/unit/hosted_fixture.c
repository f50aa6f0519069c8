// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/hosted_fixture.h"

#include <string.h>

#include "block/handle_dev.h"
#include "tests/unit/block_io.h"

/* ---- changes ---- */

static struct hosted_ask *asked; /* calls are made one at a time */

static int volume_get(struct call *call, const char *id, struct volume_row *ret_row)
{
    int r = table_get(call->db, &volume_table, id, ret_row);

    return r < 0 ? call_fail(call, ERR_NO_SUCH_OBJECT, "There is no /volumes/%s.", id) : 0;
}

static int change(struct call *call, struct hosted_ask *ask)
{
    struct volume_row volume = {0};
    struct volume_row other = {0};
    struct volume_row made = {0};
    struct pool_row pool;
    const char *name = ask->name[0] == '\0' ? NULL : ask->name;
    int r = 0;

    if (ask->id[0] != '\0') {
        r = volume_get(call, ask->id, &volume);
    }
    if (r == 0 && ask->other_id[0] != '\0') {
        r = volume_get(call, ask->other_id, &other);
    }
    if (r < 0) {
        return r;
    }
    switch (ask->change) {
    case HOSTED_CREATE:
        r = hosted_pool(call, "InPool", NULL, NULL, &pool);
        if (r == 0) {
            r = hosted_create(call, &pool, ask->size_bytes, name, NULL, &made);
        }
        break;
    case HOSTED_DERIVE:
        r = hosted_derive(call, &volume, name, ask->watched, ask->offline, &made);
        break;
    case HOSTED_REFRESH:
        r = hosted_refresh(call, &volume, &other, ask->watched);
        break;
    case HOSTED_RESTORE:
        r = hosted_restore(call, &volume, &other, name, &made);
        break;
    case HOSTED_BLANK:
        r = hosted_blank(call, &volume);
        break;
    case HOSTED_DELETE:
        r = hosted_delete(call, &volume);
        break;
    case HOSTED_GROW:
        r = hosted_grow(call, &volume, ask->size_bytes);
        break;
    }
    strcpy(ask->ret_id, made.head.id);
    return r;
}

static int body(struct call *call)
{
    struct hosted_ask *ask = asked;
    int r;

    ask->runs++;
    r = change(call, ask);
    return r == 0 && ask->after != NULL ? ask->after(call, ask) : r;
}

static int run(struct call *call, void *arg)
{
    (void)arg;
    return hosted_run(call, body);
}

int hosted_try(struct service_fixture *fixture, struct hosted_ask *ask, struct error *ret_error)
{
    asked = ask;
    return fixture_do(fixture, run, NULL, ret_error);
}

void hosted_do(struct service_fixture *fixture, struct hosted_ask *ask)
{
    asked = ask;
    fixture_do(fixture, run, NULL, NULL);
}

bool hosted_find(struct service_fixture *fixture, const char *name, struct volume_row *ret_row)
{
    struct condition where[] = {WHERE_TEXT("element_name", name), WHERE_END};
    int r = table_find(fixture->reader, &volume_table, where, ret_row);

    assert_true(r == 0 || r == -ENOENT);
    return r == 0;
}

/* ---- what they read ---- */

static struct loop *io_loop;

void hosted_io_begin(void)
{
    assert_int_equal(loop_new("io", &io_loop), 0);
}

void hosted_io_end(void)
{
    loop_free(io_loop);
    io_loop = NULL;
}

struct device {
    const char *id;
    struct blockdev *front;
};

static int device_get(struct call *call, void *arg)
{
    struct device *device = arg;

    device->front =
        array_volume_device(hosted_array(control_hosted(call->control)), device->id, NULL);
    return 0;
}

struct opened {
    struct blockdev *dev;
    bool done;
};

static void handle_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct opened *opened = arg;

    assert_null(error);
    opened->dev = dev;
    opened->done = true;
}

static bool handle_is_open(void *arg)
{
    return ((struct opened *)arg)->done;
}

struct blockdev *hosted_connect(struct service_fixture *fixture, const char *id)
{
    struct device device = {.id = id};
    struct opened opened = {0};

    fixture_do(fixture, device_get, &device, NULL);
    if (device.front == NULL) {
        return NULL;
    }
    handle_dev_open(io_loop, device.front, handle_opened, &opened);
    io_wait(io_loop, handle_is_open, &opened);
    return opened.dev;
}

void hosted_disconnect(struct blockdev *dev)
{
    io_close(dev);
}
