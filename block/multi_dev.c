// SPDX-License-Identifier: Apache-2.0
/*
 *     OPENING ──▶ UP ◀──▶ DOWN        any ──▶ CLOSING
 *                  └──────┴──▶ CHANGED
 *
 *     a request:  waiting ──▶ flying (at a path) ──▶ done
 *                    ▲            │ session lost
 *                    ├── read ────┤
 *                    └─ limbo ◀───┘ write
 *                 after the fence
 *
 * Why a write may be sent again. When a session is lost, nobody knows whether the target has done a write that was not answered, or still
 * will. Were it sent again at once, over another path, and then a newer write to the same place, the old one could be done last. So
 *
 *   1. a write whose session was lost is neither sent again nor ended; it is in limbo;
 *   2. nothing new is sent, and what flies over other paths is waited for (a path that hangs becomes a lost one in its time);
 *   3. one path sends LOGICAL UNIT RESET, half a second after the loss, as at each redial of a copy's target (docs/decisions.md 23): all
 *      that the lost sessions had under way has ended when it is answered;
 *   4. then limbo goes out again, like new requests.
 *
 * A newer write to the same place can only be submitted after the older one was completed, which is after 4 (who wants an order waits,
 * block/blockdev.h), so overlapping requests need no bookkeeping here. Between 2 and 4 nothing else is at the LUN, so the reset aborts
 * nothing of ours, and the other paths know that the unit attention is ours. Reads, maps and flushes are sent again at once: done twice,
 * or late, they change nothing. What the fence cannot reach is what decision 23 leaves open as well.
 *
 * Flushes. The cache is the LUN's, not the session's (SAM: a logical unit has one task set and one medium, whatever the I_T nexus), so one
 * SYNCHRONIZE CACHE over any path covers what was written over all. For the same reason writes that were answered stay done when their
 * session is lost, and LOGICAL UNIT RESET leaves the cache alone. A LUN that lost its power has lost its cache as well; that ends every
 * session, but one may be back before another is seen to be lost. So what was not flushed needs a witness: a session that is older than
 * the first such write and still there. Only over a witness a flush says anything. A session that comes back is on probation, so that
 * nobody reads from a LUN that has forgotten something, until a flush over a witness has succeeded (we send one). When there is no
 * witness, or the LUN says that it was reset (29h, and not by us), the whole device goes DOWN and comes back, and the owner does again
 * what was not flushed.
 *
 * All paths lost: DOWN, everything ends with -ENOTCONN, and before UP the first path that is back fences, as a single device does.
 *
 * What happens only notes itself and asks for a step; step() does the next thing.
 */
#include "block/multi_dev.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/list.h"
#include "base/log.h"
#include "base/state_table.h"

#define BACKOFF_MIN_NS (100 * MS_NS)
#define BACKOFF_MAX_NS (10 * SEC_NS)
enum { TRIES_MAX = 8 }; /* of a request that a path calls lost without being lost */

enum multi_state { MULTI_OPENING, MULTI_UP, MULTI_DOWN, MULTI_CHANGED, MULTI_CLOSING, MULTI_COUNT };

static const struct state_table states = {
    .name = "multi",
    .count = MULTI_COUNT,
    .names =
        {
            [MULTI_OPENING] = "opening",
            [MULTI_UP] = "up",
            [MULTI_DOWN] = "down",
            [MULTI_CHANGED] = "changed",
            [MULTI_CLOSING] = "closing",
        },
    .moves =
        {
            [MULTI_OPENING] = STATE_TO(MULTI_UP) | STATE_TO(MULTI_CLOSING),
            [MULTI_UP] = STATE_TO(MULTI_DOWN) | STATE_TO(MULTI_CLOSING),
            [MULTI_DOWN] = STATE_TO(MULTI_UP) | STATE_TO(MULTI_CHANGED) | STATE_TO(MULTI_CLOSING),
            [MULTI_CHANGED] = STATE_TO(MULTI_CLOSING),
        },
};

enum path_state { PATH_CLOSED, PATH_OPENING, PATH_OPEN, PATH_CLOSING };

