// SPDX-License-Identifier: Apache-2.0
/*
 * Methods of single objects: POST /jobs/{id}/…, DELETE /{collection}/{id} ("DeleteInstance").
 */
#include "base/check.h"
#include "service/classes.h"
#include "service/enums.h"
#include "service/handlers.h"
#include "service/param_macros.h"
#include "service/services.h"

#define DELETE_INSTANCE(h) {.name = "DeleteInstance", .handler = h, .return_values = &map_returns_k}

static const struct param job_request_state_change[] = {
    P_ENUM_R("RequestedState", job_requested_state),
    P_DATETIME("TimeoutPeriod"),
};
static const struct param job_get_errors[] = {
    P_OUT_INSTANCES("Errors", Error),
};
static const struct method job_method_table[] = {
    METHOD("RequestStateChange", job_request_state_change, method_job_request_state_change,
           returns_job_change),
    METHOD_READ("GetErrors", job_get_errors, method_job_get_errors, returns_get_errors),
    DELETE_INSTANCE(method_delete_job),
};
const struct service job_methods = {"jobs", "ConcreteJob", job_method_table,
                                    ARRAY_LEN(job_method_table)};

static const struct method volume_method_table[] = {DELETE_INSTANCE(method_delete_volume)};
const struct service volume_methods = {"volumes", "StorageVolume", volume_method_table,
                                       ARRAY_LEN(volume_method_table)};

static const struct method access_point_method_table[] = {
    DELETE_INSTANCE(method_delete_access_point)};
const struct service access_point_methods = {"accesspoints", "RemoteServiceAccessPoint",
                                             access_point_method_table,
                                             ARRAY_LEN(access_point_method_table)};

static const struct method setting_method_table[] = {DELETE_INSTANCE(method_delete_setting)};
const struct service setting_methods = {"settings", "StorageSetting", setting_method_table,
                                        ARRAY_LEN(setting_method_table)};

static const struct method pipe_method_table[] = {DELETE_INSTANCE(method_delete_pipe)};
const struct service pipe_methods = {"pipes", "NetworkPipe", pipe_method_table,
                                     ARRAY_LEN(pipe_method_table)};
