// SPDX-License-Identifier: Apache-2.0
/* CreateOrModifyElementFromStoragePool: volumes of our own, made, renamed and made larger. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "service/exports.h"
#include "service/handlers.h"
#include "service/hosted.h"
#include "service/paths.h"
#include "service/settings.h"
#include "service/volumes.h"

enum { ELEMENT_VOLUME = 2, ELEMENT_THIN_VOLUME = 5 };

/* What a layer file can hold on ext4 (16 TiB, less a block), less its head. */
#define VOLUME_MAX_BYTES ((UINT64_C(16) << 40) - (UINT64_C(16) << 30) - VOLUME_UNIT)
#define VOLUME_UNIT      UINT64_C(4096)

static int size_not_supported(struct call *call, uint64_t size, uint64_t nearest, const char *why)
{
    call_fail_param(call, ERR_SIZE_NOT_SUPPORTED, "Size",
                    "A volume of %" PRIu64 " bytes is not possible: %s. The nearest possible Size "
                    "is %" PRIu64 ".",
                    size, why, nearest);
    call->error.size = nearest;
    return error_info(call->error.code)->err;
}

/* As many whole blocks of 4 KiB as are needed for it. */
static int take_size(struct call *call, uint64_t *ret_size)
{
    uint64_t size = args_number(call->args, "Size", 0);

    if (size == 0) {
        return size_not_supported(call, size, VOLUME_UNIT, "it must have at least one block");
    }
    if (size > VOLUME_MAX_BYTES) {
        return size_not_supported(call, size, VOLUME_MAX_BYTES, "it is too large");
    }
    *ret_size = (size + VOLUME_UNIT - 1) / VOLUME_UNIT * VOLUME_UNIT;
    return 0;
}

static int check_type(struct call *call)
{
    uint32_t type = (uint32_t)args_number(call->args, "ElementType", ELEMENT_VOLUME);

    if (type == ELEMENT_VOLUME || type == ELEMENT_THIN_VOLUME) {
        return 0;
    }
    return call_fail_param(call, ERR_NOT_SUPPORTED, "ElementType",
                           "%s (%u) cannot be made; there are volumes, 2 (StorageVolume) or 5 "
                           "(ThinlyProvisionedStorageVolume), which are thin both.",
                           enum_text(&map_element_type, type), type);
}

static int take_name(struct call *call, char ret_name[NAME_SIZE], const char **ret_given)
{
    const char *name = args_text(call->args, "ElementName");

    *ret_given = NULL;
    if (name == NULL) {
        return 0;
    }
    *ret_given = ret_name;
    return text_take(call, "ElementName", name, ret_name, ELEMENT_NAME_MAX + 1);
}

static int answer(struct call *call, const struct volume_row *volume)
{
    outs_number(call->outs, "Size", volume->size_bytes);
    outs_path(call->outs, "TheElement", "/volumes/%s", volume->head.id);
    return 0;
}

/* ---- making ---- */

static int create(struct call *call)
{
    const char *pool_path = args_text(call->args, "InPool");
    struct pool_row named;
    struct pool_row pool;
    struct volume_row volume = {0};
    char name[NAME_SIZE];
    const char *given;
    uint64_t size;
    int r = pool_path == NULL ? 0 : path_pool(call, "InPool", pool_path, &named);

    if (r == 0) {
        r = hosted_pool(call, "InPool", pool_path == NULL ? NULL : &named, NULL, &pool);
    }
    if (r == 0 && !args_present(call->args, "Size")) {
        r = call_fail_param(call, ERR_MISSING_PARAMETER, "Size",
                            "A new volume needs a Size, in bytes.");
    }
    if (r == 0) {
        r = take_size(call, &size);
    }
    if (r == 0) {
        r = take_name(call, name, &given);
    }
    if (r == 0) {
        r = hosted_create(call, &pool, size, given, NULL, &volume);
    }
    if (r == 0) {
        r = setting_apply_reference(call, "Goal", &volume);
    }
    return r < 0 ? r : answer(call, &volume);
}

/* ---- changing ---- */

/* Larger than the snapshots of it is fine; a replica in a relationship keeps the size of its source. */
static int grow(struct call *call, struct volume_row *volume, uint64_t size)
{
    struct sync_row sync;

    if (size == volume->size_bytes) {
        return 0;
    }
    if (size < volume->size_bytes) {
        return size_not_supported(call, size, volume->size_bytes,
                                  "a volume does not become smaller");
    }
    if (volume->problem[0] != '\0') {
        return call_fail_param(call, ERR_ILLEGAL_STATE, "TheElement",
                               "/volumes/%s cannot be made larger while it has a problem: %s",
                               volume->head.id, volume->problem);
    }
    struct condition where[] = {WHERE_TEXT("target_id", volume->head.id), WHERE_END};
    int r = table_find(call->db, &sync_table, where, &sync);

    if (r == 0 && sync.job_id[0] != '\0') {
        char path[PATH_SIZE];

        snprintf(path, sizeof(path), "/jobs/%s", sync.job_id);
        return call_fail_blocked(call, ERR_IN_USE, path,
                                 "%s writes to /volumes/%s now; wait for it or abort it.", path,
                                 volume->head.id);
    }
    return r < 0 && r != -ENOENT ? call_fail_store(call, r) : hosted_grow(call, volume, size);
}

static int modify(struct call *call)
{
    struct volume_row volume;
    char name[NAME_SIZE];
    const char *given;
    uint64_t size = 0;
    int r = path_volume(call, "TheElement", args_text(call->args, "TheElement"), &volume);

    if (r == 0 && args_present(call->args, "InPool")) {
        r = call_fail_param(call, ERR_INVALID_PARAMETER, "InPool",
                            "A volume stays in its pool; leave InPool out.");
    }
    if (r == 0) {
        r = take_name(call, name, &given);
    }
    if (r == 0 && volume.kind != VOLUME_HOSTED &&
        (args_present(call->args, "Size") || args_present(call->args, "Goal"))) {
        r = call_fail_param(call, ERR_NOT_SUPPORTED, "TheElement",
                            "/volumes/%s is a LUN of another system; from here it can be renamed, "
                            "nothing else.",
                            volume.head.id);
    }
    if (r == 0 && args_present(call->args, "Size")) {
        r = take_size(call, &size);
    }
    if (r == 0 && given != NULL) {
        strcpy(volume.element_name, given);
        r = table_update(call->db, &volume_table, &volume);
        r = r < 0 ? call_fail_store(call, r) : 0;
        if (r == 0 && volume.kind == VOLUME_HOSTED) {
            r = exports_volume_renamed(call, &volume);
        }
    }
    if (r == 0) {
        r = setting_apply_reference(call, "Goal", &volume);
    }
    if (r == 0 && size != 0) {
        r = grow(call, &volume, size);
    }
    return r < 0 ? r : answer(call, &volume);
}

static int create_or_modify(struct call *call)
{
    int r = check_type(call);

    if (r < 0) {
        return r;
    }
    return args_present(call->args, "TheElement") ? modify(call) : create(call);
}

int method_create_or_modify_element_from_storage_pool(struct call *call)
{
    return hosted_run(call, create_or_modify);
}
