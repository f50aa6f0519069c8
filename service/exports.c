// SPDX-License-Identifier: Apache-2.0
#include "service/advertise.h"
#include "service/exports.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/map.h"
#include "base/sockaddr.h"
#include "hosting/gather.h"
#include "service/changes.h"
#include "service/control.h"
#include "service/hosted.h"
#include "service/portals.h"
#include "service/volumes.h"
#include "store/system.h"

#define LOGOUT_GRACE_NS (3 * SEC_NS)
#define STOP_GRACE_NS   (SEC_NS / 2)

struct served {
    struct control *control;
    struct exports *exports;
    struct map volumes; /* ids of those that may be LUNs */
    char portal[SOCKADDR_TEXT_LEN];
    char advertised[SOCKADDR_TEXT_LEN];
    bool loopback;
};

/* ---- the target of the records ---- */

/* What is read of an export, in memory that lives until export_put() has returned. */
struct reading {
    struct served *served;
    struct db *db;
    struct arena arena;
    struct export_row row;
    struct export_spec spec;
    struct export_lun *luns;
    struct target_initiator *initiators;
    size_t n_initiators;
    struct target_initiator chap; /* what all rows have in common */
};

/* Room for one more at the end of an array that grows by powers of two. */
static void *grown(struct arena *arena, void *items, size_t n, size_t size)
{
    if ((n & (n - 1)) != 0) {
        return items;
    }
    void *larger = arena_alloc(arena, (n == 0 ? 1 : n * 2) * size);

    if (n > 0) {
        memcpy(larger, items, n * size);
    }
    return larger;
}

static int read_lun(void *arg, const void *found)
{
    struct reading *reading = arg;
    const struct export_lun_row *row = found;
    struct volume_row volume;
    struct strbuf kept = STRBUF_INIT;

    if (map_get(&reading->served->volumes, row->volume_id) == NULL) {
        return 0; /* not open: it comes with exports_serve_volume() */
    }
    int r = table_get(reading->db, &volume_table, row->volume_id, &volume);

    if (r < 0 || row->number >= TARGET_MAX_LUNS || reading->spec.n_luns == TARGET_MAX_LUNS) {
        return r;
    }
    reading->luns =
        grown(&reading->arena, reading->luns, reading->spec.n_luns, sizeof(*reading->luns));
    struct export_lun *lun = &reading->luns[reading->spec.n_luns];

    *lun = (struct export_lun){.number = row->number, .read_only = row->read_only};
    strcpy(lun->volume_id, row->volume_id);
    snprintf(lun->serial, sizeof(lun->serial), "%s", row->volume_id);
    if (strncmp(volume.identity, "naa.", 4) == 0) {
        lun->naa = strtoull(volume.identity + 4, NULL, 16);
    }
    r = reservation_get(reading->db, row->export_id, row->number, &kept);
    if (r == 0) {
        void *copy = arena_alloc(&reading->arena, kept.len);

        memcpy(copy, strbuf_str(&kept), kept.len);
        lun->reservations = copy;
        lun->reservations_len = kept.len;
    }
    strbuf_fini(&kept);
    reading->spec.n_luns++;
    return r == -ENOENT ? 0 : r;
}

static int read_secret(void *arg, const void *found)
{
    struct reading *reading = arg;
    const struct secret_row *row = found;
    const char *user = arena_strdup(&reading->arena, row->remote_id);
    const char *secret = arena_strdup(&reading->arena, row->secret);

    if (strcmp(row->protocol, PORTAL_CHAP) == 0) {
        reading->chap.chap_user = user;
        reading->chap.chap_secret = secret;
    } else {
        reading->chap.mutual_user = user;
        reading->chap.mutual_secret = secret;
    }
    return 0;
}

static int read_initiator(void *arg, const void *found)
{
    struct reading *reading = arg;
    const struct export_initiator_row *row = found;
    size_t n = reading->n_initiators;

    reading->initiators =
        grown(&reading->arena, reading->initiators, n, sizeof(*reading->initiators));
    reading->initiators[n] = reading->chap;
    reading->initiators[n].name = arena_strdup(&reading->arena, row->initiator);
    reading->n_initiators++;
    return 0;
}

