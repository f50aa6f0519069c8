// SPDX-License-Identifier: Apache-2.0
#include "api_fake.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "service/changes.h"
#include "service/exports.h"
#include "service/readiness.h"
#include "service/services.h"
#include "service/view.h"

/* ---- tables */

static const struct enum_value color_values[] = {{2, "Dark Red"}, {3, "Green"}, {32768, "Vendor"}};
static const struct enum_map color = {"Color", color_values, ARRAY_LEN(color_values)};
static const struct enum_value return_values[] = {
    {0, "Completed"}, {5, "Invalid Parameter"}, {4096, "Job Started"}};
static const struct enum_map returns = {"Returns", return_values, ARRAY_LEN(return_values)};

static const struct param inner_params[] = {
    {.name = "Depth", .type = PARAM_U8, .direction = PARAM_IN},
};
static const struct class_info inner = {"InnerSetting", inner_params, ARRAY_LEN(inner_params)};
static const struct param setting_params[] = {
    {.name = "Priority", .type = PARAM_U16, .direction = PARAM_IN, .map = &color},
    {.name = "Label", .type = PARAM_STRING, .direction = PARAM_IN, .required = true},
    {.name = "Limits", .type = PARAM_U64, .direction = PARAM_IN, .array = true},
    {.name = "Inner",
     .type = PARAM_INSTANCE,
     .direction = PARAM_IN,
     .class_name = "InnerSetting",
     .class = &inner},
};
static const struct class_info setting = {"ReplicationSettingData", setting_params,
                                          ARRAY_LEN(setting_params)};

#define ROW(n, t, ...)                                                                             \
    {                                                                                              \
        .name = n, .type = t, .direction = PARAM_IN, __VA_ARGS__                                   \
    }
const struct param fake_everything[] = {
    ROW("Text", PARAM_STRING),
    ROW("Flag", PARAM_BOOL),
    ROW("Tiny", PARAM_U8),
    ROW("Small", PARAM_U16),
    ROW("Middle", PARAM_U32),
    ROW("Large", PARAM_U64),
    ROW("Color", PARAM_U16, .map = &color),
    ROW("When", PARAM_DATETIME),
    ROW("Element", PARAM_REF, .class_name = "StorageVolume", .required = true),
    ROW("Goal", PARAM_INSTANCE, .class_name = "ReplicationSettingData", .class = &setting),
    ROW("Names", PARAM_STRING, .array = true),
    ROW("Elements", PARAM_REF, .class_name = "StorageVolume", .array = true),
    ROW("Colors", PARAM_U16, .map = &color, .array = true),
    ROW("Goals", PARAM_INSTANCE, .class_name = "ReplicationSettingData", .class = &setting,
        .array = true),
    {.name = "Size", .type = PARAM_U64, .direction = PARAM_INOUT},
    {.name = "Job", .type = PARAM_REF, .direction = PARAM_OUT, .class_name = "ConcreteJob"},
};
const size_t fake_n_everything = ARRAY_LEN(fake_everything);

static atomic_uint calls_seen;

static int everything(struct call *call)
{
    atomic_fetch_add(&calls_seen, 1);
    outs_number(call->outs, "Size", args_number(call->args, "Large", 0));
    if (args_bool(call->args, "Flag", false)) {
        call->return_value = 4096;
        outs_path(call->outs, "Job", "/jobs/j1");
        snprintf(call->location, sizeof(call->location), "/jobs/j1");
    }
    return 0;
}

static int in_use(struct call *call)
{
    return call_fail_blocked(call, ERR_IN_USE, "/jobs/j1", "The volume \"v\" is\nin use.");
}

static int nothing(struct call *call)
{
    CHECK(call->args == NULL);
    return 0;
}

static int delete_instance(struct call *call)
{
    return strcmp(call->object_id, "j1") == 0
               ? 0
               : call_fail(call, ERR_NOT_FOUND, "There is no /jobs/%s.", call->object_id);
}

static const struct method replication_methods[] = {
    {"Everything", fake_everything, ARRAY_LEN(fake_everything), everything, &returns, false},
    {"InUse", NULL, 0, in_use, &returns, false},
    {"Nothing", NULL, 0, nothing, &returns, true},
    {"NotThere", NULL, 0, NULL, &returns, false},
};
static const struct method job_rows[] = {
    {"DeleteInstance", NULL, 0, delete_instance, &returns, false},
    {"GetErrors", NULL, 0, nothing, &returns, true},
};
const struct service replication_service = {"ReplicationService", "ReplicationService",
                                            replication_methods, ARRAY_LEN(replication_methods)};
