// SPDX-License-Identifier: Apache-2.0
/*
 * Reservations: the old kind, which belongs to a session, and persistent ones, which belong to an
 * initiator port (SPC-4, 5.13).
 *
 * Kept bytes (APTPL), all numbers big-endian:
 *
 *     0  "SMPR"   4  version 1   5  type   6  holder's index (0xffff none)   8  generation
 *     12 number of registrations, then for each: key (8), length of name (2), name
 *     end: CRC32C of all before (4)
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/strbuf.h"
#include "target/scsi/scsi.h"

enum {
    PR_WRITE_EXCLUSIVE = 1,
    PR_EXCLUSIVE = 3,
    PR_WRITE_EXCLUSIVE_RO = 5,
    PR_EXCLUSIVE_RO = 6,
    PR_WRITE_EXCLUSIVE_AR = 7,
    PR_EXCLUSIVE_AR = 8,
    PR_PARAMETERS = 24,
    PR_MAX_REGISTRATIONS = 256,
};

enum {
    OUT_REGISTER,
    OUT_RESERVE,
    OUT_RELEASE,
    OUT_CLEAR,
    OUT_PREEMPT,
    OUT_PREEMPT_ABORT,
    OUT_REGISTER_IGNORE,
};

static bool type_is_valid(unsigned type)
{
    return type == 1 || type == 3 || (type >= 5 && type <= 8);
}

static bool is_exclusive(unsigned type)
{
    return type == PR_EXCLUSIVE || type == PR_EXCLUSIVE_RO || type == PR_EXCLUSIVE_AR;
}

static bool for_registrants(unsigned type)
{
    return type >= PR_WRITE_EXCLUSIVE_RO;
}

static bool all_registrants(unsigned type)
{
    return type >= PR_WRITE_EXCLUSIVE_AR;
}

static struct scsi_registration *find(const struct scsi_lun *lun, const char *port)
{
    list_for_each(link, &lun->pr.registrations)
    {
        struct scsi_registration *r = list_entry(link, struct scsi_registration, link);
        if (strcasecmp(r->port, port) == 0) {
            return r;
        }
    }
    return NULL;
}

static bool holds(const struct scsi_reservation *pr, const struct scsi_registration *r)
{
    return pr->type && r && (all_registrants(pr->type) || pr->holder == r);
}

static void attend_port(struct scsi_lun *lun, const char *port, enum scsi_attention ua)
{
    list_for_each(link, &lun->target->nexuses)
    {
        struct scsi_nexus *nexus = list_entry(link, struct scsi_nexus, link);
        if (strcasecmp(nexus->port, port) == 0) {
            scsi_attend_one(nexus, lun->number, ua);
        }
    }
}

static void attend_registrants(struct scsi_lun *lun, const struct scsi_registration *except,
                               enum scsi_attention ua)
{
    list_for_each(link, &lun->pr.registrations)
    {
        struct scsi_registration *r = list_entry(link, struct scsi_registration, link);
        if (r != except) {
            attend_port(lun, r->port, ua);
        }
    }
}

/* ---- who is kept out ---- */

bool scsi_reserve_allows(const struct scsi_lun *lun, const struct scsi_nexus *nexus, bool write)
{
    const struct scsi_reservation *pr = &lun->pr;
    if (lun->reserved_by && lun->reserved_by != nexus) {
        return false;
    }
    if (pr->type == 0 || (!write && !is_exclusive(pr->type))) {
        return true;
    }
    const struct scsi_registration *r = find(lun, nexus->port);
    return r && (for_registrants(pr->type) || pr->holder == r);
}

bool scsi_reserved_against(const struct scsi_cmd *cmd)
{
    const struct scsi_lun *lun = cmd->lun;
    const struct scsi_reservation *pr = &lun->pr;
    bool foreign = lun->reserved_by && lun->reserved_by != cmd->nexus;
    if (!foreign && pr->type == 0 && pr->n_registrations == 0) {
        return false;
    }
    switch (cmd->op->class) {
    case SCSI_CLASS_ALWAYS:
        /* Old reservations keep all out but the questions that need no unit (SPC-2, 5.5.1). */
        return foreign && !(cmd->op->flags & OP_NO_ATTENTION);
    case SCSI_CLASS_READ:
        return !scsi_reserve_allows(lun, cmd->nexus, false);
    case SCSI_CLASS_WRITE:
        return !scsi_reserve_allows(lun, cmd->nexus, true);
    case SCSI_CLASS_RELEASE6:
        return pr->n_registrations > 0;
    case SCSI_CLASS_PR:
        return lun->reserved_by != NULL;
    }
    return false;
}

