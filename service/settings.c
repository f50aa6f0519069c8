// SPDX-License-Identifier: Apache-2.0
#include "service/settings.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "service/handlers.h"
#include "service/paths.h"

#define SETTING_DEFAULT "default"

static int users_of(struct call *call, const char *setting_id, uint64_t *ret_n)
{
    struct condition where[] = {WHERE_TEXT("setting_id", setting_id), WHERE_END};
    int r = table_count(call->db, &volume_table, where, ret_n);

    return r < 0 ? call_fail_store(call, r) : 0;
}

static int volume_point(struct call *call, struct volume_row *volume, const char *setting_id)
{
    if (strcmp(volume->setting_id, setting_id) == 0) {
        return 0;
    }
    snprintf(volume->setting_id, sizeof(volume->setting_id), "%s", setting_id);
    int r = table_update(call->db, &volume_table, volume);

    return r < 0 ? call_fail_store(call, r) : 0;
}

/* The volume's own setting, or an empty row for a new one. */
static int own_setting(struct call *call, const struct volume_row *volume, struct setting_row *ret_row)
{
    uint64_t n = 0;
    int r;

    *ret_row = (struct setting_row){.created_ms = control_now_ms(call->control)};
    if (volume->setting_id[0] == '\0' || strcmp(volume->setting_id, SETTING_DEFAULT) == 0) {
        return 0;
    }
    r = users_of(call, volume->setting_id, &n);
    if (r < 0 || n != 1) {
        return r;
    }
    r = table_get(call->db, &setting_table, volume->setting_id, ret_row);
    return r < 0 && r != -ENOENT ? call_fail_store(call, r) : 0;
}

int setting_apply_goal(struct call *call, const char *parameter, const struct replica_terms *terms,
                       struct volume_row *volume)
{
    const struct values *goal = args_instance(call->args, parameter);
    const char *name = goal != NULL ? args_text(goal, "ElementName") : NULL;
    struct setting_row row;

    if (goal == NULL) {
        return 0;
    }
    int r = own_setting(call, volume, &row);

    if (r < 0) {
        return r;
    }
    if (name != NULL) {
        if (strlen(name) >= sizeof(row.element_name)) {
            return call_fail_param(call, ERR_BAD_VALUE, parameter,
                                   "%s.ElementName has more than %zu bytes.", parameter,
                                   sizeof(row.element_name) - 1);
        }
        strcpy(row.element_name, name);
    } else if (row.element_name[0] == '\0') {
        snprintf(row.element_name, sizeof(row.element_name), "Setting of %.240s",
                 volume->element_name);
    }
    row.replication_priority = terms->copy_priority + 1;
    row.initial_synchronization = terms->start ? 2 : 3;
    row.bandwidth_limit = terms->bandwidth_limit;
    row.verify = terms->verify;
    r = row.head.id[0] != '\0' ? table_update(call->db, &setting_table, &row)
                               : table_insert(call->db, &setting_table, &row);
    return r < 0 ? call_fail_store(call, r) : volume_point(call, volume, row.head.id);
}

int setting_apply_reference(struct call *call, const char *parameter, struct volume_row *volume)
{
    const char *path = args_text(call->args, parameter);
    struct setting_row row;

    if (path == NULL) {
        return 0;
    }
    int r = path_setting(call, parameter, path, &row);

    return r < 0 ? r : volume_point(call, volume, row.head.id);
}

int method_delete_setting(struct call *call)
{
    struct setting_row row;
    struct volume_row user;
    char path[PATH_SIZE];
    struct condition where[] = {WHERE_TEXT("setting_id", call->object_id), WHERE_END};
    int r = table_get(call->db, &setting_table, call->object_id, &row);

    if (r == -ENOENT) {
        return call_fail(call, ERR_NOT_FOUND, "There is no /settings/%s.", call->object_id);
    }
    if (r == 0 && strcmp(row.head.id, SETTING_DEFAULT) == 0) {
        return call_fail(call, ERR_CONFLICT, "/settings/default is always there.");
    }
    if (r == 0) {
        r = table_find(call->db, &volume_table, where, &user);
        if (r == 0) {
            snprintf(path, sizeof(path), "/volumes/%s", user.head.id);
            return call_fail_blocked(call, ERR_CONFLICT, path, "%s has this setting.", path);
        }
        if (r == -ENOENT) {
            r = table_delete(call->db, &setting_table, row.head.id);
        }
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}
