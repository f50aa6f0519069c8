// SPDX-License-Identifier: Apache-2.0
#include "target/access.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

bool access_name_is_valid(const char *name)
{
    size_t len = strlen(name);
    if (len < 5 || len > TARGET_MAX_NAME ||
        (strncmp(name, "iqn.", 4) != 0 && strncmp(name, "eui.", 4) != 0 &&
         strncmp(name, "naa.", 4) != 0)) {
        return false;
    }
    for (const unsigned char *c = (const unsigned char *)name; *c; c++) {
        /* Beyond ASCII: UTF-8 of internationalised names, taken as it is. */
        if (*c < 0x80 && !isalnum(*c) && *c != '-' && *c != '.' && *c != ':') {
            return false;
        }
    }
    return true;
}

static int row_check(const struct target_initiator *row, struct error *error)
{
    if (row->name && !access_name_is_valid(row->name)) {
        return error_param(error, ERR_INVALID_PARAMETER, "initiators",
                           "%.80s is not the name of an iSCSI node", row->name);
    }
    if (!row->chap_user != !row->chap_secret || !row->mutual_user != !row->mutual_secret ||
        (row->mutual_user && !row->chap_user)) {
        return error_param(error, ERR_INVALID_PARAMETER, "initiators",
                           "CHAP takes user and secret together, mutual CHAP one-way CHAP too");
    }
    const char *texts[] = {row->chap_user, row->chap_secret, row->mutual_user, row->mutual_secret};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (texts[i] && (strlen(texts[i]) == 0 || strlen(texts[i]) > TARGET_MAX_SECRET)) {
            return error_param(error, ERR_INVALID_PARAMETER, "initiators",
                               "users and secrets of CHAP have 1 to 255 bytes");
        }
    }
    if (row->mutual_secret && strcmp(row->mutual_secret, row->chap_secret) == 0) {
        /* RFC 7143, 9.2.1: else one side's answers could be played back to it. */
        return error_param(error, ERR_INVALID_PARAMETER, "initiators",
                           "the secrets of the two directions must differ");
    }
    return 0;
}

static bool copy_text(const char **text)
{
    if (*text) {
        *text = strdup(*text);
        return *text != NULL;
    }
    return true;
}

int access_new(const struct target_access *spec, struct access **ret_access, struct error *error)
{
    for (size_t i = 0; i < spec->n_initiators; i++) {
        int err = row_check(&spec->initiators[i], error);
        if (err) {
            return err;
        }
    }
    struct access *access =
        calloc(1, sizeof(*access) + spec->n_initiators * sizeof(access->initiators[0]));
    if (!access) {
        return error_set(error, ERR_NO_MEMORY, "no memory for a list of initiators");
    }
    atomic_init(&access->refs, 1);
    for (size_t i = 0; i < spec->n_initiators; i++) {
        struct target_initiator row = spec->initiators[i];
        bool ok = copy_text(&row.name);
        ok &= copy_text(&row.chap_user);
        ok &= copy_text(&row.chap_secret);
        ok &= copy_text(&row.mutual_user);
        ok &= copy_text(&row.mutual_secret);
        access->initiators[access->n_initiators++] = row;
        if (!ok) {
            access_unref(access);
            return error_set(error, ERR_NO_MEMORY, "no memory for a list of initiators");
        }
    }
    *ret_access = access;
    return 0;
}

struct access *access_ref(struct access *access)
{
    atomic_fetch_add_explicit(&access->refs, 1, memory_order_relaxed);
    return access;
}

static void free_secret(const char *text)
{
    if (text) {
        explicit_bzero((char *)text, strlen(text));
        free((char *)text);
    }
}

void access_unref(struct access *access)
{
    if (!access || atomic_fetch_sub_explicit(&access->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    for (size_t i = 0; i < access->n_initiators; i++) {
        free((char *)access->initiators[i].name);
        free((char *)access->initiators[i].chap_user);
        free_secret(access->initiators[i].chap_secret);
        free((char *)access->initiators[i].mutual_user);
        free_secret(access->initiators[i].mutual_secret);
    }
    free(access);
}

const struct target_initiator *access_find(const struct access *access, const char *initiator)
{
    for (size_t i = 0; i < access->n_initiators; i++) {
        const struct target_initiator *row = &access->initiators[i];
        if (!row->name || strcasecmp(row->name, initiator) == 0) {
            return row;
        }
    }
    return NULL;
}
