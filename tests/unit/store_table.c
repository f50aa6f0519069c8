// SPDX-License-Identifier: Apache-2.0
/* Rows in, rows out: what was given comes back, and what does not fit changes nothing. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "store/db.h"
#include "tests/unit/store_fixture.h"

union row {
    struct row_head head;
    char bytes[ROW_MAX];
    uint64_t align;
};

static uint64_t count(struct db *db, const struct table *table, const struct condition *where)
{
    uint64_t n = UINT64_MAX;
    assert_int_equal(table_count(db, table, where, &n), 0);
    return n;
}

static void check_round_trip(struct db *db, const struct table *table, union row *row)
{
    union row back;
    assert_int_equal(table_insert(db, table, row), 0);
    assert_true(row->head.seq > 0);
    assert_int_equal(table_get(db, table, row->head.id, &back), 0);
    assert_memory_equal(&back, row, table->row_size);
}

static void test_the_smallest_row_of_every_table_comes_back_as_it_was(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < fixture_n_tables; i++) {
        union row row;
        row_fill_min(fixture_tables[i], &row);
        check_round_trip(fixture->db, fixture_tables[i], &row);
    }
}

static void test_the_largest_row_of_every_table_comes_back_as_it_was(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < fixture_n_tables; i++) {
        union row row;
        row_fill_max(fixture_tables[i], &row);
        check_round_trip(fixture->db, fixture_tables[i], &row);
    }
}

/* No two rows have the same. */
static bool is_unique(const struct table *table, const struct column *column)
{
    return (table == &export_table && strcmp(column->name, "iqn") == 0) ||
           (table == &export_initiator_table && strcmp(column->name, "initiator") == 0);
}

static void fill_random(const struct table *table, union row *row, struct random *random)
{
    row_fill_min(table, row);
    row->head.id[0] = '\0';
    for (size_t i = 0; i < table->n_columns; i++) {
        const struct column *column = &table->columns[i];
        char *member = row->bytes + column->offset;
        if (column_is_reference(table, column)) {
            continue;
        }
        switch (column->type) {
        case COLUMN_TEXT:
            /* Any bytes but zero: names and identities come from foreign devices. */
            for (uint64_t n = is_unique(table, column) ? column->size - 1
                                                       : random_below(random, column->size);
                 n > 0; n--) {
                member[n - 1] = (char)(1 + random_below(random, 255));
            }
            break;
        case COLUMN_U32:
            *(uint32_t *)member = (uint32_t)random_u64(random);
            break;
        case COLUMN_U64:
            *(uint64_t *)member = random_u64(random) >> 1;
            break;
        case COLUMN_BOOL:
            *(bool *)member = random_chance(random, 1, 2);
            break;
        }
    }
}

static void test_random_rows_come_back_as_they_were_inserted_and_updated(void **state)
{
    struct fixture *fixture = *state;
    struct random random;
    random_seed(&random, 4711);
    assert_int_equal(db_begin(fixture->db), 0);
    for (size_t i = 0; i < fixture_n_tables; i++) {
        const struct table *table = fixture_tables[i];
        union row row;
        row_fill_min(table, &row);
        assert_int_equal(table_insert(fixture->db, table, &row), 0);
        if (table == &sync_table || table == &group_member_table) {
            continue; /* the one pair of volumes, or of group and volume, is taken */
        }
        for (int round = 0; round < 50; round++) {
            union row back;
            fill_random(table, &row, &random);
            check_round_trip(fixture->db, table, &row);
            struct row_head head = row.head;
            fill_random(table, &row, &random);
            row.head = head;
            assert_int_equal(table_update(fixture->db, table, &row), 0);
            assert_int_equal(table_get(fixture->db, table, head.id, &back), 0);
            assert_memory_equal(&back, &row, table->row_size);
        }
    }
    assert_int_equal(db_commit(fixture->db), 0);
}