/* ---- RESERVE, RELEASE ---- */

void scsi_reserve6(struct scsi_cmd *cmd)
{
    struct scsi_lun *lun = cmd->lun;
    if (lun->reserved_by && lun->reserved_by != cmd->nexus) {
        scsi_end(cmd, SCSI_RESERVATION_CONFLICT);
        return;
    }
    lun->reserved_by = cmd->nexus;
    scsi_good(cmd);
}

void scsi_release6(struct scsi_cmd *cmd)
{
    if (cmd->lun->reserved_by == cmd->nexus) {
        cmd->lun->reserved_by = NULL;
    }
    scsi_good(cmd);
}

void scsi_reserve_nexus_gone(struct scsi_nexus *nexus)
{
    for (unsigned i = 0; i < TARGET_MAX_LUNS; i++) {
        struct scsi_lun *lun = nexus->target->luns[i];
        if (lun && lun->reserved_by == nexus) {
            lun->reserved_by = NULL;
        }
    }
}

/* ---- keeping ---- */

static void put_number(struct strbuf *out, uint64_t value, unsigned len)
{
    uint8_t bytes[8];
    put_be64(bytes, value);
    strbuf_add(out, bytes + 8 - len, len);
}

static void pr_encode(const struct scsi_reservation *pr, struct strbuf *out)
{
    unsigned holder = 0xffff;
    unsigned i = 0;
    list_for_each(link, &pr->registrations)
    {
        if (list_entry(link, struct scsi_registration, link) == pr->holder) {
            holder = i;
        }
        i++;
    }
    strbuf_add(out, "SMPR\001", 5);
    put_number(out, pr->type, 1);
    put_number(out, holder, 2);
    put_number(out, pr->generation, 4);
    put_number(out, pr->n_registrations, 4);
    list_for_each(link, &pr->registrations)
    {
        const struct scsi_registration *r = list_entry(link, struct scsi_registration, link);
        put_number(out, r->key, 8);
        put_number(out, strlen(r->port), 2);
        strbuf_add(out, r->port, strlen(r->port));
    }
    put_number(out, crc32c(0, out->data, out->len), 4);
}

static struct scsi_registration *add(struct scsi_lun *lun, const char *port, size_t len,
                                     uint64_t key)
{
    struct scsi_registration *r = calloc(1, sizeof(*r));
    if (!r || len >= sizeof(r->port)) {
        free(r);
        return NULL;
    }
    memcpy(r->port, port, len);
    r->key = key;
    list_push_back(&lun->pr.registrations, &r->link);
    lun->pr.n_registrations++;
    return r;
}

static void remove_one(struct scsi_lun *lun, struct scsi_registration *r)
{
    if (lun->pr.holder == r) {
        lun->pr.holder = NULL;
        lun->pr.type = 0;
    }
    list_remove(&r->link);
    lun->pr.n_registrations--;
    free(r);
    if (lun->pr.n_registrations == 0) {
        lun->pr.type = 0;
    }
}

void scsi_pr_clear(struct scsi_lun *lun)
{
    struct list *link;
    while ((link = list_first(&lun->pr.registrations))) {
        remove_one(lun, list_entry(link, struct scsi_registration, link));
    }
}

