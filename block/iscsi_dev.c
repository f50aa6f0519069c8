// SPDX-License-Identifier: Apache-2.0
/*
 * The life of a remote LUN.
 *
 *               unit attention            same LUN
 *        UP ───────────────▶ VERIFYING ───────────▶ UP
 *        │                    │     │
 *        │ link lost          │     └─ another LUN ─▶ CHANGED   (final; -ESTALE)
 *        ▼                    ▼                          ▲
 *     WAITING ◀── failed ── DIALING ─── another LUN ─────┘
 *        └───── back-off ─────▶ │
 *                               └──── same LUN ─▶ UP
 *
 * UP ─▶ DIALING without a dial: the session is fenced (iscsi_dev_fence()) by the same steps as a new one, and comes back to UP.
 *
 * Requests are accepted in UP and VERIFYING (there they wait) and fail at once in the others. The
 * order at a loss is: state, DOWN event, then the completions with -ENOTCONN: who reacts to the
 * event by submitting again gets -ENOTCONN.
 *
 * The same ISID is used for every login, so that the target ends the old session and its tasks
 * before the new one begins (session reinstatement, RFC 7143 6.3.5): no write of before the loss
 * lands after the UP event. Not all targets do that; spec.fence makes sure (iscsi_dial.c). The first portal that is dialled is the one that worked last; the pause
 * doubles with each full round over the portals.
 */
#include "block/iscsi_dev.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/state_table.h"
#include "block/iscsi_dev_private.h"

enum {
    DEFAULT_BACKOFF_MIN_MS = 100,
    DEFAULT_BACKOFF_MAX_MS = 10000,
    DEFAULT_CONNECT_MS = 10000,
    DEFAULT_INFLIGHT = 64,
    MAX_TRANSFER_BYTES = 1 << 20,
};

static const struct state_table dev_states = {
    .name = "iscsi",
    .count = ISCSI_DEV_STATE_COUNT,
    .names =
        {
            [ISCSI_DEV_UP] = "up",
            [ISCSI_DEV_VERIFYING] = "verifying",
            [ISCSI_DEV_WAITING] = "waiting",
            [ISCSI_DEV_DIALING] = "dialing",
            [ISCSI_DEV_CHANGED] = "changed",
            [ISCSI_DEV_CLOSED] = "closed",
        },
    .moves =
        {
            [ISCSI_DEV_UP] = STATE_TO(ISCSI_DEV_VERIFYING) | STATE_TO(ISCSI_DEV_WAITING) |
                             STATE_TO(ISCSI_DEV_DIALING) | STATE_TO(ISCSI_DEV_CLOSED),
            [ISCSI_DEV_VERIFYING] = STATE_TO(ISCSI_DEV_UP) | STATE_TO(ISCSI_DEV_WAITING) |
                                    STATE_TO(ISCSI_DEV_CHANGED) | STATE_TO(ISCSI_DEV_CLOSED),
            [ISCSI_DEV_WAITING] = STATE_TO(ISCSI_DEV_DIALING) | STATE_TO(ISCSI_DEV_CLOSED),
            [ISCSI_DEV_DIALING] = STATE_TO(ISCSI_DEV_UP) | STATE_TO(ISCSI_DEV_WAITING) |
                                  STATE_TO(ISCSI_DEV_CHANGED) | STATE_TO(ISCSI_DEV_CLOSED),
            [ISCSI_DEV_CHANGED] = STATE_TO(ISCSI_DEV_CLOSED),
        },
};

static const struct iscsi_link_events dev_link_events;
static const struct blockdev_ops dev_ops;

static struct iscsi_dev *of_dev(const struct blockdev *dev)
{
    CHECK(dev->ops == &dev_ops);
    return container_of(dev, struct iscsi_dev, base);
}

static void dev_move(struct iscsi_dev *dev, enum iscsi_dev_state to)
{
    state_move(&dev_states, &dev->state, to, dev->name);
}

