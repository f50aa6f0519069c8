// SPDX-License-Identifier: Apache-2.0
/*
 * What a stream of events is asked for: ?class= and ?path=.
 *
 * Thread:    any.
 * Ownership: plain values.
 * Errors:    bad_query.
 *
 * Several values, separated by commas, are alternatives; class and path have both to fit.
 */
#ifndef API_EVENT_QUERY_H
#define API_EVENT_QUERY_H

#include "api/event_log.h"
#include "api/uri.h"

enum { EVENT_ID_MAX = 63 };

int event_query_parse(const struct uri *uri, struct event_filter *ret_filter, struct error *error);

#endif