static void test_quotes_and_sql_in_a_text_are_only_text(void **state)
{
    struct fixture *fixture = *state;
    struct system_row row = {0};
    struct system_row back;
    TEXT_SET(row.element_name, "'; DROP TABLE systems; -- \" \\ %s \xc3\xa4");
    assert_int_equal(table_insert(fixture->db, &system_table, &row), 0);
    const struct condition where[] = {WHERE_TEXT("element_name", row.element_name), WHERE_END};
    assert_int_equal(table_find(fixture->db, &system_table, where, &back), 0);
    assert_string_equal(back.element_name, row.element_name);
}

static void test_an_empty_id_is_filled_with_twelve_hexadecimal_digits(void **state)
{
    struct fixture *fixture = *state;
    struct system_row row = {0};
    assert_int_equal(table_insert(fixture->db, &system_table, &row), 0);
    assert_int_equal(strlen(row.head.id), ID_LEN);
    assert_int_equal(strspn(row.head.id, "0123456789abcdef"), ID_LEN);
}

/* Each text of each table, without its terminating zero. */
static void test_a_text_that_is_too_long_is_refused_and_nothing_changes(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < fixture_n_tables; i++) {
        const struct table *table = fixture_tables[i];
        union row good;
        row_fill_min(table, &good);
        assert_int_equal(table_insert(fixture->db, table, &good), 0);
        uint64_t before = count(fixture->db, table, NULL);
        for (size_t c = 0; c < table->n_columns; c++) {
            const struct column *column = &table->columns[c];
            union row row;
            union row back;
            if (column->type != COLUMN_TEXT) {
                continue;
            }
            row = good;
            memset(row.bytes + column->offset, 'y', column->size);
            assert_int_equal(table_update(fixture->db, table, &row), -ENAMETOOLONG);
            assert_int_equal(table_get(fixture->db, table, "e", &back), 0);
            assert_memory_equal(&back, &good, table->row_size);
            TEXT_SET(row.head.id, "f");
            assert_int_equal(table_insert(fixture->db, table, &row), -ENAMETOOLONG);
        }
        union row row = good;
        memset(row.head.id, 'y', sizeof(row.head.id));
        assert_int_equal(table_insert(fixture->db, table, &row), -ENAMETOOLONG);
        assert_int_equal(count(fixture->db, table, NULL), before);
    }
}

static void test_a_number_above_2_to_63_is_refused_and_nothing_changes(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < fixture_n_tables; i++) {
        const struct table *table = fixture_tables[i];
        union row good;
        row_fill_min(table, &good);
        assert_int_equal(table_insert(fixture->db, table, &good), 0);
        uint64_t before = count(fixture->db, table, NULL);
        for (size_t c = 0; c < table->n_columns; c++) {
            const struct column *column = &table->columns[c];
            union row row;
            union row back;
            if (column->type != COLUMN_U64) {
                continue;
            }
            row = good;
            *(uint64_t *)(row.bytes + column->offset) = (uint64_t)INT64_MAX + 1;
            assert_int_equal(table_update(fixture->db, table, &row), -ERANGE);
            assert_int_equal(table_get(fixture->db, table, "e", &back), 0);
            assert_memory_equal(&back, &good, table->row_size);
            TEXT_SET(row.head.id, "f");
            assert_int_equal(table_insert(fixture->db, table, &row), -ERANGE);
        }
        assert_int_equal(count(fixture->db, table, NULL), before);
    }
}

static void test_an_id_that_is_taken_is_refused_and_the_row_stays_as_it_was(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < fixture_n_tables; i++) {
        const struct table *table = fixture_tables[i];
        union row row;
        union row again;
        union row back;
        row_fill_min(table, &row);
        assert_int_equal(table_insert(fixture->db, table, &row), 0);
        row_fill_min(table, &again);
        again.head.seq = 99;
        assert_int_equal(table_insert(fixture->db, table, &again), -EEXIST);
        assert_int_equal(again.head.seq, 99);
        assert_int_equal(table_get(fixture->db, table, "e", &back), 0);
        assert_memory_equal(&back, &row, table->row_size);
    }
}

