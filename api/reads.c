// SPDX-License-Identifier: Apache-2.0
#include "api/reads.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/json_out.h"
#include "base/check.h"
#include "base/timefmt.h"
#include "service/exports.h"

static int read_failed(struct error *error, int err)
{
    return error_set(error, ERR_STORE_FAILED, "The records could not be read (%s).",
                     strerror(-err));
}

static int no_memory(struct error *error)
{
    return error_set(error, ERR_NO_MEMORY, "There is not enough memory for the answer.");
}

/* A reader that sees one state of the records. */
static int begin(struct edge *edge, struct reader **ret_reader, struct error *error)
{
    struct reader *reader = edge_reader_take(edge);
    int err = db_read_begin(reader->db);
    if (err != 0) {
        edge_reader_give(edge, reader);
        return read_failed(error, err);
    }
    *ret_reader = reader;
    return 0;
}

static void end(struct edge *edge, struct reader *reader)
{
    db_read_end(reader->db);
    edge_reader_give(edge, reader);
}

/*
 * A GET that may have been rendered before: one of an object or a list. Its key is what it asks for
 * in one way of writing: "volumes/3f2a", "volumes?limit=100&cursor=c0".
 */
struct read {
    struct edge *edge;
    enum collection collection;
    const char *id;           /* of an object */
    struct view_query *query; /* of a list */
    struct strbuf key;
    struct strbuf body;
    struct strbuf link;
};

static int render_object(struct read *read, struct db *db, bool *ret_lasting, struct error *error)
{
    struct json_out json;
    json_out_init(&json, &read->body);
    int err =
        view_object(db, read->edge->control, read->collection, read->id, &json.out, ret_lasting);
    if (err == -ENOENT) {
        return error_set(error, ERR_NOT_FOUND, "There is no /%s/%s.",
                         view_collections[read->collection].path, read->id);
    }
    return err != 0 ? read_failed(error, err) : 0;
}

static void add_query(struct strbuf *text, const struct view_query *query, int64_t after_seq)
{
    strbuf_printf(text, "?limit=%" PRIu64 "&cursor=c%" PRIx64, query->limit, (uint64_t)after_seq);
    for (unsigned i = 0; i < query->n_filters; i++) {
        strbuf_putc(text, '&');
        uri_encode(text, query->filters[i].name);
        strbuf_putc(text, '=');
        uri_encode(text, query->filters[i].value);
    }
}

static int render_list(struct read *read, struct db *db, bool *ret_lasting, struct error *error)
{
    struct view_page page = {0};
    struct json_out json;
    json_out_init(&json, &read->body);
    out_begin_object(&json.out, NULL);
    out_begin_array(&json.out, "Members");
    int err =
        view_list(db, read->edge->control, read->collection, read->query, &json.out, &page, error);
    if (err != 0) {
        return error->code != ERR_NONE ? err : read_failed(error, err);
    }
    out_end_array(&json.out);
    out_number(&json.out, "Total", page.total);
    out_end_object(&json.out);
    if (page.more) {
        strbuf_printf(&read->link, "</%s", view_collections[read->collection].path);
        add_query(&read->link, read->query, page.last_seq);
        strbuf_puts(&read->link, ">; rel=\"next\"");
    }
    *ret_lasting = page.lasting;
    return 0;
}

/* Whatever the cache has was rendered from this very snapshot. */
static int find_or_render(struct read *read, struct reader *reader, struct rendered **ret_rendered,
                          struct error *error)
{
    uint64_t version;
    bool lasting = false;
    int err = db_read_version(reader->db, &version);
    if (err != 0) {
        return read_failed(error, err);
    }
    struct rendered *rendered = read_cache_get(&reader->cache, version, strbuf_str(&read->key));
    if (rendered == NULL) {
        err = read->query != NULL ? render_list(read, reader->db, &lasting, error)
                                  : render_object(read, reader->db, &lasting, error);
        if (err != 0) {
            return err;
        }
        if (strbuf_error(&read->link) == 0) {
            rendered = rendered_new(&read->body, strbuf_str(&read->link));
        }
        if (rendered == NULL) {
            return no_memory(error);
        }
        if (lasting) {
            read_cache_put(&reader->cache, version, strbuf_str(&read->key), rendered);
        }
    }
    *ret_rendered = rendered;
    return 0;
}

