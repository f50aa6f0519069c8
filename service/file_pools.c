// SPDX-License-Identifier: Apache-2.0
/* Pools of files: directories in which the layers of hosted volumes are. */
#include "service/file_pools.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "service/control.h"
#include "service/hosted.h"
#include "service/volumes.h"
#include "store/system.h"

bool file_pool_wanted(const struct call *call)
{
    return !args_present(call->args, "InExtents") &&
           (args_present(call->args, "Goal") || args_present(call->args, "Size"));
}

/* ---- what is asked for ---- */

static int read_goal(struct call *call, const char **ret_directory, uint64_t *ret_capacity)
{
    const struct values *goal = args_instance(call->args, "Goal");

    *ret_directory = NULL;
    *ret_capacity = args_number(call->args, "Size", 0);
    if (goal != NULL) {
        uint64_t limit = args_number(goal, "SpaceLimit", 0);

        *ret_directory = args_text(goal, "Directory");
        if (limit != 0 && *ret_capacity != 0 && limit != *ret_capacity) {
            return call_fail_param(call, ERR_INVALID_PARAMETER, "Goal.SpaceLimit",
                                   "Size and Goal.SpaceLimit say different capacities; give one "
                                   "of them.");
        }
        *ret_capacity = limit != 0 ? limit : *ret_capacity;
    }
    if (args_present(call->args, "Size") && args_number(call->args, "Size", 0) == 0) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "Size",
                               "A pool of no bytes has no use; leave Size out for as much as the "
                               "file system has.");
    }
    if (*ret_capacity > INT64_MAX) {
        *ret_capacity = INT64_MAX;
    }
    return 0;
}

/* Names only: no "..", and one way only to write a path, for pools must not lie inside each other. */
static bool path_is_plain(const char *path)
{
    const char *at = path[0] == '/' ? path + 1 : path;

    for (;;) {
        size_t len = strcspn(at, "/");

        if (len == 0 || (len == 1 && at[0] == '.') || (len == 2 && strncmp(at, "..", 2) == 0)) {
            return false;
        }
        if (at[len] == '\0') {
            return true;
        }
        at += len + 1;
    }
}

static bool lies_in(const char *dir, const char *other)
{
    size_t len = strlen(other);

    return strncmp(dir, other, len) == 0 &&
           (dir[len] == '/' || dir[len] == '\0' || (len == 1 && other[0] == '/'));
}

/* Where an absolute path leads, as far as it is there; what is not there yet is added as it is. */
static bool path_resolve(const char *path, char ret_real[PATH_MAX])
{
    char head[PATH_MAX];
    char real[PATH_MAX];
    size_t len = strlen(path);

    if (len >= sizeof(head)) {
        return false;
    }
    memcpy(head, path, len + 1);
    while (realpath(head, real) == NULL) {
        char *slash = strrchr(head, '/');

        if (errno != ENOENT || slash == NULL) {
            return false;
        }
        *slash = '\0';
        if (slash == head) {
            real[0] = '\0';
            break;
        }
    }
    const char *rest = path + strlen(head);

    size_t real_len = strcmp(real, "/") == 0 ? 0 : strlen(real);
    size_t rest_len = strlen(rest);

    if (real_len + rest_len == 0) {
        strcpy(ret_real, "/");
        return true;
    }
    if (real_len + rest_len >= PATH_MAX) {
        return false;
    }
    memcpy(ret_real, real, real_len);
    memcpy(ret_real + real_len, rest, rest_len + 1);
    return true;
}

/* A symbolic link below a directory that is allowed may not lead out of it; the directory may be one itself. */
static bool links_stay(const char *directory, const char *allowed, size_t allowed_len)
{
    char name[PATH_MAX];
    char real[PATH_MAX];
    char real_allowed[PATH_MAX];

    snprintf(name, sizeof(name), "%.*s", (int)allowed_len, allowed);
    return path_resolve(directory, real) && path_resolve(name, real_allowed) &&
           lies_in(real, real_allowed);
}

/* Is the absolute path below one of those that the configuration names? */
static bool directory_is_allowed(struct call *call, const char *directory)
{
    const char *at = control_options(call->control)->pool_directories;

    while (at != NULL && *at != '\0') {
        const char *end = strchrnul(at, ':');
        size_t len = (size_t)(end - at);

        while (len > 1 && at[len - 1] == '/') {
            len--;
        }
        if (len > 0 && strncmp(directory, at, len) == 0 &&
            (directory[len] == '\0' || directory[len] == '/' || len == 1) &&
            links_stay(directory, at, len)) {
            return true;
        }
        at = *end == ':' ? end + 1 : end;
    }
    return false;
}

