// SPDX-License-Identifier: Apache-2.0
/*
 * What a relationship of groups is made of: sources, targets, names. For the methods that make its pairs (group_replica.c), and for
 * the one that takes those that are there (group_attach.c).
 *
 * Thread:    control, in a body of hosted_run().
 * Ownership: in the call's arena.
 * Errors:    call->error, as handlers do.
 */
#ifndef SERVICE_GROUP_PARTS_H
#define SERVICE_GROUP_PARTS_H

#include "service/replica_pairs.h"
#include "store/group.h"

struct group_parts {
    struct replica_terms terms;
    const char *name;     /* NULL: ours */
    uint32_t consistency; /* 0: not said */
    bool consistent;      /* decided: all pairs are, and will be, of one moment */
    bool elements;        /* groups are made of the elements */
    /* sources: a group, or one volume for all targets */
    bool one_source;
    struct group_row source_group; /* head.id "": none, or to be made */
    const char *source_group_name;
    struct volume_row *sources;
    size_t n_sources;
    const char *source_parameter;
    /* targets */
    struct group_row target_group; /* head.id "": to be made */
    const char *target_group_name; /* for it; NULL: ours */
    struct volume_row *targets;    /* those that there are */
    size_t n_targets;
    const char *target_parameter;
    size_t n_wanted;                  /* TargetElementCount, 0: not said */
    const struct value *target_names; /* NULL: the relationship's name and a number */
};

/* SourceGroup, TargetGroup and their names. One that is given must be empty: the elements become its members. Without it one is made, when
 * the elements are there. */
int group_parts_groups(struct call *call, struct group_parts *parts);
/* An id, and the name that was asked for or ours. */
void group_parts_name(const struct group_parts *parts, struct group_sync_row *group_sync);
/* The elements become members of their groups, which are made where there are none. */
int group_parts_fill(struct call *call, struct group_parts *parts,
                     const struct group_sync_row *group_sync);
/* The row of the relationship. */
int group_parts_insert(struct call *call, const struct group_parts *parts,
                       struct group_sync_row *group_sync);

#endif