static int read_access(struct reading *reading, const char *export_id)
{
    struct condition secrets[] = {WHERE_TEXT("access_point_id", export_id), WHERE_END};
    struct condition initiators[] = {WHERE_TEXT("export_id", export_id), WHERE_END};
    int r = table_each(reading->db, &secret_table, secrets, 0, 0, read_secret, reading);

    if (r == 0 && reading->chap.chap_user == NULL) {
        reading->chap = (struct target_initiator){0}; /* mutual CHAP needs the one-way */
    }
    if (r == 0 && !reading->row.all_initiators) {
        r = table_each(reading->db, &export_initiator_table, initiators, 0, 0, read_initiator,
                       reading);
    }
    if (r == 0 && reading->row.all_initiators) {
        reading->initiators = &reading->chap;
        reading->n_initiators = 1;
    }
    reading->spec.access = (struct target_access){reading->initiators, reading->n_initiators};
    return r;
}

static bool may_be_served(const struct served *served, const struct export_row *row,
                          uint64_t n_initiators, bool chap)
{
    return row->all_initiators ? served->loopback || chap : n_initiators > 0;
}

static int read_export(struct reading *reading, const char *export_id)
{
    struct condition luns[] = {WHERE_TEXT("export_id", export_id), WHERE_END};
    int r = table_get(reading->db, &export_table, export_id, &reading->row);

    if (r < 0) {
        return r;
    }
    strcpy(reading->spec.id, export_id);
    text_cut(reading->row.iqn, reading->spec.iqn, sizeof(reading->spec.iqn));
    text_cut(reading->row.element_name, reading->spec.alias, sizeof(reading->spec.alias));
    r = read_access(reading, export_id);
    if (r == 0 && may_be_served(reading->served, &reading->row, reading->n_initiators,
                                reading->chap.chap_user != NULL)) {
        r = table_each(reading->db, &export_lun_table, luns, 0, 0, read_lun, reading);
        reading->spec.luns = reading->luns;
    }
    return r;
}

/* Makes the target what the records say now. */
static void export_apply(struct served *served, const char *export_id, array_done_fn done,
                         void *arg)
{
    struct reading *reading = calloc(1, sizeof(*reading));

    CHECK(reading != NULL);
    reading->served = served;
    reading->db = control_db(served->control);
    arena_init(&reading->arena);
    int r = read_export(reading, export_id);

    if (r == -ENOENT) {
        export_remove(served->exports, export_id, LOGOUT_GRACE_NS, done, arg);
    } else {
        if (r < 0) {
            log_error("export[%s] its records cannot be read: %s", export_id, strerror(-r));
            reading->spec.n_luns = 0;
        }
        export_put(served->exports, &reading->spec, done, arg);
    }
    arena_fini(&reading->arena);
    explicit_bzero(reading, sizeof(*reading));
    free(reading);
}

/* ---- effects ---- */

struct changed {
    char export_id[ID_SIZE];
    struct call *call; /* NULL: nobody waits */
};

static void changed_done(void *arg, const struct error *error)
{
    struct changed *changed = arg;

    if (error != NULL) {
        log_error("export[%s] %s", changed->export_id, error->detail);
    }
    if (changed->call != NULL) {
        call_gate_open(changed->call, error);
    }
    free(changed);
}

static void changed_effect(struct control *control, void *arg)
{
    struct changed *changed = malloc(sizeof(*changed));

    CHECK(changed != NULL);
    memcpy(changed, arg, sizeof(*changed));
    export_apply(control_served(control), changed->export_id, changed_done, changed);
}

void export_changed(struct call *call, const char *export_id)
{
    struct changed changed = {.call = call->internal ? NULL : call};

    strcpy(changed.export_id, export_id);
    if (changed.call != NULL) {
        call_gate(call);
    }
    control_effect(call->control, changed_effect, &changed, sizeof(changed));
}

/* ---- volumes: records ---- */

