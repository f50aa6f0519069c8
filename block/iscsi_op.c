// SPDX-License-Identifier: Apache-2.0
/*
 * Questions to targets: open, probe, discover, list of LUNs.
 *
 *     START ─▶ portal 1 ─▶ portal 2 ─▶ … ─▶ callback with the error that says most
 *                 └────────────┴─▶ (REPORT LUNS) ─▶ callback with the answer
 *
 * One deadline stands over the whole. The op is freed right before its callback is called, or by
 * the cancel.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "block/iscsi_dev_private.h"

enum { DEFAULT_OPEN_MS = 30000, MAX_LUNS = 1024 };

enum op_kind { OP_OPEN, OP_PROBE, OP_DISCOVER, OP_REPORT_LUNS };

struct iscsi_op {
    enum op_kind kind;
    struct loop *loop;
    struct iscsi_spec spec;
    struct iscsi_dialer dialer;
    unsigned portal;
    struct error error; /* the best so far */
    struct loop_timer deadline;
    struct loop_task start;
    bool started;
    bool cancelled;
    struct iscsi_cmd cmd;
    unsigned tries;
    union {
        iscsi_open_fn open;
        iscsi_probe_fn probe;
        iscsi_discover_fn discover;
        iscsi_report_luns_fn report_luns;
    } fn;
    void *arg;
};

static void op_try(struct iscsi_op *op);

const char *iscsi_identity_kind_name(enum iscsi_identity_kind kind)
{
    static const char *const names[] = {
        [ISCSI_IDENTITY_NONE] = "none",     [ISCSI_IDENTITY_NAA] = "naa",
        [ISCSI_IDENTITY_EUI64] = "eui64",   [ISCSI_IDENTITY_T10] = "t10",
        [ISCSI_IDENTITY_SERIAL] = "serial",
    };

    CHECK(kind < ARRAY_LEN(names));
    return names[kind];
}

int iscsi_address_parse(const char *text, struct sockaddr_storage *ret_address)
{
    char copy[ISCSI_ADDRESS_SIZE];
    char *tag;

    if (strlen(text) >= sizeof(copy) || strncasecmp(text, "localhost", 9) == 0) {
        return -EINVAL;
    }
    snprintf(copy, sizeof(copy), "%s", text);
    tag = strrchr(copy, ',');
    if (tag != NULL) {
        if (tag[1] == 0 || strspn(tag + 1, "0123456789") != strlen(tag + 1)) {
            return -EINVAL;
        }
        *tag = 0;
    }
    return sockaddr_parse(copy, 3260, ret_address);
}

