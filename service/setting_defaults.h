// SPDX-License-Identifier: Apache-2.0
/*
 * ReplicationSettingData: what a replica is made with when nothing is asked for, and which values
 * are honoured at all. One table for creation, checks and the capability methods.
 *
 * Thread:    constant.
 * Ownership: constant.
 * Errors:    none.
 *
 * These are the defaults of the service. Properties left out of an instance that was given take the
 * default of their class (smis.md G18); the only ones that differ are DesiredCopyMethodology (none)
 * and CopyRecoveryMode (4, which is for the implementation to decide), and what is done for them is
 * the same.
 */
#ifndef SERVICE_SETTING_DEFAULTS_H
#define SERVICE_SETTING_DEFAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct setting_defaults {
    uint32_t pairing;
    uint32_t unequal_lists_action;
    uint32_t copy_methodology;
    uint32_t target_element_supplier;
    uint32_t thin_provisioning_policy;
    uint32_t on_group_or_list_error;
    uint32_t copy_priority;
    uint32_t copy_recovery_mode;
    bool failed_copy_stops_host_io;
    uint32_t read_only;       /* 0: none */
    uint64_t bandwidth_limit; /* 0: none */
    bool verify;
};
/* NULL for a sync type that is not made. */
const struct setting_defaults *setting_defaults(uint32_t sync_type);

/* A property of ReplicationSettingData. */
enum setting_honours {
    SETTING_ANY,     /* any value */
    SETTING_VALUES,  /* those listed */
    SETTING_IGNORED, /* taken, has no meaning here: names of the instance */
    SETTING_NOTHING, /* no value but the default, which asks for nothing */
};
enum { SETTING_VALUES_MAX = 6 };
struct setting_property {
    const char *name;
    uint32_t number; /* PropertyName of GetSupportedReplicationSettingData, 0: has none */
    enum setting_honours honours;
    bool has_default; /* else NULL */
    uint64_t initial; /* the default */
    size_t n_values;
    uint64_t values[SETTING_VALUES_MAX];
};
/* All of them, in the order of the class. */
const struct setting_property *setting_properties(uint32_t sync_type, size_t *ret_n);
/* NULL: not a property of the class. */
const struct setting_property *setting_property(uint32_t sync_type, const char *name);

/* Can a property have that value (numbers and booleans; intervals and texts: pass 0 and given_text
 * true)? */
bool setting_honoured(uint32_t sync_type, const char *name, uint64_t value, bool given_text);

#endif
