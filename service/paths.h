// SPDX-License-Identifier: Apache-2.0
/*
 * References: the paths of objects, and the rows they lead to.
 *
 * Thread:    control (path_volume() and the like use call->db); path_* that only look at text: any.
 * Ownership: plain values.
 * Errors:    no_such_object, wrong_class (rule C9), with the parameter named.
 */
#ifndef SERVICE_PATHS_H
#define SERVICE_PATHS_H

#include "service/call.h"
#include "store/export.h"
#include "store/group.h"
#include "store/pipe.h"
#include "store/replica.h"
#include "store/system.h"
#include "store/volume.h"

/* Splits "/volumes/3f2a". -EINVAL for anything else. */
int path_split(const char *path, char *ret_collection, size_t collection_size, char ret_id[ID_SIZE]);

/* parameter names it in the error, an entry of an array as "SourceElements[2]". */
int path_volume(struct call *call, const char *parameter, const char *path, struct volume_row *ret_row);
int path_pool(struct call *call, const char *parameter, const char *path, struct pool_row *ret_row);
int path_system(struct call *call, const char *parameter, const char *path, struct system_row *ret_row);
int path_access_point(struct call *call, const char *parameter, const char *path,
                      struct access_point_row *ret_row);
int path_synchronization(struct call *call, const char *parameter, const char *path,
                         struct sync_row *ret_row);
/* The path of one, in the arena. */
const char *path_of_sync(struct call *call, const struct sync_row *sync);
int path_group(struct call *call, const char *parameter, const char *path, struct group_row *ret_row);
int path_group_sync(struct call *call, const char *parameter, const char *path,
                    struct group_sync_row *ret_row);
/* Is it the path of a GroupSynchronized, not of a StorageSynchronized? */
bool path_is_group_sync(const char *path);
int path_export(struct call *call, const char *parameter, const char *path, struct export_row *ret_row);
int path_pipe(struct call *call, const char *parameter, const char *path, struct pipe_row *ret_row);
int path_endpoint(struct call *call, const char *parameter, const char *path,
                  struct endpoint_row *ret_row);
int path_setting(struct call *call, const char *parameter, const char *path, struct setting_row *ret_row);

#endif