struct path {
    struct multi_dev *multi;
    struct block_opener *opener;
    struct path_meter *meter;
    unsigned number;
    enum path_state state;
    struct blockdev *dev;
    bool up;        /* its link, when it is open */
    bool joined;    /* not on probation */
    bool cancelled; /* the open under way */
    bool failed;    /* an open has */
    bool refused;   /* at the last look it led to another LUN */
    uint64_t backoff_ns;
    struct loop_timer retry;
    unsigned n_flying;
    uint64_t bytes_flying;
    uint64_t since; /* the moment at which its session came up */
};

/* What an opener and its device share. */
struct multi_set {
    struct block_opener base;
    atomic_uint refs;
    struct multi_spec spec;
    struct multi_dev *device;
};

struct passage {
    struct list link; /* in waiting, limbo or spare; none while flying */
    struct multi_dev *multi;
    struct path *path; /* flying */
    struct block_req *req;
    struct block_req child;
    unsigned tries;
    uint64_t sent; /* the moment */
};

struct multi_dev {
    struct blockdev base;
    struct multi_set *set;
    const struct multi_spec *spec;
    unsigned state;
    struct path paths[MULTI_MAX_PATHS];
    char lun[MULTI_LUN_SIZE]; /* what the first path found */
    bool known;               /* base.info and lun are */
    bool fence_wanted;
    struct path *fencing;
    unsigned attempts;
    unsigned next; /* where the search for a path begins, among equals */

    /* Moments are counted, not measured. */
    uint64_t moment;
    uint64_t unflushed_since; /* the first write that was completed and not flushed; 0: none */
    uint64_t last_written;

    unsigned n_flying;
    struct list waiting;
    struct list limbo;
    struct list spare;
    struct loop_timer limit_timer;
    struct block_req probe; /* the flush that ends probations */
    bool probing;
    struct loop_timer probe_timer; /* the next one */

    struct loop_task step_task;
    bool step_queued;
    bool ended;

    block_opened_fn opened; /* until it was called */
    void *opened_arg;
    struct error error; /* of the open */
    bool has_error;
    block_close_fn close_done;
    void *close_arg;
};

static const struct blockdev_ops multi_ops;

static struct multi_dev *of_dev(struct blockdev *dev)
{
    CHECK(dev->ops == &multi_ops);
    return container_of(dev, struct multi_dev, base);
}

static void kick(struct multi_dev *multi)
{
    if (!multi->step_queued && !multi->ended) {
        multi->step_queued = true;
        loop_defer(multi->base.loop, &multi->step_task);
    }
}

static void multi_move(struct multi_dev *multi, enum multi_state to)
{
    state_move(&states, &multi->state, to, multi->spec->name);
}

static bool changes_data(enum block_op op)
{
    return op == BLOCK_WRITE || op == BLOCK_ZERO || op == BLOCK_DISCARD;
}

static bool can_fence(const struct multi_dev *multi)
{
    return multi->spec->fence && multi->spec->ops->fence != NULL;
}

static bool path_usable(const struct path *path)
{
    return path->state == PATH_OPEN && path->up && path->joined;
}

static struct path *any_usable(struct multi_dev *multi)
{
    for (unsigned i = 0; i < multi->spec->n_paths; i++) {
        if (path_usable(&multi->paths[i])) {
            return &multi->paths[i];
        }
    }
    return NULL;
}

/* Would it have noticed that the LUN lost what was not flushed? */
static bool path_is_witness(const struct path *path)
{
    return path->since < path->multi->unflushed_since;
}

static bool has_witness(const struct multi_dev *multi)
{
    for (unsigned i = 0; i < multi->spec->n_paths; i++) {
        const struct path *path = &multi->paths[i];

        if ((path_usable(path) || path == multi->fencing) && path_is_witness(path)) {
            return true;
        }
    }
    return multi->unflushed_since == 0;
}

/* ---- passages ---- */

static struct passage *passage_take(struct multi_dev *multi, struct block_req *req)
{
    struct list *link = list_pop_front(&multi->spare);
    struct passage *passage =
        link != NULL ? list_entry(link, struct passage, link) : calloc(1, sizeof(*passage));

    CHECK(passage != NULL);
    *passage = (struct passage){.multi = multi, .req = req};
    list_init(&passage->link);
    return passage;
}