static void test_a_second_relationship_of_the_same_pair_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct volume_row volume = {.kind = VOLUME_REMOTE};
    TEXT_SET(volume.system_id, SYSTEM_LOCAL);
    TEXT_SET(volume.head.id, "a");
    assert_int_equal(table_insert(fixture->db, &volume_table, &volume), 0);
    TEXT_SET(volume.head.id, "b");
    assert_int_equal(table_insert(fixture->db, &volume_table, &volume), 0);

    struct sync_row sync = {.copy_type = 5};
    struct sync_row back;
    TEXT_SET(sync.source_id, "a");
    TEXT_SET(sync.target_id, "b");
    assert_int_equal(sync_find_pair(fixture->db, "a", "b", &back), -ENOENT);
    assert_int_equal(table_insert(fixture->db, &sync_table, &sync), 0);
    struct sync_row second = sync;
    second.head = (struct row_head){0};
    assert_int_equal(table_insert(fixture->db, &sync_table, &second), -EEXIST);
    assert_string_equal(second.head.id, "");
    TEXT_SET(second.source_id, "b"); /* the other way round is another pair */
    TEXT_SET(second.target_id, "a");
    assert_int_equal(table_insert(fixture->db, &sync_table, &second), 0);
    TEXT_SET(second.source_id, "a");
    TEXT_SET(second.target_id, "b");
    assert_int_equal(table_update(fixture->db, &sync_table, &second), -EEXIST);
    assert_int_equal(sync_find_pair(fixture->db, "a", "b", &back), 0);
    assert_memory_equal(&back, &sync, sizeof(sync));
}

static void test_references_must_lead_somewhere_and_hold_what_they_refer_to(void **state)
{
    struct fixture *fixture = *state;
    struct db *db = fixture->db;
    for (size_t i = 0; i < fixture_n_tables; i++) {
        const struct table *table = fixture_tables[i];
        for (size_t c = 0; c < table->n_columns; c++) {
            if (column_is_reference(table, &table->columns[c])) {
                union row row;
                row_fill_max(table, &row);
                text_set(row.bytes + table->columns[c].offset, table->columns[c].size, "nobody");
                assert_int_equal(table_insert(db, table, &row), -ENOENT);
            }
        }
        union row row;
        row_fill_max(table, &row);
        assert_int_equal(table_insert(db, table, &row), 0);
    }
    union row row;
    row_fill_max(&system_table, &row);
    assert_int_equal(table_delete(db, &system_table, row.head.id), -EBUSY);
    assert_int_equal(table_delete(db, &volume_table, row.head.id), -EBUSY);
    assert_int_equal(table_delete(db, &sync_table, row.head.id), 0);
    assert_int_equal(table_delete(db, &volume_table, row.head.id), -EBUSY); /* still a LUN */
    assert_int_equal(table_delete(db, &export_table, row.head.id), 0);
    assert_int_equal(table_delete(db, &volume_table, row.head.id), -EBUSY); /* still a member */
    assert_int_equal(table_delete(db, &group_table, row.head.id), 0);
    assert_int_equal(table_delete(db, &volume_table, row.head.id), 0);
}

