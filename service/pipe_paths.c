// SPDX-License-Identifier: Apache-2.0
#include "service/pipe_paths.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/loop.h"
#include "base/map.h"

struct pipe_paths {
    pthread_mutex_t lock; /* the map of meters */
    struct map meters;
    struct map limits; /* control's */
};

struct pipe_paths *pipe_paths_new(void)
{
    struct pipe_paths *paths = calloc(1, sizeof(*paths));

    CHECK(paths != NULL);
    pthread_mutex_init(&paths->lock, NULL);
    map_init(&paths->meters);
    map_init(&paths->limits);
    return paths;
}

void pipe_paths_free(struct pipe_paths *paths)
{
    if (paths == NULL) {
        return;
    }
    for (struct map_entry *entry = map_first(&paths->meters); entry != NULL;
         entry = map_next(&paths->meters, entry)) {
        path_meter_unref(entry->value);
    }
    for (struct map_entry *entry = map_first(&paths->limits); entry != NULL;
         entry = map_next(&paths->limits, entry)) {
        path_limit_unref(entry->value);
    }
    map_fini(&paths->meters);
    map_fini(&paths->limits);
    pthread_mutex_destroy(&paths->lock);
    free(paths);
}

struct path_meter *pipe_paths_meter(struct pipe_paths *paths, const char *pipe_id)
{
    pthread_mutex_lock(&paths->lock);
    struct path_meter *meter = map_get(&paths->meters, pipe_id);

    if (meter == NULL) {
        CHECK(path_meter_new(&meter) == 0 && map_put(&paths->meters, pipe_id, meter) == 0);
    }
    path_meter_ref(meter);
    pthread_mutex_unlock(&paths->lock);
    return meter;
}

struct path_limit *pipe_paths_limit(struct pipe_paths *paths, const char *pipe_id,
                                    uint64_t bytes_per_second)
{
    struct path_limit *limit = map_get(&paths->limits, pipe_id);

    if (limit == NULL) {
        CHECK(path_limit_new(bytes_per_second, &limit) == 0 &&
              map_put(&paths->limits, pipe_id, limit) == 0);
    }
    path_limit_set(limit, bytes_per_second);
    return path_limit_ref(limit);
}

void pipe_paths_set_limit(struct pipe_paths *paths, const char *pipe_id, uint64_t bytes_per_second)
{
    struct path_limit *limit = map_get(&paths->limits, pipe_id);

    if (limit != NULL) {
        path_limit_set(limit, bytes_per_second);
    }
}

void pipe_paths_forget(struct pipe_paths *paths, const char *pipe_id)
{
    pthread_mutex_lock(&paths->lock);
    path_meter_unref(map_remove(&paths->meters, pipe_id));
    pthread_mutex_unlock(&paths->lock);
    path_limit_unref(map_remove(&paths->limits, pipe_id));
}

void pipe_paths_read(struct pipe_paths *paths, const char *pipe_id, struct path_stats *ret_stats)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    pthread_mutex_lock(&paths->lock);
    struct path_meter *meter = path_meter_ref(map_get(&paths->meters, pipe_id));

    pthread_mutex_unlock(&paths->lock);
    if (meter == NULL) {
        memset(ret_stats, 0, sizeof(*ret_stats));
        return;
    }
    path_meter_read(meter, (uint64_t)now.tv_sec * SEC_NS + (uint64_t)now.tv_nsec, ret_stats);
    path_meter_unref(meter);
}
