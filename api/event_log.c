// SPDX-License-Identifier: Apache-2.0
#include "api/event_log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

int event_log_init(struct event_log *log, size_t n_slots, size_t bytes_max)
{
    *log = (struct event_log){.n_slots = n_slots, .bytes_max = bytes_max, .first = 1};
    map_init(&log->pending);
    log->slots = calloc(n_slots, sizeof(*log->slots));
    return log->slots != NULL ? 0 : -ENOMEM;
}

void event_log_fini(struct event_log *log)
{
    for (size_t i = 0; log->slots != NULL && i < log->n_slots; i++) {
        rendered_unref(log->slots[i].text);
    }
    free(log->slots);
    log->slots = NULL;
    map_fini(&log->pending);
}

static struct event *slot_of(const struct event_log *log, uint64_t number)
{
    return &log->slots[number % log->n_slots];
}

enum { KEY_SIZE = ID_SIZE + 8 };

static const char *key_of(const struct object_change *change, char key[KEY_SIZE])
{
    snprintf(key, KEY_SIZE, "%u/%s", (unsigned)change->collection, change->id);
    return key;
}

static void not_pending(struct event_log *log, uint64_t number)
{
    char key[KEY_SIZE];
    key_of(&slot_of(log, number)->change, key);
    if ((uintptr_t)map_get(&log->pending, key) == (uintptr_t)number) {
        map_remove(&log->pending, key);
    }
}

static void forget_first(struct event_log *log)
{
    struct event *event = slot_of(log, log->first);
    if (event->text != NULL) {
        log->bytes -= event->text->len;
        rendered_unref(event->text);
        event->text = NULL;
    }
    if (log->rendered < log->first) {
        not_pending(log, log->first);
        log->rendered = log->first;
    }
    log->first++;
}

void event_log_add(struct event_log *log, const struct object_change *change, bool progress)
{
    char key[KEY_SIZE];
    key_of(change, key);
    if (change->kind == CHANGE_CHANGED) {
        uint64_t number = (uintptr_t)map_get(&log->pending, key);
        if (number > log->sealed) {
            struct event *event = slot_of(log, number);
            event->progress = event->progress && progress;
            return;
        }
    }
    if (log->end + 1 - log->first == log->n_slots) {
        forget_first(log);
    }
    log->end++;
    *slot_of(log, log->end) = (struct event){.change = *change, .progress = progress};
    if (change->kind == CHANGE_DELETED) {
        map_remove(&log->pending, key);
    } else {
        map_put(&log->pending, key, (void *)(uintptr_t)log->end);
    }
}

void event_log_lose(struct event_log *log)
{
    while (log->first <= log->end) {
        forget_first(log);
    }
    log->end++;
    *slot_of(log, log->end) = (struct event){0};
    log->rendered = log->end;
    log->first = log->end + 1;
}

uint64_t event_log_seal(struct event_log *log)
{
    log->sealed = log->end;
    return log->end;
}

const struct event *event_log_at(const struct event_log *log, uint64_t number)
{
    return number >= log->first && number <= log->end ? slot_of(log, number) : NULL;
}

void event_log_render(struct event_log *log, uint64_t number, struct rendered *text)
{
    if (number < log->first) {
        rendered_unref(text);
        return;
    }
    CHECK(number == log->rendered + 1 && number <= log->end);
    not_pending(log, number);
    slot_of(log, number)->text = text;
    log->rendered = number;
    log->bytes += text != NULL ? text->len : 0;
    while (log->bytes > log->bytes_max && log->first <= log->rendered) {
        forget_first(log);
    }
}

bool event_filter_wants(const struct event_filter *filter, const struct object_change *change)
{
    if (filter->collections != 0 && (filter->collections & 1u << change->collection) == 0) {
        return false;
    }
    for (unsigned i = 0; i < filter->n_paths; i++) {
        if (filter->paths[i].collection == change->collection &&
            (filter->paths[i].id[0] == '\0' || strcmp(filter->paths[i].id, change->id) == 0)) {
            return true;
        }
    }
    return filter->n_paths == 0;
}