int scsi_pr_load(struct scsi_lun *lun, const void *data, size_t len)
{
    const uint8_t *p = data;
    if (len < 20 || memcmp(p, "SMPR\001", 5) != 0 ||
        get_be32(p + len - 4) != crc32c(0, p, len - 4)) {
        return -EINVAL;
    }
    uint8_t type = p[5];
    uint32_t holder = get_be16(p + 6);
    uint32_t count = get_be32(p + 12);
    size_t at = 16;
    size_t end = len - 4;
    if ((type && !type_is_valid(type)) || count > PR_MAX_REGISTRATIONS) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < count; i++) {
        size_t name = end - at >= 10 ? get_be16(p + at + 8) : SIZE_MAX;
        if (name > end - at - 10) {
            scsi_pr_clear(lun);
            return -EINVAL;
        }
        struct scsi_registration *r = add(lun, (const char *)p + at + 10, name, get_be64(p + at));
        if (!r) {
            scsi_pr_clear(lun);
            return -ENOMEM;
        }
        if (i == holder) {
            lun->pr.holder = r;
        }
        at += 10 + name;
    }
    lun->pr.type = lun->pr.holder || (all_registrants(type) && count > 0) ? type : 0;
    lun->pr.generation = get_be32(p + 8);
    lun->pr.aptpl = true;
    lun->pr.saved = true;
    return 0;
}

static void saved(void *arg, int status)
{
    struct scsi_cmd *cmd = arg;
    if (status) {
        scsi_fail(cmd, SCSI_HARDWARE_ERROR, ASC_INTERNAL_FAILURE);
    } else {
        scsi_good(cmd);
    }
}

/* The command ends when what it changed is as durable as it has to be. */
static void end_changed(struct scsi_cmd *cmd)
{
    struct scsi_lun *lun = cmd->lun;
    struct scsi_reservation *pr = &lun->pr;
    if (!lun->target->save || (!pr->aptpl && !pr->saved)) {
        scsi_good(cmd);
        return;
    }
    struct strbuf bytes = STRBUF_INIT;
    if (pr->aptpl && pr->n_registrations > 0) {
        pr_encode(pr, &bytes);
    }
    pr->saved = bytes.len > 0;
    if (strbuf_error(&bytes)) {
        strbuf_fini(&bytes);
        scsi_fail(cmd, SCSI_HARDWARE_ERROR, ASC_INTERNAL_FAILURE);
        return;
    }
    lun->target->save(lun->target, lun, strbuf_str(&bytes), bytes.len, saved, cmd);
    strbuf_fini(&bytes);
}

/* ---- PERSISTENT RESERVE IN ---- */

static void reply_buffer(struct scsi_cmd *cmd, struct strbuf *out)
{
    if (strbuf_error(out)) {
        strbuf_fini(out);
        scsi_end(cmd, SCSI_BUSY);
        return;
    }
    size_t alloc = get_be16(cmd->cdb + 7);
    scsi_reply(cmd, strbuf_str(out), out->len, alloc);
    strbuf_fini(out);
}

static void read_full_status(const struct scsi_reservation *pr, struct strbuf *out)
{
    list_for_each(link, &pr->registrations)
    {
        const struct scsi_registration *r = list_entry(link, struct scsi_registration, link);
        uint8_t d[24] = {0};
        size_t name = strlen(r->port) + 1;
        size_t padded = (name + 3) & ~(size_t)3;
        padded = padded < 20 ? 20 : padded;
        put_be64(d, r->key);
        if (holds(pr, r)) {
            d[12] = 0x01;
            d[13] = pr->type;
        }
        put_be16(d + 18, 1); /* relative target port */
        put_be32(d + 20, (uint32_t)(4 + padded));
        strbuf_add(out, d, sizeof(d));
        uint8_t id[4] = {0x45}; /* iSCSI, name and ISID */
        put_be16(id + 2, (uint32_t)padded);
        strbuf_add(out, id, sizeof(id));
        strbuf_add(out, r->port, name);
        for (size_t i = name; i < padded; i++) {
            strbuf_putc(out, '\0');
        }
    }
}

