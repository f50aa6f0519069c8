// SPDX-License-Identifier: Apache-2.0
/*
 * What a GET answers, as text: objects, lists, services, readiness, metrics.
 *
 * Thread:    http threads, inside the gate (api/edge.h); each function takes a reader for its time.
 * Ownership: gives references to rendered answers (api/read_cache.h), or writes to buffers of the
 *            caller's.
 * Errors:    not_found, bad_query, store_failed.
 */
#ifndef API_READS_H
#define API_READS_H

#include "api/edge.h"
#include "api/router.h"

enum { READ_WAIT_MAX_MS = 300000 };

/* route is an OBJECT, or a SERVICE. */
int read_object(struct edge *edge, const struct route *route, struct rendered **ret_rendered,
                struct error *error);
/* route is a LIST, or SERVICES. */
int read_list(struct edge *edge, const struct route *route, const struct uri *uri,
              struct rendered **ret_rendered, struct error *error);
/* Whether the records can be read. */
int read_ready(struct edge *edge, struct error *error);
int read_metrics(struct edge *edge, struct strbuf *body, struct error *error);

/* bad_query for any parameter, except "wait" where it is taken; then *ret_wait_ms is 0 when it is
 * not given. */
/* The query of a method: ?dryRun=true where it takes that. */
int read_check_call_query(const struct uri *uri, bool takes_dry_run, bool *ret_dry_run,
                          struct error *error);
int read_check_query(const struct uri *uri, bool takes_wait, uint64_t *ret_wait_ms,
                     struct error *error);
/* Whether there is still something to wait for. */
int read_job_running(struct edge *edge, const char *job_id, bool *ret_running, struct error *error);

/* The text of the contract. */
const char *read_openapi(size_t *ret_len);

#endif
