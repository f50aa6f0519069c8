// SPDX-License-Identifier: Apache-2.0
/*
 * Remote volumes as records: their names, what uses them, and their end.
 *
 * Thread:    control, inside a call.
 * Ownership: rows are values.
 * Errors:    call->error, as handlers do.
 */
#ifndef SERVICE_VOLUMES_H
#define SERVICE_VOLUMES_H

#include "service/call.h"
#include "store/replica.h"
#include "store/volume.h"

/* The longest ElementName that clients may give, in bytes. */
enum { ELEMENT_NAME_MAX = 256 };

/* Copies a text that a client gave: invalid_parameter when it is empty or has no room. */
int text_take(struct call *call, const char *parameter, const char *text, char *ret_text,
              size_t size);

/* Copies a text of ours, cut where it has no room (not in the middle of a UTF-8 sequence). */
void text_cut(const char *text, char *ret_text, size_t size);

/* What no volume is called yet: base, or base-2, base-3, …; with numbered base-1, base-2, …. Cut
 * where it would be too long. */
int volume_unique_name(struct call *call, const char *base, bool numbered,
                       char ret_name[NAME_SIZE]);
/* The name that a volume gets when nobody gave one: "{end of the target name}-lun{number}". */
int volume_system_name(struct call *call, const char *iqn, uint64_t lun, char ret_name[NAME_SIZE]);
/* Is it called so now, perhaps with a number behind? */
bool volume_has_system_name(const struct volume_row *volume);

/* Made with a number that is registered for a vendor, so that no two LUNs of the world have it. Some targets (tgtd, for
 * one) count from a vendor number of zero. */
bool identity_is_worldwide(const char *identity);
/* Two records of one LUN, as far as can be told: the same identity, and that is worldwide, or of one system, or behind the same
 * target name and number. */
bool volume_same_lun(const struct volume_row *a, const struct volume_row *b);
/* The other records of the volume's LUN: calls fn for each; fn as table_row_fn. */
int volume_each_alias(struct db *db, const struct volume_row *volume, table_row_fn fn, void *arg);

/* A relationship in which the volume is source or target: -ENOENT when there is none. */
int volume_relationship(struct db *db, const char *volume_id, struct sync_row *ret_sync);

/* Ends all relationships of the volume in the call's transaction, and forgets other ends that were
 * registered with Persistent false. None may have a copy under way: then code (in_use, conflict),
 * blocked on its job. */
int volume_end_relationships(struct call *call, const char *volume_id, enum error_code code);
/* Before a hosted volume is deleted: one that is still filled has its copy stopped, unless it cannot be deleted anyway (code, or
 * in_use). CALL_PENDING: again is called when the copy has stopped. */
int volume_filling_stop(struct call *call, const char *volume_id, enum error_code code,
                        method_fn again);

/* To be called when a relationship of the volume has ended: one that was registered with Persistent
 * false is forgotten once nothing uses it, and with it a portal and a system that came with it. */
int volume_forget_if_unused(struct call *call, const char *volume_id);
/* The record goes; and with it a portal and a system that came with it and have nothing else. */
int volume_forget(struct call *call, const struct volume_row *volume);
/* At start: all volumes registered with Persistent false that nothing uses. */
int volumes_forget_unused(struct call *call);

#endif
