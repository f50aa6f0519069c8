// SPDX-License-Identifier: Apache-2.0
/* A body becomes values of a table, or an error that can be told; what the scan has admitted, cJSON
 * parses. */
#include <stdint.h>
#include <string.h>

#include "api/answer.h"
#include "api/json_args.h"
#include "api/json_out.h"
#include "api/utf8.h"
#include "base/check.h"
#include "tests/unit/api_fake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An error becomes a problem that is JSON again. */
static void check_problem(const struct error *error)
{
    struct strbuf body = STRBUF_INIT;
    struct strbuf scanned = STRBUF_INIT;
    struct error none;
    CHECK(error->code != ERR_NONE && error->code != ERR_NO_MEMORY);
    CHECK(utf8_valid(error->parameter, strlen(error->parameter)));
    CHECK(answer_problem(error, true, &body) == 400);
    CHECK(json_scan(body.data, body.len, &scanned, &none) == 0);
    strbuf_fini(&scanned);
    strbuf_fini(&body);
}

/* Values written out are JSON that gives the same values again. */
static void check_values(const struct values *values)
{
    struct strbuf body = STRBUF_INIT;
    struct json_out json;
    struct json_doc doc;
    struct arena arena;
    struct values *again;
    struct error error;
    json_out_init(&json, &body);
    out_begin_object(&json.out, NULL);
    for (size_t i = 0; i < values->n_params; i++) {
        struct param param = values->params[i];
        param.map = NULL; /* the companions with the names are no input */
        if ((param.direction & PARAM_IN) != 0 && param.type != PARAM_INSTANCE) {
            out_value(&json.out, &param, &values->values[i]);
        }
    }
    out_end_object(&json.out);
    CHECK(json_doc_parse(&doc, body.data, body.len, &error) == 0);
    arena_init(&arena);
    CHECK(json_args(&doc, &arena, values->params, values->n_params, &again, &error) == 0);
    for (size_t i = 0; i < values->n_params; i++) {
        const struct value *a = &values->values[i];
        const struct value *b = &again->values[i];
        if (values->params[i].type != PARAM_INSTANCE) {
            CHECK(a->present == b->present && a->number == b->number);
            CHECK(a->n_items == b->n_items);
            CHECK((a->text == NULL) == (b->text == NULL));
            CHECK(a->text == NULL || strcmp(a->text, b->text) == 0);
        }
    }
    arena_fini(&arena);
    json_doc_free(&doc);
    strbuf_fini(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_doc doc;
    struct error error = {0};
    struct arena arena;
    struct values *values;
    if (json_doc_parse(&doc, (const char *)data, size, &error) != 0) {
        check_problem(&error);
        return 0;
    }
    arena_init(&arena);
    if (json_args(&doc, &arena, fake_everything, fake_n_everything, &values, &error) == 0) {
        check_values(values);
    } else {
        check_problem(&error);
    }
    arena_fini(&arena);
    json_doc_free(&doc);
    return 0;
}
