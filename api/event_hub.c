// SPDX-License-Identifier: Apache-2.0
/*
 *     control ─▶ inbox ─▶ log ─▶ (rendered, some at a time) ─▶ streams
 *
 * The inbox has a lock of its own, so that control never waits for somebody who wakes streams. The order of the locks: hub, inbox.
 *
 * A stream that has nothing to send suspends its connection inside event_stream_read(), under the lock; whoever resumes it has the
 * lock, too. So nobody resumes a connection that is not suspended, or misses one that is about to be.
 */
#include "api/event_hub.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/client.h"
#include "api/json_out.h"
#include "base/check.h"
#include "base/log.h"

enum {
    LOG_SLOTS = 8192,
    LOG_BYTES = 8 << 20,
    INBOX_MAX = 65536,  /* more at once: everybody reads the lists again */
    INBOX_DRAIN = 4096, /* nobody listens: taken over when so many wait */
    RENDER_AT_ONCE = 64,
    PASS_MS = 20,
    TICK_MS = 1000,
    BEAT_MS = 15000,
    RETRY_MS = 1000,
    OBJECT_MAX = 16 << 10,
};

struct event_hub {
    struct control *control;
    struct change_observer observer;
    struct db *db;
    char epoch[ID_SIZE];
    unsigned streams_max;
    unsigned beat_ms;
    pthread_t thread;

    pthread_mutex_t inbox_lock; /* protects what follows */
    pthread_cond_t poke;
    bool poked;
    struct object_change *inbox;
    size_t inbox_n;
    size_t inbox_size;
    bool inbox_lost;

    pthread_mutex_t lock; /* protects what follows */
    bool stopping;
    struct event_log log;
    struct map later; /* object -> its struct object_change */
    struct list streams;
    uint64_t next_pass_ms;
    uint64_t next_tick_ms;
    uint64_t n_events;
    uint64_t n_sent;
    uint64_t n_resets;
    atomic_uint n_streams;

