// SPDX-License-Identifier: Apache-2.0
/*
 * The questions come one at a time: ten round trips once per login are cheap, and many targets have
 * never been asked in another way.
 *
 *     INQUIRY ─▶ TEST UNIT READY ─▶ VPD 00 ─▶ 83 ─▶ 80 ─▶ READ CAPACITY 16 (or 10) ─▶ VPD B0 ─▶ B2
 * ─▶ MODE SENSE
 *
 * INQUIRY, READ CAPACITY and the unit's readiness must be answered; everything else is taken where
 * it is offered. TEST UNIT READY comes early because it takes the unit attentions that a new
 * session begins with.
 *
 * The fence. A session that was lost (or whose process was killed) may leave writes behind that the
 * target has not done yet. The same ISID makes a target end them, if it does what RFC 7143 6.3.5
 * says; tgtd does not. So before a LUN that only we write to is written again:
 *
 *     QUIET ─▶ LOGICAL UNIT RESET ─▶ asked again
 *                   └─ refused, or no answer ─▶ WAITING ─┘
 *
 * QUIET lets the target read what the old connection still had in its buffers, so that the reset
 * meets it as a task. The reset ends all tasks of the LUN, whoever's they are, and everybody finds a
 * unit attention; the questions that follow take ours. A target that refuses has only time left to
 * finish what it had: it is waited for, and the log says so.
 */
#include "block/iscsi_dial.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"

enum {
    ASK_INQUIRY,
    ASK_READY,
    ASK_PAGES,
    ASK_IDENTITY,
    ASK_SERIAL,
    ASK_CAPACITY16,
    ASK_CAPACITY10,
    ASK_LIMITS,
    ASK_PROVISIONING,
    ASK_MODE,
    ASK_DONE,
};

enum {
    ASK_MAX_TRIES = 40,
    ASK_PAUSE_MS = 50,
    DEFAULT_CONNECT_MS = 10000,
};

enum fence { FENCE_NONE, FENCE_QUIET, FENCE_RESETTING, FENCE_WAITING };

enum {
    FENCE_QUIET_MS = 500,
    FENCE_ANSWER_MS = 5000,
    FENCE_WAIT_MS = 2000,
};

static void ask_send(void *arg);
static void ask_answer(struct iscsi_cmd *cmd);

static void ask_end(struct iscsi_ask *ask, const struct error *error)
{
    loop_timer_stop(&ask->timer);
    ask->fn(ask->arg, error);
}

static bool ask_has_page(const struct iscsi_ask *ask, uint8_t page)
{
    return iscsi_vpd_has_page(ask->pages, ask->pages_len, page);
}

/* The step after the current one that makes sense. */
static void ask_next(struct iscsi_ask *ask)
{
    ask->tries = 0;
    for (;;) {
        ask->step++;
        if ((ask->step == ASK_IDENTITY && !ask_has_page(ask, 0x83)) ||
            (ask->step == ASK_SERIAL && !ask_has_page(ask, 0x80)) ||
            (ask->step == ASK_CAPACITY10 && ask->info.block_bytes != 0) ||
            (ask->step == ASK_LIMITS && !ask_has_page(ask, 0xb0)) ||
            (ask->step == ASK_PROVISIONING && !ask_has_page(ask, 0xb2))) {
            continue;
        }
        break;
    }
    if (ask->step == ASK_DONE) {
        ask_end(ask, NULL);
    } else {
        ask_send(ask);
    }
}

static void inquiry_cdb(struct iscsi_cmd *cmd, int page, uint16_t len)
{
    cmd->cdb[0] = 0x12;
    cmd->cdb[1] = page >= 0 ? 1 : 0;
    cmd->cdb[2] = page >= 0 ? (uint8_t)page : 0;
    cmd->cdb[3] = (uint8_t)(len >> 8);
    cmd->cdb[4] = (uint8_t)len;
    cmd->cdb_len = 6;
    cmd->len = len;
}

