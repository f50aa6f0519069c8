// SPDX-License-Identifier: Apache-2.0
/*
 * The methods' handlers, by the file that has them.
 *
 * Thread:    control.
 * Ownership: none.
 * Errors:    as struct method says.
 */
#ifndef SERVICE_HANDLERS_H
#define SERVICE_HANDLERS_H

#include "service/call.h"

/* replica_create.c */
int method_create_replica(struct call *call);
int method_create_element_replica(struct call *call);
int method_create_list_replica(struct call *call);
/* replica_attach.c */
int method_attach_replica(struct call *call);
int method_attach_or_modify_replica(struct call *call);
/* replica_modify.c */
int method_modify_replica_synchronization(struct call *call);
int method_modify_synchronization(struct call *call);
/* replica_query.c */
int method_get_replication_relationships(struct call *call);
int method_get_available_target_elements(struct call *call);
/* group_methods.c */
int method_create_group(struct call *call);
int method_delete_group(struct call *call);
int method_add_members(struct call *call);
int method_remove_members(struct call *call);
/* group_modify.c */
int method_modify_list_synchronization(struct call *call);
/* group_replica.c */
int method_create_group_replica(struct call *call);
int method_create_group_replica_from_elements(struct call *call);
int method_add_elements_to_group_synchronized(struct call *call);
int method_create_group_replica_from_synchronizations(struct call *call);
/* pools.c */
int method_create_or_modify_storage_pool(struct call *call);
int method_delete_storage_pool(struct call *call);
int method_return_to_storage_pool(struct call *call);
/* elements.c */
int method_create_or_modify_element_from_storage_pool(struct call *call);
/* exposing.c */
int method_expose_paths(struct call *call);
int method_hide_paths(struct call *call);
/* peers.c */
int method_get_peer_systems(struct call *call);
int method_get_service_access_points(struct call *call);
int method_add_service_access_point(struct call *call);
int method_add_shared_secret(struct call *call);
int method_delete_access_point(struct call *call);
/* discovery.c */
int method_scsi_scan(struct call *call);
int method_add_replication_entity(struct call *call);
int method_delete_volume(struct call *call);
/* pipes.c */
int method_create_or_modify_replication_pipe(struct call *call);
int method_delete_pipe(struct call *call);
/* settings.c */
int method_delete_setting(struct call *call);
/* jobs.c */
int method_job_request_state_change(struct call *call);
int method_job_get_errors(struct call *call);
int method_delete_job(struct call *call);
/* capabilities.c */
int method_convert_sync_type(struct call *call);
int method_convert_replication_type(struct call *call);
int method_get_supported_copy_states(struct call *call);
int method_get_supported_wait_states(struct call *call);
int method_get_supported_features(struct call *call);
int method_get_supported_operations(struct call *call);
int method_get_supported_group_operations(struct call *call);
int method_get_supported_group_copy_states(struct call *call);
int method_get_supported_group_features(struct call *call);
int method_get_supported_maximum(struct call *call);
int method_get_supported_setting_data(struct call *call);
int method_get_default_setting_data(struct call *call);
int method_get_synchronization_supported(struct call *call);
int method_get_supported_thin_features(struct call *call);
int method_get_supported_consistency(struct call *call);
int method_get_default_consistency(struct call *call);
int method_get_default_group_persistency(struct call *call);
int method_get_supported_list_operations(struct call *call);
int method_get_supported_list_features(struct call *call);
int method_get_operations_for_synchronization(struct call *call);
int method_get_types_for_system(struct call *call);
int method_get_element_name_capabilities(struct call *call);
int method_get_supported_connection_features(struct call *call);

#endif
