// SPDX-License-Identifier: Apache-2.0
#include "service/live.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "base/map.h"

struct live {
    pthread_mutex_t mutex;
    struct map copies; /* id of a copy -> struct copy_progress * */
    struct map lags;   /* id of a relationship -> struct live_lag * */
};

struct live *live_new(void)
{
    struct live *live = calloc(1, sizeof(*live));

    CHECK(live != NULL);
    CHECK(pthread_mutex_init(&live->mutex, NULL) == 0);
    map_init(&live->copies);
    map_init(&live->lags);
    return live;
}

void live_free(struct live *live)
{
    if (live == NULL) {
        return;
    }
    for (struct map_entry *entry = map_first(&live->copies); entry != NULL;
         entry = map_next(&live->copies, entry)) {
        free(entry->value);
    }
    for (struct map_entry *entry = map_first(&live->lags); entry != NULL;
         entry = map_next(&live->lags, entry)) {
        free(entry->value);
    }
    map_fini(&live->copies);
    map_fini(&live->lags);
    pthread_mutex_destroy(&live->mutex);
    free(live);
}

/* A place for a copy that has none yet, NULL without memory: then readers see what was committed.
 */
static struct copy_progress *live_add(struct live *live, const char *copy_id)
{
    struct copy_progress *place = calloc(1, sizeof(*place));

    if (place == NULL || map_put(&live->copies, copy_id, place) < 0) {
        log_warning("live[%s]: no memory for its counters", copy_id);
        free(place);
        return NULL;
    }
    return place;
}

void live_put(struct live *live, const char *copy_id, const struct copy_progress *progress)
{
    pthread_mutex_lock(&live->mutex);
    struct copy_progress *place = map_get(&live->copies, copy_id);
    if (place == NULL) {
        place = live_add(live, copy_id);
    }
    if (place != NULL) {
        *place = *progress;
    }
    pthread_mutex_unlock(&live->mutex);
}

void live_remove(struct live *live, const char *copy_id)
{
    pthread_mutex_lock(&live->mutex);
    struct copy_progress *place = map_remove(&live->copies, copy_id);
    pthread_mutex_unlock(&live->mutex);
    free(place);
}

bool live_get(struct live *live, const char *copy_id, struct copy_progress *ret_progress)
{
    pthread_mutex_lock(&live->mutex);
    const struct copy_progress *place = map_get(&live->copies, copy_id);
    if (place != NULL) {
        *ret_progress = *place;
    }
    pthread_mutex_unlock(&live->mutex);
    return place != NULL;
}

void live_lag_put(struct live *live, const char *sync_id, const struct live_lag *lag)
{
    pthread_mutex_lock(&live->mutex);
    struct live_lag *place = map_get(&live->lags, sync_id);
    if (place == NULL) {
        place = calloc(1, sizeof(*place));
        CHECK(place != NULL && map_put(&live->lags, sync_id, place) == 0);
    }
    *place = *lag;
    pthread_mutex_unlock(&live->mutex);
}

void live_lag_remove(struct live *live, const char *sync_id)
{
    pthread_mutex_lock(&live->mutex);
    struct live_lag *place = map_remove(&live->lags, sync_id);
    pthread_mutex_unlock(&live->mutex);
    free(place);
}

bool live_lag_get(struct live *live, const char *sync_id, struct live_lag *ret_lag)
{
    pthread_mutex_lock(&live->mutex);
    const struct live_lag *place = map_get(&live->lags, sync_id);
    if (place != NULL) {
        *ret_lag = *place;
    }
    pthread_mutex_unlock(&live->mutex);
    return place != NULL;
}