static void ask_send(void *arg)
{
    struct iscsi_ask *ask = arg;
    struct iscsi_cmd *cmd = &ask->cmd;
    struct error error;

    memset(cmd, 0, sizeof(*cmd));
    cmd->direction = ISCSI_CMD_READ;
    cmd->fn = ask_answer;
    cmd->arg = ask;
    switch (ask->step) {
    case ASK_INQUIRY:
        inquiry_cdb(cmd, -1, 96);
        break;
    case ASK_READY:
        cmd->cdb_len = 6;
        cmd->direction = ISCSI_CMD_NONE;
        break;
    case ASK_PAGES:
        inquiry_cdb(cmd, 0x00, 255);
        break;
    case ASK_IDENTITY:
        inquiry_cdb(cmd, 0x83, 1024);
        break;
    case ASK_SERIAL:
        inquiry_cdb(cmd, 0x80, 255);
        break;
    case ASK_CAPACITY16:
        cmd->cdb[0] = 0x9e;
        cmd->cdb[1] = 0x10;
        cmd->cdb[13] = 32;
        cmd->cdb_len = 16;
        cmd->len = 32;
        break;
    case ASK_CAPACITY10:
        cmd->cdb[0] = 0x25;
        cmd->cdb_len = 10;
        cmd->len = 8;
        break;
    case ASK_LIMITS:
        inquiry_cdb(cmd, 0xb0, 64);
        break;
    case ASK_PROVISIONING:
        inquiry_cdb(cmd, 0xb2, 64);
        break;
    default:
        cmd->cdb[0] = 0x1a;
        cmd->cdb[1] = 0x08; /* no block descriptors */
        cmd->cdb[2] = 0x3f;
        cmd->cdb[4] = 252;
        cmd->cdb_len = 6;
        cmd->len = 252;
        break;
    }
    if (iscsi_link_send(ask->link, cmd) != 0) {
        error_set(&error, ERR_NO_MEMORY, "no memory for a SCSI command");
        ask_end(ask, &error);
    }
}

/* A GOOD answer. Zero, or an error in *error. */
static int ask_take(struct iscsi_ask *ask, const struct iscsi_cmd *cmd, struct error *error)
{
    struct iscsi_lun_info *info = &ask->info;
    uint8_t qualifier;
    int err;

    switch (ask->step) {
    case ASK_INQUIRY:
        if (iscsi_inquiry_parse(cmd->data, cmd->data_len, info, &qualifier) != 0) {
            return error_set(error, ERR_REMOTE_ERROR, "the INQUIRY data of LUN %u of %s are short",
                             ask->spec->lun, ask->spec->target);
        }
        if (qualifier != 0) {
            return error_set(error, ERR_SCAN_NO_LU, "%s has no LUN %u", ask->spec->target,
                             ask->spec->lun);
        }
        if (info->peripheral_type != 0x00 && info->peripheral_type != 0x0e) {
            return error_set(error, ERR_INCOMPATIBLE,
                             "LUN %u of %s is not a disk (peripheral device type %02x)",
                             ask->spec->lun, ask->spec->target, info->peripheral_type);
        }
        break;
    case ASK_PAGES:
        ask->pages_len = cmd->data_len < sizeof(ask->pages) ? cmd->data_len : sizeof(ask->pages);
        if (ask->pages_len > 0) {
            memcpy(ask->pages, cmd->data, ask->pages_len);
        }
        break;
    case ASK_IDENTITY:
        iscsi_vpd_identity_parse(cmd->data, cmd->data_len, info);
        break;
    case ASK_SERIAL:
        iscsi_vpd_serial_parse(cmd->data, cmd->data_len, info);
        break;
    case ASK_CAPACITY16:
    case ASK_CAPACITY10:
        err = ask->step == ASK_CAPACITY16 ? iscsi_capacity16_parse(cmd->data, cmd->data_len, info)
                                          : iscsi_capacity10_parse(cmd->data, cmd->data_len, info);
        if (err != 0) {
            return error_set(error, ERR_REMOTE_ERROR,
                             "LUN %u of %s reports a capacity that cannot be", ask->spec->lun,
                             ask->spec->target);
        }
        break;
    case ASK_LIMITS:
        iscsi_vpd_limits_parse(cmd->data, cmd->data_len, info);
        break;
    case ASK_PROVISIONING:
        iscsi_vpd_provisioning_parse(cmd->data, cmd->data_len, info);
        break;
    case ASK_MODE:
        if (iscsi_mode_parse(cmd->data, cmd->data_len, &ask->mode) == 0) {
            info->write_protected = ask->mode.write_protected;
        }
        break;
    default:
        break;
    }
    return 0;
}

/* May the question stay unanswered? */
static bool ask_is_optional(unsigned step)
{
    return step != ASK_INQUIRY && step != ASK_READY && step != ASK_CAPACITY10;
}

