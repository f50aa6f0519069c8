// SPDX-License-Identifier: Apache-2.0
/*
 * Jobs and relationships: how far they are, what is told of them, and the live counters that it comes from.
 */
#include "tests/unit/view_fixture.h"

#include <stdio.h>

#include "service/live.h"
#include "service/view_parts.h"

/* ---- jobs and relationships ---- */

static void test_a_job_shows_live_bytes_and_committed_percent(void **state)
{
    struct job_row job = job_of("j1", JOB_RUNNING);
    struct copy_row copy = copy_of("c1", "j1", COPY_ROW_RUNNING);
    struct copy_progress progress = {.phase = COPY_COPYING,
                                     .bytes_total = 100 * MIB,
                                     .bytes_done = 60 * MIB,
                                     .checkpoint_bytes = 50 * MIB,
                                     .bytes_read = 61 * MIB,
                                     .bytes_written = 30 * MIB,
                                     .bytes_zeroed = 20 * MIB,
                                     .bytes_skipped = 10 * MIB,
                                     .bytes_per_second = 4 * MIB,
                                     .attempts = 2,
                                     .last_error = "link lost",
                                     .last_error_ms = now_ms - 3000};

    (void)state;
    copy.checkpoint_bytes = 40 * MIB;
    copy.bytes_read = 41 * MIB;
    insert(&job_table, &job);
    insert(&copy_table, &copy);
    live_put(live, "c1", &progress);

    cJSON *json = object(COLLECTION_JOBS, "j1");
    assert_int_equal(number_of(json, "PercentComplete"), 40);
    assert_int_equal(number_of(json, "BytesDone"), 60 * MIB);
    assert_int_equal(number_of(json, "CheckpointBytes"), 40 * MIB);
    assert_int_equal(number_of(json, "BytesRead"), 61 * MIB);
    assert_int_equal(number_of(json, "BytesPerSecond"), 4 * MIB);
    assert_int_equal(number_of(json, "Attempts"), 2);
    assert_string_equal(text_of(json, "LastError"), "link lost");
    assert_string_equal(text_of(json, "Phase"), "Copying");
    assert_string_equal(text_of(json, "ElapsedTime"), "PT10S");
    /* 40 MiB at 4 MiB/s after 2025-06-15T15:06:40Z */
    assert_string_equal(text_of(json, "EstimatedEnd"), "2025-06-15T15:06:50.000Z");
    assert_numbers(json, "OperationalStatus", "2");
    assert_null_member(json, "JobOutParameters");
    const cJSON *one = cJSON_GetArrayItem(member(json, "Copies"), 0);
    assert_int_equal(number_of(one, "BytesDone"), 60 * MIB);
    assert_null_member(one, "Synchronization");
    cJSON_Delete(json);

    live_remove(live, "c1");
    json = object(COLLECTION_JOBS, "j1");
    assert_int_equal(number_of(json, "PercentComplete"), 40);
    assert_int_equal(number_of(json, "BytesDone"), 40 * MIB);
    assert_int_equal(number_of(json, "BytesRead"), 41 * MIB);
    assert_int_equal(number_of(json, "BytesPerSecond"), 0);
    assert_string_equal(text_of(json, "Phase"), "Opening");
    assert_null_member(json, "EstimatedEnd");
    cJSON_Delete(json);
}

static void test_the_estimated_end_keeps_to_the_bandwidth_limit(void **state)
{
    struct job_row job = job_of("j1", JOB_RUNNING);
    struct copy_row copy = copy_of("c1", "j1", COPY_ROW_RUNNING);
    struct copy_progress progress = {.phase = COPY_COPYING,
                                     .bytes_total = 100 * MIB,
                                     .bytes_done = 60 * MIB,
                                     .bytes_per_second = 4 * MIB};
    static const struct {
        uint64_t limit;
        uint64_t read;
        const char *end;
    } cases[] = {
        {0, 60 * MIB, "2025-06-15T15:06:50.000Z"},       /* 40 MiB at 4 MiB/s */
        {8 * MIB, 60 * MIB, "2025-06-15T15:06:50.000Z"}, /* the limit is not what holds it back */
        {MIB, 60 * MIB, "2025-06-15T15:07:20.000Z"},
        {MIB, 61 * MIB, "2025-06-15T15:07:20.000Z"}, /* some of it twice */
        {MIB, 30 * MIB, "2025-06-15T15:07:00.000Z"}, /* half of it was empty */
        {MIB, 0, "2025-06-15T15:06:50.000Z"},
    };

    (void)state;
    insert(&job_table, &job);
    insert(&copy_table, &copy);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        progress.bandwidth_limit = cases[i].limit;
        progress.bytes_read = cases[i].read;
        live_put(live, "c1", &progress);
        cJSON *json = object(COLLECTION_JOBS, "j1");

        assert_string_equal(text_of(json, "EstimatedEnd"), cases[i].end);
        assert_int_equal(number_of(json, "BytesPerSecond"), 4 * MIB);
        cJSON_Delete(json);
    }
}

