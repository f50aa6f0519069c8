// SPDX-License-Identifier: Apache-2.0
#include "service/remote_alias.h"

#include <stdio.h>
#include <string.h>

static const char sync_words[] = "smirror /synchronizations/";
static const char lun_words[] = " LUN ";
static const char target_words[] = " is the target of /volumes/";
static const char source_words[] = " is the source of /volumes/";

void remote_alias_format(char alias[REMOTE_ALIAS_SIZE], const struct sync_row *sync,
                         const struct volume_row *volume)
{
    bool is_target = strcmp(sync->target_id, volume->head.id) == 0;

    snprintf(alias, REMOTE_ALIAS_SIZE, "%s%s%s%u%s%s", sync_words, sync->head.id, lun_words,
             (unsigned)volume->lun, is_target ? target_words : source_words,
             is_target ? sync->source_id : sync->target_id);
}

static bool take_words(const char **at, const char *words)
{
    size_t len = strlen(words);

    if (strncmp(*at, words, len) != 0) {
        return false;
    }
    *at += len;
    return true;
}

static bool take_id(const char **at, char id[ID_SIZE])
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t len = strspn(*at, allowed);

    if (len == 0 || len >= ID_SIZE) {
        return false;
    }
    memcpy(id, *at, len);
    id[len] = '\0';
    *at += len;
    return true;
}

static bool take_lun(const char **at, unsigned *ret_lun)
{
    size_t len = strspn(*at, "0123456789");
    unsigned lun = 0;

    if (len == 0 || len > 5) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        lun = lun * 10 + (unsigned)((*at)[i] - '0');
    }
    *ret_lun = lun;
    *at += len;
    return true;
}

bool remote_alias_parse(const char *alias, struct remote_alias *ret_remote)
{
    struct remote_alias remote = {.lun = 0};
    const char *at = alias;

    if (!take_words(&at, sync_words) || !take_id(&at, remote.sync_id) ||
        !take_words(&at, lun_words) || !take_lun(&at, &remote.lun)) {
        return false;
    }
    remote.is_target = take_words(&at, target_words);
    if (!remote.is_target && !take_words(&at, source_words)) {
        return false;
    }
    if (!take_id(&at, remote.other_id) || *at != '\0') {
        return false;
    }
    *ret_remote = remote;
    return true;
}