static int read_rendered(struct read *read, struct rendered **ret_rendered, struct error *error)
{
    struct reader *reader;
    int err = strbuf_error(&read->key) == 0 ? 0 : no_memory(error);
    if (err == 0) {
        err = begin(read->edge, &reader, error);
    }
    if (err == 0) {
        err = find_or_render(read, reader, ret_rendered, error);
        end(read->edge, reader);
    }
    strbuf_fini(&read->key);
    strbuf_fini(&read->body);
    strbuf_fini(&read->link);
    return err;
}

int read_object(struct edge *edge, const struct route *route, struct rendered **ret_rendered,
                struct error *error)
{
    bool service = route->kind == ROUTE_SERVICE;
    struct read read = {
        .edge = edge,
        .collection = service ? COLLECTION_SERVICES : route->collection,
        .id = service ? route->service->name : route->id,
    };
    strbuf_printf(&read.key, "%s/%s", view_collections[read.collection].path, read.id);
    return read_rendered(&read, ret_rendered, error);
}

static int bad_query(struct error *error, const char *name, const char *text)
{
    return error_param(error, ERR_BAD_QUERY, name, "%.80s %s", name, text);
}

/* Only digits, 1 to max. */
static bool parse_number(const char *text, uint64_t max, uint64_t *ret_number)
{
    uint64_t number = 0;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p < '0' || *p > '9' || p - text >= 18) {
            return false;
        }
        number = number * 10 + (uint64_t)(*p - '0');
    }
    *ret_number = number;
    return number >= 1 && number <= max;
}

/* Cursors are opaque to clients: "c" and the sequence number in hexadecimal digits. */
static bool parse_cursor(const char *text, int64_t *ret_seq)
{
    uint64_t seq = 0;
    size_t len = strlen(text);
    if (text[0] != 'c' || len < 2 || len > 16) {
        return false;
    }
    for (const char *p = text + 1; *p != '\0'; p++) {
        if (*p >= '0' && *p <= '9') {
            seq = seq * 16 + (uint64_t)(*p - '0');
        } else if (*p >= 'a' && *p <= 'f') {
            seq = seq * 16 + (uint64_t)(*p - 'a') + 10;
        } else {
            return false;
        }
    }
    *ret_seq = (int64_t)seq;
    return true;
}

static int parse_list_query(const struct uri *uri, struct view_query *query, struct error *error)
{
    *query = (struct view_query){.limit = VIEW_LIMIT_DEFAULT};
    for (unsigned i = 0; i < uri->n_params; i++) {
        const struct uri_param *param = &uri->params[i];
        if (strcmp(param->name, "limit") == 0) {
            if (!parse_number(param->value, VIEW_LIMIT_MAX, &query->limit)) {
                return bad_query(error, param->name, "has to be a number from 1 to 1000.");
            }
        } else if (strcmp(param->name, "cursor") == 0) {
            if (!parse_cursor(param->value, &query->after_seq)) {
                return bad_query(error, param->name,
                                 "has to be taken from the Link header of the page before.");
            }
        } else if (query->n_filters == VIEW_FILTERS_MAX) {
            return error_set(error, ERR_BAD_QUERY, "There are more than %d filters.",
                             VIEW_FILTERS_MAX);
        } else {
            query->filters[query->n_filters].name = param->name;
            query->filters[query->n_filters].value = param->value;
            query->n_filters++;
        }
    }
    return 0;
}

int read_list(struct edge *edge, const struct route *route, const struct uri *uri,
              struct rendered **ret_rendered, struct error *error)
{
    struct view_query query;
    struct read read = {
        .edge = edge,
        .collection = route->kind == ROUTE_SERVICES ? COLLECTION_SERVICES : route->collection,
        .query = &query,
    };
    int err = parse_list_query(uri, &query, error);
    if (err != 0) {
        return err;
    }
    strbuf_puts(&read.key, view_collections[read.collection].path);
    add_query(&read.key, &query, query.after_seq);
    return read_rendered(&read, ret_rendered, error);
}

/* Not out of the cache: this asks whether the records can be read now. */
int read_ready(struct edge *edge, struct error *error)
{
    struct read read = {.edge = edge, .collection = COLLECTION_SYSTEMS, .id = "local"};
    struct reader *reader;
    bool lasting;
    int err = begin(edge, &reader, error);
    if (err == 0) {
        err = render_object(&read, reader->db, &lasting, error);
        end(edge, reader);
    }
    strbuf_fini(&read.body);
    return err;
}