static void passage_end(struct passage *passage, int status)
{
    struct block_req *req = passage->req;

    list_remove(&passage->link);
    list_push_back(&passage->multi->spare, &passage->link);
    blockdev_complete(req, status);
}

static void list_fail(struct list *list, int status)
{
    list_for_each_safe(link, following, list)
    {
        passage_end(list_entry(link, struct passage, link), status);
    }
}

/* ---- paths ---- */

static void path_set_up(struct path *path, bool up)
{
    if (path->up != up) {
        path->up = up;
        if (path->meter != NULL) {
            path_meter_sessions(path->meter, up ? 1 : -1);
        }
    }
}

static void path_error(struct path *path, bool lost, const char *text)
{
    struct loop *loop = path->multi->base.loop;

    if (path->meter != NULL) {
        path_meter_error(path->meter, lost, text, loop_wall_ms(loop));
    }
}

/* What the device can do is what all of its paths can. */
static void info_update(struct multi_dev *multi)
{
    struct block_info *info = &multi->base.info;
    bool first = true;

    for (unsigned i = 0; i < multi->spec->n_paths; i++) {
        const struct path *path = &multi->paths[i];

        if (path_usable(path)) {
            const struct block_info *theirs = &path->dev->info;

            info->can_map = (first || info->can_map) && theirs->can_map;
            info->can_discard = (first || info->can_discard) && theirs->can_discard;
            info->read_only = (!first && info->read_only) || theirs->read_only;
            first = false;
        }
    }
}

/* The first path says what the LUN is; the others must say the same. */
static bool path_leads_there(struct path *path)
{
    struct multi_dev *multi = path->multi;
    const struct block_info *info = &path->dev->info;
    char lun[MULTI_LUN_SIZE] = "";
    char why[256] = "";

    if (multi->spec->ops->lun != NULL) {
        multi->spec->ops->lun(path->dev, lun, sizeof(lun));
    }
    if (!multi->known) {
        multi->known = true;
        multi->base.info = *info;
        memcpy(multi->lun, lun, sizeof(lun));
        return true;
    }
    if (multi->spec->ops->lun != NULL && multi->lun[0] == '\0') {
        snprintf(why, sizeof(why),
                 "the LUN has no name by which it could be known on a second path");
    } else if (strcmp(lun, multi->lun) != 0) {
        snprintf(why, sizeof(why), "another LUN than on the other paths: %.80s, not %.80s", lun,
                 multi->lun);
    } else if (info->size_bytes < multi->base.info.size_bytes ||
               info->block_bytes != multi->base.info.block_bytes) {
        snprintf(why, sizeof(why),
                 "another LUN than on the other paths: its size or block size differs");
    } else {
        return true;
    }
    log_error("multi[%s] path %u is refused: %s", multi->spec->name, path->number, why);
    path->refused = true;
    path_error(path, false, why);
    return false;
}

static void path_opened(void *arg, struct blockdev *dev, const struct error *error);

static void path_open(struct path *path)
{
    struct multi_dev *multi = path->multi;

    if (path->state == PATH_CLOSED && multi->state != MULTI_CLOSING) {
        path->state = PATH_OPENING;
        path->opener->ops->open(path->opener, multi->base.loop, path_opened, path);
    }
}

static void path_retry(void *arg)
{
    path_open(arg);
}

static void path_retry_later(struct path *path)
{
    if (path->multi->state == MULTI_CLOSING) {
        return;
    }
    if (path->refused) {
        path->backoff_ns = BACKOFF_MAX_NS;
    }
    loop_timer_start(&path->retry, path->backoff_ns);
    path->backoff_ns =
        path->backoff_ns * 2 < BACKOFF_MAX_NS ? path->backoff_ns * 2 : BACKOFF_MAX_NS;
}

static void path_closed(void *arg)
{
    struct path *path = arg;

    path->state = PATH_CLOSED;
    path->dev = NULL;
    path_retry_later(path);
    kick(path->multi);
}

