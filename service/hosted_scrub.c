// SPDX-License-Identifier: Apache-2.0
/*
 * After a start that no orderly end came before: space that a crash has left in the files without a meaning is looked for, one
 * volume after the other, in the background.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/hosted_private.h"
#include "store/job.h"

static const char clean_key[] = "clean_end";

struct scrub {
    struct hosted *hosted;
    size_t n;
    size_t at;
    char (*ids)[ID_SIZE];
};

static void scrub_next(struct scrub *scrub);

static void scrub_one_done(void *arg, const struct error *error)
{
    struct scrub *scrub = arg;

    if (error != NULL) {
        log_debug("volume[%s] was not looked through: %s", scrub->ids[scrub->at], error->detail);
    }
    scrub->at++;
    scrub_next(scrub);
}

static void scrub_next(struct scrub *scrub)
{
    if (scrub->at < scrub->n && !scrub->hosted->stopping) {
        array_scrub(scrub->hosted->array, scrub->ids[scrub->at], scrub_one_done, scrub);
        return;
    }
    free(scrub->ids);
    free(scrub);
}

static int scrub_row(void *arg, const void *row)
{
    struct scrub *scrub = arg;
    const struct volume_row *volume = row;

    memcpy(scrub->ids[scrub->n++], volume->head.id, ID_SIZE);
    return 0;
}

void hosted_scrub_begin(struct hosted *hosted)
{
    struct db *db = control_db(hosted->control);
    struct condition where[] = {WHERE_NUM("kind", VOLUME_HOSTED), WHERE_END};
    char clean[8] = "";
    uint64_t n = 0;
    int r = meta_get(db, clean_key, clean, sizeof(clean));

    /* From now on only an orderly end says otherwise. */
    if (strcmp(clean, "no") != 0) {
        meta_set(db, clean_key, "no");
    }
    if ((r < 0 && r != -ENOENT) || strcmp(clean, "no") != 0 ||
        table_count(db, &volume_table, where, &n) < 0 || n == 0) {
        return;
    }
    struct scrub *scrub = calloc(1, sizeof(*scrub));

    CHECK(scrub != NULL);
    scrub->hosted = hosted;
    scrub->ids = calloc(n, sizeof(*scrub->ids));
    CHECK(scrub->ids != NULL);
    r = table_each(db, &volume_table, where, 0, n, scrub_row, scrub);
    if (r < 0) {
        log_warning("volumes: what a crash has left is not known: %s", strerror(-r));
        scrub->n = 0;
    }
    scrub_next(scrub);
}

void hosted_scrub_clean(struct hosted *hosted)
{
    if (meta_set(control_db(hosted->control), clean_key, "yes") < 0) {
        log_warning("volumes: that the end was in order is not recorded");
    }
}
