// SPDX-License-Identifier: Apache-2.0
/*
 * The HTTP of the load generator: requests made ready beforehand, answers taken as they come.
 *
 * Thread:    one.
 * Ownership: a list owns the text of its requests; an answer is embedded.
 * Errors:    what is wrong with the list ends the program; what is wrong with an answer is -1.
 */
#ifndef BENCH_API_LOAD_HTTP_H
#define BENCH_API_LOAD_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct request {
    char *line; /* as in the file: VERB PATH[ BODY] */
    char *text; /* as it is sent; NULL: it has a $(Name) and is made when it is sent */
    size_t len;
    bool follows; /* on the connection of the one before it, after its answer, and not timed */
};

struct request_list {
    struct request *requests;
    size_t n_requests;
    size_t *units; /* where each request that is timed is; those that follow it come after */
    size_t n_units;
    char *headers; /* Host, Authorization */
};

/* One request a line; ">" before it says that it follows. header_file: one header line, or NULL. */
void request_list_read(struct request_list *list, const char *file, const char *host,
                       const char *header_file);
void request_list_free(struct request_list *list);
/* Makes the text of a request with $(Name) from the body of an answer; the caller frees it. */
char *request_make(const struct request_list *list, const struct request *request, const char *body,
                   size_t *ret_len);

enum { ANSWER_HEAD_MAX = 8192, ANSWER_KEPT = 4096 };

struct answer {
    char head[ANSWER_HEAD_MAX];
    size_t head_len;
    bool in_body;
    uint64_t left; /* of the body */
    int status;
    bool closes;
    char body[ANSWER_KEPT]; /* its beginning, ended by a 0 */
    size_t body_len;
};

void answer_begin(struct answer *answer);
/* Takes what was received. 1: the answer is complete, 0: there is more to come, -1: not HTTP as we
 * know it. */
int answer_take(struct answer *answer, const char *data, size_t len);

#endif
