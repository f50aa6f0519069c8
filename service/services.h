// SPDX-License-Identifier: Apache-2.0
/*
 * The services and the objects' own methods, as tables.
 *
 * Thread:    constant.
 * Ownership: constant.
 * Errors:    none.
 */
#ifndef SERVICE_SERVICES_H
#define SERVICE_SERVICES_H

#include "service/method.h"

extern const struct service storage_configuration_service;
extern const struct service controller_configuration_service;
extern const struct service replication_service;
extern const struct service replication_service_capabilities;
/* Methods of single objects; DELETE calls "DeleteInstance". */
extern const struct service job_methods;
extern const struct service volume_methods;
extern const struct service access_point_methods;
extern const struct service setting_methods;
extern const struct service pipe_methods;

#endif