void iscsi_dev_note_error(struct iscsi_dev *dev, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(dev->last_error, sizeof(dev->last_error), fmt, args);
    va_end(args);
}

/* What the device may do, from what the LUN says; the size is the first one's for ever. */
static void dev_take_lun(struct iscsi_dev *dev, const struct iscsi_lun_info *lun,
                         const struct iscsi_mode *mode)
{
    struct block_info *info = &dev->base.info;
    uint64_t size_bytes = dev->lun.size_bytes != 0 ? dev->lun.size_bytes : lun->size_bytes;
    uint32_t max_blocks = MAX_TRANSFER_BYTES / lun->block_bytes;

    dev->lun = *lun;
    dev->lun.size_bytes = size_bytes;
    dev->mode = *mode;
    if (lun->max_transfer_blocks != 0 && lun->max_transfer_blocks < max_blocks) {
        max_blocks = lun->max_transfer_blocks;
    }
    dev->max_blocks = max_blocks;
    info->size_bytes = size_bytes;
    info->block_bytes = lun->block_bytes;
    info->physical_bytes = lun->physical_bytes;
    info->optimal_bytes = 0;
    if (lun->optimal_transfer_blocks != 0 && lun->optimal_transfer_blocks <= max_blocks) {
        info->optimal_bytes = lun->optimal_transfer_blocks * lun->block_bytes;
    }
    info->max_bytes = max_blocks * lun->block_bytes;
    info->read_only = lun->write_protected;
    info->thin = lun->thin;
    info->discard_zeroes = lun->lbpme && lun->lbprz;
    info->can_discard = lun->lbpme && (lun->lbpu || lun->lbpws);
    /* Without LBPRZ an unmapped block says nothing, and targets without thin provisioning answer
     * GET LBA STATUS with "mapped" for everything, slowly. */
    info->can_map = lun->lbpme && lun->lbprz;
}

/* --- down and up again
 * ---------------------------------------------------------------------------------------- */

static void dev_wait(struct iscsi_dev *dev)
{
    const struct iscsi_spec *spec = &dev->spec;
    uint64_t min_ms = spec->backoff_min_ms != 0 ? spec->backoff_min_ms : DEFAULT_BACKOFF_MIN_MS;
    uint64_t max_ms = spec->backoff_max_ms != 0 ? spec->backoff_max_ms : DEFAULT_BACKOFF_MAX_MS;
    unsigned rounds = dev->attempts / spec->n_portals + dev->fruitless;
    uint64_t pause_ms = rounds < 20 ? min_ms << rounds : max_ms;

    if (pause_ms > max_ms) {
        pause_ms = max_ms;
    }
    /* Three quarters to five quarters: devices that went down together come back one by one. */
    pause_ms = pause_ms * 3 / 4 + random_below(&dev->random, pause_ms / 2 + 1);
    loop_timer_start(&dev->redial, pause_ms * MS_NS);
}

/* The session is over, and the link closed by whoever calls. */
static void dev_down(struct iscsi_dev *dev, const char *reason)
{
    loop_timer_stop(&dev->verify_limit);
    iscsi_ask_stop(&dev->ask);
    dev_move(dev, ISCSI_DEV_WAITING);
    dev->attempts = 0;
    /* A LUN that lets in and then refuses everything is dialled as seldom as one that does not answer. */
    dev->fruitless = dev->fruitful || loop_now_ns(dev->base.loop) - dev->up_ns >= SEC_NS
                         ? 0
                         : dev->fruitless + 1;
    dev->fence_wanted = false;
    dev->stats.link_losses++;
    iscsi_dev_note_error(dev, "%s", reason);
    log_warning("iscsi[%s] link down: %s", dev->name, reason);
    dev_wait(dev);
    blockdev_emit(&dev->base, BLOCK_EVENT_DOWN, 0, reason);
    iscsi_io_fail_all(dev, dev->state == ISCSI_DEV_CLOSED ? -ECANCELED : -ENOTCONN);
}