static void test_what_is_not_there_is_enoent_and_leaves_the_result_alone(void **state)
{
    struct fixture *fixture = *state;
    union row row;
    union row untouched;
    memset(&row, 0x5a, sizeof(row));
    untouched = row;
    const struct condition where[] = {WHERE_TEXT("id", "nobody"), WHERE_END};
    for (size_t i = 0; i < fixture_n_tables; i++) {
        const struct table *table = fixture_tables[i];
        assert_int_equal(table_get(fixture->db, table, "nobody", &row), -ENOENT);
        assert_int_equal(table_get(fixture->db, table, "", &row), -ENOENT);
        assert_int_equal(table_find(fixture->db, table, where, &row), -ENOENT);
        assert_int_equal(table_delete(fixture->db, table, "nobody"), -ENOENT);
        assert_memory_equal(&row, &untouched, sizeof(row));
        union row absent;
        row_fill_min(table, &absent);
        TEXT_SET(absent.head.id, "nobody");
        for (size_t c = 0; c < table->n_columns; c++) {
            if (column_is_reference(table, &table->columns[c])) {
                text_set(absent.bytes + table->columns[c].offset, table->columns[c].size,
                         SYSTEM_LOCAL);
            }
        }
        assert_int_equal(table_update(fixture->db, table, &absent), -ENOENT);
    }
}

/* A file that somebody has edited: the row cannot be decoded, and that is said. */
static void test_a_value_that_fits_no_member_is_eio_and_leaves_the_result_alone(void **state)
{
    struct fixture *fixture = *state;
    static const char *const edits[] = {
        "UPDATE volumes SET block_bytes = 4294967296",
        "UPDATE volumes SET block_bytes = -1",
        "UPDATE volumes SET size_bytes = -1",
        "UPDATE volumes SET vendor = '12345678901234567890123456789012'",
    };
    for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
        union row row;
        union row untouched;
        assert_int_equal(db_begin(fixture->db), 0);
        row_fill_min(&system_table, &row);
        assert_int_equal(table_insert(fixture->db, &system_table, &row), 0);
        row_fill_min(&volume_table, &row);
        assert_int_equal(table_insert(fixture->db, &volume_table, &row), 0);
        assert_int_equal(db_exec(fixture->db, edits[i]), 0);
        memset(&row, 0x5a, sizeof(row));
        untouched = row;
        assert_int_equal(table_get(fixture->db, &volume_table, "e", &row), -EIO);
        assert_memory_equal(&row, &untouched, sizeof(row));
        db_rollback(fixture->db);
    }
}

/* Lists */

struct seen {
    int64_t seqs[256];
    size_t n;
};

static int note_seq(void *arg, const void *row)
{
    struct seen *seen = arg;
    assert_true(seen->n < 256);
    seen->seqs[seen->n++] = ((const struct row_head *)row)->seq;
    return 0;
}

static void insert_systems(struct db *db, int n, int64_t *ret_seqs)
{
    for (int i = 0; i < n; i++) {
        struct system_row row = {.created_ms = (uint64_t)i};
        snprintf(row.head.id, sizeof(row.head.id), "s%d", i);
        assert_int_equal(table_insert(db, &system_table, &row), 0);
        ret_seqs[i] = row.head.seq;
    }
}

static void
test_pages_show_every_row_that_stays_once_and_in_order_while_rows_are_deleted(void **state)
{
    struct fixture *fixture = *state;
    struct db *db = fixture->db;
    int64_t seqs[100];
    struct endpoint_row endpoint;
    assert_int_equal(table_delete(db, &pool_table, "default"), 0);
    while (table_find(db, &endpoint_table, NULL, &endpoint) == 0) {
        assert_int_equal(table_delete(db, &endpoint_table, endpoint.head.id), 0);
    }
    assert_int_equal(table_delete(db, &system_table, SYSTEM_LOCAL), 0);
    insert_systems(db, 100, seqs);

    struct seen seen = {0};
    int64_t cursor = 0;
    for (int page = 0;; page++) {
        size_t before = seen.n;
        assert_int_equal(table_each(db, &system_table, NULL, cursor, 10, note_seq, &seen), 0);
        if (seen.n == before) {
            break;
        }
        cursor = seen.seqs[seen.n - 1];
        /* Between two pages go one that was seen, the row of the cursor, and the next to come. */
        struct system_row row;
        const struct condition at_cursor[] = {WHERE_NUM("seq", (uint64_t)cursor), WHERE_END};
        assert_int_equal(table_find(db, &system_table, at_cursor, &row), 0);
        int last = atoi(row.head.id + 1);
        for (int i = last - 1; i <= last + 1 && i < 100; i++) {
            char id[ID_SIZE];
            snprintf(id, sizeof(id), "s%d", i);
            int err = table_delete(db, &system_table, id);
            assert_true(err == 0 || err == -ENOENT); /* gone since the page before */
        }
    }
    assert_int_equal(seen.n, 91); /* 9 of 100 went before their page came */
    for (size_t i = 1; i < seen.n; i++) {
        assert_true(seen.seqs[i - 1] < seen.seqs[i]);
    }
}