static int take_directory(struct call *call, const char *directory, struct pool_row *pool)
{
    char text[NAME_SIZE];

    if (directory == NULL) {
        snprintf(pool->path, sizeof(pool->path), "pools/%s", pool->head.id);
        return 0;
    }
    int r = text_take(call, "Goal.Directory", directory, text, sizeof(text) - 8);

    if (r < 0) {
        return r;
    }
    if (!path_is_plain(text)) {
        return call_fail_param(
            call, ERR_INVALID_PARAMETER, "Goal.Directory",
            "%.200s has parts that are empty, \".\" or \"..\"; name the directory itself.", text);
    }
    if (text[0] != '/') {
        snprintf(pool->path, sizeof(pool->path), "pools/%.240s", text);
        return 0;
    }
    if (!directory_is_allowed(call, text)) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "Goal.Directory",
                               "%.200s is not below the directories that --pool-directories "
                               "allows. A name without a leading slash is made in the data "
                               "directory.",
                               text);
    }
    strcpy(pool->path, text);
    return 0;
}

/* Whatever is there is not ours, and would be lost with the pool. */
static int check_empty(struct call *call, const char *dir)
{
    DIR *open = opendir(dir);
    const struct dirent *entry;
    bool empty = true;

    if (open == NULL) {
        return 0; /* not there yet, or array_pool_add() says what is wrong */
    }
    while (empty && (entry = readdir(open)) != NULL) {
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                strcmp(entry->d_name, "lost+found") == 0;
    }
    closedir(open);
    return empty
               ? 0
               : call_fail_param(call, ERR_INVALID_PARAMETER, "Goal.Directory",
                                 "%.300s is not empty; a pool needs a directory of its own.", dir);
}

struct neighbour {
    struct control *control;
    const char *dir;
    char pool_id[ID_SIZE];
};

static int neighbour_row(void *arg, const void *row)
{
    struct neighbour *neighbour = arg;
    const struct pool_row *pool = row;
    char dir[PATH_MAX];
    char real[PATH_MAX];

    if (pool->kind != POOL_FILE ||
        hosted_pool_dir(neighbour->control, pool, dir, sizeof(dir)) < 0 ||
        !path_resolve(dir, real) ||
        (!lies_in(neighbour->dir, real) && !lies_in(real, neighbour->dir))) {
        return 0;
    }
    strcpy(neighbour->pool_id, pool->head.id);
    return 1;
}