void scsi_pr_in(struct scsi_cmd *cmd)
{
    const struct scsi_reservation *pr = &cmd->lun->pr;
    struct strbuf out = STRBUF_INIT;
    uint8_t d[24] = {0};
    switch (cmd->op->action) {
    case 0: /* READ KEYS */
        put_be32(d, pr->generation);
        put_be32(d + 4, 8 * pr->n_registrations);
        strbuf_add(&out, d, 8);
        list_for_each(link, &pr->registrations)
        {
            put_number(&out, list_entry(link, struct scsi_registration, link)->key, 8);
        }
        break;
    case 1: /* READ RESERVATION */
        put_be32(d, pr->generation);
        if (pr->type) {
            put_be32(d + 4, 16);
            put_be64(d + 8, pr->holder ? pr->holder->key : 0);
            d[21] = pr->type;
        }
        strbuf_add(&out, d, pr->type ? 24 : 8);
        break;
    case 2: /* REPORT CAPABILITIES */
        put_be16(d, 8);
        d[2] = (uint8_t)(0x04 | (cmd->target->save ? 0x01 : 0)); /* ATP_C, PTPL_C */
        d[3] = (uint8_t)(0x80 | (pr->aptpl ? 0x01 : 0));         /* TMV, PTPL_A */
        d[4] = 0xea;
        d[5] = 0x01;
        strbuf_add(&out, d, 8);
        break;
    default: /* READ FULL STATUS */
        put_be32(d, pr->generation);
        strbuf_add(&out, d, 8);
        read_full_status(pr, &out);
        if (!strbuf_error(&out)) {
            put_be32((uint8_t *)out.data + 4, (uint32_t)out.len - 8);
        }
        break;
    }
    reply_buffer(cmd, &out);
}

/* ---- PERSISTENT RESERVE OUT ---- */

void scsi_pr_out_parse(struct scsi_cmd *cmd)
{
    uint32_t len = get_be32(cmd->cdb + 5);
    unsigned action = cmd->op->action;
    if (len != PR_PARAMETERS) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return;
    }
    if (action == OUT_RESERVE || action == OUT_RELEASE || action == OUT_PREEMPT ||
        action == OUT_PREEMPT_ABORT) {
        if (cmd->cdb[2] >> 4) { /* scope: the unit */
            scsi_fail_field(cmd, 2, 7);
            return;
        }
        if (!type_is_valid(cmd->cdb[2] & 0x0f)) {
            scsi_fail_field(cmd, 2, 3);
            return;
        }
    }
    cmd->out_len = len;
}

static void release_now(struct scsi_lun *lun, const struct scsi_registration *by)
{
    uint8_t type = lun->pr.type;
    lun->pr.type = 0;
    lun->pr.holder = NULL;
    if (for_registrants(type)) {
        attend_registrants(lun, by, UA_RESERVATIONS_RELEASED);
    }
}

static void pr_register(struct scsi_cmd *cmd, struct scsi_registration *mine, uint64_t key,
                        uint64_t new_key, bool ignore, bool aptpl)
{
    struct scsi_lun *lun = cmd->lun;
    struct scsi_reservation *pr = &lun->pr;
    if (!ignore && (mine ? mine->key : 0) != key) {
        scsi_end(cmd, SCSI_RESERVATION_CONFLICT);
        return;
    }
    if (new_key == 0) {
        if (mine) {
            if (pr->holder == mine || (all_registrants(pr->type) && pr->n_registrations == 1)) {
                release_now(lun, mine);
            }
            remove_one(lun, mine);
        }
    } else if (mine) {
        mine->key = new_key;
    } else {
        if (pr->n_registrations >= PR_MAX_REGISTRATIONS ||
            !add(lun, cmd->nexus->port, strlen(cmd->nexus->port), new_key)) {
            scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_REGISTRATION_RESOURCES);
            return;
        }
    }
    pr->generation++;
    pr->aptpl = aptpl;
    end_changed(cmd);
}

static void pr_reserve(struct scsi_cmd *cmd, struct scsi_registration *mine, uint8_t type)
{
    struct scsi_reservation *pr = &cmd->lun->pr;
    if (pr->type) {
        scsi_end(cmd, holds(pr, mine) && pr->type == type ? SCSI_GOOD : SCSI_RESERVATION_CONFLICT);
        return;
    }
    pr->type = type;
    pr->holder = all_registrants(type) ? NULL : mine;
    end_changed(cmd);
}

static void pr_release(struct scsi_cmd *cmd, struct scsi_registration *mine, uint8_t type)
{
    struct scsi_reservation *pr = &cmd->lun->pr;
    if (!holds(pr, mine)) {
        scsi_good(cmd);
        return;
    }
    if (pr->type != type) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_INVALID_RELEASE);
        return;
    }
    release_now(cmd->lun, mine);
    end_changed(cmd);
}