int exports_volume_created(struct call *call, const struct volume_row *volume)
{
    struct export_row row = {.all_initiators = true, .created_ms = volume->created_ms};
    struct export_lun_row lun = {.number = 0};

    strcpy(row.head.id, volume->head.id);
    strcpy(row.own_volume_id, volume->head.id);
    strcpy(row.element_name, volume->element_name);
    strcpy(row.iqn, volume->iqn);
    strcpy(lun.export_id, volume->head.id);
    strcpy(lun.volume_id, volume->head.id);
    int r = table_insert(call->db, &export_table, &row);

    if (r == 0) {
        r = table_insert(call->db, &export_lun_table, &lun);
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

int exports_volume_renamed(struct call *call, const struct volume_row *volume)
{
    struct export_row row;
    int r = table_get(call->db, &export_table, volume->head.id, &row);

    if (r == 0) {
        strcpy(row.element_name, volume->element_name);
        r = table_update(call->db, &export_table, &row);
    }
    return r < 0 && r != -ENOENT ? call_fail_store(call, r) : 0;
}

/* Deletes the rows of table that fit. */
static int delete_all(struct db *db, const struct table *table, const struct condition *where)
{
    void *rows;
    size_t n;
    int r = table_load(db, table, where, &rows, &n);

    if (r < 0) {
        return r;
    }
    for (size_t i = 0; r == 0 && i < n; i++) {
        const struct row_head *head = (const void *)((const char *)rows + i * table->row_size);

        r = table_delete(db, table, head->id);
    }
    free(rows);
    return r;
}

static int lun_delete(void *arg, const struct export_lun_row *row)
{
    struct call *call = arg;
    int r = reservation_put(call->db, row->export_id, row->number, NULL, 0);

    return r < 0 ? r : table_delete(call->db, &export_lun_table, row->head.id);
}

int exports_volume_deleted(struct call *call, const char *volume_id)
{
    struct condition luns[] = {WHERE_TEXT("volume_id", volume_id), WHERE_END};
    struct condition secrets[] = {WHERE_TEXT("access_point_id", volume_id), WHERE_END};
    struct condition others[] = {WHERE_TEXT("export_id", volume_id), WHERE_END};
    struct export_lun_row *rows;
    void *loaded;
    uint64_t n_others = 0;
    size_t n;
    int r = table_load(call->db, &export_lun_table, luns, &loaded, &n);

    if (r < 0) {
        return call_fail_store(call, r);
    }
    rows = loaded;
    for (size_t i = 0; r == 0 && i < n; i++) {
        r = lun_delete(call, &rows[i]);
    }
    free(loaded);
    if (r == 0) {
        r = table_count(call->db, &export_lun_table, others, &n_others);
    }
    if (r == 0) {
        r = delete_all(call->db, &secret_table, secrets);
    }
    if (r == 0) {
        r = table_delete(call->db, &export_table, volume_id);
        r = r == -ENOENT ? 0 : r;
    }
    if (r == 0 && n_others > 0) {
        export_changed(call, volume_id); /* volumes of others were behind its target */
    }
    return r < 0 ? call_fail_store(call, r) : 0;
}

int exports_volume_in_use(struct call *call, const char *volume_id)
{
    struct served *served = control_served(call->control);
    char export_id[ARRAY_ID_LEN + 1];
    char initiator[TARGET_MAX_NAME + 1];
    char path[PATH_SIZE];
    unsigned n = exports_volume_sessions(served->exports, volume_id, export_id, initiator);

    if (n == 0) {
        return 0;
    }
    snprintf(path, sizeof(path), "/exports/%s", export_id);
    return call_fail_blocked(call, ERR_IN_USE, path,
                             "%.120s is logged in to %s, which has /volumes/%s as a LUN (sessions: "
                             "%u). Log out there, or take the LUN away with HidePaths.",
                             initiator, path, volume_id, n);
}

/* ---- relationships of other systems ---- */

static bool same_session(const struct target_session *a, const struct target_session *b)
{
    return strcmp(a->alias, b->alias) == 0 && strcmp(a->initiator, b->initiator) == 0;
}

static bool among(const struct target_session *one, const struct target_session *all, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (same_session(one, &all[i])) {
            return true;
        }
    }
    return false;
}

/* Has a smirror session come or gone? */
static bool remotes_differ(const struct target_session *some, unsigned n_some,
                           const struct target_session *others, unsigned n_others)
{
    struct remote_alias remote;

    for (unsigned i = 0; i < n_some; i++) {
        if (remote_alias_parse(some[i].alias, &remote) && !among(&some[i], others, n_others)) {
            return true;
        }
    }
    return false;
}

static int volume_tell(void *arg, const void *found)
{
    const struct export_lun_row *lun = found;
    struct object_change change = {
        .collection = COLLECTION_VOLUMES, .kind = CHANGE_CHANGED, .later = true};

    memcpy(change.id, lun->volume_id, sizeof(change.id));
    control_tell(arg, &change, 1);
    return 0;
}

/* Volumes show them, and they are in no record. */
static void sessions_changed(void *arg, const char *export_id, const struct target_session *before,
                             unsigned n_before, const struct target_session *now, unsigned n_now)
{
    struct control *control = ((struct served *)arg)->control;
    struct condition luns[] = {WHERE_TEXT("export_id", export_id), WHERE_END};

    if (remotes_differ(now, n_now, before, n_before) ||
        remotes_differ(before, n_before, now, n_now)) {
        int r =
            table_each(control_db(control), &export_lun_table, luns, 0, 0, volume_tell, control);
        if (r < 0) {
            log_warning("export[%s]: who is logged in was not told: %s", export_id, strerror(-r));
        }
    }
}

/* ---- volumes: who is served ---- */

struct appliance {
    struct served *served;
    struct gather *gather;
};

static int apply_export_of(void *arg, const void *found)
{
    struct appliance *appliance = arg;
    const struct export_lun_row *row = found;

    gather_add(appliance->gather);
    export_apply(appliance->served, row->export_id, gather_back, appliance->gather);
    return 0;
}

void exports_serve_volume(struct control *control, const struct volume_row *volume,
                          array_done_fn done, void *arg)
{
    struct served *served = control_served(control);
    struct condition where[] = {WHERE_TEXT("volume_id", volume->head.id), WHERE_END};
    struct gather *gather = gather_new(done, arg);
    struct appliance appliance = {served, gather};

    CHECK(map_put(&served->volumes, volume->head.id, served) == 0);
    int r = table_each(control_db(control), &export_lun_table, where, 0, 0, apply_export_of,
                       &appliance);

    if (r < 0) {
        gather_fail(gather, ERR_STORE_FAILED, "The records of its targets cannot be read.");
    }
    gather_ready(gather, control_loop(control));
}

void exports_withdraw_volume(struct control *control, const char *volume_id, array_done_fn done,
                             void *arg)
{
    struct served *served = control_served(control);

    map_remove(&served->volumes, volume_id);
    exports_volume_remove(served->exports, volume_id, LOGOUT_GRACE_NS, done, arg);
}

void exports_notify_volume(struct control *control, const char *volume_id,
                           enum target_lun_event event, array_done_fn done, void *arg)
{
    exports_volume_notify(control_served(control)->exports, volume_id, event, done, arg);
}

/* ---- what targets tell ---- */

struct kept {
    char export_id[ID_SIZE];
    uint32_t number;
    const void *bytes; /* live until target_save_done() */
    size_t len;
    struct target_save *save;
};

static void kept_effect(struct control *control, void *arg)
{
    const struct kept *kept = arg;

    (void)control;
    target_save_done(kept->save, 0);
}

/* The command that changed the reservations waits for it. */
static int kept_event(struct call *call)
{
    const struct kept *kept = call->step_state;
    int r = reservation_put(call->db, kept->export_id, kept->number, kept->bytes, kept->len);

    if (r < 0) {
        log_error("export[%s] LUN %u: its reservations cannot be kept: %s", kept->export_id,
                  kept->number, strerror(-r));
        target_save_done(kept->save, r);
    } else {
        control_effect(call->control, kept_effect, kept, sizeof(*kept));
    }
    return 0;
}

static void reservations_changed(void *arg, const char *export_id, unsigned lun,
                                 const char *volume_id, const void *bytes, size_t len,
                                 struct target_save *save)
{
    struct served *served = arg;
    struct kept kept = {.number = lun, .bytes = bytes, .len = len, .save = save};

    (void)volume_id;
    strcpy(kept.export_id, export_id);
    control_event(served->control, kept_event, &kept, sizeof(kept));
}

/* ---- readers ---- */

const char *exports_portal(struct control *control)
{
    return control_served(control) == NULL ? "" : control_served(control)->portal;
}

const char *exports_advertised(struct control *control)
{
    return control_served(control) == NULL ? "" : control_served(control)->advertised;
}

bool export_may_be_served(struct control *control, const struct export_row *row,
                          uint64_t n_initiators, bool chap)
{
    return control_served(control) != NULL &&
           may_be_served(control_served(control), row, n_initiators, chap);
}

void exports_sessions(struct control *control, const char *export_id, export_session_fn fn,
                      void *arg)
{
    if (control_served(control) != NULL) {
        exports_each_session(control_served(control)->exports, export_id, fn, arg);
    }
}

struct remotes {
    export_remote_fn fn;
    void *arg;
    const struct target_session *seen[REMOTES_MAX];
    unsigned n;
};

static void alias_seen(void *arg, unsigned lun, const struct target_session *session)
{
    struct remotes *remotes = arg;
    struct remote_alias remote;

    if (remotes->n == REMOTES_MAX || !remote_alias_parse(session->alias, &remote) ||
        remote.lun != lun) {
        return;
    }
    for (unsigned i = 0; i < remotes->n; i++) {
        if (same_session(remotes->seen[i], session)) {
            return; /* several sessions, over a pipe or by several targets */
        }
    }
    remotes->seen[remotes->n++] = session;
    remotes->fn(remotes->arg, session, &remote);
}

void exports_remotes(struct control *control, const char *volume_id, export_remote_fn fn, void *arg)
{
    struct remotes remotes = {.fn = fn, .arg = arg};

    if (control_served(control) != NULL) {
        exports_each_alias(control_served(control)->exports, volume_id, alias_seen, &remotes);
    }
}

bool exports_numbers(struct control *control, struct exports_stats *ret_stats)
{
    if (control_served(control) == NULL) {
        return false;
    }
    exports_stats(control_served(control)->exports, ret_stats);
    return true;
}

/* ---- beginning and end ---- */

static int portal_open(struct served *served, const struct control_options *options,
                       struct error *error)
{
    const char *address = options->iscsi;
    struct sockaddr_storage addr;
    struct sockaddr_storage bound;

    if (address == NULL || address[0] == '\0') {
        served->loopback = true;
        return 0;
    }
    if (sockaddr_parse(address, 3260, &addr) < 0) {
        return error_set(error, ERR_INVALID_PARAMETER, "%s is not an address for iSCSI.", address);
    }
    int r = exports_listen(served->exports, &addr, &bound, error);

    if (r < 0) {
        char why[sizeof(error->detail)];

        memcpy(why, error->detail, sizeof(why));
        return error_set(error, error->code, "iSCSI: %.300s.%s", why,
                         error->code == ERR_IN_USE
                             ? " Another program serves there; choose another address or port."
                             : "");
    }
    sockaddr_format(&bound, served->portal);
    advertise_address(&bound, options->iscsi_advertise, served->advertised);
    served->loopback = sockaddr_is_loopback(&bound);
    return 0;
}

int served_new(struct control *control, struct served **ret_served, struct error *error)
{
    const struct control_options *options = control_options(control);
    struct served *served = calloc(1, sizeof(*served));
    struct loop *loops[16];
    unsigned n = control_data_loops(control);

    CHECK(served != NULL && n <= ARRAY_LEN(loops));
    for (unsigned i = 0; i < n; i++) {
        loops[i] = control_data_loop(control, i);
    }
    served->control = control;
    map_init(&served->volumes);
    struct exports_spec spec = {
        .owner = control_loop(control),
        .array = hosted_array(control_hosted(control)),
        .loops = loops,
        .n_loops = n,
        .limits = {.max_connections = options->iscsi_connections},
        .chap_algorithms = options->iscsi_chap_algorithms,
        .hold = true,
        .events = {.reservations_changed = reservations_changed,
                   .sessions_changed = sessions_changed},
        .events_arg = served,
    };
    int r = exports_new(&spec, &served->exports);

    if (r < 0) {
        error_set(error, ERR_INTERNAL, "No iSCSI target: %s.", strerror(-r));
    } else {
        r = portal_open(served, options, error);
    }
    if (r < 0) {
        served_free(served);
        return r;
    }
    *ret_served = served;
    return 0;
}

void served_begin(struct served *served)
{
    exports_accept(served->exports);
}

void served_stop(struct control *control, loop_fn done, void *arg)
{
    exports_close(control_served(control)->exports, STOP_GRACE_NS, done, arg);
}

void served_free(struct served *served)
{
    if (served != NULL) {
        exports_free(served->exports);
        map_fini(&served->volumes);
        free(served);
    }
}
