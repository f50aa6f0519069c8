// SPDX-License-Identifier: Apache-2.0
#include "service/setting_defaults.h"

#include <string.h>

#include "base/check.h"
#include "service/enums.h"

#define VALUES(...)                                                                                \
    .honours = SETTING_VALUES, .n_values = sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t),   \
    .values = {__VA_ARGS__}
#define DEFAULT(value) .has_default = true, .initial = (value)
#define NOTHING        .honours = SETTING_NOTHING
#define WHAT(text)     .what = (text)

enum {
    PAIRING_EXACT_ORDER = 3,
    SUPPLIER_IMPLEMENTATION = 4,
    THIN_SAME_AS_SOURCE = 5,
    THIN_POOL_DECIDES = 6,
    THIN_IMPLEMENTATION = 7,
    THIN_TO_THIN = 2,
    PRIORITY_NOT_MANAGED = 0,
    RECOVERY_AUTOMATIC = 2,
    RECOVERY_MANUAL = 3,
    RECOVERY_IMPLEMENTATION = 4,
    TARGET_IMPLEMENTATION = 2,
    TARGET_SAME_AS_SOURCE = 3,
    READ_ONLY_TARGET = 3,
};
#define NO_MIRROR  "only mirrors (SyncType 6) have such a thing."
#define NO_ASYNC   "only asynchronous mirrors (Mode 3) have such a thing."
#define NO_PACKING "there is no compression."

/* Of a copy from or to a LUN of another system. What differs for the others is below. */
static const struct setting_property common[] = {
    {"InstanceID", .honours = SETTING_IGNORED},
    {"ElementName", .honours = SETTING_IGNORED},
    {"ConfigurationName", .honours = SETTING_IGNORED},
    {"ChangeableType", .honours = SETTING_IGNORED, DEFAULT(0)},
    /* By position: targets are chosen for it or given in it. */
    {"Pairing", 9, DEFAULT(PAIRING_EXACT_ORDER), VALUES(2, PAIRING_EXACT_ORDER),
     WHAT("pairs are made by position (2 or 3).")},
    {"UnequalGroupsAction", 6, DEFAULT(UNEQUAL_ERROR),
     VALUES(UNEQUAL_ERROR, UNEQUAL_SOURCE_LARGER, UNEQUAL_TARGET_LARGER), WHAT("2 to 4.")},
    {"UnequalListsAction", 12, DEFAULT(UNEQUAL_ERROR),
     VALUES(UNEQUAL_ERROR, UNEQUAL_SOURCE_LARGER, UNEQUAL_TARGET_LARGER), WHAT("2 to 4.")},
    {"DesiredCopyMethodology", 3, DEFAULT(METHODOLOGY_FULL_COPY),
     VALUES(METHODOLOGY_ANY, METHODOLOGY_FULL_COPY, METHODOLOGY_COPY_ON_ACCESS),
     WHAT("copies from and to LUNs of other systems are full copies (2 or 3); a clone of one in a "
          "pool of files can be used at once and filled while it is (7).")},
    /* A target that is named, a free LUN of a pool, or a new volume. */
    {"TargetElementSupplier", 7, DEFAULT(SUPPLIER_IMPLEMENTATION), VALUES(1, 2, 3, 4, 5),
     WHAT("1 to 5.")},
    /* The array of the target decides whether it is thin, and whether it compresses. */
    {"ThinProvisioningPolicy", 8, DEFAULT(THIN_IMPLEMENTATION),
     VALUES(THIN_POOL_DECIDES, THIN_IMPLEMENTATION),
     WHAT("the target LUN decides about its provisioning (6 or 7).")},
    /* We do not see the writes of the hosts, so we cannot hold them. */
    {"ConsistentPointInTime", 2, NOTHING, DEFAULT(0),
     WHAT("volumes are not cut together in this version.")},
    {"DeltaUpdateInterval", 13, NOTHING, WHAT(NO_MIRROR)},
    {"DeltaUpdateBlocks", 14, NOTHING, WHAT(NO_MIRROR)},
    {"Multihop", 4, DEFAULT(1), VALUES(1), WHAT("one hop only.")},
    {"OnGroupOrListError", 5, DEFAULT(ON_ERROR_STOP), VALUES(ON_ERROR_CONTINUE, ON_ERROR_STOP),
     WHAT("2 or 3.")},
    {"CopyPriority", 0, DEFAULT(PRIORITY_NOT_MANAGED), VALUES(0, 1, 2, 3, 4), WHAT("0 to 4.")},
    /* A copy goes on by itself when the link is back; it never waits for somebody to resume it. */
    {"CopyRecoveryMode", 11, DEFAULT(RECOVERY_AUTOMATIC),
     VALUES(RECOVERY_AUTOMATIC, RECOVERY_IMPLEMENTATION),
     WHAT("a copy goes on by itself when its LUN is back (2 or 4).")},
    /* Hosts write to the LUN, not through us: neither of the two can be kept. */
    {"FailedCopyStopsHostIO", 10, NOTHING, DEFAULT(0), WHAT(NO_MIRROR)},
    {"ReadOnly", 15, NOTHING, WHAT("LUNs of other systems cannot be made read-only from here.")},
    {"StorageCompressionPolicy", 16, DEFAULT(7), VALUES(6, 7),
     WHAT("the target decides about compression (6 or 7).")},
    {"AutoDelete", 21, NOTHING, DEFAULT(0), WHAT("replicas are kept until they are deleted.")},
    {"TimeBeforeRemoval", 23, NOTHING, WHAT("replicas are kept until they are deleted.")},
    {"RRCHardwareCompressionEnabled", 20, NOTHING, DEFAULT(0), WHAT(NO_PACKING)},
    {"RRCSoftwareCompressionEnabled", 19, NOTHING, DEFAULT(0), WHAT(NO_PACKING)},
    {"TargetElementGoal", 18, DEFAULT(TARGET_IMPLEMENTATION), VALUES(TARGET_IMPLEMENTATION),
     WHAT("2; another goal is named by TargetSettingGoal.")},
    /* 3: from the pool that the source is in. */
    {"TargetElementResourcePool", 17, DEFAULT(TARGET_IMPLEMENTATION),
     VALUES(TARGET_IMPLEMENTATION, TARGET_SAME_AS_SOURCE), WHAT("2 or 3.")},
    {"ConsistencyExempt", 24, NOTHING, DEFAULT(0),
     WHAT("a group is consistent with all of its members.")},
    {"ConsistentAsyncCopy", 25, NOTHING, DEFAULT(0), WHAT(NO_MIRROR)},
    {"DesiredRPO", 26, NOTHING, WHAT(NO_MIRROR)},
    {"MaximumSkew", 27, NOTHING, WHAT(NO_MIRROR)},
    /* ours */
    {"BandwidthLimit", 0, .honours = SETTING_ANY, DEFAULT(0)},
    {"Verify", 0, .honours = SETTING_ANY, DEFAULT(0)},
    {"ReplicationPipe", 0, .honours = SETTING_ANY},
};