static bool is_terminated(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

int iscsi_spec_check(const struct iscsi_spec *spec, bool discovery, struct error *error)
{
    if (!is_terminated(spec->initiator, sizeof(spec->initiator)) || spec->initiator[0] == 0 ||
        !is_terminated(spec->target, sizeof(spec->target)) ||
        (!discovery && spec->target[0] == 0) ||
        !is_terminated(spec->identity, sizeof(spec->identity)) ||
        !is_terminated(spec->chap.user, sizeof(spec->chap.user)) ||
        !is_terminated(spec->chap.secret, sizeof(spec->chap.secret)) ||
        !is_terminated(spec->mutual_chap.user, sizeof(spec->mutual_chap.user)) ||
        !is_terminated(spec->mutual_chap.secret, sizeof(spec->mutual_chap.secret))) {
        return error_set(error, ERR_INVALID_PARAMETER,
                         "an initiator name and a target name are needed, of at most %d bytes",
                         ISCSI_NAME_SIZE - 1);
    }
    if (spec->n_portals == 0 || spec->n_portals > ISCSI_MAX_PORTALS) {
        return error_set(error, ERR_INVALID_PARAMETER, "one to %d portals are needed",
                         ISCSI_MAX_PORTALS);
    }
    for (unsigned i = 0; i < spec->n_portals; i++) {
        sa_family_t family = spec->portals[i].ss_family;

        if (family != AF_INET && family != AF_INET6) {
            return error_set(error, ERR_INVALID_PARAMETER, "portal %u is not an IP address", i);
        }
    }
    if ((spec->chap.user[0] == 0) != (spec->chap.secret[0] == 0) ||
        (spec->mutual_chap.user[0] == 0) != (spec->mutual_chap.secret[0] == 0)) {
        return error_set(error, ERR_INVALID_PARAMETER,
                         "a CHAP user needs a secret, and a secret a user");
    }
    if (spec->mutual_chap.user[0] != 0 && spec->chap.user[0] == 0) {
        return error_set(error, ERR_INVALID_PARAMETER,
                         "mutual CHAP needs a CHAP user and secret of the initiator too");
    }
    /* RFC 7143 9.2.1: with the same secret both ways a target can have its answer from us. */
    if (spec->mutual_chap.user[0] != 0 &&
        strcmp(spec->mutual_chap.secret, spec->chap.secret) == 0) {
        return error_set(error, ERR_INVALID_PARAMETER,
                         "the CHAP secrets of the two directions must differ");
    }
    if (spec->data_digest == ISCSI_DIGEST_REQUIRE) {
        return error_set(error, ERR_NOT_SUPPORTED,
                         "data digests are not supported by this initiator");
    }
    return 0;
}

static void op_free(struct iscsi_op *op)
{
    loop_timer_stop(&op->deadline);
    iscsi_dialer_stop(&op->dialer);
    explicit_bzero(&op->spec, sizeof(op->spec));
    free(op);
}

static void op_fail(struct iscsi_op *op)
{
    struct error error = op->error;
    struct iscsi_op copy = {.kind = op->kind, .fn = op->fn, .arg = op->arg};

    op_free(op);
    switch (copy.kind) {
    case OP_OPEN:
        copy.fn.open(copy.arg, NULL, &error);
        break;
    case OP_PROBE:
        copy.fn.probe(copy.arg, NULL, &error);
        break;
    case OP_DISCOVER:
        copy.fn.discover(copy.arg, NULL, 0, &error);
        break;
    case OP_REPORT_LUNS:
        copy.fn.report_luns(copy.arg, NULL, 0, &error);
        break;
    }
}

/* A refused login says more than a dead address. */
static int error_rank(enum error_code code)
{
    switch (code) {
    case ERR_NONE:
        return 0;
    case ERR_REMOTE_UNREACHABLE:
        return 1;
    case ERR_TIMEOUT:
        return 2;
    case ERR_REMOTE_ERROR:
        return 3;
    default:
        return 4;
    }
}

static void op_portal_failed(struct iscsi_op *op, const struct error *error)
{
    if (error_rank(error->code) > error_rank(op->error.code)) {
        op->error = *error;
    }
    op->portal++;
    op_try(op);
}

static void op_deadline(void *arg)
{
    struct iscsi_op *op = arg;
    struct error first = op->error;

    error_set(&op->error, ERR_TIMEOUT, "no answer within %u ms%s%.300s",
              op->spec.open_timeout_ms != 0 ? op->spec.open_timeout_ms : DEFAULT_OPEN_MS,
              first.code != ERR_NONE ? "; " : "", first.code != ERR_NONE ? first.detail : "");
    op_fail(op);
}

static void op_luns_answer(struct iscsi_cmd *cmd);

static void op_luns_ask(struct iscsi_op *op)
{
    struct iscsi_cmd *cmd = &op->cmd;
    uint32_t len = 8 + 8 * MAX_LUNS;
    struct error error;

    memset(cmd, 0, sizeof(*cmd));
    cmd->cdb[0] = 0xa0;
    cmd->cdb[6] = (uint8_t)(len >> 24);
    cmd->cdb[7] = (uint8_t)(len >> 16);
    cmd->cdb[8] = (uint8_t)(len >> 8);
    cmd->cdb[9] = (uint8_t)len;
    cmd->cdb_len = 12;
    cmd->direction = ISCSI_CMD_READ;
    cmd->len = len;
    cmd->fn = op_luns_answer;
    cmd->arg = op;
    if (iscsi_link_send(op->dialer.link, cmd) != 0) {
        error_set(&error, ERR_NO_MEMORY, "no memory for a SCSI command");
        iscsi_dialer_stop(&op->dialer);
        op_portal_failed(op, &error);
    }
}

static void op_luns_answer(struct iscsi_cmd *cmd)
{
    struct iscsi_op *op = cmd->arg;
    uint16_t luns[MAX_LUNS];
    char text[128];
    struct error error;
    int n;

    if (cmd->result == ISCSI_CMD_GOOD) {
        n = iscsi_lun_list_parse(cmd->data, cmd->data_len, luns, MAX_LUNS);
        if (n >= 0) {
            iscsi_report_luns_fn fn = op->fn.report_luns;
            void *arg = op->arg;

            op_free(op);
            fn(arg, luns, (unsigned)n, NULL);
            return;
        }
        snprintf(text, sizeof(text), "the answer is malformed");
    } else if (cmd->result == ISCSI_CMD_CHECK && cmd->sense.key == SENSE_UNIT_ATTENTION &&
               op->tries++ < 20) {
        op_luns_ask(op);
        return;
    } else {
        iscsi_sense_format(&cmd->sense, text, sizeof(text));
    }
    error_set(&error, ERR_REMOTE_ERROR, "%s does not list its LUNs: %s", op->spec.target, text);
    iscsi_dialer_stop(&op->dialer);
    op_portal_failed(op, &error);
}

/* After the dialer's attempt a lost session is ours to notice. */
static void op_down(void *arg, const struct error *error)
{
    struct iscsi_op *op = arg;
    struct error copy = *error;

    iscsi_dialer_stop(&op->dialer);
    op_portal_failed(op, &copy);
}

static const struct iscsi_link_events op_events = {.down = op_down};

static void op_dialled(void *arg, const struct error *dial_error)
{
    struct iscsi_op *op = arg;
    struct iscsi_lun_info info;
    struct error error;
    struct blockdev *dev;
    int err;

    if (dial_error != NULL) {
        op_portal_failed(op, dial_error);
        return;
    }
    switch (op->kind) {
    case OP_OPEN:
    case OP_PROBE:
        err = iscsi_lun_compare(&op->dialer.ask.info, op->spec.identity, op->spec.size_bytes,
                                op->spec.block_bytes, NULL, &error);
        if (err == 0 && op->kind == OP_OPEN && op->spec.fence_open && !op->dialer.fenced) {
            iscsi_dialer_fence(&op->dialer);
            return;
        }
        if (err == 0 && op->kind == OP_OPEN) {
            err = iscsi_dev_adopt(&op->dialer, op->portal, &dev, &error);
        }
        if (err != 0) {
            iscsi_dialer_stop(&op->dialer);
            op_portal_failed(op, &error);
        } else if (op->kind == OP_OPEN) {
            iscsi_open_fn fn = op->fn.open;
            void *fn_arg = op->arg;

            op_free(op);
            fn(fn_arg, dev, NULL);
        } else {
            iscsi_probe_fn fn = op->fn.probe;
            void *fn_arg = op->arg;

            info = op->dialer.ask.info;
            op_free(op);
            fn(fn_arg, &info, NULL);
        }
        break;
    case OP_DISCOVER: {
        iscsi_discover_fn fn = op->fn.discover;
        void *fn_arg = op->arg;
        unsigned n = op->dialer.n_targets;
        struct iscsi_found_target *targets = calloc(n + 1, sizeof(*targets));

        if (targets == NULL) {
            error_set(&op->error, ERR_NO_MEMORY, "no memory for %u targets", n);
            op_fail(op);
            return;
        }
        memcpy(targets, op->dialer.targets, n * sizeof(*targets));
        op_free(op);
        fn(fn_arg, targets, n, NULL);
        free(targets);
        break;
    }
    case OP_REPORT_LUNS:
        iscsi_link_own(op->dialer.link, &op->spec, &op_events, op);
        op_luns_ask(op);
        break;
    }
}

static void op_try(struct iscsi_op *op)
{
    static const enum iscsi_dial_aim aims[] = {
        [OP_OPEN] = ISCSI_DIAL_LUN,
        [OP_PROBE] = ISCSI_DIAL_LUN,
        [OP_DISCOVER] = ISCSI_DIAL_DISCOVERY,
        [OP_REPORT_LUNS] = ISCSI_DIAL_SESSION,
    };

    if (op->portal >= op->spec.n_portals) {
        op_fail(op);
        return;
    }
    iscsi_dialer_start(&op->dialer, &op->spec, &op->spec.portals[op->portal], aims[op->kind],
                       op_dialled, op);
}

static void op_start(void *arg)
{
    struct iscsi_op *op = arg;

    op->started = true;
    if (op->cancelled) {
        op_free(op);
    } else if (iscsi_spec_check(&op->spec, op->kind == OP_DISCOVER, &op->error) != 0) {
        op_fail(op);
    } else {
        op_try(op);
    }
}

static struct iscsi_op *op_new(enum op_kind kind, struct loop *loop, const struct iscsi_spec *spec,
                               void *arg)
{
    struct iscsi_op *op = calloc(1, sizeof(*op));
    uint32_t timeout_ms = spec->open_timeout_ms != 0 ? spec->open_timeout_ms : DEFAULT_OPEN_MS;

    if (op == NULL) {
        return NULL;
    }
    CHECK(loop_is_current(loop));
    op->kind = kind;
    op->loop = loop;
    op->spec = *spec;
    if (op->spec.isid == 0 && kind == OP_OPEN) {
        op->spec.isid = random_unpredictable_u64() | 1; /* for the redials too */
    }
    op->arg = arg;
    iscsi_dialer_init(&op->dialer, loop);
    loop_timer_init(&op->deadline, loop, op_deadline, op);
    op->start.fn = op_start;
    op->start.arg = op;
    loop_timer_start(&op->deadline, timeout_ms * MS_NS);
    loop_defer(loop, &op->start);
    return op;
}

struct iscsi_op *iscsi_dev_open(struct loop *loop, const struct iscsi_spec *spec, iscsi_open_fn fn,
                                void *arg)
{
    struct iscsi_op *op = op_new(OP_OPEN, loop, spec, arg);

    if (op != NULL) {
        op->fn.open = fn;
    }
    return op;
}

struct iscsi_op *iscsi_probe_start(struct loop *loop, const struct iscsi_spec *spec,
                                   iscsi_probe_fn fn, void *arg)
{
    struct iscsi_op *op = op_new(OP_PROBE, loop, spec, arg);

    if (op != NULL) {
        op->fn.probe = fn;
    }
    return op;
}

struct iscsi_op *iscsi_discover_start(struct loop *loop, const struct iscsi_spec *spec,
                                      iscsi_discover_fn fn, void *arg)
{
    struct iscsi_op *op = op_new(OP_DISCOVER, loop, spec, arg);

    if (op != NULL) {
        op->fn.discover = fn;
    }
    return op;
}

struct iscsi_op *iscsi_report_luns_start(struct loop *loop, const struct iscsi_spec *spec,
                                         iscsi_report_luns_fn fn, void *arg)
{
    struct iscsi_op *op = op_new(OP_REPORT_LUNS, loop, spec, arg);

    if (op != NULL) {
        op->fn.report_luns = fn;
        op->spec.lun = 0;
    }
    return op;
}

void iscsi_op_cancel(struct iscsi_op *op)
{
    CHECK(loop_is_current(op->loop) && !op->cancelled);
    if (op->started) {
        op_free(op);
    } else {
        op->cancelled = true;
        loop_timer_stop(&op->deadline);
    }
}
