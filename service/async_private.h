// SPDX-License-Identifier: Apache-2.0
/*
 * Inside async*.c only: an asynchronous mirror at run time, and the transactions that it goes through.
 *
 * Thread:    control.
 * Ownership: a struct async_mirror is its driver's (async_mirror.c) until end() has called back. While it is busy it waits for
 *            something that ends with async_step_done().
 * Errors:    see each.
 */
#ifndef SERVICE_ASYNC_PRIVATE_H
#define SERVICE_ASYNC_PRIVATE_H

#include "replication/copy.h"
#include "service/hosted.h"
#include "service/mirrors.h"
#include "store/cycle.h"

enum { ASYNC_SOURCE, ASYNC_TARGET, ASYNC_SIDES };

/* Layer files that a transaction is to take. */
struct async_files {
    struct hosted_fresh fresh[ASYNC_SIDES];
    bool made[ASYNC_SIDES];
};

/* What differed when it was looked at. */
struct async_changes {
    bool base;                   /* of the source something is known by the layers above it, */
    bool point;                  /* and of the target */
    bool first;                  /* the target has nothing of it yet */
    bool known[ASYNC_SIDES];     /* the volume could tell */
    uint64_t bytes[ASYNC_SIDES]; /* above base and point */
};

struct async_mirror {
    struct mirror_run *run;
    struct sync_row row; /* what is applied */

    /* As they were when the step began. */
    struct volume_row volumes[ASYNC_SIDES];
    struct cycle_row cycle;
    bool valid_base;  /* the base is below the source */
    bool valid_point; /* the point is below the target */
    bool reversed;    /* the base is below the target: it was the source */

    bool busy;
    bool flow;   /* cycles go on, or one is to end */
    bool broken; /* until another row is applied */
    bool equal;  /* it was told to be */
    bool cycle_done;
    bool undone;      /* the cycle under way was, at the target */
    bool undo_failed; /* it cannot be now */
    bool ending;
    bool forget;
    bool left_whole; /* at its end: tried */

    /* who waits */
    array_done_fn applied;
    void *applied_arg;
    loop_fn ended;
    void *ended_arg;
    array_done_fn parted; /* of split() */
    void *parted_arg;
    bool part_cut; /* the last cycle has begun */
    bool part_guard;
    struct loop_timer part_timer;

    /* the cycle under way */
    char look_id[ARRAY_ID_LEN + 1];
    bool look_open;
    struct copy *copy;
    bool cancelling;
    bool away; /* a side of it is */
    bool
        was_away; /* and that was told, perhaps before a restart; nobody has told yet that it is back */
    struct copy_progress progress;
    struct copy_progress told; /* what of it was counted */
    struct async_files files;
    unsigned files_pending;
    struct error files_error;
    uint64_t told_ns;
    uint64_t cycle_bytes; /* what it is to move, about */
    bool cycle_counted;   /* the layers of its cut were asked, not what had changed before that */
    bool clean;           /* no copy of ours can have left writes at the target */

    /* when */
    struct loop_timer timer; /* of the next cycle, and of looks at what has changed */
    uint64_t begun_ns;       /* the last cycle; 0: at once */
    bool looking;            /* the array was asked what has changed */
    uint64_t looked_ns;
    bool changes_known;
    uint64_t changed_bytes; /* above the cut, or the base */
    uint64_t above_base;    /* until that above the cut is known, too */
    uint64_t tried_again_ns;
    uint64_t hindered_ns; /* since then no cycle has ended, for a step cannot be done; 0: not so */
    bool hindered_told;

    int guarded[ASYNC_SIDES];     /* what hosts see: -1 not known */
    struct async_changes changes; /* of the last look of a dry run */

    /* with others (async_rounds.c) */
    char group_id
        [ID_SIZE]; /* its relationship of groups, if that is consistent: it has no cycles of its own */
    char copied_id[ID_SIZE]; /* this cut is at the target, but not recorded yet as its point */
    uint64_t took_ms;
};

