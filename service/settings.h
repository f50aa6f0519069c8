// SPDX-License-Identifier: Apache-2.0
/*
 * StorageSettings: what a Goal has asked of a volume, kept as an object of its own.
 *
 * Thread:    control, inside a call.
 * Ownership: rows are values.
 * Errors:    call->error, as handlers do.
 */
#ifndef SERVICE_SETTINGS_H
#define SERVICE_SETTINGS_H

#include "service/call.h"
#include "service/replica.h"
#include "store/volume.h"

/* The embedded StorageSetting of that parameter (absent: nothing happens) becomes the setting of the volume: its own one is changed, one that
 * it shares with others or has by reference is left alone and a new one made. Updates the volume's row. */
int setting_apply_goal(struct call *call, const char *parameter, const struct replica_terms *terms,
                       struct volume_row *volume);
/* The setting that the reference parameter names (absent: nothing happens) becomes that of the volume. */
int setting_apply_reference(struct call *call, const char *parameter, struct volume_row *volume);

#endif