/* What the row and the snapshot say of checkpoint, done, and the pass. */
static void assert_done(uint64_t row_checkpoint, bool row_verifying, uint64_t live_done,
                        bool live_verifying, uint64_t wanted)
{
    struct copy_row copy;
    struct copy_progress progress = {.phase = COPY_COPYING,
                                     .bytes_total = 100 * MIB,
                                     .bytes_done = live_done,
                                     .verifying = live_verifying};

    assert_int_equal(table_get(fixture.db, &copy_table, "c1", &copy), 0);
    copy.checkpoint_bytes = row_checkpoint;
    copy.verify = true;
    copy.verifying = row_verifying;
    assert_int_equal(table_update(fixture.db, &copy_table, &copy), 0);
    live_put(live, "c1", &progress);
    cJSON *json = object(COLLECTION_JOBS, "j1");
    assert_int_equal(number_of(json, "BytesDone"), wanted);
    assert_true(number_of(json, "CheckpointBytes") <= number_of(json, "BytesDone"));
    cJSON_Delete(json);
}

static void test_a_checkpoint_is_never_ahead_of_what_is_done(void **state)
{
    struct job_row job = job_of("j1", JOB_RUNNING);
    struct copy_row copy = copy_of("c1", "j1", COPY_ROW_RUNNING);

    (void)state;
    insert(&job_table, &job);
    insert(&copy_table, &copy);
    assert_done(20 * MIB, false, 30 * MIB, false, 30 * MIB);
    assert_done(40 * MIB, false, 30 * MIB, false, 40 * MIB); /* committed after the snapshot */
    assert_done(40 * MIB, true, 30 * MIB, true, 40 * MIB);
    /* In the second pass, and the row is not yet. */
    assert_done(90 * MIB, false, 30 * MIB, true, 30 * MIB);
}

static unsigned percent_of(uint32_t job_state, uint32_t copy_state, uint64_t checkpoint,
                           bool verify, bool verifying)
{
    static unsigned count;
    char id[ID_SIZE];
    char copy_id[ID_SIZE];

    snprintf(id, sizeof(id), "p%u", ++count);
    snprintf(copy_id, sizeof(copy_id), "pc%u", count);
    struct job_row job = job_of(id, job_state);
    struct copy_row copy = copy_of(copy_id, id, copy_state);
    copy.checkpoint_bytes = checkpoint;
    copy.verify = verify;
    copy.verifying = verifying;
    insert(&job_table, &job);
    insert(&copy_table, &copy);
    cJSON *json = object(COLLECTION_JOBS, id);
    unsigned percent = (unsigned)number_of(json, "PercentComplete");
    cJSON_Delete(json);
    return percent;
}

static void test_percent_is_100_only_for_a_completed_job(void **state)
{
    const uint64_t all = 100 * MIB;

    (void)state;
    assert_int_equal(percent_of(JOB_NEW, COPY_ROW_QUEUED, 0, false, false), 0);
    assert_int_equal(percent_of(JOB_RUNNING, COPY_ROW_RUNNING, all / 2, false, false), 50);
    assert_int_equal(percent_of(JOB_RUNNING, COPY_ROW_RUNNING, all, false, false), 99);
    assert_int_equal(percent_of(JOB_RUNNING, COPY_ROW_DONE, all, false, false), 99);
    assert_int_equal(percent_of(JOB_COMPLETED, COPY_ROW_DONE, all, false, false), 100);
    assert_int_equal(percent_of(JOB_COMPLETED, COPY_ROW_RUNNING, 0, false, false), 100);
    assert_int_equal(percent_of(JOB_EXCEPTION, COPY_ROW_BROKEN, all, false, false), 99);
    assert_int_equal(percent_of(JOB_TERMINATED, COPY_ROW_CANCELLED, all / 4, false, false), 25);
    /* A verification pass is the second half. */
    assert_int_equal(percent_of(JOB_RUNNING, COPY_ROW_RUNNING, all, true, false), 50);
    assert_int_equal(percent_of(JOB_RUNNING, COPY_ROW_RUNNING, 0, true, true), 50);
    assert_int_equal(percent_of(JOB_RUNNING, COPY_ROW_RUNNING, all / 2, true, true), 75);
}