static void path_close(struct path *path)
{
    loop_timer_stop(&path->retry);
    if (path->state == PATH_OPEN) {
        path_set_up(path, false);
        path->state = PATH_CLOSING;
        blockdev_close(path->dev, path_closed, path);
    } else if (path->state == PATH_OPENING && !path->cancelled) {
        path->cancelled = true;
        if (path->opener->ops->cancel != NULL) {
            path->opener->ops->cancel(path->opener);
        }
    }
}

static void multi_event(void *arg, struct blockdev *dev, enum block_event event, unsigned attempts,
                        const char *detail);

/* The error of an open that tells most: one that may heal rather than one that will not. */
static void open_error(struct multi_dev *multi, const struct error *error)
{
    if (!multi->has_error || multi->error.code == ERR_LUN_CHANGED) {
        multi->error = *error;
        multi->has_error = true;
    }
}

/* A new session. */
static void path_begins(struct path *path)
{
    path->since = ++path->multi->moment;
    path->joined = path->multi->state != MULTI_UP;
}

static void path_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct path *path = arg;
    struct multi_dev *multi = path->multi;

    path->state = PATH_CLOSED;
    path->cancelled = false;
    if (dev != NULL) {
        path->dev = dev;
        path->state = PATH_OPEN;
        dev->on_event = multi_event;
        dev->event_arg = path;
        if (multi->state == MULTI_CLOSING) {
            path_close(path);
        } else if (path_leads_there(path)) {
            path->backoff_ns = BACKOFF_MIN_NS;
            path->refused = false;
            path_set_up(path, true);
            path_begins(path);
            info_update(multi);
            log_info("multi[%s] path %u is up", multi->spec->name, path->number);
        } else {
            path->failed = true;
            path_close(path);
        }
    } else if (multi->state != MULTI_CLOSING) {
        path->failed = true;
        path->refused = error->code == ERR_LUN_CHANGED;
        path_error(path, false, error->detail);
        open_error(multi, error);
        path_retry_later(path);
        if (multi->state == MULTI_DOWN) {
            blockdev_emit(&multi->base, BLOCK_EVENT_RETRY, ++multi->attempts, error->detail);
        }
    }
    kick(multi);
}

/* ---- up and down ---- */

static void multi_down(struct multi_dev *multi, const char *reason)
{
    multi_move(multi, MULTI_DOWN);
    multi->attempts = 0;
    multi->unflushed_since = 0;
    for (unsigned i = 0; i < multi->spec->n_paths; i++) {
        multi->paths[i].joined = true;
    }
    loop_timer_stop(&multi->probe_timer);
    multi->fence_wanted = multi->fence_wanted || can_fence(multi);
    loop_timer_stop(&multi->limit_timer);
    log_warning("multi[%s] down: %s", multi->spec->name, reason);
    blockdev_emit(&multi->base, BLOCK_EVENT_DOWN, 0, reason);
    if (multi->state == MULTI_DOWN) {
        list_fail(&multi->waiting, -ENOTCONN);
        list_fail(&multi->limbo, -ENOTCONN);
    }
    kick(multi);
}

static void tell_fenced(struct multi_dev *multi, const struct path *but)
{
    for (unsigned i = 0; i < multi->spec->n_paths && multi->spec->ops->fenced != NULL; i++) {
        struct path *path = &multi->paths[i];

        if (path != but && path_usable(path)) {
            multi->spec->ops->fenced(path->dev);
        }
    }
}

static void fence_done(struct multi_dev *multi, struct path *path)
{
    multi->fencing = NULL;
    multi->fence_wanted = false;
    log_info("multi[%s] path %u has fenced off what was lost", multi->spec->name, path->number);
    tell_fenced(multi, path);
}