const struct service storage_configuration_service = {"StorageConfigurationService",
                                                      "StorageConfigurationService", NULL, 0};
const struct service replication_service_capabilities = {"ReplicationServiceCapabilities",
                                                         "ReplicationServiceCapabilities", NULL, 0};
const struct service controller_configuration_service = {"ControllerConfigurationService",
                                                         "ControllerConfigurationService", NULL, 0};
const struct service job_methods = {"jobs", "ConcreteJob", job_rows, ARRAY_LEN(job_rows)};
const struct service volume_methods = {"volumes", "StorageVolume", NULL, 0};
const struct service access_point_methods = {"accesspoints", "RemoteServiceAccessPoint", NULL, 0};

/* ---- control */

struct control {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct call *calls;
    unsigned held;
    struct job_waiter *waiters;
    bool hold;
    bool job_ended;
    bool stopping;
};
static struct control fake;
static atomic_bool store_fails;
static atomic_uint store_version;
static atomic_uint views_shown;
static atomic_uint job_bytes;

static void run(struct call *call, bool stopping)
{
    int err = 0;
    if (stopping) {
        err = call_fail(call, ERR_SHUTTING_DOWN, "The service is stopping.");
    } else {
        call->outs = values_new(&call->arena, call->method->params, call->method->n_params);
        err = call->method->handler(call);
    }
    CHECK((err != 0) == (call->error.code != ERR_NONE));
    call->render(call);
    call->answered(call);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The waiters whose time has come, as a list of their own. */
static struct job_waiter *due_waiters(void)
{
    struct job_waiter *due = NULL;
    struct job_waiter **at = &fake.waiters;
    while (*at != NULL) {
        struct job_waiter *waiter = *at;
        if (fake.stopping || fake.job_ended || now_ms() >= waiter->timer.due_ns) {
            *at = waiter->next;
            waiter->next = due;
            due = waiter;
        } else {
            at = &waiter->next;
        }
    }
    return due;
}

static void *control_run(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&fake.lock);
    while (!fake.stopping || fake.calls != NULL || fake.waiters != NULL) {
        struct call *call = !fake.hold || fake.stopping ? fake.calls : NULL;
        struct job_waiter *due = due_waiters();
        bool stopping = fake.stopping;
        if (call != NULL) {
            fake.calls = call->next;
            fake.held--;
        }
        pthread_mutex_unlock(&fake.lock);
        if (call != NULL) {
            run(call, stopping);
        }
        while (due != NULL) {
            struct job_waiter *next = due->next;
            due->fn(due);
            due = next;
        }
        pthread_mutex_lock(&fake.lock);
        if (fake.calls == NULL || fake.hold) {
            struct timespec until;
            clock_gettime(CLOCK_REALTIME, &until);
            until.tv_nsec += 2000000;
            until.tv_sec += until.tv_nsec / 1000000000;
            until.tv_nsec %= 1000000000;
            pthread_cond_timedwait(&fake.changed, &fake.lock, &until);
        }
    }
    pthread_mutex_unlock(&fake.lock);
    return NULL;
}

struct control *fake_control_start(void)
{
    fake = (struct control){0};
    store_fails = false;
    store_version++;
    views_shown = 0;
    calls_seen = 0;
    pthread_mutex_init(&fake.lock, NULL);
    pthread_cond_init(&fake.changed, NULL);
    CHECK(pthread_create(&fake.thread, NULL, control_run, NULL) == 0);
    return &fake;
}

int control_stop(struct control *control)
{
    pthread_mutex_lock(&control->lock);
    control->stopping = true;
    pthread_cond_signal(&control->changed);
    pthread_mutex_unlock(&control->lock);
    pthread_join(control->thread, NULL);
    return 0;
}

void control_submit(struct control *control, struct call *call)
{
    pthread_mutex_lock(&control->lock);
    struct call **at = &control->calls;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    call->next = NULL;
    *at = call;
    control->held++;
    pthread_cond_signal(&control->changed);
    pthread_mutex_unlock(&control->lock);
}

