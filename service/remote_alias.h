// SPDX-License-Identifier: Apache-2.0
/*
 * How a session says which relationship it belongs to: our InitiatorAlias, and what another smirrord's tells.
 *
 * Thread:    any.
 * Ownership: plain values.
 * Errors:    remote_alias_parse() answers false for what no smirrord has written.
 *
 *     smirror /synchronizations/ID LUN 0 is the target of /volumes/ID
 *     smirror /synchronizations/ID LUN 0 is the source of /volumes/ID
 *
 * The paths are those of the system that has logged in; the LUN is the one of the target that it has logged in to. An alias is for people
 * (RFC 7143, 13.8): anybody who may log in may claim anything with it, so it is shown and decides nothing.
 */
#ifndef SERVICE_REMOTE_ALIAS_H
#define SERVICE_REMOTE_ALIAS_H

#include <stdbool.h>

#include "store/replica.h"
#include "store/volume.h"

enum { REMOTE_ALIAS_SIZE = 128 };

/* volume: the one of the two sides that the session goes to. */
void remote_alias_format(char alias[REMOTE_ALIAS_SIZE], const struct sync_row *sync,
                         const struct volume_row *volume);

struct remote_alias {
    char sync_id[ID_SIZE];
    unsigned lun;
    bool is_target;
    char other_id[ID_SIZE]; /* the volume at the other side of the relationship */
};
bool remote_alias_parse(const char *alias, struct remote_alias *ret_remote);

#endif
