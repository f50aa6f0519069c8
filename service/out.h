// SPDX-License-Identifier: Apache-2.0
/*
 * Where views write an object's properties: a sink of named values; the api's is a JSON writer.
 *
 * Thread:    that of the reader.
 * Ownership: texts are used before the call returns.
 * Errors:    none here; a sink latches its own.
 *
 * name is NULL for the items of an array.
 */
#ifndef SERVICE_OUT_H
#define SERVICE_OUT_H

#include <stdbool.h>
#include <stdint.h>

#include "service/method.h"

struct out;
struct out_ops {
    void (*begin_object)(struct out *out, const char *name);
    void (*end_object)(struct out *out);
    void (*begin_array)(struct out *out, const char *name);
    void (*end_array)(struct out *out);
    void (*text)(struct out *out, const char *name, const char *text); /* NULL: null */
    void (*number)(struct out *out, const char *name, uint64_t number);
    void (*boolean)(struct out *out, const char *name, bool value);
    void (*raw)(struct out *out, const char *name, const char *rendered); /* kept output of the same kind of sink */
};
struct out {
    const struct out_ops *ops;
};

void out_begin_object(struct out *out, const char *name);
void out_end_object(struct out *out);
void out_begin_array(struct out *out, const char *name);
void out_end_array(struct out *out);
void out_text(struct out *out, const char *name, const char *text);
void out_number(struct out *out, const char *name, uint64_t number);
void out_bool(struct out *out, const char *name, bool value);
void out_null(struct out *out, const char *name);
void out_raw(struct out *out, const char *name, const char *rendered);
/* "" is null */
void out_text_or_null(struct out *out, const char *name, const char *text);
/* name: number, nameText: its name */
void out_enum(struct out *out, const char *name, const struct enum_map *map, uint32_t number);
/* "nameText", for the names beside numbers */
enum { OUT_COMPANION_SIZE = 96 };
const char *out_companion(const char *name, char ret_companion[OUT_COMPANION_SIZE]);
/* "/collection/id", null when id is "" */
void out_ref(struct out *out, const char *name, const char *collection, const char *id);
/* RFC 3339; 0 is null */
void out_time(struct out *out, const char *name, uint64_t ms);
/* ISO 8601 duration */
void out_interval(struct out *out, const char *name, uint64_t ms);
/* All values of a table entry: out parameters of a call, or an embedded instance. Absent ones are null. Names of
 * enumerations go with it, but not inside an instance whose properties can also be sent. */
void out_value(struct out *out, const struct param *param, const struct value *value);

#endif
