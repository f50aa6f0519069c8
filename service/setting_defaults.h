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
    const char *what; /* for refusals: what there is instead */
};

/* How many properties the class has. */
size_t setting_properties_count(void);
/* The i-th, in the order of the class, as replicas of that type take it. NULL for a type that is not made. */
const struct setting_property *setting_property_at(uint32_t sync_type, uint32_t mode, bool remote,
                                                   size_t i);
/* NULL: not a property of the class. */
const struct setting_property *setting_property(uint32_t sync_type, uint32_t mode, bool remote,
                                                const char *name);

/* Can the property have that value? (Numbers and booleans; intervals and texts: pass 0 and given_text true.) */
bool setting_property_honours(const struct setting_property *property, uint64_t value,
                              bool given_text);

#endif