static void print_jobs(struct db *db, struct control *control, struct strbuf *body)
{
    static const struct {
        const char *number;
        const char *text;
    } states[] = {{"2", "New"},        {"3", "Starting"},      {"4", "Running"},
                  {"5", "Suspended"},  {"6", "Shutting Down"}, {"7", "Completed"},
                  {"8", "Terminated"}, {"9", "Killed"},        {"10", "Exception"}};
    metrics_print_head(body, "smirror_jobs", "gauge", "Jobs that are kept, by JobState.");
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        struct view_query query = {.limit = 1, .n_filters = 1};
        struct view_page page = {0};
        struct strbuf ignored = STRBUF_INIT;
        struct json_out json;
        query.filters[0].name = "JobState";
        query.filters[0].value = states[i].number;
        json_out_init(&json, &ignored);
        if (view_list(db, control, COLLECTION_JOBS, &query, &json.out, &page, NULL) == 0) {
            strbuf_printf(body, "smirror_jobs{state=\"%s\"} %" PRIu64 "\n", states[i].text,
                          page.total);
        }
        strbuf_fini(&ignored);
    }
}

static void print_target(struct control *control, struct strbuf *body)
{
    struct exports_stats stats;
    if (!exports_numbers(control, &stats)) {
        return;
    }
    const struct target_stats *sum = &stats.sum;
    const struct {
        const char *name;
        const char *type;
        const char *help;
        uint64_t value;
    } rows[] = {
        {"targets", "gauge", "Targets that are served.", stats.targets},
        {"connections", "gauge", "iSCSI connections.", stats.server.connections},
        {"sessions", "gauge", "Sessions that are logged in.", sum->sessions},
        {"accepted_total", "counter", "Connections accepted.", stats.server.accepted},
        {"refused_total", "counter", "Connections over a limit.", stats.server.refused},
        {"login_timeouts_total", "counter", "Connections that did not log in in time.",
         stats.server.login_timeouts},
        {"logins_total", "counter", "Logins.", sum->logins},
        {"login_failures_total", "counter", "Logins refused.",
         sum->login_failures + stats.server.login_failures},
        {"commands_total", "counter", "SCSI commands.", sum->commands},
        {"reads_total", "counter", "Commands that read.", sum->reads},
        {"read_bytes_total", "counter", "Bytes sent to initiators.", sum->read_bytes},
        {"writes_total", "counter", "Commands that write.", sum->writes},
        {"write_bytes_total", "counter", "Bytes received from initiators.", sum->write_bytes},
        {"check_conditions_total", "counter", "Commands that ended with CHECK CONDITION.",
         sum->check_conditions},
        {"reservation_conflicts_total", "counter", "Commands refused by a reservation.",
         sum->reservation_conflicts},
        {"task_management_total", "counter", "Task management requests.", sum->task_management},
        {"aborted_tasks_total", "counter", "Commands that were aborted.", sum->aborted_tasks},
        {"digest_errors_total", "counter", "PDUs with a wrong digest.", sum->digest_errors},
        {"protocol_errors_total", "counter", "PDUs that break the protocol.", sum->protocol_errors},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char name[64];
        snprintf(name, sizeof(name), "smirror_iscsi_%s", rows[i].name);
        metrics_print_value(body, name, rows[i].type, rows[i].help, (double)rows[i].value);
    }
}

static void print_events(struct event_hub *events, struct strbuf *body)
{
    struct event_stats stats = event_hub_stats(events);
    metrics_print_value(body, "smirror_event_streams", "gauge", "Streams of events.",
                        (double)stats.streams);
    metrics_print_value(body, "smirror_events_total", "counter",
                        "Changes that were rendered for streams.", (double)stats.events);
    metrics_print_value(body, "smirror_events_sent_total", "counter",
                        "Changes sent, over all streams.", (double)stats.sent);
    metrics_print_value(body, "smirror_event_resets_total", "counter",
                        "Streams that were told to read the lists again.", (double)stats.resets);
}