static void test_percent_of_a_job_does_not_fall_below_what_it_has_told(void **state)
{
    struct job_row job = job_of("j1", JOB_RUNNING);
    struct copy_row copy = copy_of("c1", "j1", COPY_ROW_RUNNING);

    (void)state;
    job.percent_complete = 70;
    copy.checkpoint_bytes = 10 * MIB;
    insert(&job_table, &job);
    insert(&copy_table, &copy);
    cJSON *json = object(COLLECTION_JOBS, "j1");
    assert_int_equal(number_of(json, "PercentComplete"), 70);
    cJSON_Delete(json);
}

static void test_a_job_sums_its_copies_and_is_as_far_as_the_slowest(void **state)
{
    struct job_row job = job_of("j1", JOB_RUNNING);
    struct copy_row done = copy_of("c1", "j1", COPY_ROW_DONE);
    struct copy_row running = copy_of("c2", "j1", COPY_ROW_RUNNING);
    struct copy_row queued = copy_of("c3", "j1", COPY_ROW_QUEUED);
    struct copy_progress progress = {.phase = COPY_COPYING,
                                     .bytes_total = 100 * MIB,
                                     .bytes_done = 25 * MIB,
                                     .bytes_per_second = MIB};

    (void)state;
    done.end_ms = now_ms;
    running.checkpoint_bytes = 20 * MIB;
    queued.bytes_total = 200 * MIB;
    insert(&job_table, &job);
    insert(&copy_table, &done);
    insert(&copy_table, &running);
    insert(&copy_table, &queued);
    live_put(live, "c2", &progress);
    cJSON *json = object(COLLECTION_JOBS, "j1");
    assert_int_equal(number_of(json, "BytesTotal"), 400 * MIB);
    assert_int_equal(number_of(json, "BytesDone"), 125 * MIB);
    assert_int_equal(number_of(json, "PercentComplete"), 30); /* 100 + 20 of 400 */
    assert_string_equal(text_of(json, "Phase"), "Queued");
    assert_null_member(json, "EstimatedEnd"); /* the third may wait for long */
    assert_int_equal(cJSON_GetArraySize(member(json, "Copies")), 3);
    cJSON_Delete(json);
}

static void test_an_ended_job_tells_how(void **state)
{
    struct job_row job = job_of("j1", JOB_COMPLETED);
    struct job_element_row element = {.effect = ELEMENT_EFFECT_CREATE};
    struct strbuf text = STRBUF_INIT;
    bool ended = false;

    (void)state;
    job.end_ms = now_ms - 4000;
    job.operational_status_2 = STATUS_OK;
    insert(&job_table, &job);
    TEXT_SET(element.job_id, "j1");
    TEXT_SET(element.element, "/volumes/v2");
    insert(&job_element_table, &element);
    assert_int_equal(job_set_out(fixture.db, "j1", "{\"ReturnValue\":0,\"X\":[1]}"), 0);
    cJSON *json = object(COLLECTION_JOBS, "j1");
    assert_numbers(json, "OperationalStatus", "17 2");
    assert_string_equal(text_of(json, "ElapsedTime"), "PT6S");
    assert_int_equal(number_of(member(json, "JobOutParameters"), "ReturnValue"), 0);
    assert_string_equal(text_of(cJSON_GetArrayItem(member(json, "AffectedElements"), 0), "Element"),
                        "/volumes/v2");
    assert_string_equal(text_of(json, "Phase"), "Done");
    cJSON_Delete(json);
    assert_int_equal(view_job_ended(fixture.db, "j1", &ended), 0);
    assert_true(ended);

    struct job_row failed = job_of("j2", JOB_EXCEPTION);
    failed.end_ms = now_ms;
    failed.operational_status_2 = STATUS_ERROR;
    failed.error_code = 4;
    TEXT_SET(failed.error_word, "lun_changed");
    TEXT_SET(failed.error_text, "It is another LUN.");
    insert(&job_table, &failed);
    json = object(COLLECTION_JOBS, "j2");
    assert_numbers(json, "OperationalStatus", "17 6");
    assert_int_equal(number_of(json, "HealthState"), 20);
    assert_int_equal(number_of(json, "ErrorCode"), 4);
    assert_string_equal(text_of(json, "ErrorCodeText"), "lun_changed");
    assert_string_equal(text_of(json, "Phase"), "Broken");
    cJSON_Delete(json);

    struct job_row running = job_of("j3", JOB_SHUTTING_DOWN);
    insert(&job_table, &running);
    assert_int_equal(view_job_ended(fixture.db, "j3", &ended), 0);
    assert_false(ended);
    strbuf_fini(&text);
}

