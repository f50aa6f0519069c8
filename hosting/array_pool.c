// SPDX-License-Identifier: Apache-2.0
/* Pools: directories, what their files occupy, and what is left over of a crash. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "hosting/array_private.h"
#include "hosting/reaper.h"

static const char suffix[] = ".layer";
static const char spare_suffix[] = ".spare";

_Static_assert(sizeof(suffix) == sizeof(spare_suffix), "block/layer.h: names are as long");

enum { LOW_SPACE_PERCENT = 10 };

struct pool *pool_find(struct array *array, const char *pool_id)
{
    return map_get(&array->pools, pool_id);
}

struct pool *pool_ref(struct array *array, const char *pool_id)
{
    struct pool *pool = pool_find(array, pool_id);

    if (pool != NULL) {
        pool->refs++;
    }
    return pool;
}

void pool_free(struct pool *pool)
{
    close(pool->dir_fd);
    free(pool);
}

static void pool_settle(struct pool *pool)
{
    if (pool->removed && atomic_load(&pool->refs) == 0 && !atomic_load(&pool->low_posted)) {
        if (rmdir(pool->dir) != 0 && errno != ENOTEMPTY && errno != EEXIST && errno != ENOENT) {
            log_warning("pool[%s] %s stays: %s", pool->id, pool->dir, strerror(errno));
        }
        loop_fn gone = pool->gone;
        void *gone_arg = pool->gone_arg;

        pool_free(pool);
        if (gone != NULL) {
            gone(gone_arg);
        }
    }
}

void pool_unref(struct pool *pool)
{
    if (pool != NULL) {
        pool->refs--;
        pool_settle(pool);
    }
}

static void pool_low_arrived(void *arg)
{
    struct pool *pool = arg;
    struct array *array = pool->array;

    atomic_store(&pool->low_posted, false);
    if (!pool->removed && array->spec.events.pool_low_space != NULL) {
        array->spec.events.pool_low_space(array->spec.events_arg, pool->id,
                                          space_is_low(&pool->space));
    }
    pool_settle(pool);
}

/* On the loop whose change crossed the threshold. */
static void pool_low(void *arg, bool low)
{
    struct pool *pool = arg;

    (void)low;
    if (!atomic_exchange(&pool->low_posted, true)) {
        pool->low_task = (struct loop_task){.fn = pool_low_arrived, .arg = pool};
        loop_post(pool->array->spec.owner, &pool->low_task);
    }
}

static int make_directories(const char *dir)
{
    char path[ARRAY_DIR_SIZE];

    snprintf(path, sizeof(path), "%s", dir);
    for (char *at = path + 1;; at++) {
        bool end = *at == '\0';

        if (end || *at == '/') {
            *at = '\0';
            if (mkdir(path, 0700) != 0 && errno != EEXIST) {
                return -errno;
            }
            if (end) {
                return 0;
            }
            *at = '/';
        }
    }
}

int array_pool_add(struct array *array, const char *pool_id, const char *dir,
                   uint64_t capacity_bytes, struct error *error)
{
    struct stat stat_now;
    int r;

    if (strlen(dir) >= ARRAY_DIR_SIZE || dir[0] != '/') {
        return error_set(error, ERR_INVALID_PARAMETER, "%s is no absolute path of a directory.",
                         dir);
    }
    r = make_directories(dir);
    if (r == 0 && (stat(dir, &stat_now) != 0 || !S_ISDIR(stat_now.st_mode))) {
        r = errno != 0 ? -errno : -ENOTDIR;
    }
    if (r == 0 && access(dir, R_OK | W_OK | X_OK) != 0) {
        r = -errno;
    }
    if (r < 0) {
        error_set(error, r == -ENOSPC ? ERR_NO_SPACE : ERR_INVALID_PARAMETER,
                  "The directory %s cannot be used: %s.", dir, strerror(-r));
        return r;
    }
    /* A layer file that is closed for a while has no lock of its own. */
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir_fd < 0 || flock(dir_fd, LOCK_EX | LOCK_NB) != 0) {
        r = -errno;
        if (dir_fd >= 0) {
            close(dir_fd);
        }
        return error_set(error, ERR_IN_USE, "The directory %s is used by somebody else: %s.", dir,
                         strerror(-r));
    }
    struct pool *pool = calloc(1, sizeof(*pool));

    CHECK(pool != NULL && pool_find(array, pool_id) == NULL);
    pool->array = array;
    strcpy(pool->id, pool_id);
    strcpy(pool->dir, dir);
    pool->dir_fd = dir_fd;
    space_init(&pool->space, capacity_bytes);
    space_watch(&pool->space, capacity_bytes / 100 * LOW_SPACE_PERCENT, pool_low, pool);
    pthread_rwlock_wrlock(&array->lock);
    CHECK(map_put(&array->pools, pool_id, pool) == 0);
    pthread_rwlock_unlock(&array->lock);
    return 0;
}

bool array_pool_is_there(struct array *array, const char *pool_id)
{
    return pool_find(array, pool_id) != NULL;
}

