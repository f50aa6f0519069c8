// SPDX-License-Identifier: Apache-2.0
#include "store/job.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "store/db.h"

static const struct column job_columns[] = {
    COLUMN(struct job_row, TEXT, name),
    COLUMN(struct job_row, TEXT, owner),
    COLUMN(struct job_row, U32, state),
    COLUMN(struct job_row, BOOL, suspend_wanted),
    COLUMN(struct job_row, TEXT, element_name),
    COLUMN(struct job_row, U64, time_submitted_ms),
    COLUMN(struct job_row, U64, start_ms),
    COLUMN(struct job_row, U64, last_change_ms),
    COLUMN(struct job_row, U64, end_ms),
    COLUMN(struct job_row, U64, time_before_removal_ms),
    COLUMN(struct job_row, BOOL, delete_on_completion),
    COLUMN(struct job_row, U32, operational_status_2),
    COLUMN(struct job_row, U32, error_code),
    COLUMN(struct job_row, TEXT, error_word),
    COLUMN(struct job_row, TEXT, error_text),
    COLUMN(struct job_row, U32, percent_complete),
    COLUMN(struct job_row, U32, copy_priority),
    COLUMN(struct job_row, U64, bandwidth_limit),
    COLUMN(struct job_row, U32, wait_for_copy_state),
    COLUMN(struct job_row, U32, operation),
    COLUMN(struct job_row, BOOL, continue_on_error),
    COLUMN(struct job_row, U32, end_wanted),
};
const struct table job_table = {"jobs", sizeof(struct job_row), job_columns,
                                ARRAY_LEN(job_columns)};

static const struct column copy_columns[] = {
    COLUMN(struct copy_row, TEXT, job_id),       COLUMN(struct copy_row, TEXT, sync_id),
    COLUMN(struct copy_row, U32, position),
    COLUMN(struct copy_row, U32, urgency),      COLUMN(struct copy_row, TEXT, source_id),
    COLUMN(struct copy_row, TEXT, target_id),    COLUMN(struct copy_row, U32, state),
    COLUMN(struct copy_row, U64, bytes_total),   COLUMN(struct copy_row, U64, checkpoint_bytes),
    COLUMN(struct copy_row, BOOL, verifying),    COLUMN(struct copy_row, U64, bytes_read),
    COLUMN(struct copy_row, U64, bytes_written), COLUMN(struct copy_row, U64, bytes_zeroed),
    COLUMN(struct copy_row, U64, bytes_skipped), COLUMN(struct copy_row, BOOL, verify),
    COLUMN(struct copy_row, BOOL, mirrored),
    COLUMN(struct copy_row, U64, attempts),      COLUMN(struct copy_row, TEXT, last_error),
    COLUMN(struct copy_row, U64, last_error_ms), COLUMN(struct copy_row, U64, end_ms),
};
const struct table copy_table = {"copies", sizeof(struct copy_row), copy_columns,
                                 ARRAY_LEN(copy_columns)};

static const struct column job_element_columns[] = {
    COLUMN(struct job_element_row, TEXT, job_id),
    COLUMN(struct job_element_row, TEXT, element),
    COLUMN(struct job_element_row, U32, effect),
};
const struct table job_element_table = {"job_elements", sizeof(struct job_element_row),
                                        job_element_columns, ARRAY_LEN(job_element_columns)};

/* Out parameters */

int job_set_out(struct db *db, const char *job_id, const char *text)
{
    struct statement *statement;
    int err = statement_sql(db,
                            "INSERT INTO job_outs (job_id, text) VALUES (?, ?)"
                            "  ON CONFLICT (job_id) DO UPDATE SET text = excluded.text",
                            &statement);
    if (err < 0) {
        return err;
    }
    statement_bind_text(statement, 1, job_id);
    statement_bind_text(statement, 2, text);
    return statement_run(statement, -ENOENT, NULL);
}

int job_get_out(struct db *db, const char *job_id, struct strbuf *ret_text)
{
    struct statement *statement;
    int err = statement_sql(db, "SELECT text FROM job_outs WHERE job_id = ?", &statement);
    if (err < 0) {
        return err;
    }
    statement_bind_text(statement, 1, job_id);
    err = statement_step(statement);
    if (err > 0) {
        size_t len;
        const char *text = statement_text(statement, 0, &len);
        strbuf_add(ret_text, text, len);
        err = strbuf_error(ret_text);
    }
    statement_done(statement);
    return err;
}