#define HOSTED_THIN                                                                                \
    {                                                                                              \
        "ThinProvisioningPolicy", 8, DEFAULT(THIN_IMPLEMENTATION),                                 \
            VALUES(THIN_TO_THIN, THIN_SAME_AS_SOURCE, THIN_POOL_DECIDES, THIN_IMPLEMENTATION),     \
            WHAT("hosted volumes are thin (2, 5 to 7).")                                           \
    }
#define HOSTED_READ_ONLY                                                                           \
    {                                                                                              \
        "ReadOnly", 15, VALUES(READ_ONLY_TARGET),                                                  \
            WHAT("the target can be read-only for its hosts (3), the source cannot.")              \
    }

/* What shares layers is of one moment, with others too. */
#define HOSTED_MOMENT                                                                              \
    {                                                                                              \
        "ConsistentPointInTime", 2, DEFAULT(0), .honours = SETTING_ANY                             \
    }

/* A snapshot shares what its source has; there is no other way to make one. */
static const struct setting_property of_snapshots[] = {
    {"DesiredCopyMethodology", 3, DEFAULT(METHODOLOGY_COPY_ON_WRITE),
     VALUES(METHODOLOGY_ANY, METHODOLOGY_COPY_ON_WRITE),
     WHAT("a snapshot shares the data of its source (2 or 6); SyncType Clone (8) can be a full "
          "copy.")},
    HOSTED_THIN,
    HOSTED_READ_ONLY,
    HOSTED_MOMENT,
};
/* Both ends hosted here: shared layers where they can be, or bytes of its own. */
static const struct setting_property of_local_clones[] = {
    {"DesiredCopyMethodology", 3, DEFAULT(METHODOLOGY_ANY),
     VALUES(METHODOLOGY_ANY, METHODOLOGY_FULL_COPY, METHODOLOGY_COPY_ON_WRITE),
     WHAT("a clone of a hosted volume shares its data (6), is a full copy (3), or what is quicker "
          "(2).")},
    HOSTED_THIN,
    HOSTED_READ_ONLY,
    HOSTED_MOMENT,
};

/* Of a mirror: every write of the source's hosts, or what the source was at some moment, again and again. */
#define MIRROR_RECOVERY                                                                            \
    {                                                                                              \
        "CopyRecoveryMode", 11, DEFAULT(RECOVERY_AUTOMATIC),                                       \
            VALUES(RECOVERY_AUTOMATIC, RECOVERY_MANUAL, RECOVERY_IMPLEMENTATION),                  \
            WHAT("2 to 4: by itself when the target is back, or with Resume.")                     \
    }
