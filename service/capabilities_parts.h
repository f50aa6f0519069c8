// SPDX-License-Identifier: Apache-2.0
/*
 * Inside the capabilities only: what the methods share.
 *
 * Thread:    control; capabilities_*_object() that of the reader.
 * Ownership: none.
 * Errors:    call->error, as handlers do.
 */
#ifndef SERVICE_CAPABILITIES_PARTS_H
#define SERVICE_CAPABILITIES_PARTS_H

#include "service/call.h"
#include "service/enums.h"
#include "service/out.h"
#include "service/replica_states.h"

/* Decides what a ReplicationType says. */
struct replication_kind {
    uint32_t number;
    uint32_t sync_type;
    uint32_t mode;
    bool remote;
};
void replication_kind_of(uint32_t number, struct replication_kind *ret_kind);
bool replication_kind_supported(const struct replication_kind *kind);

/* Relationships about which something is asked: those that a kind has, or one. */
struct replication_query {
    uint32_t sync_type;
    enum replica_engine engines[ENGINES];
    size_t n_engines;
    uint32_t copy_type; /* 0: any */
    bool remote;
};

/* The parameter, or missing_parameter. */
int capability_number(struct call *call, const char *name, uint32_t *ret_number);
/* ReplicationType, or missing_parameter, or not_supported for one that is not made. */
int capability_kind(struct call *call, struct replication_kind *ret_kind);
/* Fills an out parameter. */
void capability_add(struct call *call, const char *name, const uint32_t *numbers, size_t n);
/* All that a kind has, or what the ReplicationSettingData of the call leaves of it. */
int capability_query(struct call *call, const struct replication_kind *kind,
                     struct replication_query *ret_query);
int capability_kind_and_query(struct call *call, struct replication_kind *ret_kind,
                              struct replication_query *ret_query);
/* Can a relationship be in that state? */
bool capability_state_possible(const struct replication_query *query, uint32_t copy_state);
/* Is the operation taken from some state (copy_state 0), or that one? *ret_force: only with Force. */
bool capability_operation_taken(const struct replication_query *query, uint32_t copy_state,
                                uint32_t operation, bool *ret_force);
typedef bool (*capability_taken_fn)(const struct replication_query *query, uint32_t copy_state,
                                    uint32_t operation, bool *ret_force);
/* The four parallel arrays of operations that are taken, the first one called name. */
void capability_operations(struct call *call, const char *name,
                           const struct replication_query *query, uint32_t copy_state,
                           capability_taken_fn taken);
void capability_operations_begin(struct values *outs, const char *name);
void capability_operations_add(struct values *outs, const char *name, uint32_t operation,
                               bool force);
/* Those of a relationship of groups, as it is now. */
int capability_operations_of_group(struct call *call, const char *path);

/* What GET of the services shows (capabilities_services.c). */
void capabilities_replication(struct out *out);   /* of ReplicationServiceCapabilities */
void capabilities_configuration(struct out *out); /* of StorageConfigurationService */

#endif
