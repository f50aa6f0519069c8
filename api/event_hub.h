// SPDX-License-Identifier: Apache-2.0
/*
 * Streams of events: takes what control says has changed, renders it once, and wakes the streams that want it.
 *
 * Thread:    a thread of its own; event_stream_read() on those of the connections; start, stop and free from the thread of the
 *            server. One lock, held for copies of memory and wake-ups only; control takes another, shorter one.
 * Ownership: a stream is embedded in its request and belongs to the hub from event_hub_join() to event_hub_leave().
 * Errors:    event_hub_start() and event_hub_join() fill error.
 *
 * docs/design/events.md tells why. The end: event_hub_stop() ends every stream at its next boundary and joins the thread; from then
 * on it uses neither control nor the records. It may be freed when control has stopped and no connection is left.
 */
#ifndef API_EVENT_HUB_H
#define API_EVENT_HUB_H

#include <microhttpd.h>
#include <sys/types.h>

#include "api/event_log.h"
#include "base/error.h"

struct event_hub;

struct event_stream {
    struct MHD_Connection *connection; /* set before it joins, with the filter */
    struct event_filter filter;
    /* The hub's own. */
    struct event_hub *hub; /* NULL: it is in none */
    struct list link;
    uint64_t at; /* the last change that was sent or passed over */
    bool reset;  /* it has missed changes */
    bool begun;
    bool beat;
    bool suspended;
    bool gone;
    uint64_t sent_ms;
    struct rendered *sending;
    char words[128]; /* instead of sending: what is this stream's alone */
    const char *out;
    size_t left;
};

struct event_options {
    struct control *control;
    const char *data_dir;
    unsigned streams_max;
    unsigned beat_ms; /* 0: 15 s */
};
int event_hub_start(const struct event_options *options, struct event_hub **ret_hub,
                    struct error *error);
void event_hub_stop(struct event_hub *hub);
void event_hub_free(struct event_hub *hub); /* may be NULL */

/* last_event_id may be NULL. overloaded, shutting_down. */
int event_hub_join(struct event_hub *hub, struct event_stream *stream, const char *last_event_id,
                   struct error *error);
void event_hub_leave(struct event_stream *stream); /* also of a stream that has not joined */
/* For MHD_create_response_from_callback(), with the stream. */
ssize_t event_stream_read(void *stream, uint64_t position, char *buf, size_t max);

struct event_stats {
    unsigned streams;
    uint64_t events; /* published */
    uint64_t sent;   /* to all streams together */
    uint64_t resets;
};
struct event_stats event_hub_stats(struct event_hub *hub);

#endif
