// SPDX-License-Identifier: Apache-2.0
/*
 * PRAGMA user_version is the number of steps that a file has gone through. A step and its new
 * number are committed together, so a crash leaves the file at one version or the other; the next
 * start goes on from there.
 */
#include "store/migrations.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "store/db.h"

static int run_step(struct db *db, const char *sql, size_t new_version)
{
    char pragma[96];
    snprintf(pragma, sizeof(pragma), "PRAGMA user_version = %zu; PRAGMA application_id = %d",
             new_version, STORE_APPLICATION_ID);

    int err = db_begin(db);
    if (err < 0) {
        return err;
    }
    err = db_exec(db, sql);
    if (err == 0) {
        err = db_exec(db, pragma);
    }
    if (err < 0) {
        db_rollback(db);
        return err;
    }
    return db_commit(db);
}

int migrations_run(struct db *db, const char *const *steps, size_t n_steps, struct error *error)
{
    int64_t version;
    int err = db_number(db, "PRAGMA user_version", &version);
    if (err < 0) {
        error_set(error, ERR_STORE_FAILED, "The version of the records could not be read: %s.",
                  db_message(db));
        return err;
    }
    if (version < 0 || (uint64_t)version > n_steps) {
        return error_set(error, ERR_STORE_FAILED,
                         "The records have schema version %" PRId64 ", this program knows versions "
                         "up to %zu: use the program that wrote them, or a newer one.",
                         version, n_steps);
    }
    for (size_t step = (size_t)version; step < n_steps; step++) {
        err = run_step(db, steps[step], step + 1);
        if (err < 0) {
            error_set(error, err == -ENOSPC ? ERR_NO_SPACE : ERR_STORE_FAILED,
                      "The records could not be brought from schema version %zu to %zu: %s.", step,
                      step + 1, db_message(db));
            return err;
        }
        log_info("store: schema version %zu", step + 1);
    }
    return 0;
}