static void dev_link_close(struct iscsi_dev *dev)
{
    struct iscsi_link *link = dev->link;

    dev->link = NULL;
    if (link != NULL) {
        iscsi_link_close(link);
    }
}

void iscsi_dev_drop_link(struct iscsi_dev *dev, const struct error *error)
{
    struct error copy = *error;

    dev_link_close(dev);
    dev_down(dev, copy.detail);
}

static void dev_link_down(void *arg, const struct error *error)
{
    iscsi_dev_drop_link(arg, error);
}

static void dev_link_up(void *arg)
{
    (void)arg;
    CHECK(!"a link that was adopted comes up once");
}

static const struct iscsi_link_events dev_link_events = {
    .up = dev_link_up,
    .down = dev_link_down,
};

static void dev_changed(struct iscsi_dev *dev, const char *why)
{
    loop_timer_stop(&dev->verify_limit);
    dev_link_close(dev);
    iscsi_ask_stop(&dev->ask);
    dev_move(dev, ISCSI_DEV_CHANGED);
    iscsi_dev_note_error(dev, "%s", why);
    log_error("iscsi[%s] %s", dev->name, why);
    iscsi_io_fail_all(dev, -ESTALE);
    blockdev_emit(&dev->base, BLOCK_EVENT_CHANGED, dev->attempts, why);
}

static int dev_compare(struct iscsi_dev *dev, const struct iscsi_lun_info *info,
                       struct error *error)
{
    return iscsi_lun_compare(info, dev->lun.identity, dev->base.info.size_bytes,
                             dev->base.info.block_bytes, &dev->lun, error);
}

static void dev_dialled(void *arg, const struct error *dial_error)
{
    struct iscsi_dev *dev = arg;
    struct error error;

    if (dial_error != NULL) {
        dev_move(dev, ISCSI_DEV_WAITING);
        dev->portal = (dev->portal + 1) % dev->spec.n_portals;
        error = *dial_error;
        iscsi_dev_note_error(dev, "%s", error.detail);
        log_info("iscsi[%s] attempt %u failed: %s", dev->name, dev->attempts, error.detail);
        dev_wait(dev);
        blockdev_emit(&dev->base, BLOCK_EVENT_RETRY, dev->attempts, error.detail);
        return;
    }
    if (dev_compare(dev, &dev->dialer.ask.info, &error) != 0) {
        iscsi_dialer_stop(&dev->dialer);
        dev_changed(dev, error.detail);
        return;
    }
    if (dev->spec.fence && !dev->dialer.fenced) {
        iscsi_dialer_fence(&dev->dialer);
        return;
    }
    dev->link = iscsi_dialer_take(&dev->dialer);
    iscsi_link_own(dev->link, &dev->spec, &dev_link_events, dev);
    dev_take_lun(dev, &dev->dialer.ask.info, &dev->dialer.ask.mode);
    iscsi_io_reset(dev);
    dev->stats.logins += dev->attempts > 0;
    dev->was_reset = false;
    dev->fruitful = false;
    dev->up_ns = loop_now_ns(dev->base.loop);
    dev_move(dev, ISCSI_DEV_UP);
    log_info("iscsi[%s] link up at %s after %u attempts", dev->name, dev->lun.portal,
             dev->attempts);
    blockdev_emit(&dev->base, BLOCK_EVENT_UP, dev->attempts, dev->lun.portal);
    dev->attempts = 0;
}

static void dev_redial(void *arg)
{
    struct iscsi_dev *dev = arg;

    dev->attempts++;
    dev_move(dev, ISCSI_DEV_DIALING);
    iscsi_dialer_start(&dev->dialer, &dev->spec, &dev->spec.portals[dev->portal], ISCSI_DIAL_LUN,
                       dev_dialled, dev);
}

