// SPDX-License-Identifier: Apache-2.0
/*
 * The leg: opened, watched, closed, tried again with growing pauses; and what a request that failed on either side means. Losing it
 * moves the mirror at once; when it is opened, used and closed is decided by the core's step (mirror_core.c).
 *
 *     away     the session is lost, or an open has failed in a way that heals: tried again by and by
 *     broken   it is not, or no longer, what it has to be: nothing is tried before somebody says so
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "replication/mirror_private.h"

#define BACKOFF_MAX_NS (10 * SEC_NS)

/* ---- what happened to it ---- */

static void back_off(struct mirror_core *core)
{
    uint64_t now_ns = loop_now_ns(core->loop);
    if (now_ns >= core->hold_until_ns) {
        core->hold_until_ns = now_ns + core->backoff_ns;
        core->backoff_ns =
            core->backoff_ns * 2 < BACKOFF_MAX_NS ? core->backoff_ns * 2 : BACKOFF_MAX_NS;
    }
    mirror_tick_soon(core);
}

/* Nothing goes there any more; what it may have lost is marked. */
static void leg_gone(struct mirror_core *core)
{
    if (core->connected) {
        core->connected = false;
        core->attempts = 0;
    }
    core->epoch++;
    if (core->map) {
        change_map_lost(core->map, false);
    }
    mirror_kick(core);
}

static void leg_away(struct mirror_core *core)
{
    leg_gone(core);
    if (core->phase == MIRROR_OPENING || core->phase == MIRROR_COPYING ||
        core->phase == MIRROR_EQUAL || core->phase == MIRROR_HELD) {
        log_warning("mirror[%s] the leg is away: %s", core->spec.name, core->last_error);
        mirror_move(core, MIRROR_AWAY);
    }
}

static void leg_broken(struct mirror_core *core, enum error_code code)
{
    char text[400];
    snprintf(text, sizeof(text), "%.399s", core->last_error);
    leg_gone(core);
    core->leg_bad = true;
    if (core->goal && !core->leaving) {
        core->goal = false;
        log_error("mirror[%s] broken: %s", core->spec.name, text);
        error_set(&core->error, code, "%s", text);
        core->has_error = true;
        mirror_move(core, MIRROR_BROKEN);
    }
}

static void status_text(const struct block_req *req, const char *side, char *text, size_t size)
{
    if (req->op == BLOCK_FLUSH) {
        snprintf(text, size, "%s: flush: %s", side, strerrorname_np(-req->status));
    } else {
        snprintf(text, size, "%s: %s of %llu bytes at offset %llu: %s", side,
                 block_op_name(req->op), (unsigned long long)req->len,
                 (unsigned long long)req->offset, strerrorname_np(-req->status));
    }
}

void mirror_leg_failed(struct mirror_core *core, unsigned epoch, const struct block_req *req)
{
    if (epoch != core->epoch || core->leg_state != LEG_OPEN || core->leg_bad) {
        return; /* one of many that failed together */
    }
    char text[300];
    status_text(req, "leg", text, sizeof(text));
    mirror_note(core, "%s", text);
    switch (req->status) {
    case -ENOTCONN:
    case -ECANCELED:
        if (core->leg_up) {
            /* The device has not said so, or not yet: asked again by and by. */
            back_off(core);
        }
        leg_away(core);
        break;
    case -ENOSPC:
        leg_broken(core, ERR_NO_SPACE);
        break;
    case -ESTALE:
        leg_broken(core, ERR_LUN_CHANGED);
        break;
    default:
        leg_broken(core, ERR_REMOTE_ERROR);
        break;
    }
}

void mirror_below_lost(struct mirror_core *core)
{
    core->source_epoch++;
    if (core->map) {
        change_map_lost(core->map, true);
    }
}

void mirror_below_failed(struct mirror_core *core, const struct block_req *req)
{
    char text[300];
    status_text(req, "source", text, sizeof(text));
    mirror_note(core, "%s", text);
    if (req->status == -ENOTCONN || req->op == BLOCK_FLUSH) {
        mirror_below_lost(core);
    }
    mirror_kick(core);
}

static void leg_event(void *arg, struct blockdev *dev, enum block_event event, unsigned attempts,
                      const char *detail)
{
    struct mirror_core *core = arg;
    (void)dev;
    (void)attempts;
    switch (event) {
    case BLOCK_EVENT_DOWN:
        core->leg_up = false;
        mirror_note(core, "leg: %s", detail ? detail : "link lost");
        leg_away(core);
        break;
    case BLOCK_EVENT_RETRY:
        core->attempts++;
        mirror_note(core, "leg: %s", detail ? detail : "link lost");
        break;
    case BLOCK_EVENT_UP:
        core->leg_up = true;
        core->hold_until_ns = 0;
        break;
    case BLOCK_EVENT_CHANGED:
        mirror_note(core, "leg: %s", detail ? detail : "it is not what it was");
        leg_broken(core, ERR_LUN_CHANGED);
        break;
    }
    mirror_kick(core);
}

