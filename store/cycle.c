// SPDX-License-Identifier: Apache-2.0
#include "store/cycle.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { HISTORY_SAMPLES = 64 };

static const struct column cycle_columns[] = {
    COLUMN(struct cycle_row, TEXT, sync_id),    COLUMN(struct cycle_row, TEXT, base_id),
    COLUMN(struct cycle_row, TEXT, cut_id),     COLUMN(struct cycle_row, TEXT, point_id),
    COLUMN(struct cycle_row, U32, way),         COLUMN(struct cycle_row, U64, checkpoint_bytes),
    COLUMN(struct cycle_row, U64, cut_ms),      COLUMN(struct cycle_row, U64, point_ms),
    COLUMN(struct cycle_row, U64, cycles),      COLUMN(struct cycle_row, U64, took_ms),
    COLUMN(struct cycle_row, U64, moved_bytes), COLUMN(struct cycle_row, TEXT, history),
    COLUMN(struct cycle_row, TEXT, round_id),
};
const struct table cycle_table = {"cycles", sizeof(struct cycle_row), cycle_columns,
                                  ARRAY_LEN(cycle_columns)};

static const char *const pins[] = {"base_id", "cut_id", "point_id"};

int cycle_find(struct db *db, const char *sync_id, struct cycle_row *ret_row)
{
    const struct condition where[] = {WHERE_TEXT("sync_id", sync_id), WHERE_END};

    return table_find(db, &cycle_table, where, ret_row);
}

int cycle_pins(struct db *db, const char *layer_id)
{
    uint64_t n = 0;
    int r = 0;

    for (size_t i = 0; i < ARRAY_LEN(pins) && r == 0 && n == 0; i++) {
        const struct condition where[] = {WHERE_TEXT(pins[i], layer_id), WHERE_END};

        r = table_count(db, &cycle_table, where, &n);
    }
    return r < 0 ? r : n > 0;
}

static void rename_one(char member[ID_SIZE], const char *from_id, const char *to_id)
{
    if (strcmp(member, from_id) == 0) {
        strcpy(member, to_id);
    }
}

int cycle_layer_renamed(struct db *db, const char *from_id, const char *to_id)
{
    int r = 0;

    for (size_t i = 0; i < ARRAY_LEN(pins) && r == 0; i++) {
        const struct condition where[] = {WHERE_TEXT(pins[i], from_id), WHERE_END};
        struct cycle_row row;

        while (r == 0 && (r = table_find(db, &cycle_table, where, &row)) == 0) {
            rename_one(row.base_id, from_id, to_id);
            rename_one(row.cut_id, from_id, to_id);
            rename_one(row.point_id, from_id, to_id);
            r = table_update(db, &cycle_table, &row);
        }
        r = r == -ENOENT ? 0 : r;
    }
    return r;
}

void cycle_history_add(char history[CYCLE_HISTORY_SIZE], uint64_t ms)
{
    char sample[24];
    size_t n = 0;

    snprintf(sample, sizeof(sample), "%s%" PRIu64, history[0] == '\0' ? "" : ",", ms);
    for (const char *at = history; *at != '\0'; at++) {
        n += *at == ',';
    }
    while (n + 1 >= HISTORY_SAMPLES || strlen(history) + strlen(sample) >= CYCLE_HISTORY_SIZE) {
        const char *second = strchr(history, ',');

        memmove(history, second + 1, strlen(second + 1) + 1);
        n--;
    }
    strcat(history, sample);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

uint64_t cycle_history_percentile(const char *history, unsigned percent)
{
    uint64_t samples[HISTORY_SAMPLES];
    unsigned n = 0;

    for (const char *at = history; *at != '\0' && n < HISTORY_SAMPLES; at++) {
        char *end;

        samples[n++] = strtoull(at, &end, 10);
        at = end;
        if (*at == '\0') {
            break;
        }
    }
    if (n == 0) {
        return 0;
    }
    qsort(samples, n, sizeof(samples[0]), by_number);
    return samples[(n * percent + 99) / 100 > 0 ? (n * percent + 99) / 100 - 1 : 0];
}
