// SPDX-License-Identifier: Apache-2.0
/*
 * A round asks all access points that there are at its beginning, as many at a time as there are
 * data loops. The next one begins reach_interval_ms after this one began, but not before it has
 * ended.
 *
 *     timer ─▶ load the access points ─▶ ask, ask, … ─▶ all answered ─▶ timer
 *                                          └─▶ news? an event records it; none: nothing is written
 */
#include "service/reachability.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "service/network.h"
#include "service/scan.h"

enum { FIRST_ROUND_MS = 200 };

struct reachability {
    struct control *control;
    struct loop_timer timer;
    uint64_t round_began_ns;
    struct access_point_row *rows; /* of this round */
    size_t n_rows;
    size_t next_row;
    unsigned n_asking;
    bool stopping;
};

static void reach_next(struct reachability *reach);

static void reach_answered(struct scan *scan, void *arg)
{
    struct reachability *reach = arg;
    struct control *control = reach->control;
    const struct scan_portal *portal = &scan->portals[0];
    const struct error *error = portal->error.code == ERR_NONE ? NULL : &portal->error;
    struct access_point_row row;

    reach->n_asking--;
    if (!scan->cancelled && !reach->stopping &&
        table_get(control_db(control), &access_point_table, portal->row.head.id, &row) == 0) {
        if (!row.probed || row.reachable != (error == NULL)) {
            log_info("portal[%s] %s%s", row.address,
                     error == NULL ? "answers" : "does not answer: ",
                     error == NULL ? "" : error->detail);
        }
        portal_seen_later(control, &row, error);
    }
    scan_free(scan);
    reach_next(reach);
}

static void reach_ask(struct reachability *reach, const struct access_point_row *row)
{
    struct scan *scan = scan_new(SCAN_PORTALS);
    struct scan_portal *portal = scan_add_portal(scan, row);
    struct error error;

    /* With incomplete credentials it is asked all the same; a session to a target would say so. */
    portal_credentials(control_db(reach->control), row, &portal->chap, &portal->mutual_chap,
                       &error);
    reach->n_asking++;
    network_scan(control_network(reach->control), scan, reach_answered, reach);
}

static void round_end(struct reachability *reach)
{
    struct loop *loop = control_loop(reach->control);
    uint64_t interval_ns = control_options(reach->control)->reach_interval_ms * MS_NS;
    uint64_t took_ns = loop_now_ns(loop) - reach->round_began_ns;

    free(reach->rows);
    reach->rows = NULL;
    reach->n_rows = 0;
    if (!reach->stopping) {
        loop_timer_start(&reach->timer, interval_ns > took_ns ? interval_ns - took_ns : 0);
    }
}

static void reach_next(struct reachability *reach)
{
    while (!reach->stopping && reach->next_row < reach->n_rows &&
           reach->n_asking < control_data_loops(reach->control)) {
        reach_ask(reach, &reach->rows[reach->next_row++]);
    }
    if (reach->n_asking == 0) {
        round_end(reach);
    }
}

static void round_begin(void *arg)
{
    struct reachability *reach = arg;
    void *rows = NULL;
    int r =
        table_load(control_db(reach->control), &access_point_table, NULL, &rows, &reach->n_rows);

    if (r < 0) {
        log_error("reachability: the access points cannot be read: %s", strerror(-r));
        reach->n_rows = 0;
    }
    reach->rows = rows;
    reach->next_row = 0;
    reach->round_began_ns = loop_now_ns(control_loop(reach->control));
    reach_next(reach);
}

struct reachability *reachability_new(struct control *control)
{
    struct reachability *reach = calloc(1, sizeof(*reach));

    CHECK(reach != NULL);
    reach->control = control;
    loop_timer_init(&reach->timer, control_loop(control), round_begin, reach);
    if (control_options(control)->reach_interval_ms > 0) {
        loop_timer_start(&reach->timer, FIRST_ROUND_MS * MS_NS);
    }
    return reach;
}

void reachability_stop(struct reachability *reach)
{
    reach->stopping = true;
    loop_timer_stop(&reach->timer);
}

void reachability_free(struct reachability *reach)
{
    if (reach != NULL) {
        loop_timer_stop(&reach->timer);
        free(reach->rows);
        free(reach);
    }
}