/* Not the directory of another pool, nor in it, nor around it. */
static int check_neighbours(struct call *call, const char *dir)
{
    char real[PATH_MAX];
    struct neighbour neighbour = {.control = call->control, .dir = real};

    if (!path_resolve(dir, real)) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "Goal.Directory",
                               "%.300s cannot be looked at: %s.", dir, strerror(errno));
    }
    int r = table_each(call->db, &pool_table, NULL, 0, 0, neighbour_row, &neighbour);

    if (r == 1) {
        char blocked_on[PATH_SIZE];

        snprintf(blocked_on, sizeof(blocked_on), "/pools/%s", neighbour.pool_id);
        call_fail_blocked(call, ERR_IN_USE, blocked_on,
                          "%.300s is the directory of %s, or in it, or around it; a pool needs one "
                          "of its own.",
                          dir, blocked_on);
        strcpy(call->error.parameter, "Goal.Directory");
        return error_info(call->error.code)->err;
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

/* ---- making, changing ---- */

static int too_large(struct call *call, uint64_t capacity, uint64_t nearest)
{
    call_fail_param(call, ERR_SIZE_NOT_SUPPORTED, "Size",
                    "%llu bytes are more than the file system of the directory has; %llu would "
                    "do.",
                    (unsigned long long)capacity, (unsigned long long)nearest);
    call->error.size = nearest;
    return error_info(call->error.code)->err;
}

int file_pool_create(struct call *call, struct pool_row *pool)
{
    struct array *array = hosted_array(control_hosted(call->control));
    char dir[PATH_MAX];
    const char *directory;
    struct array_usage usage;
    struct error error = {0};
    uint64_t capacity;
    int r = read_goal(call, &directory, &capacity);

    if (r < 0) {
        return r;
    }
    store_new_id(pool->head.id);
    pool->kind = POOL_FILE;
    pool->created_ms = control_now_ms(call->control);
    strcpy(pool->system_id, SYSTEM_LOCAL);
    r = take_directory(call, directory, pool);
    if (r == 0 && hosted_pool_dir(call->control, pool, dir, sizeof(dir)) < 0) {
        r = call_fail_param(call, ERR_INVALID_PARAMETER, "Goal.Directory", "The path is too long.");
    }
    if (r == 0) {
        r = check_empty(call, dir);
    }
    if (r == 0) {
        r = check_neighbours(call, dir);
    }
    if (r < 0) {
        return r;
    }
    r = array_pool_add(array, pool->head.id, dir, capacity, &error);
    if (r < 0) {
        return call_fail_param(call, error.code, "Goal.Directory", "%s", error.detail);
    }
    strcpy(call->made_pool_id, pool->head.id); /* gone again if this fails, now or at the commit */
    CHECK(array_pool_usage(array, pool->head.id, &usage));
    if (capacity > usage.file_system_bytes) {
        return too_large(call, capacity, usage.file_system_bytes);
    }
    pool->capacity_bytes = capacity;
    if (pool->element_name[0] == '\0') {
        snprintf(pool->element_name, sizeof(pool->element_name), "%.200s",
                 directory != NULL ? directory : pool->head.id);
    }
    r = table_insert(call->db, &pool_table, pool);
    return r < 0 ? call_fail_store(call, r) : 0;
}

struct capacity {
    char pool_id[ID_SIZE];
    uint64_t bytes;
};

static void capacity_effect(struct control *control, void *arg)
{
    const struct capacity *capacity = arg;

    array_pool_set_capacity(hosted_array(control_hosted(control)), capacity->pool_id,
                            capacity->bytes);
}

int file_pool_modify(struct call *call, struct pool_row *pool)
{
    struct array *array = hosted_array(control_hosted(call->control));
    const char *directory;
    struct array_usage usage = {0};
    uint64_t capacity;
    int r = read_goal(call, &directory, &capacity);

    if (r < 0) {
        return r;
    }
    if (args_present(call->args, "InExtents")) {
        return call_fail_param(call, ERR_INVALID_PARAMETER, "InExtents",
                               "/pools/%s is made of files, not of LUNs of another system.",
                               pool->head.id);
    }
    if (directory != NULL) {
        return call_fail_param(call, ERR_NOT_SUPPORTED, "Goal.Directory",
                               "A pool stays in its directory.");
    }
    if (capacity == 0 || capacity == pool->capacity_bytes) {
        return 0;
    }
    array_pool_usage(array, pool->head.id, &usage);
    if (capacity < usage.used_bytes) {
        call_fail_param(call, ERR_SIZE_NOT_SUPPORTED, "Size",
                        "%llu bytes of /pools/%s are in use; it cannot be smaller than that.",
                        (unsigned long long)usage.used_bytes, pool->head.id);
        call->error.size = usage.used_bytes;
        return error_info(call->error.code)->err;
    }
    if (capacity > usage.file_system_bytes) {
        return too_large(call, capacity, usage.file_system_bytes);
    }
    pool->capacity_bytes = capacity;
    r = table_update(call->db, &pool_table, pool);
    if (r < 0) {
        return call_fail_store(call, r);
    }
    struct capacity change = {.bytes = capacity};

    strcpy(change.pool_id, pool->head.id);
    control_effect(call->control, capacity_effect, &change, sizeof(change));
    return 0;
}

uint64_t file_pool_size(struct call *call, const struct pool_row *pool)
{
    struct array_usage usage = {0};

    array_pool_usage(hosted_array(control_hosted(call->control)), pool->head.id, &usage);
    return pool->capacity_bytes != 0 ? pool->capacity_bytes : usage.capacity_bytes;
}

/* ---- deleting ---- */

struct removal {
    struct call *call; /* its answer waits */
    char pool_id[ID_SIZE];
};

static void pool_gone(void *arg)
{
    call_gate_open(arg, NULL);
}

static void remove_effect(struct control *control, void *arg)
{
    const struct removal *removal = arg;

    array_pool_remove(hosted_array(control_hosted(control)), removal->pool_id, pool_gone,
                      removal->call);
}

int file_pool_delete(struct call *call, const struct pool_row *pool)
{
    struct condition where[] = {WHERE_TEXT("pool_id", pool->head.id), WHERE_END};
    struct volume_row volume;
    int r = table_find(call->db, &volume_table, where, &volume);

    if (r == 0) {
        char blocked_on[PATH_SIZE];

        snprintf(blocked_on, sizeof(blocked_on), "/volumes/%s", volume.head.id);
        return call_fail_blocked(call, ERR_IN_USE, blocked_on,
                                 "%s is in this pool. Return it first (ReturnToStoragePool), and "
                                 "the others that are, then delete the pool.",
                                 blocked_on);
    }
    if (r != -ENOENT) {
        return call_fail_store(call, r);
    }
    if (hosted_pool_is_pinned(call->control, pool->head.id)) {
        return call_fail(call, ERR_IN_USE, "A volume is being made in this pool now.");
    }
    r = table_delete(call->db, &pool_table, pool->head.id);
    if (r < 0) {
        return call_fail_store(call, r);
    }
    struct removal removal = {.call = call};

    strcpy(removal.pool_id, pool->head.id);
    call_gate(call);
    control_effect(call->control, remove_effect, &removal, sizeof(removal));
    return 0;
}
