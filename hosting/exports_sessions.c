// SPDX-License-Identifier: Apache-2.0
/* Who is logged in to which export, and what the targets have counted: kept under exports->lock, for any thread. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "hosting/exports_private.h"

void exports_sessions_changed(void *arg, struct target *target,
                              const struct target_session *sessions, unsigned n_sessions)
{
    struct exports *exports = arg;
    struct export *export = map_get(&exports->by_name, target_name(target));
    if (!export || export->target != target) {
        return;
    }
    size_t len = n_sessions * sizeof(*sessions);
    unsigned n_aliases = 0;
    for (unsigned i = 0; i < n_sessions; i++) {
        len += strlen(sessions[i].initiator) + strlen(sessions[i].alias) + 2;
        n_aliases += sessions[i].alias[0] != '\0';
    }
    struct target_session *copy = malloc(len + 1);
    CHECK(copy != NULL);
    char *text = (char *)(copy + n_sessions);
    for (unsigned i = 0; i < n_sessions; i++) {
        copy[i].initiator = text;
        text = stpcpy(text, sessions[i].initiator) + 1;
        copy[i].alias = text;
        text = stpcpy(text, sessions[i].alias) + 1;
    }
    struct target_session *before = export->sessions;
    unsigned n_before = export->n_sessions;
    pthread_mutex_lock(&exports->lock);
    export->sessions = copy;
    export->n_sessions = n_sessions;
    exports->n_aliases += n_aliases - export->n_aliases;
    export->n_aliases = n_aliases;
    pthread_mutex_unlock(&exports->lock);
    if (exports->spec.events.sessions_changed) {
        exports->spec.events.sessions_changed(exports->spec.events_arg, export->id, before,
                                              n_before, copy, n_sessions);
    }
    free(before);
}

unsigned export_sessions(struct exports *exports, const char *export_id)
{
    struct export *export = map_get(&exports->by_id, export_id);
    return export ? export->n_sessions : 0;
}

unsigned exports_volume_sessions(struct exports *exports, const char *volume_id,
                                 char ret_export_id[ARRAY_ID_LEN + 1],
                                 char ret_initiator[TARGET_MAX_NAME + 1])
{
    struct export_users *users = map_get(&exports->volumes, volume_id);
    unsigned n = 0;
    if (!users) {
        return 0;
    }
    list_for_each(link, &users->units)
    {
        struct export *export = list_entry(link, struct export_unit, user_link)->export;
        if (export->marked || !export->target || export->n_sessions == 0) {
            continue;
        }
        export->marked = true;
        n += export->n_sessions;
        if (ret_export_id) {
            strcpy(ret_export_id, export->id);
        }
        if (ret_initiator) {
            strcpy(ret_initiator, export->sessions[0].initiator);
        }
    }
    list_for_each(link, &users->units)
    {
        list_entry(link, struct export_unit, user_link)->export->marked = false;
    }
    return n;
}

void exports_each_session(struct exports *exports, const char *export_id, export_session_fn fn,
                          void *arg)
{
    pthread_mutex_lock(&exports->lock);
    struct export *export = map_get(&exports->by_id, export_id);
    for (unsigned i = 0; export && i < export->n_sessions; i++) {
        fn(arg, &export->sessions[i]);
    }
    pthread_mutex_unlock(&exports->lock);
}

void exports_each_alias(struct exports *exports, const char *volume_id, export_alias_fn fn,
                        void *arg)
{
    pthread_mutex_lock(&exports->lock);
    struct export_users *users =
        exports->n_aliases > 0 ? map_get(&exports->volumes, volume_id) : NULL;
    if (users) {
        list_for_each(link, &users->units)
        {
            const struct export_unit *unit = list_entry(link, struct export_unit, user_link);
            const struct export *export = unit->export;
            for (unsigned i = 0; i < export->n_sessions; i++) {
                if (export->sessions[i].alias[0] != '\0') {
                    fn(arg, unit->number, &export->sessions[i]);
                }
            }
        }
    }
    pthread_mutex_unlock(&exports->lock);
}

static void stats_add(struct target_stats *sum, const struct target_stats *one)
{
    sum->sessions += one->sessions;
    sum->logins += one->logins;
    sum->login_failures += one->login_failures;
    sum->commands += one->commands;
    sum->reads += one->reads;
    sum->read_bytes += one->read_bytes;
    sum->writes += one->writes;
    sum->write_bytes += one->write_bytes;
    sum->check_conditions += one->check_conditions;
    sum->reservation_conflicts += one->reservation_conflicts;
    sum->task_management += one->task_management;
    sum->aborted_tasks += one->aborted_tasks;
    sum->digest_errors += one->digest_errors;
    sum->protocol_errors += one->protocol_errors;
}

struct target *export_target_take(struct export *export)
{
    struct exports *exports = export->exports;
    struct target *target = export->target;
    struct target_stats stats;
    pthread_mutex_lock(&exports->lock);
    target_stats(target, &stats);
    stats.sessions = 0;
    stats_add(&exports->gone, &stats);
    export->target = NULL;
    free(export->sessions);
    export->sessions = NULL;
    export->n_sessions = 0;
    exports->n_aliases -= export->n_aliases;
    export->n_aliases = 0;
    pthread_mutex_unlock(&exports->lock);
    map_remove(&exports->by_name, target_name(target));
    return target;
}

void exports_stats(struct exports *exports, struct exports_stats *ret_stats)
{
    struct exports_stats stats = {0};
    struct target_stats one;
    pthread_mutex_lock(&exports->lock);
    stats.sum = exports->gone;
    for (struct map_entry *e = map_first(&exports->by_id); e; e = map_next(&exports->by_id, e)) {
        const struct export *export = e->value;
        if (export->target) {
            target_stats(export->target, &one);
            stats_add(&stats.sum, &one);
            stats.targets++;
        }
    }
    pthread_mutex_unlock(&exports->lock);
    target_server_stats(exports->server, &stats.server);
    *ret_stats = stats;
}
