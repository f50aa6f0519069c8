// SPDX-License-Identifier: Apache-2.0
/*
 * The embedded classes: which properties an instance inside a call may have.
 *
 * Thread:    constant.
 * Ownership: constant.
 * Errors:    none.
 */
#ifndef SERVICE_CLASSES_H
#define SERVICE_CLASSES_H

#include "service/method.h"

extern const struct class_info class_ReplicationSettingData;
extern const struct class_info class_StorageSetting;
extern const struct class_info class_StoragePoolSetting;
extern const struct class_info class_ReplicationPipeSetting;
extern const struct class_info class_ServiceAccessPoint;
extern const struct class_info class_SharedSecret;
extern const struct class_info class_ReplicationEntity;

/* Of answers only. */
extern const struct class_info class_Error;
extern const struct class_info class_DryRun; /* of ?dryRun */

#endif