#define MIRROR_THIN                                                                                \
    {                                                                                              \
        "ThinProvisioningPolicy", 8, DEFAULT(THIN_IMPLEMENTATION),                                 \
            VALUES(THIN_SAME_AS_SOURCE, THIN_POOL_DECIDES, THIN_IMPLEMENTATION),                   \
            WHAT("the target decides about its provisioning (5 to 7).")                            \
    }
#define MIRROR_READ_ONLY                                                                           \
    {                                                                                              \
        "ReadOnly", 15, NOTHING,                                                                   \
            WHAT("a mirror's target is read-only for its hosts until it is split, fractured or "   \
                 "failed over to.")                                                                \
    }
#define MIRROR_VERIFY                                                                              \
    {                                                                                              \
        "Verify", 0, NOTHING, DEFAULT(0), WHAT("the sides of a mirror are not compared.")          \
    }
static const struct setting_property of_sync_mirrors[] = {
    {"DesiredCopyMethodology", 3, DEFAULT(METHODOLOGY_INCREMENTAL_COPY),
     VALUES(METHODOLOGY_ANY, METHODOLOGY_INCREMENTAL_COPY),
     WHAT("a synchronous mirror takes every write, and what was missed (2 or 4).")},
    {"DeltaUpdateInterval", 13, NOTHING, WHAT(NO_ASYNC)},
    {"DeltaUpdateBlocks", 14, NOTHING, WHAT(NO_ASYNC)},
    {"DesiredRPO", 26, NOTHING, WHAT(NO_ASYNC)},
    {"FailedCopyStopsHostIO", 10, DEFAULT(0), .honours = SETTING_ANY},
    MIRROR_RECOVERY,
    MIRROR_THIN,
    MIRROR_READ_ONLY,
    MIRROR_VERIFY,
};
static const struct setting_property of_async_mirrors[] = {
    {"DesiredCopyMethodology", 3, DEFAULT(METHODOLOGY_DELTA_UPDATE),
     VALUES(METHODOLOGY_ANY, METHODOLOGY_DELTA_UPDATE),
     WHAT("an asynchronous mirror takes what has changed, again and again (2 or 8).")},
    {"DeltaUpdateInterval", 13, .honours = SETTING_ANY},
    {"DeltaUpdateBlocks", 14, .honours = SETTING_ANY},
    {"DesiredRPO", 26, .honours = SETTING_ANY},
    {"FailedCopyStopsHostIO", 10, NOTHING, DEFAULT(0),
     WHAT("only a synchronous mirror (Mode 2) can hold up its hosts.")},
    MIRROR_RECOVERY,
    MIRROR_THIN,
    MIRROR_READ_ONLY,
    MIRROR_VERIFY,
};

static const struct {
    uint32_t sync_type;
    bool remote;
    const struct setting_property *differing;
    size_t n;
    uint32_t mode; /* 0: any */
} types[] = {
    {SYNC_SNAPSHOT, false, of_snapshots, ARRAY_LEN(of_snapshots), 0},
    {SYNC_CLONE, false, of_local_clones, ARRAY_LEN(of_local_clones), 0},
    {SYNC_CLONE, true, NULL, 0, 0},
    {SYNC_MIRROR, false, of_sync_mirrors, ARRAY_LEN(of_sync_mirrors), MODE_SYNCHRONOUS},
    {SYNC_MIRROR, true, of_sync_mirrors, ARRAY_LEN(of_sync_mirrors), MODE_SYNCHRONOUS},
    {SYNC_MIRROR, false, of_async_mirrors, ARRAY_LEN(of_async_mirrors), MODE_ASYNCHRONOUS},
    {SYNC_MIRROR, true, of_async_mirrors, ARRAY_LEN(of_async_mirrors), MODE_ASYNCHRONOUS},
};

size_t setting_properties_count(void)
{
    return ARRAY_LEN(common);
}

const struct setting_property *setting_property_at(uint32_t sync_type, uint32_t mode, bool remote,
                                                   size_t i)
{
    CHECK(i < ARRAY_LEN(common));
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        if (types[t].sync_type != sync_type || types[t].remote != remote ||
            (types[t].mode != 0 && types[t].mode != mode)) {
            continue;
        }
        for (size_t k = 0; k < types[t].n; k++) {
            if (strcmp(types[t].differing[k].name, common[i].name) == 0) {
                return &types[t].differing[k];
            }
        }
        return &common[i];
    }
    return NULL;
}

const struct setting_property *setting_property(uint32_t sync_type, uint32_t mode, bool remote,
                                                const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(common); i++) {
        if (strcmp(common[i].name, name) == 0) {
            return setting_property_at(sync_type, mode, remote, i);
        }
    }
    return NULL;
}

bool setting_property_honours(const struct setting_property *property, uint64_t value,
                              bool given_text)
{
    switch (property->honours) {
    case SETTING_ANY:
    case SETTING_IGNORED:
        return true;
    case SETTING_NOTHING:
        return !given_text && (property->has_default ? property->initial == value : value == 0);
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
