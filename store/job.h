// SPDX-License-Identifier: Apache-2.0
/*
 * Jobs, the copies they own, the elements they affect; and answers kept for Idempotency-Key.
 *
 * Thread, Ownership, Errors: as in store/table.h.
 */
#ifndef STORE_JOB_H
#define STORE_JOB_H

#include "base/strbuf.h"
#include "store/table.h"

struct job_row {
    struct row_head head;
    char name[64];  /* the method */
    char owner[64]; /* the service's name */
    uint32_t state; /* JobState */
    bool suspend_wanted;
    char element_name[NAME_SIZE];
    uint64_t time_submitted_ms;
    uint64_t start_ms; /* 0: not yet */
    uint64_t last_change_ms;
    uint64_t end_ms;
    uint64_t time_before_removal_ms;
    bool delete_on_completion;
    uint32_t operational_status_2; /* second entry of OperationalStatus when ended: 2, 3 or 6 */
    uint32_t error_code;           /* ErrorCode: the ReturnValue of the cause, 0 none */
    char error_word[48];
    char error_text[480];
    uint32_t percent_complete;
    uint32_t copy_priority;
    uint64_t bandwidth_limit;
    uint32_t wait_for_copy_state; /* 0: none */
    uint32_t operation;           /* of ModifyReplicaSynchronization, 0 else */
    bool continue_on_error;
    uint32_t end_wanted; /* JobState it is being ended in (8, 9), 0 none */
};
extern const struct table job_table;

/* The out parameters, as the api renders them: opaque text here. It goes with the job, and may be
 * set again. -ENOENT without the job; job_get_out() adds nothing when none was set. */
int job_set_out(struct db *db, const char *job_id, const char *text);
int job_get_out(struct db *db, const char *job_id, struct strbuf *ret_text);

/* Copies and elements go when their job is deleted. */
struct copy_row {
    struct row_head head;
    char job_id[ID_SIZE];
    char sync_id[ID_SIZE];
    uint32_t position; /* in the job's list */
    uint32_t urgency;  /* 1 to 4: who waits goes first the more urgent it is */
    char source_id[ID_SIZE];
    char target_id[ID_SIZE];
    uint32_t state; /* enum copy_row_state of service/jobs.h */
    uint64_t bytes_total;
    uint64_t checkpoint_bytes; /* everything below is on the target's stable storage */
    bool verifying;            /* checkpoint_bytes counts the verification pass */
    uint64_t bytes_read;
    uint64_t bytes_written;
    uint64_t bytes_zeroed;
    uint64_t bytes_skipped;
    bool verify;
    bool mirrored; /* a mirror moves the data: done when both sides are equal */
    uint64_t attempts;
    char last_error[480];
    uint64_t last_error_ms;
    uint64_t end_ms;
};
extern const struct table copy_table;

struct job_element_row {
    struct row_head head;
    char job_id[ID_SIZE];
    char element[PATH_SIZE]; /* path */
    uint32_t effect;         /* ElementEffects */
};
extern const struct table job_element_table;

/* Answers kept for Idempotency-Key: the first answer to a key stands (-EEXIST) until it expires. */
struct answer {
    int status;
    char location[PATH_SIZE];
    uint64_t created_ms;
    uint8_t request_hash[32];
};
/* body may hold any bytes. answer_get() adds it to *ret_body; -ENOENT for an unknown key. */
int answer_put(struct db *db, const char *key, const struct answer *answer, const char *body,
               size_t body_len);
int answer_get(struct db *db, const char *key, struct answer *ret_answer, struct strbuf *ret_body);
/* -ENOENT for an unknown key. */
int answer_forget(struct db *db, const char *key);
/* Forgets answers with created_ms < before_ms. */
int answer_expire(struct db *db, uint64_t before_ms);

/* One value for each name ("array_id", …). meta_get(): -ENOENT for an unknown one, -ENAMETOOLONG
 * when size is too small. */
int meta_get(struct db *db, const char *key, char *ret_value, size_t size);
int meta_set(struct db *db, const char *key, const char *value);

#endif