static void ask_answer(struct iscsi_cmd *cmd)
{
    struct iscsi_ask *ask = cmd->arg;
    const struct iscsi_sense *sense = &cmd->sense;
    struct error error;
    char text[128];

    if (cmd->result == ISCSI_CMD_GOOD) {
        if (ask_take(ask, cmd, &error) != 0) {
            ask_end(ask, &error);
        } else {
            ask_next(ask);
        }
        return;
    }
    if (cmd->result == ISCSI_CMD_CHECK && sense->key == SENSE_ILLEGAL_REQUEST) {
        if (sense->asc == 0x25) {
            error_set(&error, ERR_SCAN_NO_LU, "%s has no LUN %u", ask->spec->target,
                      ask->spec->lun);
            ask_end(ask, &error);
            return;
        }
        if (ask_is_optional(ask->step)) {
            ask_next(ask);
            return;
        }
    }
    if (cmd->result == ISCSI_CMD_CONFLICT && ask->step == ASK_READY) {
        ask_next(ask); /* reserved by somebody else: reads may well be allowed */
        return;
    }
    iscsi_sense_format(sense, text, sizeof(text));
    if (cmd->result == ISCSI_CMD_BUSY || cmd->result == ISCSI_CMD_FULL) {
        snprintf(text, sizeof(text), "busy");
    } else if (cmd->result == ISCSI_CMD_CONFLICT) {
        snprintf(text, sizeof(text), "reserved by another initiator");
    } else if (cmd->result != ISCSI_CMD_CHECK) {
        snprintf(text, sizeof(text), "the target rejected or aborted the command");
    }
    /* Unit attentions, busy, becoming ready: again, at leisure. No medium and the like: no. */
    if (cmd->result != ISCSI_CMD_REJECTED && cmd->result != ISCSI_CMD_CONFLICT &&
        !(cmd->result == ISCSI_CMD_CHECK && sense->key == SENSE_NOT_READY && sense->asc != 0x04) &&
        ++ask->tries < ASK_MAX_TRIES) {
        if (cmd->result == ISCSI_CMD_CHECK && sense->key == SENSE_UNIT_ATTENTION) {
            ask_send(ask);
        } else {
            loop_timer_start(&ask->timer, ASK_PAUSE_MS * MS_NS);
        }
        return;
    }
    if (ask_is_optional(ask->step)) {
        ask_next(ask);
        return;
    }
    error_set(&error,
              cmd->result == ISCSI_CMD_CHECK && sense->key == SENSE_NOT_READY ? ERR_INCOMPATIBLE
                                                                              : ERR_REMOTE_ERROR,
              "LUN %u of %s does not say what it is: %s", ask->spec->lun, ask->spec->target, text);
    ask_end(ask, &error);
}

void iscsi_ask_init(struct iscsi_ask *ask, struct loop *loop)
{
    memset(ask, 0, sizeof(*ask));
    ask->loop = loop;
    loop_timer_init(&ask->timer, loop, ask_send, ask);
}

void iscsi_ask_start(struct iscsi_ask *ask, const struct iscsi_spec *spec, struct iscsi_link *link,
                     void (*fn)(void *arg, const struct error *error), void *arg)
{
    memset(&ask->info, 0, sizeof(ask->info));
    memset(&ask->mode, 0, sizeof(ask->mode));
    ask->spec = spec;
    ask->link = link;
    ask->fn = fn;
    ask->arg = arg;
    ask->step = ASK_INQUIRY;
    ask->tries = 0;
    ask->pages_len = 0;
    sockaddr_format(iscsi_link_address(link), ask->info.portal);
    ask_send(ask);
}

void iscsi_ask_stop(struct iscsi_ask *ask)
{
    loop_timer_stop(&ask->timer);
}