void array_pool_set_capacity(struct array *array, const char *pool_id, uint64_t capacity_bytes)
{
    struct pool *pool = pool_find(array, pool_id);

    if (pool != NULL) {
        space_set_capacity(&pool->space, capacity_bytes);
        space_set_low(&pool->space, capacity_bytes / 100 * LOW_SPACE_PERCENT);
    }
}

void spare_path(char path[ARRAY_PATH_SIZE], const struct pool *pool, const char *layer_id)
{
    snprintf(path, ARRAY_PATH_SIZE, "%s/%s%s", pool->dir, layer_id, spare_suffix);
}

void array_pool_remove(struct array *array, const char *pool_id, loop_fn gone_fn, void *arg)
{
    struct pool *gone = pool_find(array, pool_id);

    if (gone != NULL) {
        stock_pool_gone(array, gone);
    }
    pthread_rwlock_wrlock(&array->lock);
    struct pool *pool = map_remove(&array->pools, pool_id);

    pthread_rwlock_unlock(&array->lock);
    if (pool != NULL) {
        pool->removed = true;
        pool->gone = gone_fn;
        pool->gone_arg = arg;
        pool_settle(pool);
    } else if (gone_fn != NULL) {
        gone_fn(arg);
    }
}

bool array_pool_usage(struct array *array, const char *pool_id, struct array_usage *ret_usage)
{
    struct statvfs fs;
    bool found = false;

    pthread_rwlock_rdlock(&array->lock);
    struct pool *pool = map_get(&array->pools, pool_id);

    if (pool != NULL) {
        uint64_t left = space_left(&pool->space);
        uint64_t fs_left = statvfs(pool->dir, &fs) == 0 ? (uint64_t)fs.f_bavail * fs.f_frsize : 0;

        ret_usage->used_bytes = space_used(&pool->space);
        ret_usage->file_system_bytes = ret_usage->used_bytes + fs_left;
        ret_usage->available_bytes = left < fs_left ? left : fs_left;
        ret_usage->capacity_bytes = space_capacity(&pool->space) == UINT64_MAX
                                        ? ret_usage->used_bytes + fs_left
                                        : space_capacity(&pool->space);
        ret_usage->reclaimable_bytes = 0;
        for (unsigned i = 0; i < array->spec.n_loops; i++) {
            ret_usage->reclaimable_bytes += atomic_load(&pool->reclaimable_bytes[i]);
        }
        found = true;
    }
    pthread_rwlock_unlock(&array->lock);
    return found;
}

/* It was taken, and the power went before its new name was on the disk. */
static void spare_name(const struct pool *pool, int dir_fd, const char *id)
{
    char from[ARRAY_ID_LEN + sizeof(suffix)];
    char to[ARRAY_ID_LEN + sizeof(suffix)];

    snprintf(from, sizeof(from), "%s%s", id, spare_suffix);
    snprintf(to, sizeof(to), "%s%s", id, suffix);
    if (renameat2(dir_fd, from, dir_fd, to, RENAME_NOREPLACE) != 0) {
        log_warning("pool[%s] %s could not be named %s: %s", pool->id, from, to, strerror(errno));
    }
}

static bool orphan_remove(const struct pool *pool, const char *name)
{
    char path[ARRAY_DIR_SIZE + 256 + 2];

    snprintf(path, sizeof(path), "%s/%s", pool->dir, name);
    return reaper_unlink(path) == 0;
}

unsigned array_pool_sweep(struct array *array, const char *pool_id,
                          bool (*known)(void *arg, const char *layer_id), void *arg)
{
    struct pool *pool = pool_find(array, pool_id);
    DIR *dir = pool == NULL ? NULL : opendir(pool->dir);
    const struct dirent *file;
    unsigned n = 0;

    if (dir == NULL) {
        return 0;
    }
    while ((file = readdir(dir)) != NULL) {
        size_t len = strlen(file->d_name);
        array_id id;

        if (len <= sizeof(suffix) - 1 || len - (sizeof(suffix) - 1) > ARRAY_ID_LEN) {
            continue;
        }
        len -= sizeof(suffix) - 1;
        bool spare = strcmp(file->d_name + len, spare_suffix) == 0;

        if (!spare && strcmp(file->d_name + len, suffix) != 0) {
            continue;
        }
        memcpy(id, file->d_name, len);
        id[len] = '\0';
        if (known(arg, id)) {
            if (spare) {
                spare_name(pool, dirfd(dir), id);
            }
        } else if (orphan_remove(pool, file->d_name) && !spare) {
            log_info("pool[%s] layer %s belongs to nothing and was removed", pool->id, id);
            n++;
        }
    }
    closedir(dir);
    return n;
}

bool array_dir_has_layers(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *file;
    bool found = false;

    while (dir != NULL && !found && (file = readdir(dir)) != NULL) {
        size_t len = strlen(file->d_name);

        found = len > sizeof(suffix) - 1 &&
                strcmp(file->d_name + len - (sizeof(suffix) - 1), suffix) == 0;
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return found;
}