int read_metrics(struct edge *edge, struct strbuf *body, struct error *error)
{
    struct reader *reader;
    int err = begin(edge, &reader, error);
    if (err != 0) {
        return err;
    }
    print_jobs(reader->db, edge->control, body);
    end(edge, reader);

    struct control_stats stats = control_stats(edge->control);
    metrics_print_head(body, "smirror_info", "gauge", "The version that runs.");
    strbuf_printf(body, "smirror_info{version=\"%s\"} 1\n", SMIRROR_VERSION);
    metrics_print_value(body, "smirror_control_calls_total", "counter",
                        "Calls that control has taken.", (double)stats.calls);
    metrics_print_value(body, "smirror_control_batches_total", "counter",
                        "Batches of calls, one transaction each.", (double)stats.batches);
    metrics_print_value(body, "smirror_control_queued", "gauge", "Calls that wait for control.",
                        (double)stats.queued);
    metrics_print_value(body, "smirror_copy_read_bytes_total", "counter",
                        "Bytes that copies have read from their sources.",
                        (double)stats.bytes_read);
    metrics_print_value(body, "smirror_copy_written_bytes_total", "counter",
                        "Bytes that copies have written as data.", (double)stats.bytes_written);
    metrics_print_value(body, "smirror_copy_zeroed_bytes_total", "counter",
                        "Bytes that copies have zeroed or unmapped.", (double)stats.bytes_zeroed);
    metrics_print_value(body, "smirror_copy_skipped_bytes_total", "counter",
                        "Bytes that needed nothing to be done.", (double)stats.bytes_skipped);
    print_target(edge->control, body);
    metrics_print_value(body, "smirror_store_commits_total", "counter", "Commits of the records.",
                        (double)stats.commits);
    metrics_print_value(body, "smirror_store_commit_seconds_total", "counter",
                        "Time spent in commits.", (double)stats.commit_ns / 1e9);
    print_events(edge->events, body);
    metrics_print(&edge->metrics, body);
    return strbuf_error(body) == 0 ? 0 : no_memory(error);
}

/* Up to six digits and a unit, "500ms", "30s", "5m"; or ISO 8601, "PT30S". */
static bool parse_wait(const char *text, uint64_t *ret_ms)
{
    uint64_t ms;
    size_t digits = strspn(text, "0123456789");
    const char *unit = text + digits;
    bool is_short = digits >= 1 && digits <= 6 &&
                    (strcmp(unit, "ms") == 0 || strcmp(unit, "s") == 0 || strcmp(unit, "m") == 0);
    if ((!is_short && text[0] != 'P') || timefmt_parse_duration(text, &ms) != 0) {
        return false;
    }
    *ret_ms = ms < READ_WAIT_MAX_MS ? ms : READ_WAIT_MAX_MS;
    return true;
}

int read_check_call_query(const struct uri *uri, bool takes_dry_run, bool *ret_dry_run,
                          struct error *error)
{
    *ret_dry_run = false;
    for (unsigned i = 0; i < uri->n_params; i++) {
        const struct uri_param *param = &uri->params[i];
        if (!takes_dry_run || strcmp(param->name, "dryRun") != 0) {
            return bad_query(error, param->name, "is not a query parameter of this resource.");
        }
        *ret_dry_run = strcmp(param->value, "true") == 0;
        if (!*ret_dry_run && strcmp(param->value, "false") != 0) {
            return bad_query(error, param->name, "has to be true or false.");
        }
    }
    return 0;
}

int read_check_query(const struct uri *uri, bool takes_wait, uint64_t *ret_wait_ms,
                     struct error *error)
{
    uint64_t wait_ms = 0;
    for (unsigned i = 0; i < uri->n_params; i++) {
        const struct uri_param *param = &uri->params[i];
        if (!takes_wait || strcmp(param->name, "wait") != 0) {
            return bad_query(error, param->name, "is not a query parameter of this resource.");
        }
        if (!parse_wait(param->value, &wait_ms)) {
            return bad_query(error, param->name, "has to be a duration like 30s, 500ms or 5m.");
        }
    }
    *ret_wait_ms = wait_ms;
    return 0;
}

int read_job_running(struct edge *edge, const char *job_id, bool *ret_running, struct error *error)
{
    struct reader *reader;
    bool ended = true;
    int err = begin(edge, &reader, error);
    if (err != 0) {
        return err;
    }
    err = view_job_ended(reader->db, job_id, &ended);
    end(edge, reader);
    if (err != 0 && err != -ENOENT) {
        return read_failed(error, err);
    }
    *ret_running = err == 0 && !ended;
    return 0;
}