static void multi_event(void *arg, struct blockdev *dev, enum block_event event, unsigned attempts,
                        const char *detail)
{
    struct path *path = arg;
    struct multi_dev *multi = path->multi;
    const char *text = detail != NULL ? detail : "link lost";

    (void)attempts;
    if (event == BLOCK_EVENT_UP) {
        path->refused = false;
        path_set_up(path, true);
        info_update(multi);
        if (multi->fencing == path) {
            fence_done(multi, path); /* the same session */
        } else {
            path_begins(path);
            log_info("multi[%s] path %u is back", multi->spec->name, path->number);
        }
        kick(multi);
        return;
    }
    bool was_up = path->up;

    path_set_up(path, false);
    multi->fencing = multi->fencing == path ? NULL : multi->fencing;
    path_error(path, event == BLOCK_EVENT_DOWN, text);
    if (event == BLOCK_EVENT_CHANGED) {
        path->refused = true;
        path_close(path);
    } else if (event == BLOCK_EVENT_RETRY && multi->state == MULTI_DOWN) {
        blockdev_emit(&multi->base, BLOCK_EVENT_RETRY, ++multi->attempts, text);
    } else if (event == BLOCK_EVENT_DOWN && was_up) {
        log_warning("multi[%s] path %u is lost: %s", multi->spec->name, path->number, text);
        if (multi->state == MULTI_UP && multi->spec->ops->was_reset != NULL &&
            multi->spec->ops->was_reset(dev)) {
            if (!can_fence(multi)) {
                tell_fenced(multi, path);
            }
            multi_down(multi, text);
        }
    }
    kick(multi);
}

/* ---- requests ---- */

/* The session is lost, or says so. */
static void passage_lost(struct passage *passage, int status)
{
    struct multi_dev *multi = passage->multi;

    if (multi->state == MULTI_CLOSING) {
        passage_end(passage, -ECANCELED);
    } else if (multi->state != MULTI_UP) {
        passage_end(passage, multi->state == MULTI_CHANGED ? -ESTALE : -ENOTCONN);
    } else if (path_usable(passage->path) && ++passage->tries >= TRIES_MAX) {
        passage_end(passage, status);
    } else if (!changes_data(passage->req->op)) {
        list_insert_before(multi->waiting.next, &passage->link);
    } else if (can_fence(multi)) {
        list_push_back(&multi->limbo, &passage->link);
        multi->fence_wanted = true;
    } else {
        passage_end(passage, -ENOTCONN);
    }
}

static void note_done(struct multi_dev *multi, const struct passage *passage)
{
    const struct block_req *req = passage->req;

    if (req->op == BLOCK_FLUSH) {
        for (unsigned i = 0; i < multi->spec->n_paths; i++) {
            multi->paths[i].joined =
                multi->paths[i].joined || multi->paths[i].since < passage->sent;
        }
        multi->unflushed_since = multi->last_written > passage->sent ? passage->sent : 0;
    } else if (changes_data(req->op) && !(req->flags & BLOCK_FUA)) {
        multi->last_written = ++multi->moment;
        if (multi->unflushed_since == 0) {
            multi->unflushed_since = multi->moment;
        }
    }
}

static void child_done(struct block_req *child)
{
    struct passage *passage = child->arg;
    struct multi_dev *multi = passage->multi;
    struct path *path = passage->path;
    struct block_req *req = passage->req;
    int status = child->status;
    bool data = req->op == BLOCK_READ || req->op == BLOCK_WRITE;

    path->n_flying--;
    path->bytes_flying -= data ? req->len : 0;
    multi->n_flying--;
    if (path->meter != NULL && data) {
        path_meter_inflight(path->meter, -(int64_t)req->len);
        if (status == 0) {
            path_meter_moved(path->meter, req->op == BLOCK_WRITE, req->len,
                             loop_now_ns(multi->base.loop));
        }
    }
    if (status == -ENOTCONN || status == -ESTALE || status == -ECANCELED) {
        passage_lost(passage, status);
    } else if (status == 0 && multi->state == MULTI_DOWN && req->op != BLOCK_READ &&
               req->op != BLOCK_MAP) {
        passage_end(passage, -ENOTCONN); /* its owner was told that it is lost */
    } else {
        if (status == -EOPNOTSUPP) {
            info_update(multi); /* the path has learned that it cannot */
        }
        if (status == 0) {
            note_done(multi, passage);
        }
        req->n_extents = child->n_extents;
        passage_end(passage, status);
    }
    kick(multi);
}

static struct path *choose_path(struct multi_dev *multi, enum block_op op)
{
    struct path *best = NULL;
    unsigned n = multi->spec->n_paths;
    uint32_t max_inflight = 0;

