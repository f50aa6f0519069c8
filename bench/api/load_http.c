// SPDX-License-Identifier: Apache-2.0
#include "bench/api/load_http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void __attribute__((noreturn)) give_up(const char *what, const char *why)
{
    fprintf(stderr, "bench_load: %s: %s\n", what, why);
    exit(2);
}

static void *must_have(void *memory)
{
    if (memory == NULL) {
        give_up("memory", "there is not enough");
    }
    return memory;
}

/* ---- requests ---- */

static char *render(const struct request_list *list, const char *line, size_t *ret_len)
{
    const char *path = strchr(line, ' ');
    if (path == NULL || path[1] != '/') {
        give_up(line, "not VERB /PATH [BODY]");
    }
    const char *body = strchr(path + 1, ' ');
    size_t target_len = body != NULL ? (size_t)(body - line) : strlen(line);
    const char *text = body != NULL ? body + 1 : "";
    bool bare = strncmp(line, "GET ", 4) == 0 || strncmp(line, "DELETE ", 7) == 0;
    char *made = NULL;
    int len;
    if (bare) {
        len = asprintf(&made, "%.*s HTTP/1.1\r\n%s\r\n", (int)target_len, line, list->headers);
    } else {
        len = asprintf(&made,
                       "%.*s HTTP/1.1\r\n%sContent-Type: application/json\r\nContent-Length: "
                       "%zu\r\n\r\n%s",
                       (int)target_len, line, list->headers, strlen(text), text);
    }
    if (len < 0) {
        must_have(NULL);
    }
    *ret_len = (size_t)len;
    return made;
}

/* The value of a member of a JSON object, where it is a string without escapes. */
static bool find_member(const char *body, const char *name, size_t name_len, const char **ret_value,
                        size_t *ret_len)
{
    for (const char *at = body; (at = strstr(at, "\":\"")) != NULL; at += 3) {
        if ((size_t)(at - body) > name_len && at[-1 - (ptrdiff_t)name_len] == '"' &&
            memcmp(at - name_len, name, name_len) == 0) {
            *ret_value = at + 3;
            *ret_len = strcspn(at + 3, "\"");
            return true;
        }
    }
    return false;
}

char *request_make(const struct request_list *list, const struct request *request, const char *body,
                   size_t *ret_len)
{
    char *line = must_have(strdup(request->line));
    for (;;) {
        char *mark = strstr(line, "$(");
        char *end = mark != NULL ? strchr(mark, ')') : NULL;
        if (end == NULL) {
            break;
        }
        const char *value;
        size_t value_len;
        if (!find_member(body, mark + 2, (size_t)(end - mark - 2), &value, &value_len)) {
            free(line);
            return NULL;
        }
        char *next;
        if (asprintf(&next, "%.*s%.*s%s", (int)(mark - line), line, (int)value_len, value,
                     end + 1) < 0) {
            must_have(NULL);
        }
        free(line);
        line = next;
    }
    char *made = render(list, line, ret_len);
    free(line);
    return made;
}

static char *read_first_line(const char *path)
{
    char *line = NULL;
    size_t room = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL || getline(&line, &room, file) < 0) {
        give_up(path, strerror(errno));
    }
    line[strcspn(line, "\r\n")] = '\0';
    fclose(file);
    return line;
}

static void make_headers(struct request_list *list, const char *host, const char *header_file)
{
    char *header = header_file != NULL ? read_first_line(header_file) : NULL;
    if (asprintf(&list->headers, "Host: %s\r\n%s%s", host, header != NULL ? header : "",
                 header != NULL ? "\r\n" : "") < 0) {
        must_have(NULL);
    }
    free(header);
}

void request_list_read(struct request_list *list, const char *path, const char *host,
                       const char *header_file)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    size_t allocated = 0;
    if (file == NULL) {
        give_up(path, strerror(errno));
    }
    *list = (struct request_list){0};
    make_headers(list, host, header_file);
    while (getline(&line, &room, file) >= 0) {
        bool follows = line[0] == '>';
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] == '\0') {
            continue;
        }
        if (follows && list->n_units == 0) {
            give_up(path, "the first request follows none");
        }
        if (list->n_requests == allocated) {
            allocated = allocated * 2 + 64;
            list->requests =
                must_have(realloc(list->requests, allocated * sizeof(*list->requests)));
            list->units = must_have(realloc(list->units, allocated * sizeof(*list->units)));
        }
        struct request *request = &list->requests[list->n_requests];
        *request = (struct request){.line = must_have(strdup(line + follows)), .follows = follows};
        if (strstr(request->line, "$(") == NULL) {
            request->text = render(list, request->line, &request->len);
        } else if (!follows) {
            give_up(request->line, "there is no answer before it that $(Name) could be in");
        }
        if (!follows) {
            list->units[list->n_units++] = list->n_requests;
        }
        list->n_requests++;
    }
    free(line);
    fclose(file);
    if (list->n_units == 0) {
        give_up(path, "there is no request in it");
    }
}

void request_list_free(struct request_list *list)
{
    for (size_t i = 0; i < list->n_requests; i++) {
        free(list->requests[i].line);
        free(list->requests[i].text);
    }
    free(list->requests);
    free(list->units);
    free(list->headers);
}

/* ---- answers ---- */

void answer_begin(struct answer *answer)
{
    answer->head_len = 0;
    answer->in_body = false;
    answer->left = 0;
    answer->status = 0;
    answer->closes = false;
    answer->body_len = 0;
    answer->body[0] = '\0';
}

static const char *header_value(const char *head, const char *name)
{
    size_t len = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, len) == 0 && line[2 + len] == ':') {
            return line + 2 + len + 1 + strspn(line + 2 + len + 1, " ");
        }
    }
    return NULL;
}

static int read_head(struct answer *answer)
{
    const char *head = answer->head;
    const char *length = header_value(head, "Content-Length");
    const char *connection = header_value(head, "Connection");
    if (strncmp(head, "HTTP/1.1 ", 9) != 0 || header_value(head, "Transfer-Encoding") != NULL) {
        return -1;
    }
    answer->status = atoi(head + 9);
    if (answer->status < 100 || (length == NULL && answer->status != 204)) {
        return -1;
    }
    answer->left = length != NULL ? strtoull(length, NULL, 10) : 0;
    answer->closes = connection != NULL && strncasecmp(connection, "close", 5) == 0;
    answer->in_body = true;
    return 0;
}

static int take_body(struct answer *answer, const char *data, size_t len)
{
    if (len > answer->left) {
        return -1; /* nothing was asked for that would come after it */
    }
    size_t kept = ANSWER_KEPT - 1 - answer->body_len;
    kept = len < kept ? len : kept;
    memcpy(answer->body + answer->body_len, data, kept);
    answer->body_len += kept;
    answer->body[answer->body_len] = '\0';
    answer->left -= len;
    return answer->left == 0;
}

int answer_take(struct answer *answer, const char *data, size_t len)
{
    if (answer->in_body) {
        return take_body(answer, data, len);
    }
    size_t before = answer->head_len;
    size_t taken = ANSWER_HEAD_MAX - 1 - before;
    taken = len < taken ? len : taken;
    memcpy(answer->head + before, data, taken);
    answer->head[before + taken] = '\0';
    answer->head_len += taken;

    const char *end = strstr(answer->head, "\r\n\r\n");
    if (end == NULL) {
        return answer->head_len == ANSWER_HEAD_MAX - 1 ? -1 : 0;
    }
    size_t used = (size_t)(end + 4 - answer->head) - before;
    if (read_head(answer) < 0) {
        return -1;
    }
    return take_body(answer, data + used, len - used);
}