int iscsi_lun_compare(const struct iscsi_lun_info *info, const char *identity, uint64_t size_bytes,
                      uint32_t block_bytes, const struct iscsi_lun_info *first, struct error *error)
{
    if (identity[0] != 0 && strcmp(identity, info->identity) != 0) {
        return error_set(error, ERR_LUN_CHANGED, "the LUN is another one: it is %s, expected %s",
                         info->identity[0] != 0 ? info->identity : "nameless", identity);
    }
    if (first != NULL && first->serial[0] != 0 && strcmp(first->serial, info->serial) != 0) {
        return error_set(error, ERR_LUN_CHANGED,
                         "the LUN is another one: serial number %s, expected %s", info->serial,
                         first->serial);
    }
    if (first != NULL && first->t10_hash != 0 && first->t10_hash != info->t10_hash) {
        return error_set(error, ERR_LUN_CHANGED,
                         "the LUN is another one: its T10 vendor name has changed");
    }
    if (block_bytes != 0 && info->block_bytes != block_bytes) {
        return error_set(error, ERR_LUN_CHANGED, "the LUN has blocks of %u bytes now, expected %u",
                         info->block_bytes, block_bytes);
    }
    if (info->size_bytes < size_bytes) {
        return error_set(error, ERR_LUN_CHANGED, "the LUN has shrunk to %llu bytes, expected %llu",
                         (unsigned long long)info->size_bytes, (unsigned long long)size_bytes);
    }
    return 0;
}

/* --- dialer
 * ---------------------------------------------------------------------------------------------------
 */

static void dialer_end(struct iscsi_dialer *dialer, const struct error *error)
{
    loop_timer_stop(&dialer->timer);
    if (error != NULL) {
        struct error copy = *error;

        iscsi_dialer_stop(dialer);
        dialer->fn(dialer->arg, &copy);
    } else {
        dialer->fn(dialer->arg, NULL);
    }
}

static void dialer_asked(void *arg, const struct error *error)
{
    dialer_end(arg, error);
}

static void dialer_up(void *arg)
{
    struct iscsi_dialer *dialer = arg;
    struct error error;

    switch (dialer->aim) {
    case ISCSI_DIAL_LUN:
        iscsi_ask_start(&dialer->ask, dialer->spec, dialer->link, dialer_asked, dialer);
        break;
    case ISCSI_DIAL_SESSION:
        dialer_end(dialer, NULL);
        break;
    case ISCSI_DIAL_DISCOVERY:
        if (iscsi_link_discover(dialer->link) != 0) {
            error_set(&error, ERR_NO_MEMORY, "no memory for a discovery");
            dialer_end(dialer, &error);
        }
        break;
    }
}

static void dialer_down(void *arg, const struct error *error)
{
    dialer_end(arg, error);
}

/* --- the fence */

static uint32_t attempt_ms(const struct iscsi_spec *spec)
{
    return spec->connect_timeout_ms != 0 ? spec->connect_timeout_ms : DEFAULT_CONNECT_MS;
}

static void fence_wait(struct iscsi_dialer *dialer, enum fence step, uint32_t ms)
{
    dialer->fence = step;
    loop_timer_start(&dialer->fence_timer, ms * MS_NS);
}

static void fence_over(struct iscsi_dialer *dialer)
{
    dialer->fence = FENCE_NONE;
    loop_timer_stop(&dialer->fence_timer);
    iscsi_ask_start(&dialer->ask, dialer->spec, dialer->link, dialer_asked, dialer);
}

static void fence_failed(struct iscsi_dialer *dialer, const char *why)
{
    log_warning(
        "iscsi[%s/%u] LOGICAL UNIT RESET %s: waiting %d ms for what an older session may have "
        "under way",
        dialer->spec->target, dialer->spec->lun, why, FENCE_WAIT_MS);
    fence_wait(dialer, FENCE_WAITING, FENCE_WAIT_MS);
}

static void fence_step(void *arg)
{
    struct iscsi_dialer *dialer = arg;
    struct error error;

    switch ((enum fence)dialer->fence) {
    case FENCE_NONE:
        break;
    case FENCE_QUIET:
        fence_wait(dialer, FENCE_RESETTING, FENCE_ANSWER_MS);
        if (iscsi_link_reset_lun(dialer->link) != 0) {
            error_set(&error, ERR_NO_MEMORY, "no memory for a LOGICAL UNIT RESET");
            dialer_end(dialer, &error);
        }
        break;
    case FENCE_RESETTING:
        fence_failed(dialer, "is not answered");
        break;
    case FENCE_WAITING:
        fence_over(dialer);
        break;
    }
}