/* Answers */

int answer_put(struct db *db, const char *key, const struct answer *answer, const char *body,
               size_t body_len)
{
    if (strnlen(answer->location, sizeof(answer->location)) == sizeof(answer->location)) {
        return -ENAMETOOLONG;
    }
    struct statement *statement;
    int err = statement_sql(db,
                            "INSERT INTO answers"
                            "  (key, status, location, created_ms, request_hash, body)"
                            "  VALUES (?, ?, ?, ?, ?, ?)",
                            &statement);
    if (err < 0) {
        return err;
    }
    statement_bind_text(statement, 1, key);
    statement_bind_i64(statement, 2, answer->status);
    statement_bind_text(statement, 3, answer->location);
    statement_bind_u64(statement, 4, answer->created_ms);
    statement_bind_blob(statement, 5, answer->request_hash, sizeof(answer->request_hash));
    statement_bind_blob(statement, 6, body, body_len);
    return statement_run(statement, -EIO, NULL);
}

/* Decodes the row on which the statement stands. */
static int read_answer(struct statement *statement, struct answer *ret_answer,
                       struct strbuf *ret_body)
{
    struct answer answer = {.status = (int)statement_i64(statement, 0),
                            .created_ms = (uint64_t)statement_i64(statement, 2)};
    size_t location_len;
    size_t hash_len;
    size_t body_len;
    const char *location = statement_text(statement, 1, &location_len);
    const void *hash = statement_blob(statement, 3, &hash_len);
    if (location == NULL || location_len >= sizeof(answer.location) || hash == NULL ||
        hash_len != sizeof(answer.request_hash)) {
        return -EIO;
    }
    memcpy(answer.location, location, location_len);
    memcpy(answer.request_hash, hash, hash_len);
    const void *body = statement_blob(statement, 4, &body_len);
    strbuf_add(ret_body, body, body_len);
    int err = strbuf_error(ret_body);
    if (err == 0) {
        *ret_answer = answer;
    }
    return err;
}

int answer_get(struct db *db, const char *key, struct answer *ret_answer, struct strbuf *ret_body)
{
    struct statement *statement;
    int err = statement_sql(db,
                            "SELECT status, location, created_ms, request_hash, body"
                            "  FROM answers WHERE key = ?",
                            &statement);
    if (err < 0) {
        return err;
    }
    statement_bind_text(statement, 1, key);
    err = statement_step(statement);
    if (err > 0) {
        err = read_answer(statement, ret_answer, ret_body);
    } else if (err == 0) {
        err = -ENOENT;
    }
    statement_done(statement);
    return err;
}

int answer_forget(struct db *db, const char *key)
{
    struct statement *statement;
    int err = statement_sql(db, "DELETE FROM answers WHERE key = ?", &statement);
    if (err < 0) {
        return err;
    }
    statement_bind_text(statement, 1, key);
    return statement_run(statement, -EIO, NULL);
}

int answer_expire(struct db *db, uint64_t before_ms)
{
    struct statement *statement;
    int err = statement_sql(db, "DELETE FROM answers WHERE created_ms < ?", &statement);
    if (err < 0) {
        return err;
    }
    statement_bind_i64(statement, 1, before_ms <= INT64_MAX ? (int64_t)before_ms : INT64_MAX);
    return statement_run(statement, -EIO, NULL);
}

/* Names and values */

int meta_get(struct db *db, const char *key, char *ret_value, size_t size)
{
    struct statement *statement;
    int err = statement_sql(db, "SELECT value FROM meta WHERE key = ?", &statement);
    if (err < 0) {
        return err;
    }
    statement_bind_text(statement, 1, key);
    err = statement_step(statement);
    if (err > 0) {
        size_t len;
        const char *value = statement_text(statement, 0, &len);
        err = value == NULL ? -EIO : len < size ? 0 : -ENAMETOOLONG;
        if (err == 0) {
            memcpy(ret_value, value, len + 1);
        }
    } else if (err == 0) {
        err = -ENOENT;
    }
    statement_done(statement);
    return err;
}

int meta_set(struct db *db, const char *key, const char *value)
{
    struct statement *statement;
    int err = statement_sql(db,
                            "INSERT INTO meta (key, value) VALUES (?, ?)"
                            "  ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                            &statement);
    if (err < 0) {
        return err;
    }
    statement_bind_text(statement, 1, key);
    statement_bind_text(statement, 2, value);
    return statement_run(statement, -EIO, NULL);
}