void readiness_ask(struct readiness *readiness, struct control *control, struct readiness_ask *ask)
{
    (void)readiness;
    (void)control;
    ask->err = store_fails ? -ENOSPC : 0;
    ask->fn(ask);
}

const char *readiness_text(int err)
{
    return err == -ENOSPC ? "the disk is full" : "";
}

void control_wait_job(struct control *control, struct job_waiter *waiter)
{
    pthread_mutex_lock(&control->lock);
    waiter->timer.due_ns = now_ms() + waiter->timeout_ms;
    waiter->next = control->waiters;
    control->waiters = waiter;
    pthread_cond_signal(&control->changed);
    pthread_mutex_unlock(&control->lock);
}

bool exports_numbers(struct control *control, struct exports_stats *ret_stats)
{
    (void)control;
    (void)ret_stats;
    return false;
}

static _Atomic(const struct change_observer *) observer;

void control_observe(struct control *control, const struct change_observer *to)
{
    (void)control;
    atomic_store(&observer, to);
}

int changes_running(struct db *db, change_running_fn fn, void *arg)
{
    (void)db;
    if (!fake.job_ended) {
        fn(arg, COLLECTION_JOBS, "j1");
    }
    return 0;
}

void fake_change(enum collection collection, const char *id, enum change_kind kind, bool later)
{
    struct object_change change = {.collection = collection, .kind = kind, .later = later};
    const struct change_observer *to = atomic_load(&observer);
    snprintf(change.id, sizeof(change.id), "%s", id);
    if (to != NULL) {
        to->fn(to->arg, &change, 1);
    }
}

void store_new_id(char ret_id[ID_SIZE])
{
    static unsigned n;
    snprintf(ret_id, ID_SIZE, "%012x", ++n);
}

struct control_stats control_stats(struct control *control)
{
    (void)control;
    return (struct control_stats){.calls = 7, .commit_ns = 1500000000};
}