static void dialer_reset(void *arg, int response)
{
    struct iscsi_dialer *dialer = arg;

    if (dialer->fence != FENCE_RESETTING) {
        return; /* late */
    }
    if (response == 0) {
        log_info("iscsi[%s/%u] LOGICAL UNIT RESET done", dialer->spec->target, dialer->spec->lun);
        fence_over(dialer);
    } else {
        char why[48];

        snprintf(why, sizeof(why), "is refused (response %d)", response);
        fence_failed(dialer, why);
    }
}

void iscsi_dialer_fence(struct iscsi_dialer *dialer)
{
    CHECK(dialer->link != NULL && dialer->aim == ISCSI_DIAL_LUN && !dialer->fenced);
    dialer->fenced = true;
    fence_wait(dialer, FENCE_QUIET, FENCE_QUIET_MS);
    loop_timer_start(&dialer->timer,
                     (attempt_ms(dialer->spec) + FENCE_QUIET_MS + FENCE_ANSWER_MS + FENCE_WAIT_MS) *
                         MS_NS);
}

static void dialer_found(void *arg, const struct iscsi_found_target *targets, unsigned n_targets)
{
    struct iscsi_dialer *dialer = arg;

    dialer->targets = targets;
    dialer->n_targets = n_targets;
    dialer_end(dialer, NULL);
}

static const struct iscsi_link_events dialer_events = {
    .up = dialer_up,
    .down = dialer_down,
    .found = dialer_found,
    .reset = dialer_reset,
};

static void dialer_late(void *arg)
{
    struct iscsi_dialer *dialer = arg;
    char address[SOCKADDR_TEXT_LEN];
    struct error error;

    sockaddr_format(dialer->link != NULL ? iscsi_link_address(dialer->link) : &dialer->address,
                    address);
    if (dialer->link == NULL) {
        error_set(&error, ERR_NO_MEMORY, "%s: no memory", address);
    } else {
        error_set(&error, ERR_TIMEOUT, "%s did not answer within %u ms", address,
                  attempt_ms(dialer->spec));
    }
    dialer_end(dialer, &error);
}

void iscsi_dialer_init(struct iscsi_dialer *dialer, struct loop *loop)
{
    memset(dialer, 0, sizeof(*dialer));
    dialer->loop = loop;
    loop_timer_init(&dialer->timer, loop, dialer_late, dialer);
    loop_timer_init(&dialer->fence_timer, loop, fence_step, dialer);
    iscsi_ask_init(&dialer->ask, loop);
}

void iscsi_dialer_start(struct iscsi_dialer *dialer, const struct iscsi_spec *spec,
                        const struct sockaddr_storage *address, enum iscsi_dial_aim aim,
                        void (*fn)(void *arg, const struct error *error), void *arg)
{
    CHECK(dialer->link == NULL);
    dialer->fenced = false;
    dialer->spec = spec;
    dialer->aim = aim;
    dialer->fn = fn;
    dialer->arg = arg;
    dialer->address = *address;
    dialer->link = iscsi_link_dial(dialer->loop, spec, address, aim == ISCSI_DIAL_DISCOVERY,
                                   &dialer_events, dialer);
    loop_timer_start(&dialer->timer, dialer->link != NULL ? attempt_ms(spec) * MS_NS : 0);
}

void iscsi_dialer_fence_link(struct iscsi_dialer *dialer, const struct iscsi_spec *spec,
                             struct iscsi_link *link,
                             void (*fn)(void *arg, const struct error *error), void *arg)
{
    CHECK(dialer->link == NULL);
    dialer->fenced = false;
    dialer->spec = spec;
    dialer->aim = ISCSI_DIAL_LUN;
    dialer->fn = fn;
    dialer->arg = arg;
    dialer->address = *iscsi_link_address(link);
    dialer->link = link;
    iscsi_link_own(link, spec, &dialer_events, dialer);
    iscsi_dialer_fence(dialer);
}

void iscsi_dialer_stop(struct iscsi_dialer *dialer)
{
    loop_timer_stop(&dialer->timer);
    loop_timer_stop(&dialer->fence_timer);
    dialer->fence = FENCE_NONE;
    if (dialer->link != NULL) {
        struct iscsi_link *link = dialer->link;

        dialer->link = NULL;
        iscsi_link_close(link);
    }
    iscsi_ask_stop(&dialer->ask);
}

struct iscsi_link *iscsi_dialer_take(struct iscsi_dialer *dialer)
{
    struct iscsi_link *link = dialer->link;

    CHECK(link != NULL);
    dialer->link = NULL;
    return link;
}
