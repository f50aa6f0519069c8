// SPDX-License-Identifier: Apache-2.0
/*
 * MODE SENSE and MODE SELECT. A page is built from the unit's state; what may change is in its mask,
 * and selecting is building the page anew and comparing outside the mask.
 */
#include <string.h>

#include "base/check.h"
#include "target/scsi/scsi.h"

enum { PAGE_MAX = 32, MODE_WP = 0x80, MODE_DPOFUA = 0x10, BLOCK_DESCRIPTOR = 8 };

struct mode_page {
    uint8_t code;
    size_t len; /* all of it */
    void (*build)(const struct scsi_lun *lun, bool preset, uint8_t *page);
    uint8_t mask[PAGE_MAX];
    void (*apply)(struct scsi_lun *lun, const uint8_t *page);
};

static void build_recovery(const struct scsi_lun *lun, bool preset, uint8_t *page)
{
    (void)lun;
    (void)preset;
    page[2] = 0x80; /* AWRE: bad places are the device's affair */
}

static void build_caching(const struct scsi_lun *lun, bool preset, uint8_t *page)
{
    page[2] = (preset ? !lun->id.writeback_off : lun->wce) ? 0x04 : 0;
}

static void apply_caching(struct scsi_lun *lun, const uint8_t *page)
{
    lun->wce = page[2] & 0x04;
}

static void build_control(const struct scsi_lun *lun, bool preset, uint8_t *page)
{
    page[2] = !preset && lun->d_sense ? 0x04 : 0;
    page[3] = 0x10; /* unrestricted reordering */
    page[4] = !preset && lun->swp ? 0x08 : 0;
    page[8] = 0xff; /* busy timeout: none */
    page[9] = 0xff;
}

static void apply_control(struct scsi_lun *lun, const uint8_t *page)
{
    lun->d_sense = page[2] & 0x04;
    lun->swp = page[4] & 0x08;
}

static void build_exceptions(const struct scsi_lun *lun, bool preset, uint8_t *page)
{
    (void)lun;
    (void)preset;
    page[2] = 0x08; /* DEXCPT: none are reported */
}

static const struct mode_page pages[] = {
    {0x01, 12, build_recovery, {0}, NULL},
    {0x08, 20, build_caching, {[2] = 0x04}, apply_caching},
    {0x0a, 12, build_control, {[2] = 0x04, [4] = 0x08}, apply_control},
    {0x1c, 12, build_exceptions, {0}, NULL},
};

static void page_bytes(const struct mode_page *page, const struct scsi_lun *lun, unsigned control,
                       uint8_t out[PAGE_MAX])
{
    memset(out, 0, PAGE_MAX);
    if (control == 1) {
        memcpy(out, page->mask, page->len);
    } else {
        page->build(lun, control == 2, out);
    }
    out[0] = page->code;
    out[1] = (uint8_t)(page->len - 2);
}

static size_t put_block_descriptor(const struct scsi_lun *lun, uint8_t *at)
{
    memset(at, 0, BLOCK_DESCRIPTOR);
    put_be32(at, lun->n_blocks > 0xffffffff ? 0xffffffff : (uint32_t)lun->n_blocks);
    put_be24(at + 5, lun->block_bytes);
    return BLOCK_DESCRIPTOR;
}

void scsi_mode_sense(struct scsi_cmd *cmd)
{
    const struct scsi_lun *lun = cmd->lun;
    bool six = cmd->cdb[0] == 0x1a;
    unsigned control = cmd->cdb[2] >> 6;
    uint8_t code = cmd->cdb[2] & 0x3f;
    uint8_t sub = cmd->cdb[3];
    size_t alloc = six ? cmd->cdb[4] : get_be16(cmd->cdb + 7);
    if (control == 3) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_SAVING_UNSUPPORTED);
        return;
    }
    uint8_t d[256] = {0};
    size_t head = six ? 4 : 8;
    size_t len = head;
    size_t descriptor = 0;
    if (!(cmd->cdb[1] & 0x08)) { /* DBD */
        descriptor = put_block_descriptor(lun, d + len);
        len += descriptor;
    }
    bool found = false;
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        bool all = code == 0x3f && (sub == 0x00 || sub == 0xff);
        if (all || (pages[i].code == code && sub == 0)) {
            uint8_t page[PAGE_MAX];
            page_bytes(&pages[i], lun, control, page);
            memcpy(d + len, page, pages[i].len);
            len += pages[i].len;
            found = true;
        }
    }
    if (!found) {
        scsi_fail_field(cmd, 2, 5);
        return;
    }
    uint8_t specific = (uint8_t)(MODE_DPOFUA | (scsi_lun_write_protected(lun) ? MODE_WP : 0));
    if (six) {
        d[0] = (uint8_t)(len - 1);
        d[2] = specific;
        d[3] = (uint8_t)descriptor;
    } else {
        put_be16(d, (uint32_t)len - 2);
        d[3] = specific;
        put_be16(d + 6, (uint32_t)descriptor);
    }
    scsi_reply(cmd, d, len, alloc);
}