/* --- the session is fenced
 * --------------------------------------------------------------------------------- */

static void dev_fence(struct iscsi_dev *dev)
{
    struct iscsi_link *link = dev->link;

    dev->fence_wanted = false;
    dev->link = NULL;
    dev->attempts = 0;
    dev_move(dev, ISCSI_DEV_DIALING);
    iscsi_dialer_fence_link(&dev->dialer, &dev->spec, link, dev_dialled, dev);
}

void iscsi_dev_fence(struct blockdev *base)
{
    struct iscsi_dev *dev = of_dev(base);

    CHECK(base->inflight == 0);
    if (dev->state == ISCSI_DEV_UP) {
        dev_fence(dev);
    } else if (dev->state == ISCSI_DEV_VERIFYING) {
        dev->fence_wanted = true;
    } /* else it is lost, and the event has told */
}

void iscsi_dev_fenced(struct blockdev *base)
{
    iscsi_dev_verify(of_dev(base));
}

bool iscsi_dev_was_reset(const struct blockdev *base)
{
    return of_dev(base)->was_reset;
}

/* --- the LUN may have changed
 * --------------------------------------------------------------------------------- */

static void dev_asked(void *arg, const struct error *ask_error)
{
    struct iscsi_dev *dev = arg;
    struct error error;

    loop_timer_stop(&dev->verify_limit);
    if (ask_error != NULL) {
        iscsi_dev_drop_link(dev, ask_error);
        return;
    }
    if (dev_compare(dev, &dev->ask.info, &error) != 0) {
        dev_changed(dev, error.detail);
        return;
    }
    dev_move(dev, ISCSI_DEV_UP);
    dev_take_lun(dev, &dev->ask.info, &dev->ask.mode);
    if (dev->fence_wanted) {
        dev_fence(dev);
        return;
    }
    if (dev->verify_again) {
        iscsi_dev_verify(dev);
        return;
    }
    iscsi_io_pump(dev);
}

static void dev_verify_late(void *arg)
{
    struct iscsi_dev *dev = arg;
    struct error error;

    error_set(&error, ERR_TIMEOUT, "the LUN does not say what it is after a unit attention");
    iscsi_dev_drop_link(dev, &error);
}

void iscsi_dev_verify(struct iscsi_dev *dev)
{
    uint32_t limit_ms =
        dev->spec.connect_timeout_ms != 0 ? dev->spec.connect_timeout_ms : DEFAULT_CONNECT_MS;

    if (dev->state != ISCSI_DEV_UP) {
        /* The attention may have come after the question that it concerns. */
        dev->verify_again = dev->state == ISCSI_DEV_VERIFYING;
        return;
    }
    dev->verify_again = false;
    dev_move(dev, ISCSI_DEV_VERIFYING);
    loop_timer_start(&dev->verify_limit, limit_ms * MS_NS);
    iscsi_ask_start(&dev->ask, &dev->spec, dev->link, dev_asked, dev);
}

/* --- the device
 * -----------------------------------------------------------------------------------------------
 */

static void dev_submit(struct blockdev *base, struct block_req *req)
{
    struct iscsi_dev *dev = of_dev(base);

    switch ((enum iscsi_dev_state)dev->state) {
    case ISCSI_DEV_UP:
    case ISCSI_DEV_VERIFYING:
        iscsi_io_submit(dev, req);
        break;
    case ISCSI_DEV_CHANGED:
        blockdev_complete(req, -ESTALE);
        break;
    case ISCSI_DEV_CLOSED:
        blockdev_complete(req, -ECANCELED);
        break;
    default:
        blockdev_complete(req, -ENOTCONN);
        break;
    }
}

static void dev_free(struct iscsi_dev *dev)
{
    iscsi_io_fini(dev);
    explicit_bzero(&dev->spec, sizeof(dev->spec));
    free(dev);
}