/* ---- open and closed ---- */

static bool heals(enum error_code code)
{
    switch (code) {
    case ERR_LUN_CHANGED:
    case ERR_ADDRESS_NOT_ALLOWED:
    case ERR_TARGET_TOO_SMALL:
    case ERR_INCOMPATIBLE:
    case ERR_INVALID_PARAMETER:
    case ERR_NOT_SUPPORTED:
        return false;
    default:
        return true;
    }
}

/* ERR_NONE: it can be the leg. */
static enum error_code leg_unfit(struct mirror_core *core, const struct block_info *info)
{
    uint32_t block = core->below ? core->below->info.block_bytes : CHANGE_GRANULE_BYTES;
    if (info->size_bytes < core->spec.size_bytes) {
        mirror_note(core, "leg: it has %llu bytes, the source %llu",
                    (unsigned long long)info->size_bytes,
                    (unsigned long long)core->spec.size_bytes);
        return ERR_TARGET_TOO_SMALL;
    }
    if (info->block_bytes == 0 || block % info->block_bytes != 0) {
        mirror_note(core, "leg: it has blocks of %u bytes, the source of %u", info->block_bytes,
                    block);
        return ERR_INCOMPATIBLE;
    }
    if (info->read_only) {
        mirror_note(core, "leg: it is write protected");
        return ERR_INCOMPATIBLE;
    }
    return ERR_NONE;
}

static void leg_opened(void *arg, struct blockdev *dev, const struct error *error)
{
    struct mirror_core *core = arg;
    CHECK(core->leg_state == LEG_OPENING);
    core->leg_state = LEG_CLOSED;
    core->leg_cancelled = false;
    if (dev) {
        core->leg = dev;
        core->leg_state = LEG_OPEN;
        core->leg_up = true;
        core->leg_bad = false;
        core->leg_zero_unsupported = false;
        dev->on_event = leg_event;
        dev->event_arg = core;
        enum error_code unfit = leg_unfit(core, &dev->info);
        if (unfit != ERR_NONE) {
            leg_broken(core, unfit);
        }
    } else if (core->goal) {
        core->attempts++;
        mirror_note(core, "leg: %.440s", error->detail);
        if (heals(error->code)) {
            back_off(core);
            leg_away(core);
        } else {
            leg_broken(core, error->code);
        }
    }
    mirror_kick(core);
}

static void opener_free(struct block_opener *opener)
{
    if (opener) {
        opener->ops->free(opener);
    }
}

static void next_leg_take(struct mirror_core *core)
{
    if (core->next_leg && core->leg_state == LEG_CLOSED) {
        opener_free(core->spec.leg);
        core->spec.leg = core->next_leg;
        core->next_leg = NULL;
    }
}

void mirror_leg_open(struct mirror_core *core)
{
    if (loop_now_ns(core->loop) < core->hold_until_ns) {
        mirror_tick_soon(core);
        return;
    }
    next_leg_take(core);
    if (!core->spec.leg) {
        mirror_note(core, "it has no leg");
        leg_broken(core, ERR_NOT_SUPPORTED);
        return;
    }
    core->leg_state = LEG_OPENING;
    core->spec.leg->ops->open(core->spec.leg, core->loop, leg_opened, core);
}

static void leg_closed(void *arg)
{
    struct mirror_core *core = arg;
    core->leg_state = LEG_CLOSED;
    core->leg = NULL;
    core->leg_up = core->leg_bad = false;
    next_leg_take(core);
    mirror_kick(core);
}

void mirror_leg_close(struct mirror_core *core)
{
    if (core->leg_state == LEG_OPENING && !core->leg_cancelled) {
        core->leg_cancelled = true;
        if (core->spec.leg->ops->cancel) {
            core->spec.leg->ops->cancel(core->spec.leg);
        }
    } else if (core->leg_state == LEG_OPEN) {
        core->leg_state = LEG_CLOSING;
        blockdev_close(core->leg, leg_closed, core);
    }
}

bool mirror_leg_is_usable(const struct mirror_core *core)
{
    return core->leg_state == LEG_OPEN && core->leg_up && !core->leg_bad &&
           loop_now_ns(core->loop) >= core->hold_until_ns;
}

void mirror_core_set_leg(struct mirror_core *core, struct block_opener *leg)
{
    /* Not under the hands of an open, or of what it gave. */
    opener_free(core->next_leg);
    core->next_leg = leg;
    next_leg_take(core);
}

void mirror_leg_free(struct mirror_core *core)
{
    opener_free(core->spec.leg);
    opener_free(core->next_leg);
}