static void test_a_seq_is_never_used_again(void **state)
{
    struct fixture *fixture = *state;
    struct system_row row = {0};
    int64_t last = 0;
    for (int i = 0; i < 5; i++) {
        row.head = (struct row_head){0};
        assert_int_equal(table_insert(fixture->db, &system_table, &row), 0);
        assert_true(row.head.seq > last);
        last = row.head.seq;
        assert_int_equal(table_delete(fixture->db, &system_table, row.head.id), 0);
    }
}

static int stop_at_three(void *arg, const void *row)
{
    (void)row;
    return ++*(int *)arg == 3 ? 42 : 0;
}

static void test_a_walk_ends_with_what_its_function_returns(void **state)
{
    struct fixture *fixture = *state;
    int64_t seqs[10];
    int calls = 0;
    insert_systems(fixture->db, 10, seqs);
    assert_int_equal(table_each(fixture->db, &system_table, NULL, 0, 0, stop_at_three, &calls), 42);
    assert_int_equal(calls, 3);
}

struct nested {
    struct db *db;
    int inner;
    int outer;
};

static int count_inner(void *arg, const void *row)
{
    (void)row;
    ((struct nested *)arg)->inner++;
    return 0;
}

static int walk_again(void *arg, const void *row)
{
    struct nested *nested = arg;
    (void)row;
    nested->outer++;
    return table_each(nested->db, &system_table, NULL, 0, 0, count_inner, nested);
}

static void test_a_walk_may_walk_the_same_list_again(void **state)
{
    struct fixture *fixture = *state;
    int64_t seqs[9];
    insert_systems(fixture->db, 9, seqs);
    struct nested nested = {.db = fixture->db};
    assert_int_equal(table_each(fixture->db, &system_table, NULL, 0, 0, walk_again, &nested), 0);
    assert_int_equal(nested.outer, 10);
    assert_int_equal(nested.inner, 100);
}

static void test_load_gives_all_rows_that_fit_for_a_walk_that_deletes_them(void **state)
{
    struct fixture *fixture = *state;
    struct db *db = fixture->db;
    int64_t seqs[40];
    insert_systems(db, 40, seqs);
    const struct condition ours[] = {WHERE_NUM("local", 0), WHERE_END};
    void *rows;
    size_t n;
    assert_int_equal(table_load(db, &system_table, ours, &rows, &n), 0);
    assert_int_equal(n, 40);
    for (size_t i = 0; i < n; i++) {
        const struct system_row *row = (const struct system_row *)rows + i;
        assert_int_equal(row->created_ms, i);
        assert_int_equal(table_delete(db, &system_table, row->head.id), 0);
    }
    free(rows);
    assert_int_equal(table_load(db, &system_table, ours, &rows, &n), 0);
    assert_int_equal(n, 0);
    free(rows);
}

/* Filters, against a plain walk over everything */

#define N_FILTERED 200
static struct volume_row volumes[N_FILTERED];

