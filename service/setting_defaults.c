// SPDX-License-Identifier: Apache-2.0
#include "service/setting_defaults.h"

#include <string.h>

#include "base/check.h"
#include "service/enums.h"

#define VALUES(...)                                                                                \
    .honours = SETTING_VALUES, .n_values = sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t),   \
    .values = {__VA_ARGS__}
#define DEFAULT(value) .has_default = true, .initial = (value)

enum {
    PAIRING_EXACT_ORDER = 3,
    METHODOLOGY_IMPLEMENTATION = 2,
    METHODOLOGY_FULL_COPY = 3,
    SUPPLIER_IMPLEMENTATION = 4,
    THIN_POOL_DECIDES = 6,
    THIN_IMPLEMENTATION = 7,
    PRIORITY_NOT_MANAGED = 0,
    RECOVERY_AUTOMATIC = 2,
    RECOVERY_IMPLEMENTATION = 4,
    TARGET_IMPLEMENTATION = 2,
    TARGET_SAME_AS_SOURCE = 3,
};

static const struct setting_defaults clone_defaults = {
    .pairing = PAIRING_EXACT_ORDER,
    .unequal_lists_action = UNEQUAL_ERROR,
    .copy_methodology = METHODOLOGY_FULL_COPY,
    .target_element_supplier = SUPPLIER_IMPLEMENTATION,
    .thin_provisioning_policy = THIN_IMPLEMENTATION,
    .on_group_or_list_error = ON_ERROR_STOP,
    .copy_priority = PRIORITY_NOT_MANAGED,
    .copy_recovery_mode = RECOVERY_AUTOMATIC,
};

static const struct setting_property clone_properties[] = {
    {"InstanceID", .honours = SETTING_IGNORED},
    {"ElementName", .honours = SETTING_IGNORED},
    {"ConfigurationName", .honours = SETTING_IGNORED},
    {"ChangeableType", .honours = SETTING_IGNORED, DEFAULT(0)},
    /* By position: targets are chosen for it or given in it. */
    {"Pairing", 9, DEFAULT(PAIRING_EXACT_ORDER), VALUES(2, PAIRING_EXACT_ORDER)},
    /* There are no groups yet. */
    {"UnequalGroupsAction", 6, SETTING_NOTHING, DEFAULT(UNEQUAL_ERROR)},
    {"UnequalListsAction", 12, DEFAULT(UNEQUAL_ERROR),
     VALUES(UNEQUAL_ERROR, UNEQUAL_SOURCE_LARGER, UNEQUAL_TARGET_LARGER)},
    /* Between LUNs of other arrays every clone is a copy of all that is in use. */
    {"DesiredCopyMethodology", 3, DEFAULT(METHODOLOGY_FULL_COPY),
     VALUES(METHODOLOGY_IMPLEMENTATION, METHODOLOGY_FULL_COPY)},
    /* A target that is named, or a free LUN of a pool; there is nothing to create one from. */
    {"TargetElementSupplier", 7, DEFAULT(SUPPLIER_IMPLEMENTATION), VALUES(1, 2, 3, 4, 5)},
    /* The array of the target decides whether it is thin, and whether it compresses. */
    {"ThinProvisioningPolicy", 8, DEFAULT(THIN_IMPLEMENTATION),
     VALUES(THIN_POOL_DECIDES, THIN_IMPLEMENTATION)},
    /* We do not see the writes of the hosts, so we cannot hold them. */
    {"ConsistentPointInTime", 2, SETTING_NOTHING, DEFAULT(0)},
    {"DeltaUpdateInterval", 13, SETTING_NOTHING},
    {"DeltaUpdateBlocks", 14, SETTING_NOTHING},
    {"Multihop", 4, DEFAULT(1), VALUES(1)},
    {"OnGroupOrListError", 5, DEFAULT(ON_ERROR_STOP), VALUES(ON_ERROR_CONTINUE, ON_ERROR_STOP)},
    {"CopyPriority", 0, DEFAULT(PRIORITY_NOT_MANAGED), VALUES(0, 1, 2, 3, 4)},
    /* A copy goes on by itself when the link is back; it never waits for somebody to resume it. */
    {"CopyRecoveryMode", 11, DEFAULT(RECOVERY_AUTOMATIC),
     VALUES(RECOVERY_AUTOMATIC, RECOVERY_IMPLEMENTATION)},
    /* Hosts write to the LUN, not through us: neither of the two can be kept. */
    {"FailedCopyStopsHostIO", 10, SETTING_NOTHING, DEFAULT(0)},
    {"ReadOnly", 15, SETTING_NOTHING},
    {"StorageCompressionPolicy", 16, DEFAULT(7), VALUES(6, 7)},
    {"AutoDelete", 21, SETTING_NOTHING, DEFAULT(0)},
    {"TimeBeforeRemoval", 23, SETTING_NOTHING},
    {"RRCHardwareCompressionEnabled", 20, SETTING_NOTHING, DEFAULT(0)},
    {"RRCSoftwareCompressionEnabled", 19, SETTING_NOTHING, DEFAULT(0)},
    {"TargetElementGoal", 18, DEFAULT(TARGET_IMPLEMENTATION), VALUES(TARGET_IMPLEMENTATION)},
    /* 3: from the pool that the source is in. */
    {"TargetElementResourcePool", 17, DEFAULT(TARGET_IMPLEMENTATION),
     VALUES(TARGET_IMPLEMENTATION, TARGET_SAME_AS_SOURCE)},
    {"ConsistencyExempt", 24, SETTING_NOTHING, DEFAULT(0)},
    {"ConsistentAsyncCopy", 25, SETTING_NOTHING, DEFAULT(0)},
    {"DesiredRPO", 26, SETTING_NOTHING},
    {"MaximumSkew", 27, SETTING_NOTHING},
    /* ours */
    {"BandwidthLimit", 0, SETTING_ANY, DEFAULT(0)},
    {"Verify", 0, SETTING_ANY, DEFAULT(0)},
};

const struct setting_property *setting_properties(uint32_t sync_type, size_t *ret_n)
{
    *ret_n = sync_type == SYNC_CLONE ? ARRAY_LEN(clone_properties) : 0;
    return clone_properties;
}

const struct setting_property *setting_property(uint32_t sync_type, const char *name)
{
    size_t n;
    const struct setting_property *properties = setting_properties(sync_type, &n);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(properties[i].name, name) == 0) {
            return &properties[i];
        }
    }
    return NULL;
}

bool setting_honoured(uint32_t sync_type, const char *name, uint64_t value, bool given_text)
{
    const struct setting_property *property = setting_property(sync_type, name);

    if (property == NULL) {
        return false;
    }
    switch (property->honours) {
    case SETTING_ANY:
    case SETTING_IGNORED:
        return true;
    case SETTING_NOTHING:
        return !given_text && property->has_default && property->initial == value;
    case SETTING_VALUES:
        for (size_t i = 0; i < property->n_values; i++) {
            if (property->values[i] == value) {
                return true;
            }
        }
        return false;
    }
    return false;
}

const struct setting_defaults *setting_defaults(uint32_t sync_type)
{
    return sync_type == SYNC_CLONE ? &clone_defaults : NULL;
}