static void dev_closed(void *arg)
{
    struct iscsi_dev *dev = arg;
    block_close_fn done = dev->close_done;
    void *done_arg = dev->close_arg;

    dev_free(dev);
    if (done != NULL) {
        done(done_arg);
    }
}

static void dev_close(struct blockdev *base, block_close_fn done, void *arg)
{
    struct iscsi_dev *dev = of_dev(base);

    dev->close_done = done;
    dev->close_arg = arg;
    loop_timer_stop(&dev->redial);
    loop_timer_stop(&dev->verify_limit);
    iscsi_dialer_stop(&dev->dialer);
    dev_link_close(dev);
    iscsi_ask_stop(&dev->ask);
    dev_move(dev, ISCSI_DEV_CLOSED);
    iscsi_io_fail_all(dev, -ECANCELED);
    blockdev_when_idle(base, dev_closed, dev);
}

static const struct blockdev_ops dev_ops = {
    .kind = "iscsi",
    .submit = dev_submit,
    .close = dev_close,
};

int iscsi_dev_adopt(struct iscsi_dialer *dialer, unsigned portal, struct blockdev **ret_dev,
                    struct error *error)
{
    struct iscsi_dev *dev = calloc(1, sizeof(*dev));
    struct loop *loop = dialer->loop;

    if (dev == NULL) {
        return error_set(error, ERR_NO_MEMORY, "no memory for an iSCSI device");
    }
    dev->base.ops = &dev_ops;
    dev->base.loop = loop;
    dev->spec = *dialer->spec;
    dev->portal = portal;
    dev->state = ISCSI_DEV_UP;
    random_seed(&dev->random, random_unpredictable_u64());
    dev->n_slots = dev->spec.max_inflight != 0 ? dev->spec.max_inflight : DEFAULT_INFLIGHT;
    if (dev->n_slots > IO_MAX_SLOTS) {
        dev->n_slots = IO_MAX_SLOTS;
    }
    dev->lun.size_bytes = dev->spec.size_bytes;
    dev_take_lun(dev, &dialer->ask.info, &dialer->ask.mode);
    snprintf(dev->name, sizeof(dev->name), "%s/%u", dev->spec.target, dev->spec.lun);
    iscsi_dialer_init(&dev->dialer, loop);
    iscsi_ask_init(&dev->ask, loop);
    loop_timer_init(&dev->redial, loop, dev_redial, dev);
    loop_timer_init(&dev->verify_limit, loop, dev_verify_late, dev);
    if (iscsi_io_init(dev) != 0) {
        dev_free(dev);
        return error_set(error, ERR_NO_MEMORY, "no memory for an iSCSI device");
    }
    dev->link = iscsi_dialer_take(dialer);
    iscsi_link_own(dev->link, &dev->spec, &dev_link_events, dev);
    dev->stats.logins = 1;
    *ret_dev = &dev->base;
    log_info("iscsi[%s] open at %s: %s, %llu bytes", dev->name, dev->lun.portal, dev->lun.identity,
             (unsigned long long)dev->lun.size_bytes);
    return 0;
}

const struct iscsi_lun_info *iscsi_dev_lun(const struct blockdev *dev)
{
    return &of_dev(dev)->lun;
}

void iscsi_dev_name(const struct blockdev *dev, char *text, size_t size)
{
    const struct iscsi_lun_info *lun = &of_dev(dev)->lun;

    if (lun->identity[0] == '\0' && lun->serial[0] == '\0' && lun->t10_hash == 0) {
        text[0] = '\0';
        return;
    }
    snprintf(text, size, "%s %s %016llx", lun->identity, lun->serial,
             (unsigned long long)lun->t10_hash);
}

const char *iscsi_dev_last_error(const struct blockdev *dev)
{
    return of_dev(dev)->last_error;
}

void iscsi_dev_stats(const struct blockdev *dev, struct iscsi_dev_stats *ret_stats)
{
    *ret_stats = of_dev(dev)->stats;
}
