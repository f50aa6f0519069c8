// SPDX-License-Identifier: Apache-2.0
/*
 * The states of a relationship and what may be done in each: one table for the code, the capability methods and the
 * texts of refusals.
 *
 * Thread:    constant.
 * Ownership: constant.
 * Errors:    none.
 *
 * Clone (SyncType 8) by a copy; smis.md 4.3. "wait" is what a create was told to wait for.
 *
 *      create, wait 2 ──▶ 2 Initialized ──Activate──┐
 *      create, wait 8 ──▶ 8 Inactive ─────Activate──┤
 *      create ──────────────────────────────────────┤
 *                                                   ▼
 *      12 Aborted ◀──Abort── 3 Unsynchronized ──all copied──▶ 4 Synchronized ──Resync, Restore──▶ 3
 *          │                  │ ▲       │ ▲ Resume                │
 *          └──Resync──▶ 3     │ └─Resync│ └───── 9 Suspended      └──Detach, Dissolve, Return──▶ gone
 *                      gave up▼         └Suspend──▶ 9
 *                         5 Broken
 *
 * Clone that is filled while it is used (DesiredCopyMethodology 7, of a LUN of another system): as a clone by a copy, but its hosts
 * have it in every state from 3 on, and until it is 4 it cannot be without its source: no Detach from 3, 5, 9 and 12, from
 * where Resync goes on with what is missing. Return To ResourcePool is legal in every state.
 *
 * Snapshot (SyncType 7), and a clone of a hosted volume that shares its layers: everything is done at once, so no state
 * lasts while data moves. Only a snapshot is ever Skewed; a clone belongs to its hosts.
 *
 *      create, wait 2 ──▶ 2 Initialized ──Activate──┐  ┌──Resync, Restore──┐     hosts write to it
 *            │                                      ▼  ▼                   │           │
 *          Abort         create ──────────────▶ 4 Synchronized ────────────┴───▶ 13 Skewed ──Resync, Restore──▶ 4
 *            ▼                                      ▲  │                               │
 *      12 Aborted ──Resync──▶ 4                     │  └──Deactivate (snapshot)──▶ 8 ◀─┘
 *      create, wait 8 ──▶ 8 Inactive ───Activate────┘      from all that rest: Detach, Dissolve, Return ──▶ gone
 *
 * Mirror (SyncType 6); smis.md 4.1. Between ( ) is what the mirror tells by itself (replication/mirror.h):
 *
 *      create, wait 2, 8 ──▶ 2 Initialized, 8 Inactive ──Prepare──▶ 11 Prepared ──Abort──▶ 12 Aborted ──Resync──▶ 3
 *                                    └──────Activate──────┬─────────────┘
 *      create ────────────────────────────────────────────┤
 *                                                         ▼                       (leg lost)
 *          8 ◀──Deactivate──┬── 3 Unsynchronized ◀─(copying)──(equal)─▶ 4 Synchronized ──▶ 16 Partitioned
 *          9 ◀──Suspend─────┘        ▲      ▲ ▲                              │   ▲             │ (back, by hand)
 *          └────Resume───────────────┘      │ └────────(back, by itself)─────┼───┼─────────────┤
 *                                           │                  Reverse Roles └───┘             ▼
 *      6 Fractured, 7 Split ◀──Fracture, Split── 4     (refused)──▶ 5 Broken              9 Suspended
 *          └──Resync, Restore──▶ 3          │                       └──Resync──▶ 3
 *      10 Failedover ◀──Failover── 4 6 7, with Force 3 5 9 16
 *          └──Failback──────────────────────┘
 */
#ifndef SERVICE_REPLICA_STATES_H
#define SERVICE_REPLICA_STATES_H

#include "service/enums.h"
#include "store/replica.h"

