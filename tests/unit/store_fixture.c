// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/store_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/log.h"

const struct table *const fixture_tables[] = {
    &system_table,  &access_point_table, &secret_table,
    &setting_table, &pool_table,         &volume_table,
    &sync_table,    &job_table,          &copy_table,
    &cycle_table,   &job_element_table,  &layer_table,
    &export_table,  &export_lun_table,   &export_initiator_table,
    &group_table,   &group_member_table, &group_sync_table,
    &endpoint_table, &pipe_table,
};
const size_t fixture_n_tables = ARRAY_LEN(fixture_tables);

const char *fixture_path(const struct fixture *fixture, const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", fixture->dir, name);
    return path;
}

void fixture_init(struct fixture *fixture)
{
    log_set_level(LOG_WARNING);
    memset(fixture, 0, sizeof(*fixture));
    snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/smirror-store-XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
}

void fixture_open(struct fixture *fixture)
{
    struct error error = {0};
    int err = store_open(fixture->dir, &fixture->db, &error);
    if (err < 0) {
        fail_msg("store_open: %d %s", err, error.detail);
    }
}

void fixture_close(struct fixture *fixture)
{
    db_close(fixture->db);
    fixture->db = NULL;
}

void fixture_fini(struct fixture *fixture)
{
    static const char *const names[] = {"smirror.db", "smirror.db-wal", "smirror.db-shm",
                                        "smirror.lock"};
    fixture_close(fixture);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (unlink(fixture_path(fixture, names[i])) < 0) {
            assert_int_equal(errno, ENOENT);
        }
    }
    assert_int_equal(rmdir(fixture->dir), 0); /* nothing else was left there */
}

struct db *fixture_reader(struct fixture *fixture)
{
    struct error error = {0};
    struct db *reader;
    int err = store_reader_open(fixture->dir, &reader, &error);
    if (err < 0) {
        fail_msg("store_reader_open: %d %s", err, error.detail);
    }
    return reader;
}

int fixture_setup(void **state)
{
    struct fixture *fixture = malloc(sizeof(*fixture));
    assert_non_null(fixture);
    fixture_init(fixture);
    fixture_open(fixture);
    *state = fixture;
    return 0;
}

int fixture_teardown(void **state)
{
    fixture_fini(*state);
    free(*state);
    return 0;
}

bool column_is_reference(const struct table *table, const struct column *column)
{
    static const struct {
        const struct table *table;
        const char *column;
    } references[] = {
        {&access_point_table, "system_id"},
        {&pool_table, "system_id"},
        {&volume_table, "system_id"},
        {&sync_table, "source_id"},
        {&sync_table, "target_id"},
        {&copy_table, "job_id"},
        {&job_element_table, "job_id"},
        {&layer_table, "pool_id"},
        {&export_lun_table, "export_id"},
        {&export_lun_table, "volume_id"},
        {&export_initiator_table, "export_id"},
        {&endpoint_table, "system_id"},
        {&pipe_table, "source_system_id"},
        {&pipe_table, "target_system_id"},
        {&group_member_table, "group_id"},
        {&group_member_table, "volume_id"},
    };
    for (size_t i = 0; i < ARRAY_LEN(references); i++) {
        if (references[i].table == table && strcmp(references[i].column, column->name) == 0) {
            return true;
        }
    }
    return false;
}

void row_fill_max(const struct table *table, void *row)
{
    struct row_head *head = row;
    memset(row, 0, table->row_size);
    memset(head->id, 'x', sizeof(head->id) - 1);
    for (size_t i = 0; i < table->n_columns; i++) {
        const struct column *column = &table->columns[i];
        char *member = (char *)row + column->offset;
        switch (column->type) {
        case COLUMN_TEXT:
            memset(member, 'x', column->size - 1);
            break;
        case COLUMN_U32:
            *(uint32_t *)member = UINT32_MAX;
            break;
        case COLUMN_U64:
            *(uint64_t *)member = INT64_MAX;
            break;
        case COLUMN_BOOL:
            *(bool *)member = true;
            break;
        }
    }
}

void row_fill_min(const struct table *table, void *row)
{
    struct row_head *head = row;
    memset(row, 0, table->row_size);
    TEXT_SET(head->id, "e");
    for (size_t i = 0; i < table->n_columns; i++) {
        const struct column *column = &table->columns[i];
        if (column_is_reference(table, column)) {
            text_set((char *)row + column->offset, column->size, "e");
        }
    }
}

void text_set(char *member, size_t size, const char *text)
{
    CHECK(strlen(text) < size);
    memset(member, 0, size);
    memcpy(member, text, strlen(text));
}