    for (unsigned i = 0; i < n; i++) {
        struct path *path = &multi->paths[(multi->next + i) % n];

        if (!path_usable(path)) {
            continue;
        }
        max_inflight += path->dev->info.max_inflight; /* paths learn what their target takes */
        if ((path->n_flying > 0 && path->n_flying >= path->dev->info.max_inflight) ||
            (op == BLOCK_FLUSH && multi->unflushed_since != 0 && !path_is_witness(path))) {
            continue;
        }
        if (best == NULL || path->bytes_flying < best->bytes_flying ||
            (path->bytes_flying == best->bytes_flying && path->n_flying < best->n_flying)) {
            best = path;
        }
    }
    multi->base.info.max_inflight = max_inflight > 0 ? max_inflight : 1;
    return best;
}

static void passage_send(struct passage *passage, struct path *path)
{
    struct multi_dev *multi = passage->multi;
    const struct block_req *req = passage->req;
    bool data = req->op == BLOCK_READ || req->op == BLOCK_WRITE;

    list_remove(&passage->link);
    multi->next = (path->number + 1) % multi->spec->n_paths; /* among equals the next one */
    passage->path = path;
    passage->sent = ++multi->moment;
    blockdev_pass(&passage->child, req, child_done, passage);
    path->n_flying++;
    path->bytes_flying += data ? req->len : 0;
    multi->n_flying++;
    if (path->meter != NULL && data) {
        path_meter_inflight(path->meter, (int64_t)req->len);
    }
    blockdev_submit(path->dev, &passage->child);
}

/* May it be sent as far as the limit is concerned? */
static bool limit_allows(struct multi_dev *multi, const struct block_req *req)
{
    struct path_limit *limit = multi->spec->limit;
    uint64_t now_ns = loop_now_ns(multi->base.loop);

    if (limit == NULL || (req->op != BLOCK_READ && req->op != BLOCK_WRITE) ||
        path_limit_take(limit, req->len, now_ns)) {
        return true;
    }
    uint64_t wait_ns = path_limit_wait_ns(limit, now_ns);

    loop_timer_start(&multi->limit_timer, wait_ns < SEC_NS ? wait_ns : SEC_NS);
    return false;
}

static void limit_over(void *arg)
{
    kick(arg);
}

static void pump(struct multi_dev *multi)
{
    struct list *link;

    if (loop_timer_pending(&multi->limit_timer)) {
        return;
    }
    while ((link = list_first(&multi->waiting)) != NULL) {
        struct passage *passage = list_entry(link, struct passage, link);
        struct path *path = choose_path(multi, passage->req->op);

        if (path == NULL || !limit_allows(multi, passage->req)) {
            return;
        }
        passage_send(passage, path);
    }
}

static void multi_submit(struct blockdev *dev, struct block_req *req)
{
    struct multi_dev *multi = of_dev(dev);

    if (multi->state != MULTI_UP) {
        blockdev_complete(req, multi->state == MULTI_CHANGED ? -ESTALE : -ENOTCONN);
        return;
    }
    list_push_back(&multi->waiting, &passage_take(multi, req)->link);
    kick(multi);
}

/* ---- the end ---- */

static void set_unref(struct multi_set *set)
{
    if (atomic_fetch_sub(&set->refs, 1) > 1) {
        return;
    }
    for (unsigned i = 0; i < set->spec.n_paths; i++) {
        set->spec.paths[i].opener->ops->free(set->spec.paths[i].opener);
        path_meter_unref(set->spec.paths[i].meter);
    }
    path_limit_unref(set->spec.limit);
    free(set);
}

static void multi_gone(void *arg)
{
    struct multi_dev *multi = arg;
    block_close_fn close_done = multi->close_done;
    void *close_arg = multi->close_arg;
    block_opened_fn opened = multi->opened;
    void *opened_arg = multi->opened_arg;
    struct error error = multi->error;
    struct list *link;

    for (unsigned i = 0; i < multi->spec->n_paths; i++) {
        if (multi->paths[i].meter != NULL) {
            path_meter_users(multi->paths[i].meter, -1);
        }
    }
    while ((link = list_pop_front(&multi->spare)) != NULL) {
        free(list_entry(link, struct passage, link));
    }
    multi->set->device = NULL;
    set_unref(multi->set);
    free(multi);
    if (opened != NULL) {
        opened(opened_arg, NULL, &error);
    } else if (close_done != NULL) {
        close_done(close_arg);
    }
}

