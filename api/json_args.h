// SPDX-License-Identifier: Apache-2.0
/*
 * From a JSON object to the typed values of a table of parameters.
 *
 * Thread:    any.
 * Ownership: the values live in the arena; nothing points into the document.
 * Errors:    bad_json, unknown_member, out_parameter (the method was not called); wrong_type,
 * bad_value, missing_parameter (5 Invalid Parameter). The parameter is named: "Goal.CopyPriority",
 * "SourceElements[2]".
 *
 * Names are checked before values, values in the order of the table, what is missing last; so an
 * answer does not depend on the order of the members. No text of the client's is repeated in a
 * detail, except names of members and enumeration values: it may be a secret.
 */
#ifndef API_JSON_ARGS_H
#define API_JSON_ARGS_H

#include "api/json_scan.h"
#include "service/method.h"

enum { JSON_TEXT_MAX = 65536 };

int json_args(const struct json_doc *doc, struct arena *arena, const struct param *params,
              size_t n_params, struct values **ret_values, struct error *error);

#endif
