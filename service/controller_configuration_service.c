// SPDX-License-Identifier: Apache-2.0
/*
 * ControllerConfigurationService: its methods as tables, in the order of their signatures.
 */
#include "service/services.h"

#include "base/check.h"
#include "service/enums.h"
#include "service/handlers.h"
#include "service/param_macros.h"

static const struct param expose_paths[] = {
    P_OUT_JOB,
    P_STRINGS("LogicalUnits"),
    P_STRINGS("InitiatorPortIDs"),
    P_STRINGS("TargetPortIDs"),
    P_STRINGS("DeviceNumbers"),
    P_ENUMS("DeviceAccesses", device_access),
    P_INOUT_REFS("ProtocolControllers", "SCSIProtocolController"),
};

static const struct param hide_paths[] = {
    P_OUT_JOB,
    P_STRINGS("LogicalUnits"),
    P_STRINGS("InitiatorPortIDs"),
    P_STRINGS("TargetPortIDs"),
    P_INOUT_REFS("ProtocolControllers", "SCSIProtocolController"),
};

static const struct method methods[] = {
    METHOD("ExposePaths", expose_paths, method_expose_paths, returns_expose),
    METHOD("HidePaths", hide_paths, method_hide_paths, returns_hide),
    METHOD_NOT_SUPPORTED("CreateProtocolControllerWithPorts"),
    METHOD_NOT_SUPPORTED("DeleteProtocolController"),
    METHOD_NOT_SUPPORTED("AttachDevice"),
    METHOD_NOT_SUPPORTED("DetachDevice"),
    METHOD_NOT_SUPPORTED("ExposeDefaultLUs"),
    METHOD_NOT_SUPPORTED("HideDefaultLUs"),
    METHOD_NOT_SUPPORTED("RequestStateChange"),
    METHOD_NOT_SUPPORTED("StartService"),
    METHOD_NOT_SUPPORTED("StopService"),
};

const struct service controller_configuration_service = {
    .name = "ControllerConfigurationService",
    .class_name = "ControllerConfigurationService",
    .methods = methods,
    .n_methods = ARRAY_LEN(methods),
};
