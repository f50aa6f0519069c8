// SPDX-License-Identifier: Apache-2.0
/*
 * What a method is: tables of parameters, enumerations and classes, and the typed values that go in and out.
 *
 * Thread:    tables are constant. Values belong to the call whose arena they were made in.
 * Ownership: everything a value points to lives in the call's arena.
 * Errors:    struct error, codes wrong_type, bad_value, missing_parameter, … with the parameter named.
 *
 * From these tables come parsing, validation, GET /services/{id}, and a test that compares them with openapi.yaml. The
 * api turns JSON into values (type by type), the service checks what they mean.
 */
#ifndef SERVICE_METHOD_H
#define SERVICE_METHOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

enum param_type {
    PARAM_STRING,
    PARAM_BOOL,
    PARAM_U8,
    PARAM_U16,
    PARAM_U32,
    PARAM_U64,
    PARAM_DATETIME, /* kept as text; timestamps and intervals in all forms that base/timefmt.h reads */
    PARAM_REF,      /* path of an object, kept as text */
    PARAM_INSTANCE, /* an embedded CIM instance */
};
/* "string", "boolean", "uint8", … as openapi's x-parameters spells them. */
const char *param_type_name(enum param_type type);

enum param_direction { PARAM_IN = 1, PARAM_OUT = 2, PARAM_INOUT = 3 };

struct enum_value {
    uint32_t number;
    const char *text;
};

struct enum_map {
    const char *name; /* as in openapi's x-enums */
    const struct enum_value *values;
    size_t n_values;
};
/* The name of a number, or "Unknown". */
const char *enum_text(const struct enum_map *map, uint32_t number);
bool enum_has(const struct enum_map *map, uint32_t number);
/* By name, case-insensitive; blanks, hyphens and underscores do not count. -ENOENT when there is none. */
int enum_number(const struct enum_map *map, const char *text, uint32_t *ret_number);

/* A parameter of a method, or a property of an embedded class. */
struct param {
    const char *name;
    enum param_type type;
    enum param_direction direction;
    bool required;
    bool array;
    const char *class_name;         /* REF: class, as in "StorageVolume"; INSTANCE: class->name */
    const struct enum_map *map;     /* U16: the values that are taken, or NULL: any */
    const struct class_info *class; /* INSTANCE; NULL: an object of ours, its path is the value */
};

/* An embedded class: the properties that may be given (all PARAM_IN). */
struct class_info {
    const char *name; /* "ReplicationSettingData"; "CIM_ReplicationSettingData" is taken too */
    const struct param *params;
    size_t n_params;
};

struct value {
    bool present; /* false: NULL or absent */
    const char *text; /* STRING, DATETIME, REF */
    uint64_t number;  /* U8…U64, BOOL (0, 1) */
    struct values *instance;
    struct value *items; /* arrays: n_items single values (an item may be NULL: not present) */
    size_t n_items;
};

/* One value for each entry of a params table, in its order. */
struct values {
    const struct param *params;
    size_t n_params;
    struct value *values;
    struct arena *arena;
};

struct values *values_new(struct arena *arena, const struct param *params, size_t n_params);
/* The value of that name; CHECKs that the table has it. */
struct value *values_get(const struct values *values, const char *name);
const struct param *values_param(const struct values *values, const char *name);

/* Reading; absent gives the default. */
const char *args_text(const struct values *values, const char *name); /* NULL when absent */
uint64_t args_number(const struct values *values, const char *name, uint64_t absent);
bool args_bool(const struct values *values, const char *name, bool absent);
bool args_present(const struct values *values, const char *name);
const struct values *args_instance(const struct values *values, const char *name); /* NULL when absent */

/* Writing out parameters. */
void outs_text(struct values *values, const char *name, const char *text); /* copied; NULL leaves it NULL */
void outs_number(struct values *values, const char *name, uint64_t number);
void outs_path(struct values *values, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Appends to an array parameter. */
void outs_add_text(struct values *values, const char *name, const char *text);
void outs_add_number(struct values *values, const char *name, uint64_t number);
/* Makes an array parameter present even when nothing is appended. */
void outs_array(struct values *values, const char *name);
void outs_instance(struct values *values, const char *name, struct values *instance);
void outs_add_instance(struct values *values, const char *name, struct values *instance);

struct call;
/* 0: done (call->return_value, outs); negative: failed, call->error says why; CALL_PENDING: call_resume() follows. */
typedef int (*method_fn)(struct call *call);
enum { CALL_PENDING = 1 };

struct method {
    const char *name;
    const struct param *params; /* in signature order, with "Job" where the method has it */
    size_t n_params;
    method_fn handler; /* NULL: answers 1 Not Supported */
    const struct enum_map *return_values;
    bool read_only; /* changes nothing: no commit is needed */
};

/* "StorageConfigurationService", …; also the method tables of objects ("jobs"). */
struct service {
    const char *name;
    const char *class_name; /* CIM class without prefix */
    const struct method *methods;
    size_t n_methods;
};

const struct service *service_find(const char *name);
const struct service *const *service_all(size_t *ret_n); /* those under /services */
const struct method *service_method(const struct service *service, const char *name);

#endif