/* What makes a replica, and with it which table applies. */
enum replica_engine {
    ENGINE_COPY,   /* a job copies it: CopyMethodology Full-Copy */
    ENGINE_LAYERS, /* it shares the layers of its source: Copy-On-Write, in an instant */
    ENGINE_FILL,   /* hosted, there in an instant, and filled from its source by a job: Copy-On-Access */
    ENGINE_MIRROR, /* kept equal with every write of its source's hosts: Incremental-Copy */
    ENGINE_ASYNC,  /* takes what the source was at some moment, again and again: Delta-Update */
};
enum { ENGINES = ENGINE_ASYNC + 1 };
const char *replica_engine_name(enum replica_engine engine);
enum replica_engine replica_engine_of(const struct sync_row *sync);
/* The CopyMethodology of what an engine makes. */
uint32_t replica_methodology(enum replica_engine engine);
/* Is there a replica of that type that is made so? Local: both elements are hosted here. */
bool replica_engine_possible(uint32_t sync_type, uint32_t mode, bool remote,
                             enum replica_engine engine);
bool replica_engine_mirrors(enum replica_engine engine);
bool replica_is_mirror(const struct sync_row *sync);
/* Data flows, or would if the target could be reached: 3, 4 and 16 of a mirror; of a synchronous one whose source is not whole without
 * the target, 5 and 9 too. */
bool replica_mirror_connected(const struct sync_row *sync);
/* Hosts may write to the target of a mirror in that state, and only there to the source. */
bool replica_mirror_target_free(uint32_t copy_state);

enum operation_verdict {
    VERDICT_LEGAL,
    VERDICT_NEEDS_FORCE,
    VERDICT_ILLEGAL,       /* 4 Failed illegal_state */
    VERDICT_NOT_SUPPORTED, /* 1 */
};

/* May the operation be applied to a relationship of that type in that state? */
enum operation_verdict replica_verdict(uint32_t sync_type, enum replica_engine engine,
                                       uint32_t copy_state, uint32_t operation, uint32_t copy_type);
/* The same for one relationship: while its source is incomplete (a Restore that did not come to its end), Restore is legal from
 * Broken and Aborted too, and Resync, which would copy the half-restored source over the good target, needs Force. */
enum operation_verdict replica_verdict_of(const struct sync_row *sync, uint32_t operation);
/* Is there no such operation of a relationship with another system's LUN? (Its hosts write past us: it is never a mirror's source.) */
bool replica_operation_local(uint32_t operation);
/* The operations that are there for a sync type at all. */
bool replica_operation_supported(uint32_t sync_type, enum replica_engine engine,
                                 uint32_t operation);
bool replica_operation_removes(uint32_t operation); /* the association is gone afterwards */
/* The states a relationship of that type can be in, ended by 0. */
const uint32_t *replica_states(uint32_t sync_type, enum replica_engine engine);
/* May hosts use the target in that state? */
bool replica_host_accessible(enum replica_engine engine, uint32_t copy_state);
/* What WaitForCopyState takes: of a creation (operation 0) or of an operation; ended by 0. */
const uint32_t *replica_wait_states(uint32_t sync_type, enum replica_engine engine,
                                    uint32_t operation);
bool replica_wait_state_allowed(uint32_t sync_type, enum replica_engine engine, uint32_t operation,
                                uint32_t copy_state);
/* Is a relationship in that state as far as the one that was waited for, or beyond? */
bool replica_wait_reached(uint32_t wanted, uint32_t copy_state);
/* What an operation of ModifySynchronization (map_legacy_operation) is to ModifyReplicaSynchronization (smis.md 3.5); 0: there
 * is none of that number. */
uint32_t replica_legacy_operation(uint32_t number);
/* The legacy SyncState for a CopyState and ProgressStatus (smis.md 3.2). */
uint32_t replica_sync_state(uint32_t copy_state, uint32_t progress_status);
bool replica_sync_maintained(const struct sync_row *sync);
/* Types that this version makes. */
bool replica_type_supported(uint32_t sync_type, uint32_t mode, bool remote);

/* "Detach, Resync Replica" for refusals: the operations legal now. */
void replica_legal_text(const struct sync_row *sync, char *out, size_t size);

#endif