static void test_a_relationship_moves_with_its_copy(void **state)
{
    struct sync_row sync = sync_of("sync1", "v1", "v2");
    struct job_row job = job_of("j1", JOB_RUNNING);
    struct copy_row copy = copy_of("c1", "j1", COPY_ROW_RUNNING);
    struct copy_progress progress = {
        .phase = COPY_COPYING, .bytes_total = 100 * MIB, .bytes_done = 60 * MIB};

    (void)state;
    add_peer();
    add_volume("v1");
    add_volume("v2");
    TEXT_SET(sync.job_id, "j1");
    sync.copy_state = STATE_UNSYNCHRONIZED;
    sync.progress_status = PROGRESS_SYNCHRONIZING;
    sync.percent_synced = 0;
    sync.when_synced_ms = 0;
    insert(&sync_table, &sync);
    insert(&job_table, &job);
    insert(&copy_table, &copy);
    live_put(live, "c1", &progress);

    cJSON *json = object(COLLECTION_SYNCHRONIZATIONS, "sync1");
    assert_int_equal(number_of(json, "PercentSynced"), 60);
    assert_int_equal(number_of(json, "SyncState"), 15);
    assert_string_equal(text_of(json, "Job"), "/jobs/j1");
    assert_string_equal(text_of(json, "CopyStateText"), "Unsynchronized");
    assert_int_equal(number_of(json, "ReplicationType"), 12);
    assert_null_member(json, "WhenSynced");
    assert_null_member(json, "ReadOnly");
    assert_null_member(json, "ReadOnlyText");
    /* smis.md 4.3: from 3, without Force */
    assert_numbers(json, "LegalOperations", "2 22");
    cJSON_Delete(json);
    json = object(COLLECTION_JOBS, "j1");
    assert_string_equal(text_of(cJSON_GetArrayItem(member(json, "Copies"), 0), "Synchronization"),
                        "/synchronizations/sync1");
    cJSON_Delete(json);
}

static void test_legal_operations_at_rest(void **state)
{
    struct sync_row unassociated = sync_of("s1", "v1", "v2");
    struct sync_row associated = sync_of("s2", "v1", "v3");

    (void)state;
    add_peer();
    add_volume("v1");
    add_volume("v2");
    add_volume("v3");
    associated.copy_type = COPY_UNSYNC_ASSOC;
    insert(&sync_table, &unassociated);
    insert(&sync_table, &associated);
    cJSON *json = object(COLLECTION_SYNCHRONIZATIONS, "s1");
    assert_numbers(json, "LegalOperations", "8 9 14 15");
    assert_int_equal(number_of(json, "SyncState"), 6);
    assert_false(bool_of(json, "SyncMaintained"));
    cJSON_Delete(json);
    json = object(COLLECTION_SYNCHRONIZATIONS, "s2");
    assert_numbers(json, "LegalOperations", "8 9 14 15 19");
    cJSON_Delete(json);
}

/* ---- live ---- */

static void test_live_counters_are_those_put_last(void **state)
{
    struct copy_progress progress = {.bytes_done = 1};
    struct copy_progress found;

    (void)state;
    assert_false(live_get(live, "c1", &found));
    live_put(live, "c1", &progress);
    progress.bytes_done = 2;
    live_put(live, "c1", &progress);
    live_put(live, "c2", &progress);
    assert_true(live_get(live, "c1", &found));
    assert_int_equal(found.bytes_done, 2);
    live_remove(live, "c1");
    live_remove(live, "c1");
    assert_false(live_get(live, "c1", &found));
    assert_true(live_get(live, "c2", &found));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_a_job_shows_live_bytes_and_committed_percent),
        TEST(test_the_estimated_end_keeps_to_the_bandwidth_limit),
        TEST(test_a_checkpoint_is_never_ahead_of_what_is_done),
        TEST(test_percent_is_100_only_for_a_completed_job),
        TEST(test_percent_of_a_job_does_not_fall_below_what_it_has_told),
        TEST(test_a_job_sums_its_copies_and_is_as_far_as_the_slowest),
        TEST(test_an_ended_job_tells_how),
        TEST(test_a_relationship_moves_with_its_copy),
        TEST(test_legal_operations_at_rest),
        TEST(test_live_counters_are_those_put_last),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