struct async_event {
    struct async_mirror *am;
    char sync_id[ID_SIZE];
    bool back;
    bool blank; /* nothing had changed when it was asked: only the time goes on */
    uint64_t asked_ms;
    bool torn;  /* the target is in the middle of a cycle that could not be undone */
    bool adopt; /* both sides are what the base is, which the target has: roles were reversed */
    struct async_files files;
    struct copy_progress progress;
    struct copy_progress counted;
    uint64_t took_ms;
};

/* ---- async_mirror.c ---- */

/* The step that it was busy with is over; error only says something. */
void async_step_done(struct async_mirror *am, const struct error *error);
/* Now or later, from the loop's timer. */
void async_go_on(struct async_mirror *am);
/* It is to be told, and rests until another row comes. */
void async_break(struct async_mirror *am, const struct error *error);
/* True: it is tried again in a while, and that is told. */
bool async_waits_for_room(struct async_mirror *am, const struct error *error);
/* Its rows, as they are now; negative errno. */
int async_rows_read(struct async_mirror *am);
bool async_flows(const struct async_mirror *am);

/* ---- async_cycles.c ---- */

/* Each makes am busy until async_step_done(). */
void async_cycle_begin(struct async_mirror *am, bool back);
void async_cycle_look(struct async_mirror *am);
void async_look_close(struct async_mirror *am);
void async_land(struct async_mirror *am);
void async_forget(struct async_mirror *am);
/* The target, a LUN of another system, is to be its point again. */
void async_undo(struct async_mirror *am);
/* The cycle under way goes the wrong way: nothing of it counts. */
void async_abandon(struct async_mirror *am);
/* Not busy: it ends by itself. */
void async_copy_start(struct async_mirror *am);
/* Not busy: how much has changed is asked, and published. */
void async_changes_look(struct async_mirror *am);
/* Milliseconds between the beginnings of two cycles. */
uint64_t async_interval_ms(const struct async_mirror *am);
/* The cut is at the target: it becomes its point. */
void async_cycle_finish(struct async_mirror *am);
bool async_file_wanted(const struct async_mirror *am, const struct async_event *event,
                       unsigned side);
/* A layer that fits above the volume, not made yet. */
void async_fresh(const struct volume_row *volume, struct hosted_fresh *ret_fresh);
bool async_is_open(const struct async_mirror *am, unsigned side, struct error *error);
struct async_event async_event_of(struct async_mirror *am);
void async_publish(struct async_mirror *am);
/* The target has nothing yet that would be worth keeping, or comparing. */
bool async_is_first(const struct async_mirror *am);
/* Both sides are there again: it goes on, or (CopyRecoveryMode 3) waits for Resume. */
void async_is_back(struct async_mirror *am);

/* ---- async_look.c: of the driver ---- */

void async_look(struct mirror_run *run, loop_fn done, void *arg);
bool async_would_move(const struct mirror_run *run, bool back, struct mirror_would *ret_would);

/* ---- async_rounds.c: members of a consistent relationship of groups ---- */

/* It rests and its time has come, or it has copied: if all others have, too, what follows is done with all of them. False: they have
 * not. */
bool async_round_go_on(struct async_mirror *am);
bool async_is_copied(const struct async_mirror *am);

/* What a round does with all of its members in one transaction. */
struct async_round {
    struct control *control;
    char group_id[ID_SIZE];
    char round_id[ID_SIZE];
    bool blank;
    uint64_t cut_ms;
    unsigned pending;
    struct error error;
    struct async_mirror *culprit; /* of the error; NULL: none of them */
    size_t n;
    struct async_event parts[];
};
/* It could not be done, and is freed; what was made for it is removed. */
void async_round_failed(struct async_round *round);

/* ---- async_records.c: events; each ends with async_step_done() by an effect ---- */

int async_begin_event(struct call *call);
int async_checkpoint_event(struct call *call);
int async_done_event(struct call *call);
int async_land_event(struct call *call);
int async_forget_event(struct call *call);
int async_abandon_event(struct call *call);
int async_undo_event(struct call *call);
/* step_state: a pointer to the round, which is freed at the end. */
int async_round_begin_event(struct call *call);
int async_round_done_event(struct call *call);
/* Of rows whose relationship is gone, after a crash. */
int async_sweep_event(struct call *call);

#endif