static void pr_clear(struct scsi_cmd *cmd, struct scsi_registration *mine)
{
    struct scsi_lun *lun = cmd->lun;
    attend_registrants(lun, mine, UA_RESERVATIONS_PREEMPTED);
    lun->pr.type = 0;
    lun->pr.holder = NULL;
    scsi_pr_clear(lun);
    lun->pr.generation++;
    end_changed(cmd);
}

static void abort_port(struct scsi_cmd *cmd, const char *port)
{
    struct scsi_lun *lun = cmd->lun;
    list_for_each(link, &lun->target->nexuses)
    {
        struct scsi_nexus *nexus = list_entry(link, struct scsi_nexus, link);
        if (strcasecmp(nexus->port, port) == 0) {
            lun->target->abort_others(lun->target, lun, nexus, cmd);
        }
    }
}

static void pr_preempt(struct scsi_cmd *cmd, struct scsi_registration *mine, uint64_t victim,
                       uint8_t type, bool abort)
{
    struct scsi_lun *lun = cmd->lun;
    struct scsi_reservation *pr = &lun->pr;
    bool everyone = all_registrants(pr->type) && victim == 0;
    bool takes_over = everyone || (pr->holder && pr->holder->key == victim);
    if (victim == 0 && !everyone) {
        scsi_fail_parameter(cmd, 8);
        return;
    }
    uint8_t old_type = pr->type;
    bool found = false;
    list_for_each_safe(link, next, &pr->registrations)
    {
        struct scsi_registration *r = list_entry(link, struct scsi_registration, link);
        if (!everyone && r->key != victim) {
            continue;
        }
        found = true;
        if (r == mine) {
            continue;
        }
        attend_port(lun, r->port, UA_REGISTRATIONS_PREEMPTED);
        if (abort) {
            abort_port(cmd, r->port);
        }
        remove_one(lun, r);
    }
    if (!found && !takes_over) {
        scsi_end(cmd, SCSI_RESERVATION_CONFLICT);
        return;
    }
    if (takes_over) {
        pr->type = type;
        pr->holder = all_registrants(type) ? NULL : mine;
        if (old_type != type) {
            attend_registrants(lun, mine, UA_RESERVATIONS_RELEASED);
        }
    }
    pr->generation++;
    end_changed(cmd);
}

void scsi_pr_out(struct scsi_cmd *cmd)
{
    struct scsi_lun *lun = cmd->lun;
    uint8_t p[PR_PARAMETERS];
    slices_read(&cmd->out, 0, p, sizeof(p));
    unsigned action = cmd->op->action;
    uint64_t key = get_be64(p);
    uint64_t action_key = get_be64(p + 8);
    uint8_t type = cmd->cdb[2] & 0x0f;
    bool registering = action == OUT_REGISTER || action == OUT_REGISTER_IGNORE;
    if (p[20] & 0x08) { /* SPEC_I_PT */
        scsi_fail_parameter(cmd, 20);
        return;
    }
    if (registering && (p[20] & 0x01) && !lun->target->save) { /* APTPL */
        scsi_fail_parameter(cmd, 20);
        return;
    }
    struct scsi_registration *mine = find(lun, cmd->nexus->port);
    if (!registering && (!mine || mine->key != key)) {
        scsi_end(cmd, SCSI_RESERVATION_CONFLICT);
        return;
    }
    switch (action) {
    case OUT_REGISTER:
    case OUT_REGISTER_IGNORE:
        pr_register(cmd, mine, key, action_key, action == OUT_REGISTER_IGNORE, p[20] & 0x01);
        break;
    case OUT_RESERVE:
        pr_reserve(cmd, mine, type);
        break;
    case OUT_RELEASE:
        pr_release(cmd, mine, type);
        break;
    case OUT_CLEAR:
        pr_clear(cmd, mine);
        break;
    default:
        pr_preempt(cmd, mine, action_key, type, action == OUT_PREEMPT_ABORT);
        break;
    }
}