static void step_closing(struct multi_dev *multi)
{
    bool closed = true;

    for (unsigned i = 0; i < multi->spec->n_paths; i++) {
        path_close(&multi->paths[i]);
        closed = closed && multi->paths[i].state == PATH_CLOSED;
    }
    if (closed && !multi->ended) {
        multi->ended = true;
        blockdev_when_idle(&multi->base, multi_gone, multi);
    }
}

static void multi_end(struct multi_dev *multi)
{
    multi_move(multi, MULTI_CLOSING);
    loop_timer_stop(&multi->limit_timer);
    loop_timer_stop(&multi->probe_timer);
    multi->fencing = NULL;
    list_fail(&multi->waiting, -ECANCELED);
    list_fail(&multi->limbo, -ECANCELED);
    kick(multi);
}

static void multi_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    struct multi_dev *multi = of_dev(dev);

    multi->close_done = done;
    multi->close_arg = arg;
    multi_end(multi);
}

static const struct blockdev_ops multi_ops = {
    .kind = "multi",
    .submit = multi_submit,
    .close = multi_close,
};

/* ---- the next thing ---- */

static void probe_later(void *arg)
{
    kick(arg);
}

static void probe_done(struct block_req *req)
{
    struct multi_dev *multi = req->arg;

    multi->probing = false;
    if (multi->state == MULTI_UP) {
        if (req->status != 0 && req->status != -ENOTCONN) {
            loop_timer_start(&multi->probe_timer, SEC_NS);
        }
        kick(multi);
    }
}

/* Sessions on probation join, now or after a flush. */
static void step_join(struct multi_dev *multi)
{
    bool waiting = false;

    for (unsigned i = 0; i < multi->spec->n_paths && multi->state == MULTI_UP; i++) {
        struct path *path = &multi->paths[i];

        if (path->state == PATH_OPEN && path->up && !path->joined) {
            path->joined = multi->unflushed_since == 0;
            waiting = waiting || !path->joined;
            info_update(multi);
        }
    }
    if (waiting && !multi->probing && !loop_timer_pending(&multi->probe_timer)) {
        multi->probing = true;
        multi->probe = (struct block_req){.op = BLOCK_FLUSH, .done = probe_done, .arg = multi};
        blockdev_submit(&multi->base, &multi->probe);
    }
}

/* True: nothing has to be fenced off. */
static bool step_fence(struct multi_dev *multi)
{
    struct path *path;

    if (!multi->fence_wanted) {
        return true;
    }
    if (multi->fencing != NULL || multi->n_flying > 0 || (path = any_usable(multi)) == NULL) {
        return false;
    }
    multi->fencing = path;
    path_set_up(path, false);
    multi->spec->ops->fence(path->dev);
    return false;
}

static void step_opening_without_path(struct multi_dev *multi)
{
    for (unsigned i = 0; i < multi->spec->n_paths; i++) {
        if (!multi->paths[i].failed && multi->paths[i].state == PATH_OPENING) {
            return;
        }
    }
    if (!multi->has_error) {
        error_set(&multi->error, ERR_REMOTE_UNREACHABLE, "No path to the LUN is up.");
        multi->has_error = true;
    }
    multi_end(multi);
}

/* Does every path lead elsewhere? */
static bool all_refused(const struct multi_dev *multi)
{
    for (unsigned i = 0; i < multi->spec->n_paths; i++) {
        if (!multi->paths[i].refused) {
            return false;
        }
    }
    return true;
}

static void step_without_path(struct multi_dev *multi)
{
    if (multi->state == MULTI_OPENING) {
        step_opening_without_path(multi);
        return;
    }
    if (multi->state == MULTI_UP) {
        multi_down(multi, "no path to the LUN is left");
    }
    if (multi->state == MULTI_DOWN && all_refused(multi)) {
        multi_move(multi, MULTI_CHANGED);
        blockdev_emit(&multi->base, BLOCK_EVENT_CHANGED, multi->attempts,
                      "every path leads to another LUN");
    }
}