    struct map running; /* the thread's: object -> hash of how it looked last */
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- from control to the log */

static void take_changes(void *arg, const struct object_change *changes, size_t n)
{
    struct event_hub *hub = arg;
    pthread_mutex_lock(&hub->inbox_lock);
    if (hub->inbox_n + n > INBOX_MAX) {
        hub->inbox_n = 0;
        hub->inbox_lost = true;
    } else {
        if (hub->inbox_n + n > hub->inbox_size) {
            size_t size =
                hub->inbox_size * 2 > hub->inbox_n + n ? hub->inbox_size * 2 : hub->inbox_n + n;
            hub->inbox = realloc(hub->inbox, size * sizeof(*hub->inbox));
            CHECK(hub->inbox != NULL);
            hub->inbox_size = size;
        }
        memcpy(hub->inbox + hub->inbox_n, changes, n * sizeof(*changes));
        hub->inbox_n += n;
    }
    if (!hub->poked && (atomic_load(&hub->n_streams) > 0 || hub->inbox_n > INBOX_DRAIN)) {
        hub->poked = true;
        pthread_cond_signal(&hub->poke);
    }
    pthread_mutex_unlock(&hub->inbox_lock);
}

static void poke(struct event_hub *hub)
{
    pthread_mutex_lock(&hub->inbox_lock);
    hub->poked = true;
    pthread_cond_signal(&hub->poke);
    pthread_mutex_unlock(&hub->inbox_lock);
}

enum { KEY_SIZE = ID_SIZE + 8 };

static const char *key_of(enum collection collection, const char *id, char key[KEY_SIZE])
{
    snprintf(key, KEY_SIZE, "%u/%s", (unsigned)collection, id);
    return key;
}

static void add_later(struct event_hub *hub, const struct object_change *change)
{
    char key[KEY_SIZE];
    key_of(change->collection, change->id, key);
    if (map_get(&hub->later, key) != NULL) {
        return;
    }
    struct object_change *kept = malloc(sizeof(*kept));
    CHECK(kept != NULL);
    *kept = *change;
    CHECK(map_put(&hub->later, key, kept) == 0);
}

static void tell_later(struct event_hub *hub)
{
    for (struct map_entry *entry = map_first(&hub->later); entry != NULL;
         entry = map_next(&hub->later, entry)) {
        event_log_add(&hub->log, entry->value, false);
        free(entry->value);
    }
    map_fini(&hub->later);
    map_init(&hub->later);
}

static void drain_inbox(struct event_hub *hub)
{
    pthread_mutex_lock(&hub->inbox_lock);
    if (hub->inbox_lost) {
        hub->inbox_lost = false;
        event_log_lose(&hub->log);
    }
    for (size_t i = 0; i < hub->inbox_n; i++) {
        if (hub->inbox[i].later) {
            add_later(hub, &hub->inbox[i]);
        } else {
            event_log_add(&hub->log, &hub->inbox[i], false);
        }
    }
    hub->inbox_n = 0;
    pthread_mutex_unlock(&hub->inbox_lock);
}

/* ---- rendering */

static uint64_t hash_of(const struct strbuf *text)
{
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
    for (size_t i = 0; i < text->len; i++) {
        hash = (hash ^ (uint8_t)text->data[i]) * UINT64_C(1099511628211);
    }
    return hash | 1; /* no NULL */
}

/* Is it one of live counters that looks as it did? */
static bool looks_the_same(struct event_hub *hub, const struct event *event,
                           const struct strbuf *object)
{
    char key[KEY_SIZE];
    key_of(event->change.collection, event->change.id, key);
    void *before = map_get(&hub->running, key);
    if (before == NULL) {
        return false;
    }
    void *now = (void *)(uintptr_t)hash_of(object);
    map_put(&hub->running, key, now);
    return event->progress && now == before;
}

static const char *const kind_names[] = {
    [CHANGE_CREATED] = "created", [CHANGE_CHANGED] = "changed", [CHANGE_DELETED] = "deleted"};

static void add_data(struct strbuf *text, const struct object_change *change,
                     const struct strbuf *object)
{
    bool omitted = object->len > OBJECT_MAX;
    char path[64];
    struct json_out json;
    snprintf(path, sizeof(path), "/%s/%s", view_collections[change->collection].path, change->id);
    json_out_init(&json, text);
    out_begin_object(&json.out, NULL);
    out_text(&json.out, "Path", path);
    out_text(&json.out, "Class", view_collections[change->collection].class_name);
    if (object->len > 0 && !omitted) {
        out_raw(&json.out, "Object", strbuf_str(object));
    } else {
        out_null(&json.out, "Object");
    }
    if (omitted) {
        out_bool(&json.out, "Omitted", true);
    }
    out_end_object(&json.out);
}

/* What is sent for the change; NULL: nothing. */
static struct rendered *render(struct event_hub *hub, uint64_t number, const struct event *event)
{
    const struct object_change *change = &event->change;
    struct strbuf object = STRBUF_INIT;
    struct strbuf text = STRBUF_INIT;
    struct rendered *rendered = NULL;
    bool lasting;
    int err = -ENOENT;
    if (change->kind != CHANGE_DELETED) {
        struct json_out json;
        json_out_init(&json, &object);
        err =
            view_object(hub->db, hub->control, change->collection, change->id, &json.out, &lasting);
        if (err != 0) {
            strbuf_reset(&object);
        }
    }
    /* What is changed and not there has gone since, which is another event, or was only in the records of others. */
    bool nothing = (change->kind == CHANGE_CHANGED && err == -ENOENT) ||
                   (err == 0 && looks_the_same(hub, event, &object));
    if (!nothing) {
        strbuf_printf(&text, "id: %s-%" PRIu64 "\nevent: %s\ndata: ", hub->epoch, number,
                      kind_names[change->kind]);
        add_data(&text, change, &object);
        strbuf_puts(&text, "\n\n");
        rendered = rendered_new(&text, "");
    }
    strbuf_fini(&object);
    strbuf_fini(&text);
    return rendered;
}

/* Some of what is to be rendered, without the lock; all of it from one snapshot. */
static void render_some(struct event_hub *hub)
{
    struct event events[RENDER_AT_ONCE];
    struct rendered *texts[RENDER_AT_ONCE];
    uint64_t from = hub->log.rendered + 1;
    size_t n = 0;
    while (n < RENDER_AT_ONCE && from + n <= hub->log.end) {
        events[n] = *event_log_at(&hub->log, from + n);
        n++;
    }
    if (hub->log.sealed < from + n - 1) {
        hub->log.sealed = from + n - 1;
    }
    pthread_mutex_unlock(&hub->lock);
    int err = db_read_begin(hub->db);
    for (size_t i = 0; i < n; i++) {
        texts[i] = err == 0 ? render(hub, from + i, &events[i]) : NULL;
    }
    if (err == 0) {
        db_read_end(hub->db);
    }
    pthread_mutex_lock(&hub->lock);
    if (err != 0) {
        /* The records do not answer: whoever listens has to look for himself, later. */
        event_log_lose(&hub->log);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        hub->n_events += texts[i] != NULL;
        event_log_render(&hub->log, from + i, texts[i]);
    }
}

/* ---- live counters */

struct gathered {
    struct event_hub *hub;
    struct map now; /* object -> as in hub->running */
    struct object_change *changes;
    size_t n;
    size_t size;
};

static void gather(void *arg, enum collection collection, const char *id)
{
    struct gathered *gathered = arg;
    char key[KEY_SIZE];
    key_of(collection, id, key);
    if (id[0] == '\0' || map_get(&gathered->now, key) != NULL) {
        return;
    }
    if (gathered->n == gathered->size) {
        gathered->size = gathered->size > 0 ? gathered->size * 2 : 16;
        gathered->changes = realloc(gathered->changes, gathered->size * sizeof(*gathered->changes));
        CHECK(gathered->changes != NULL);
    }
    void *before = map_get(&gathered->hub->running, key);
    map_put(&gathered->now, key, before != NULL ? before : (void *)(uintptr_t)1);
    struct object_change *change = &gathered->changes[gathered->n++];
    *change = (struct object_change){.collection = collection, .kind = CHANGE_CHANGED};
    snprintf(change->id, sizeof(change->id), "%s", id);
}

static void look_at_running(struct event_hub *hub)
{
    struct gathered gathered = {.hub = hub};
    map_init(&gathered.now);
    pthread_mutex_unlock(&hub->lock);
    if (db_read_begin(hub->db) == 0) {
        changes_running(hub->db, gather, &gathered);
        db_read_end(hub->db);
    }
    map_fini(&hub->running);
    map_init(&hub->running);
    for (struct map_entry *entry = map_first(&gathered.now); entry != NULL;
         entry = map_next(&gathered.now, entry)) {
        map_put(&hub->running, entry->key, entry->value);
    }
    map_fini(&gathered.now);
    pthread_mutex_lock(&hub->lock);
    for (size_t i = 0; i < gathered.n; i++) {
        event_log_add(&hub->log, &gathered.changes[i], true);
    }
    free(gathered.changes);
}

/* ---- streams */

static void wake(struct event_stream *stream)
{
    if (stream->suspended) {
        stream->suspended = false;
        MHD_resume_connection(stream->connection);
    }
}

/* The next change that it wants; passes over what it does not want. */
static const struct event *next_event(struct event_stream *stream)
{
    const struct event_log *log = &stream->hub->log;
    if (stream->at + 1 < log->first) {
        stream->reset = true;
        stream->at = log->rendered;
    }
    while (!stream->reset && stream->at < log->rendered) {
        const struct event *event = event_log_at(log, stream->at + 1);
        if (event->text != NULL && event_filter_wants(&stream->filter, &event->change)) {
            return event;
        }
        stream->at++;
    }
    return NULL;
}

static void wake_those_with_something(struct event_hub *hub)
{
    list_for_each(link, &hub->streams)
    {
        struct event_stream *stream = list_entry(link, struct event_stream, link);
        if (stream->suspended &&
            (next_event(stream) != NULL || stream->reset || stream->beat || stream->gone)) {
            wake(stream);
        }
    }
}

static void look_at_streams(struct event_hub *hub, uint64_t now)
{
    list_for_each(link, &hub->streams)
    {
        struct event_stream *stream = list_entry(link, struct event_stream, link);
        stream->beat = stream->beat || now - stream->sent_ms >= hub->beat_ms;
        stream->gone = stream->gone || (stream->suspended && client_gone(stream->connection));
    }
}

static void say(struct event_stream *stream)
{
    stream->out = stream->words;
    stream->left = strlen(stream->words);
}

/* Takes the next thing to send; false: there is none. */
static bool take_next(struct event_stream *stream)
{
    struct event_hub *hub = stream->hub;
    char *words = stream->words;
    size_t size = sizeof(stream->words);
    if (!stream->begun) {
        stream->begun = true;
        if (stream->reset) { /* the new id comes with the event that says so */
            snprintf(words, size, "retry: %d\n\n", RETRY_MS);
        } else {
            snprintf(words, size, "retry: %d\nid: %s-%" PRIu64 "\n\n", RETRY_MS, hub->epoch,
                     stream->at);
        }
        say(stream);
        return true;
    }
    const struct event *event = next_event(stream);
    if (stream->reset) {
        stream->reset = false;
        hub->n_resets++;
        snprintf(words, size, "id: %s-%" PRIu64 "\nevent: reset\ndata: {}\n\n", hub->epoch,
                 stream->at);
        say(stream);
    } else if (event != NULL) {
        stream->at++;
        stream->sending = rendered_ref(event->text);
        stream->out = event->text->body;
        stream->left = event->text->len;
        hub->n_sent++;
    } else if (stream->beat) {
        snprintf(words, size, ": here\nid: %s-%" PRIu64 "\n\n", hub->epoch, stream->at);
        say(stream);
    }
    stream->beat = stream->beat && stream->left == 0;
    return stream->left > 0;
}

static void finish_sending(struct event_stream *stream)
{
    rendered_unref(stream->sending);
    stream->sending = NULL;
}

ssize_t event_stream_read(void *cls, uint64_t position, char *buf, size_t max)
{
    struct event_stream *stream = cls;
    struct event_hub *hub = stream->hub;
    size_t n = 0;
    (void)position;
    pthread_mutex_lock(&hub->lock);
    while (n < max && !stream->gone) {
        if (stream->left == 0) {
            finish_sending(stream);
            if (hub->stopping || !take_next(stream)) {
                break;
            }
        }
        size_t part = stream->left < max - n ? stream->left : max - n;
        memcpy(buf + n, stream->out, part);
        stream->out += part;
        stream->left -= part;
        n += part;
    }
    ssize_t result = (ssize_t)n;
    if (n > 0) {
        stream->sent_ms = now_ms();
    } else if (stream->gone) {
        result = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (hub->stopping) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        stream->suspended = true;
        MHD_suspend_connection(stream->connection);
    }
    pthread_mutex_unlock(&hub->lock);
    return result;
}

/* ---- joining and leaving */

/* EPOCH-NUMBER; false when it is not ours or not from now. */
static bool parse_id(const struct event_hub *hub, const char *text, uint64_t *ret_number)
{
    size_t len = strlen(hub->epoch);
    if (strncmp(text, hub->epoch, len) != 0 || text[len] != '-') {
        return false;
    }
    const char *digits = text + len + 1;
    size_t n = strspn(digits, "0123456789");
    if (n < 1 || n > 18 || digits[n] != '\0') {
        return false;
    }
    uint64_t number = strtoull(digits, NULL, 10);
    if (number > hub->log.end) {
        return false;
    }
    *ret_number = number;
    return true;
}

int event_hub_join(struct event_hub *hub, struct event_stream *stream, const char *last_event_id,
                   struct error *error)
{
    int err = 0;
    pthread_mutex_lock(&hub->lock);
    if (hub->stopping) {
        err = error_set(error, ERR_SHUTTING_DOWN, "The service is stopping.");
    } else if (atomic_load(&hub->n_streams) >= hub->streams_max) {
        err = error_set(error, ERR_OVERLOADED,
                        "There are %u streams of events already; an eighth of --http-connections "
                        "may be some.",
                        hub->streams_max);
    } else {
        drain_inbox(hub);
        stream->hub = hub;
        stream->sent_ms = now_ms();
        stream->at = event_log_seal(&hub->log);
        if (last_event_id != NULL && !parse_id(hub, last_event_id, &stream->at)) {
            stream->reset = true;
        }
        list_push_back(&hub->streams, &stream->link);
        atomic_fetch_add(&hub->n_streams, 1);
        poke(hub);
    }
    pthread_mutex_unlock(&hub->lock);
    return err;
}

void event_hub_leave(struct event_stream *stream)
{
    struct event_hub *hub = stream->hub;
    if (hub == NULL) {
        return;
    }
    pthread_mutex_lock(&hub->lock);
    list_remove(&stream->link);
    atomic_fetch_sub(&hub->n_streams, 1);
    stream->hub = NULL;
    pthread_mutex_unlock(&hub->lock);
    finish_sending(stream);
}

struct event_stats event_hub_stats(struct event_hub *hub)
{
    pthread_mutex_lock(&hub->lock);
    struct event_stats stats = {.streams = atomic_load(&hub->n_streams),
                                .events = hub->n_events,
                                .sent = hub->n_sent,
                                .resets = hub->n_resets};
    pthread_mutex_unlock(&hub->lock);
    return stats;
}

/* ---- the thread */

/* Without the lock, until it is poked. due_ms 0: however long that takes. */
static void wait_until(struct event_hub *hub, uint64_t due_ms)
{
    struct timespec due = {.tv_sec = (time_t)(due_ms / 1000),
                           .tv_nsec = (long)(due_ms % 1000) * 1000000};
    int err = 0;
    pthread_mutex_unlock(&hub->lock);
    pthread_mutex_lock(&hub->inbox_lock);
    while (!hub->poked && err == 0) {
        err = due_ms != 0 ? pthread_cond_timedwait(&hub->poke, &hub->inbox_lock, &due)
                          : pthread_cond_wait(&hub->poke, &hub->inbox_lock);
    }
    hub->poked = false;
    pthread_mutex_unlock(&hub->inbox_lock);
    pthread_mutex_lock(&hub->lock);
}

static void *hub_run(void *arg)
{
    struct event_hub *hub = arg;
    pthread_mutex_lock(&hub->lock);
    while (!hub->stopping) {
        uint64_t now = now_ms();
        bool listened = atomic_load(&hub->n_streams) > 0;
        drain_inbox(hub);
        if (listened && now >= hub->next_tick_ms) {
            hub->next_tick_ms = now + TICK_MS;
            tell_later(hub);
            look_at_running(hub);
            look_at_streams(hub, now);
            wake_those_with_something(hub);
            continue;
        }
        bool more = listened && hub->log.rendered < hub->log.end;
        if (more && now >= hub->next_pass_ms) {
            hub->next_pass_ms = now + PASS_MS;
            while (hub->log.rendered < hub->log.end && !hub->stopping) {
                render_some(hub);
            }
            wake_those_with_something(hub);
            continue;
        }
        uint64_t due =
            more && hub->next_pass_ms < hub->next_tick_ms ? hub->next_pass_ms : hub->next_tick_ms;
        wait_until(hub, listened ? due : 0);
    }
    pthread_mutex_unlock(&hub->lock);
    return NULL;
}

int event_hub_start(const struct event_options *options, struct event_hub **ret_hub,
                    struct error *error)
{
    pthread_condattr_t attr;
    struct event_hub *hub = calloc(1, sizeof(*hub));
    if (hub == NULL || event_log_init(&hub->log, LOG_SLOTS, LOG_BYTES) != 0) {
        free(hub);
        return error_set(error, ERR_NO_MEMORY, "There is not enough memory.");
    }
    hub->control = options->control;
    hub->streams_max = options->streams_max;
    hub->beat_ms = options->beat_ms != 0 ? options->beat_ms : BEAT_MS;
    store_new_id(hub->epoch);
    map_init(&hub->later);
    map_init(&hub->running);
    list_init(&hub->streams);
    pthread_mutex_init(&hub->lock, NULL);
    pthread_mutex_init(&hub->inbox_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&hub->poke, &attr);
    pthread_condattr_destroy(&attr);
    int err = store_reader_open(options->data_dir, &hub->db, error);
    if (err == 0 && pthread_create(&hub->thread, NULL, hub_run, hub) != 0) {
        err = error_set(error, ERR_INTERNAL, "The thread of events cannot be started.");
        db_close(hub->db);
    }
    if (err != 0) {
        hub->db = NULL;
        event_hub_free(hub);
        return err;
    }
    pthread_setname_np(hub->thread, "events");
    hub->observer = (struct change_observer){take_changes, hub};
    control_observe(hub->control, &hub->observer);
    *ret_hub = hub;
    return 0;
}

void event_hub_stop(struct event_hub *hub)
{
    control_observe(hub->control, NULL);
    pthread_mutex_lock(&hub->lock);
    hub->stopping = true;
    list_for_each(link, &hub->streams)
    {
        wake(list_entry(link, struct event_stream, link));
    }
    poke(hub);
    pthread_mutex_unlock(&hub->lock);
    pthread_join(hub->thread, NULL);
    db_close(hub->db);
    hub->db = NULL;
}

void event_hub_free(struct event_hub *hub)
{
    if (hub == NULL) {
        return;
    }
    for (struct map_entry *entry = map_first(&hub->later); entry != NULL;
         entry = map_next(&hub->later, entry)) {
        free(entry->value);
    }
    map_fini(&hub->later);
    map_fini(&hub->running);
    event_log_fini(&hub->log);
    free(hub->inbox);
    pthread_cond_destroy(&hub->poke);
    pthread_mutex_destroy(&hub->inbox_lock);
    pthread_mutex_destroy(&hub->lock);
    free(hub);
}