void fake_control_hold(bool hold)
{
    pthread_mutex_lock(&fake.lock);
    fake.hold = hold;
    pthread_cond_signal(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

unsigned fake_calls(void)
{
    return calls_seen;
}

unsigned fake_held(void)
{
    pthread_mutex_lock(&fake.lock);
    unsigned held = fake.held;
    for (struct job_waiter *waiter = fake.waiters; waiter != NULL; waiter = waiter->next) {
        held++;
    }
    pthread_mutex_unlock(&fake.lock);
    return held;
}

void fake_job_end(void)
{
    pthread_mutex_lock(&fake.lock);
    fake.job_ended = true;
    pthread_cond_signal(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

void fake_job_copies(unsigned bytes)
{
    atomic_store(&job_bytes, bytes);
}

void fake_store_changes(void)
{
    store_version++;
}

unsigned fake_views(void)
{
    return views_shown;
}

void fake_store_fails(bool fails)
{
    store_fails = fails;
}

/* ---- records and views */

struct db {
    int unused;
};
static struct db readers[16];

int store_reader_open(const char *dir, struct db **ret_db, struct error *error)
{
    static unsigned next;
    (void)error;
    CHECK(strcmp(dir, "fake") == 0);
    *ret_db = &readers[next++ % ARRAY_LEN(readers)];
    return 0;
}

void db_close(struct db *db)
{
    (void)db;
}

int db_read_begin(struct db *db)
{
    (void)db;
    return store_fails ? -EIO : 0;
}

void db_read_end(struct db *db)
{
    (void)db;
}

int db_read_version(struct db *db, uint64_t *ret_version)
{
    (void)db;
    *ret_version = store_version;
    return store_fails ? -EIO : 0;
}

const struct view_collection view_collections[COLLECTION_COUNT] = {
    [COLLECTION_SYSTEMS] = {"systems", "ComputerSystem", NULL, false},
    [COLLECTION_POOLS] = {"pools", "StoragePool", NULL, false},
    [COLLECTION_VOLUMES] = {"volumes", "StorageVolume", NULL, false},
    [COLLECTION_GROUPS] = {"groups", "ReplicationGroup", NULL, false},
    [COLLECTION_SYNCHRONIZATIONS] = {"synchronizations", "StorageSynchronized", NULL, false},
    [COLLECTION_GROUP_SYNCHRONIZATIONS] = {"groupsynchronizations", "GroupSynchronized", NULL, false},
    [COLLECTION_PIPES] = {"pipes", "NetworkPipe", NULL, false},
    [COLLECTION_ENDPOINTS] = {"endpoints", "ProtocolEndpoint", NULL, false},
    [COLLECTION_ACCESS_POINTS] = {"accesspoints", "RemoteServiceAccessPoint", NULL, false},
    [COLLECTION_EXPORTS] = {"exports", "SCSIProtocolController", NULL, false},
    [COLLECTION_SETTINGS] = {"settings", "StorageSetting", NULL, false},
    [COLLECTION_JOBS] = {"jobs", "ConcreteJob", &job_methods, true},
    [COLLECTION_SERVICES] = {"services", "Service", NULL, false},
};

int view_collection_find(const char *path, enum collection *ret_collection)
{
    for (int i = 0; i < COLLECTION_COUNT; i++) {
        if (strcmp(view_collections[i].path, path) == 0) {
            *ret_collection = (enum collection)i;
            return 0;
        }
    }
    return -ENOENT;
}

static void put_object(enum collection collection, const char *id, struct out *out)
{
    out_begin_object(out, NULL);
    out_ref(out, "self", view_collections[collection].path, id);
    out_text(out, "ElementName", "a \"name\" with \\ and ü");
    if (collection == COLLECTION_JOBS) {
        out_number(out, "JobState", fake.job_ended ? 7 : 4);
        out_number(out, "BytesDone", atomic_load(&job_bytes));
    }
    for (int i = 0; collection == COLLECTION_POOLS && i < (id[0] == 'l' ? 2000 : 400); i++) {
        out_number(out, "Number", 1234567);
    }
    out_end_object(out);
}

int view_object(struct db *db, struct control *control, enum collection collection, const char *id,
                struct out *out, bool *ret_lasting)
{
    (void)db;
    (void)control;
    views_shown++;
    *ret_lasting = collection != COLLECTION_JOBS;
    static const struct {
        enum collection collection;
        const char *id;
    } known[] = {{COLLECTION_SYSTEMS, "local"},
                 {COLLECTION_VOLUMES, "v1"},
                 {COLLECTION_VOLUMES, "v2"},
                 {COLLECTION_POOLS, "middle"},
                 {COLLECTION_POOLS, "large"},
                 {COLLECTION_JOBS, "j1"},
                 {COLLECTION_SERVICES, "ReplicationService"}};
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (known[i].collection == collection && strcmp(known[i].id, id) == 0) {
            put_object(collection, id, out);
            return 0;
        }
    }
    return -ENOENT;
}

int view_path(struct db *db, struct control *control, const char *path, struct out *out)
{
    bool lasting;
    return view_object(db, control, COLLECTION_VOLUMES, path + strlen("/volumes/"), out, &lasting);
}

int view_list(struct db *db, struct control *control, enum collection collection,
              const struct view_query *query, struct out *out, struct view_page *ret_page,
              struct error *error)
{
    (void)db;
    (void)control;
    for (unsigned i = 0; i < query->n_filters; i++) {
        if (strcmp(query->filters[i].name, "ElementName") != 0 &&
            strcmp(query->filters[i].name, "JobState") != 0) {
            return error_param(error, ERR_BAD_QUERY, query->filters[i].name, "There is no %s.",
                               query->filters[i].name);
        }
    }
    views_shown++;
    ret_page->lasting = collection != COLLECTION_JOBS;
    ret_page->total = collection == COLLECTION_VOLUMES ? FAKE_VOLUMES : 0;
    int64_t seq = query->after_seq;
    for (uint64_t n = 0; n < query->limit && seq < (int64_t)ret_page->total; n++) {
        char id[ID_SIZE];
        snprintf(id, sizeof(id), "v%" PRId64, ++seq);
        put_object(collection, id, out);
    }
    ret_page->last_seq = seq;
    ret_page->more = seq < (int64_t)ret_page->total;
    return 0;
}

int view_job_ended(struct db *db, const char *job_id, bool *ret_ended)
{
    (void)db;
    if (strcmp(job_id, "j1") != 0) {
        return -ENOENT;
    }
    *ret_ended = fake.job_ended;
    return 0;
}