static void check_filter(struct db *db, const struct condition *where, bool (*fits)(int i))
{
    struct seen seen = {0};
    assert_int_equal(table_each(db, &volume_table, where, 0, 0, note_seq, &seen), 0);
    size_t n = 0;
    for (int i = 0; i < N_FILTERED; i++) {
        if (fits(i)) {
            assert_true(n < seen.n);
            assert_int_equal(seen.seqs[n], volumes[i].head.seq);
            n++;
        }
    }
    assert_int_equal(seen.n, n);
    assert_int_equal(count(db, &volume_table, where), n);
    struct volume_row first;
    assert_int_equal(table_find(db, &volume_table, where, &first), n > 0 ? 0 : -ENOENT);
    if (n > 0) {
        assert_int_equal(first.head.seq, seen.seqs[0]);
    }
}

static bool fits_all(int i)
{
    (void)i;
    return true;
}

static bool fits_none(int i)
{
    (void)i;
    return false;
}

static bool fits_pool(int i)
{
    return strcmp(volumes[i].pool_id, "p1") == 0;
}

static bool fits_pool_free(int i)
{
    return fits_pool(i) && !volumes[i].allocated;
}

static bool fits_lun(int i)
{
    return volumes[i].kind == 1 && strcmp(volumes[i].iqn, "iqn.b") == 0 && volumes[i].lun == 3;
}

static bool fits_id(int i)
{
    return i == 7;
}

static void test_filters_select_exactly_what_a_walk_over_everything_would(void **state)
{
    struct fixture *fixture = *state;
    struct db *db = fixture->db;
    struct random random;
    random_seed(&random, 99);
    for (int i = 0; i < N_FILTERED; i++) {
        struct volume_row *row = &volumes[i];
        memset(row, 0, sizeof(*row));
        TEXT_SET(row->system_id, SYSTEM_LOCAL);
        row->kind = 1 + (uint32_t)random_below(&random, 2);
        snprintf(row->pool_id, sizeof(row->pool_id), "p%d", (int)random_below(&random, 3));
        snprintf(row->iqn, sizeof(row->iqn), "iqn.%c", 'a' + (int)random_below(&random, 3));
        row->lun = random_below(&random, 5);
        row->allocated = random_chance(&random, 1, 2);
        assert_int_equal(table_insert(db, &volume_table, row), 0);
    }
    check_filter(db, NULL, fits_all);
    check_filter(db, (const struct condition[]){WHERE_END}, fits_all);
    check_filter(db, (const struct condition[]){WHERE_TEXT("pool_id", "p1"), WHERE_END}, fits_pool);
    check_filter(db, (const struct condition[]){WHERE_TEXT("pool_id", "P1"), WHERE_END}, fits_none);
    check_filter(db,
                 (const struct condition[]){WHERE_TEXT("pool_id", "p1"), WHERE_NUM("allocated", 0),
                                            WHERE_END},
                 fits_pool_free);
    check_filter(db,
                 (const struct condition[]){WHERE_NUM("kind", 1), WHERE_TEXT("iqn", "iqn.b"),
                                            WHERE_NUM("lun", 3), WHERE_END},
                 fits_lun);
    check_filter(db, (const struct condition[]){WHERE_TEXT("id", volumes[7].head.id), WHERE_END},
                 fits_id);
    check_filter(db, (const struct condition[]){WHERE_NUM("lun", UINT64_MAX), WHERE_END},
                 fits_none);
}

struct pairs {
    char text[512];
};

static int add_pair(void *arg, int64_t seq, const char *id)
{
    struct pairs *pairs = arg;
    size_t len = strlen(pairs->text);
    snprintf(pairs->text + len, sizeof(pairs->text) - len, "%lld:%s ", (long long)seq, id);
    return strcmp(id, "stop") == 0 ? 7 : 0;
}

static void insert_volume(struct db *db, const char *id, const char *pool)
{
    struct volume_row row = {.kind = VOLUME_REMOTE};
    TEXT_SET(row.head.id, id);
    TEXT_SET(row.system_id, SYSTEM_LOCAL);
    TEXT_SET(row.pool_id, pool);
    assert_int_equal(table_insert(db, &volume_table, &row), 0);
}