static void multi_up(struct multi_dev *multi)
{
    block_opened_fn opened = multi->opened;

    multi_move(multi, MULTI_UP);
    if (opened != NULL) {
        multi->opened = NULL;
        multi->set->spec.fence_open =
            multi->spec->fence; /* from now on there were sessions before */
        opened(multi->opened_arg, &multi->base, NULL);
    } else {
        blockdev_emit(&multi->base, BLOCK_EVENT_UP, multi->attempts, "a path to the LUN is back");
    }
}

static void step(void *arg)
{
    struct multi_dev *multi = arg;

    multi->step_queued = false;
    if (multi->state == MULTI_CLOSING) {
        step_closing(multi);
        return;
    }
    if (multi->state == MULTI_CHANGED) {
        return;
    }
    step_join(multi);
    if (multi->fencing == NULL && any_usable(multi) == NULL) {
        step_without_path(multi);
        return;
    }
    if (multi->state == MULTI_UP && !has_witness(multi)) {
        multi_down(multi, "every session has been lost since the last flush");
        return;
    }
    if (!step_fence(multi)) {
        return;
    }
    while (!list_empty(&multi->limbo)) {
        list_push_back(&multi->waiting, list_pop_front(&multi->limbo));
    }
    if (multi->state != MULTI_UP) {
        if (multi->n_flying > 0) {
            return;
        }
        multi_up(multi);
    }
    if (multi->state == MULTI_UP) {
        pump(multi);
    }
}

/* ---- opening ---- */

static void multi_open(struct block_opener *base, struct loop *loop, block_opened_fn done,
                       void *arg)
{
    struct multi_set *set = container_of(base, struct multi_set, base);
    struct multi_dev *multi = calloc(1, sizeof(*multi));

    CHECK(multi != NULL && set->device == NULL);
    set->device = multi;
    atomic_fetch_add(&set->refs, 1);
    multi->base.ops = &multi_ops;
    multi->base.loop = loop;
    multi->set = set;
    multi->spec = &set->spec;
    multi->state = MULTI_OPENING;
    multi->fence_wanted = set->spec.fence_open && can_fence(multi);
    multi->opened = done;
    multi->opened_arg = arg;
    list_init(&multi->waiting);
    list_init(&multi->limbo);
    list_init(&multi->spare);
    multi->step_task = (struct loop_task){.fn = step, .arg = multi};
    loop_timer_init(&multi->limit_timer, loop, limit_over, multi);
    loop_timer_init(&multi->probe_timer, loop, probe_later, multi);
    for (unsigned i = 0; i < set->spec.n_paths; i++) {
        struct path *path = &multi->paths[i];

        *path = (struct path){.multi = multi,
                              .opener = set->spec.paths[i].opener,
                              .meter = set->spec.paths[i].meter,
                              .number = i,
                              .backoff_ns = BACKOFF_MIN_NS};
        loop_timer_init(&path->retry, loop, path_retry, path);
        if (path->meter != NULL) {
            path_meter_users(path->meter, 1);
        }
        path_open(path);
    }
}

static void multi_cancel(struct block_opener *base)
{
    struct multi_dev *multi = container_of(base, struct multi_set, base)->device;

    if (multi != NULL && multi->opened != NULL && multi->state != MULTI_CLOSING) {
        error_set(&multi->error, ERR_TERMINATED, "Opening %s was given up.", multi->spec->name);
        multi_end(multi);
    }
}

static void multi_opener_free(struct block_opener *base)
{
    set_unref(container_of(base, struct multi_set, base));
}

static const struct block_opener_ops opener_ops = {
    .open = multi_open,
    .cancel = multi_cancel,
    .free = multi_opener_free,
};

struct block_opener *multi_opener_new(const struct multi_spec *spec)
{
    struct multi_set *set = calloc(1, sizeof(*set));

    CHECK(spec->n_paths > 0 && spec->n_paths <= MULTI_MAX_PATHS && spec->ops != NULL);
    if (set == NULL) {
        return NULL;
    }
    set->base.ops = &opener_ops;
    set->refs = 1;
    set->spec = *spec;
    for (unsigned i = 0; i < spec->n_paths; i++) {
        path_meter_ref(spec->paths[i].meter);
    }
    path_limit_ref(spec->limit);
    return &set->base;
}
