// SPDX-License-Identifier: Apache-2.0
/*
 * Who is served what: the records of exports, and the targets that follow them.
 *
 * Thread:    control.
 * Ownership: rows are values.
 * Errors:    call->error in calls; struct error in callbacks.
 */
#ifndef SERVICE_EXPORTS_H
#define SERVICE_EXPORTS_H

#include "hosting/exports.h"
#include "service/call.h"
#include "store/volume.h"

/* The volume is open: its own target and every other export that has it, as the records say. */
void exports_serve_volume(struct control *control, const struct volume_row *volume,
                          array_done_fn done, void *arg);
/* Before it is closed: nobody has its device any more. */
void exports_withdraw_volume(struct control *control, const char *volume_id, array_done_fn done,
                             void *arg);
void exports_notify_volume(struct control *control, const char *volume_id,
                           enum target_lun_event event);

/* in_use when somebody is logged in. */
int exports_volume_in_use(struct call *call, const char *volume_id);
/* Its rows go. */
int exports_volume_deleted(struct call *call, const char *volume_id);

#endif