static void insert_sync(struct db *db, const char *id, const char *source, const char *target)
{
    struct sync_row row = {0};
    TEXT_SET(row.head.id, id);
    TEXT_SET(row.source_id, source);
    TEXT_SET(row.target_id, target);
    assert_int_equal(table_insert(db, &sync_table, &row), 0);
}

static void check_related(struct db *db, const struct condition *where, int64_t after_seq,
                          uint64_t limit, const char *column, int err, const char *expected)
{
    struct table_relation relation = {&sync_table, column};
    struct pairs pairs = {.text = ""};
    assert_int_equal(
        table_each_related(db, &volume_table, where, after_seq, limit, &relation, add_pair, &pairs),
        err);
    assert_string_equal(pairs.text, expected);
}

static void test_what_refers_to_the_rows_of_a_page_is_found_for_these_rows_only(void **state)
{
    struct fixture *fixture = *state;
    struct db *db = fixture->db;
    const struct condition pool[] = {WHERE_TEXT("pool_id", "p"), WHERE_END};
    const struct condition none[] = {WHERE_TEXT("pool_id", "q"), WHERE_END};
    const struct condition one[] = {WHERE_TEXT("id", "v3"), WHERE_END};
    insert_volume(db, "v1", "p");
    insert_volume(db, "v2", "");
    insert_volume(db, "v3", "p");
    insert_volume(db, "v4", "p");
    insert_sync(db, "z", "v1", "v2");
    insert_sync(db, "y", "v4", "v3");
    insert_sync(db, "a", "v1", "v3");
    insert_sync(db, "b", "v2", "v3");
    check_related(db, NULL, 0, 0, "source_id", 0, "1:z 1:a 2:b 4:y ");
    check_related(db, NULL, 0, 0, "target_id", 0, "2:z 3:y 3:a 3:b ");
    check_related(db, NULL, 1, 2, "source_id", 0, "2:b ");
    check_related(db, pool, 0, 2, "target_id", 0, "3:y 3:a 3:b ");
    check_related(db, pool, 1, 2, "source_id", 0, "4:y ");
    check_related(db, one, 0, 1, "target_id", 0, "3:y 3:a 3:b ");
    check_related(db, none, 0, 0, "source_id", 0, "");
    insert_sync(db, "stop", "v2", "v1");
    check_related(db, NULL, 0, 0, "source_id", 7, "1:z 1:a 2:b 2:stop ");
    check_related(db, NULL, 0, 0, "source_id", 7, "1:z 1:a 2:b 2:stop ");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(test_the_smallest_row_of_every_table_comes_back_as_it_was),
        T(test_the_largest_row_of_every_table_comes_back_as_it_was),
        T(test_random_rows_come_back_as_they_were_inserted_and_updated),
        T(test_quotes_and_sql_in_a_text_are_only_text),
        T(test_an_empty_id_is_filled_with_twelve_hexadecimal_digits),
        T(test_a_text_that_is_too_long_is_refused_and_nothing_changes),
        T(test_a_number_above_2_to_63_is_refused_and_nothing_changes),
        T(test_an_id_that_is_taken_is_refused_and_the_row_stays_as_it_was),
        T(test_a_second_relationship_of_the_same_pair_is_refused),
        T(test_references_must_lead_somewhere_and_hold_what_they_refer_to),
        T(test_what_is_not_there_is_enoent_and_leaves_the_result_alone),
        T(test_a_value_that_fits_no_member_is_eio_and_leaves_the_result_alone),
        T(test_pages_show_every_row_that_stays_once_and_in_order_while_rows_are_deleted),
        T(test_a_seq_is_never_used_again),
        T(test_a_walk_ends_with_what_its_function_returns),
        T(test_a_walk_may_walk_the_same_list_again),
        T(test_load_gives_all_rows_that_fit_for_a_walk_that_deletes_them),
        T(test_what_refers_to_the_rows_of_a_page_is_found_for_these_rows_only),
        T(test_filters_select_exactly_what_a_walk_over_everything_would),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