void scsi_mode_select_parse(struct scsi_cmd *cmd)
{
    cmd->out_len = cmd->cdb[0] == 0x15 ? cmd->cdb[4] : get_be16(cmd->cdb + 7);
    if (!(cmd->cdb[1] & 0x10)) { /* PF: vendor-specific pages are not known here */
        scsi_fail_field(cmd, 1, 4);
        return;
    }
    if (cmd->cdb[1] & 0x01) { /* SP */
        scsi_fail_field(cmd, 1, 0);
    }
}

/* The page in the parameters, checked; false: ended. */
static const struct mode_page *check_page(struct scsi_cmd *cmd, const uint8_t *p, size_t at,
                                          size_t len)
{
    if (len - at < 2) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return NULL;
    }
    const struct mode_page *page = NULL;
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        if (pages[i].code == (p[at] & 0x7f)) {
            page = &pages[i];
        }
    }
    if (!page) {
        scsi_fail_parameter(cmd, (unsigned)at);
        return NULL;
    }
    if (p[at + 1] != page->len - 2) {
        scsi_fail_parameter(cmd, (unsigned)at + 1);
        return NULL;
    }
    if (len - at < page->len) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return NULL;
    }
    uint8_t now[PAGE_MAX];
    page_bytes(page, cmd->lun, 0, now);
    for (size_t i = 2; i < page->len; i++) {
        if ((p[at + i] ^ now[i]) & ~page->mask[i]) {
            scsi_fail_parameter(cmd, (unsigned)(at + i));
            return NULL;
        }
    }
    return page;
}

void scsi_mode_select(struct scsi_cmd *cmd)
{
    struct scsi_lun *lun = cmd->lun;
    bool six = cmd->cdb[0] == 0x15;
    size_t len = cmd->out_len;
    if (len == 0) {
        scsi_good(cmd);
        return;
    }
    const uint8_t *p = scsi_parameters(cmd);
    if (!p) {
        return;
    }
    size_t head = six ? 4 : 8;
    if (len < head) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return;
    }
    size_t descriptor = six ? p[3] : get_be16(p + 6);
    if (descriptor != 0 && descriptor != BLOCK_DESCRIPTOR) {
        scsi_fail_parameter(cmd, six ? 3 : 6);
        return;
    }
    if (len < head + descriptor) {
        scsi_fail(cmd, SCSI_ILLEGAL_REQUEST, ASC_PARAMETER_LIST_LENGTH);
        return;
    }
    if (descriptor && get_be24(p + head + 5) != lun->block_bytes) {
        scsi_fail_parameter(cmd, (unsigned)head + 5);
        return;
    }
    /* First all is looked at, then all is done. */
    for (size_t at = head + descriptor; at < len;) {
        const struct mode_page *page = check_page(cmd, p, at, len);
        if (!page) {
            return;
        }
        at += page->len;
    }
    bool changed = false;
    for (size_t at = head + descriptor; at < len;) {
        for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
            if (pages[i].code == (p[at] & 0x7f)) {
                uint8_t now[PAGE_MAX];
                page_bytes(&pages[i], lun, 0, now);
                if (pages[i].apply && memcmp(now + 2, p + at + 2, pages[i].len - 2) != 0) {
                    pages[i].apply(lun, p + at);
                    changed = true;
                }
                at += pages[i].len;
                break;
            }
        }
    }
    if (changed) {
        scsi_attend(lun, cmd->nexus, UA_MODE_CHANGED);
    }
    scsi_good(cmd);
}
