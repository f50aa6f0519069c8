// SPDX-License-Identifier: Apache-2.0
/* Nobody is served yet. */
#include "service/exports.h"

void exports_serve_volume(struct control *control, const struct volume_row *volume,
                          array_done_fn done, void *arg)
{
    (void)control;
    (void)volume;
    done(arg, NULL);
}

void exports_withdraw_volume(struct control *control, const char *volume_id, array_done_fn done,
                             void *arg)
{
    (void)control;
    (void)volume_id;
    done(arg, NULL);
}

void exports_notify_volume(struct control *control, const char *volume_id,
                           enum target_lun_event event)
{
    (void)control;
    (void)volume_id;
    (void)event;
}

int exports_volume_in_use(struct call *call, const char *volume_id)
{
    (void)call;
    (void)volume_id;
    return 0;
}

int exports_volume_deleted(struct call *call, const char *volume_id)
{
    (void)call;
    (void)volume_id;
    return 0;
}
