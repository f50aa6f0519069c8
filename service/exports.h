// SPDX-License-Identifier: Apache-2.0
/*
 * Exports: which of our volumes initiators see, behind which targets, as records and as they are.
 *
 * Thread:    control; exports_portal(), exports_advertised(), exports_sessions(), exports_remotes() and exports_numbers() any.
 * Ownership: rows are values.
 * Errors:    call->error, as handlers do; array_done_fn gets a struct error or NULL, later.
 *
 * A change of records is followed by an effect that reads them again and makes the target what they
 * say (export_apply()), so that several changes in a row end in the same. A volume can be a LUN from
 * exports_serve_volume() to exports_withdraw_volume(), whatever the records say.
 */
#ifndef SERVICE_EXPORTS_H
#define SERVICE_EXPORTS_H

#include "base/sockaddr.h"
#include "hosting/exports.h"
#include "service/call.h"
#include "service/remote_alias.h"
#include "store/export.h"
#include "store/volume.h"

#define EXPORTS_IQN_PREFIX "iqn.2026-11.io.smirror:"

struct control;
struct served;

/* After the array was made (hosted_new()). Binds the portal; *error says when that cannot be. */
int served_new(struct control *control, struct served **ret_served, struct error *error);
/* After hosted_start(): initiators may come. */
void served_begin(struct served *served);
/* Everybody is logged out; then the devices of the array are in nobody's hands. */
void served_stop(struct control *control, loop_fn done, void *arg);
void served_free(struct served *served);

/* ---- volumes of our own ---- */

/* The volume gets a target of its own, with itself as LUN 0, open to every initiator. */
int exports_volume_created(struct call *call, const struct volume_row *volume);
/* Its target is called as it is now. */
int exports_volume_renamed(struct call *call, const struct volume_row *volume);
/* It is no LUN any more; its own target goes. */
int exports_volume_deleted(struct call *call, const char *volume_id);
/* in_use, blocked on an export, when an initiator is logged in to a target that has the volume. */
int exports_volume_in_use(struct call *call, const char *volume_id);

/* The volume is open: done when it is a LUN wherever the records want it. */
void exports_serve_volume(struct control *control, const struct volume_row *volume,
                          array_done_fn done, void *arg);
/* Before it is closed: done when nobody has its device any more. */
void exports_withdraw_volume(struct control *control, const char *volume_id, array_done_fn done,
                             void *arg);
/* done (or NULL): its initiators hear of it with their next command. */
void exports_notify_volume(struct control *control, const char *volume_id,
                           enum target_lun_event event, array_done_fn done, void *arg);

/* ---- changes of exports ---- */

/* In a handler that has changed rows of the export: the target follows, and the answer waits. */
void export_changed(struct call *call, const char *export_id);

/* ---- for readers, any thread ---- */

/* Where the portal listens, "" when there is none. */
const char *exports_portal(struct control *control);
/* By which address clients reach it (service/advertise.h). */
const char *exports_advertised(struct control *control);
/* False: the portal can be reached by others than this host, and nobody has to say who he is. */
bool export_may_be_served(struct control *control, const struct export_row *row,
                          uint64_t n_initiators, bool chap);
void exports_sessions(struct control *control, const char *export_id, export_session_fn fn,
                      void *arg);
/* What other smirrords say of the volume as they log in to it (service/remote_alias.h), each relationship once, REMOTES_MAX of them at
 * most. fn may not call back. */
enum { REMOTES_MAX = 16 };
typedef void (*export_remote_fn)(void *arg, const struct target_session *session,
                                 const struct remote_alias *remote);
void exports_remotes(struct control *control, const char *volume_id, export_remote_fn fn,
                     void *arg);
/* False: there is no target. */
bool exports_numbers(struct control *control, struct exports_stats *ret_stats);

#endif
