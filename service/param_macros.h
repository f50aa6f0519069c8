// SPDX-License-Identifier: Apache-2.0
/*
 * Shorthands for tables of parameters: direction, then type, then R for required, then [] as ARR.
 *
 * Thread, Ownership, Errors: none; macros.
 */
#ifndef SERVICE_PARAM_MACROS_H
#define SERVICE_PARAM_MACROS_H

#define P_STRING(n)        {.name = n, .type = PARAM_STRING, .direction = PARAM_IN}
#define P_STRING_R(n)                                                                              \
    {.name = n, .type = PARAM_STRING, .direction = PARAM_IN, .required = true}
#define P_BOOL(n)          {.name = n, .type = PARAM_BOOL, .direction = PARAM_IN}
#define P_U16(n)           {.name = n, .type = PARAM_U16, .direction = PARAM_IN}
#define P_U8(n)            {.name = n, .type = PARAM_U8, .direction = PARAM_IN}
#define P_U32(n)           {.name = n, .type = PARAM_U32, .direction = PARAM_IN}
#define P_U64(n)           {.name = n, .type = PARAM_U64, .direction = PARAM_IN}
#define P_DATETIME(n)      {.name = n, .type = PARAM_DATETIME, .direction = PARAM_IN}
#define P_ENUM(n, m)       {.name = n, .type = PARAM_U16, .direction = PARAM_IN, .map = &map_##m}
#define P_ENUM_R(n, m)                                                                             \
    {.name = n, .type = PARAM_U16, .direction = PARAM_IN, .map = &map_##m, .required = true}
#define P_ENUMS(n, m)                                                                              \
    {.name = n, .type = PARAM_U16, .direction = PARAM_IN, .map = &map_##m, .array = true}
#define P_REF(n, c)        {.name = n, .type = PARAM_REF, .direction = PARAM_IN, .class_name = c}
#define P_REF_R(n, c)                                                                              \
    {.name = n, .type = PARAM_REF, .direction = PARAM_IN, .class_name = c, .required = true}
#define P_REFS(n, c)                                                                               \
    {.name = n, .type = PARAM_REF, .direction = PARAM_IN, .class_name = c, .array = true}
#define P_REFS_R(n, c)                                                                             \
    {.name = n,                                                                                    \
     .type = PARAM_REF,                                                                            \
     .direction = PARAM_IN,                                                                        \
     .class_name = c,                                                                              \
     .array = true,                                                                                \
     .required = true}
#define P_STRINGS(n)       {.name = n, .type = PARAM_STRING, .direction = PARAM_IN, .array = true}
#define P_INSTANCE(n, c)                                                                           \
    {.name = n, .type = PARAM_INSTANCE, .direction = PARAM_IN, .class_name = #c, .class = &class_##c}
#define P_INSTANCE_R(n, c)                                                                         \
    {.name = n,                                                                                    \
     .type = PARAM_INSTANCE,                                                                       \
     .direction = PARAM_IN,                                                                        \
     .class_name = #c,                                                                             \
     .class = &class_##c,                                                                          \
     .required = true}

#define P_OUT_JOB          P_OUT_REF("Job", "ConcreteJob")
#define P_OUT_REF(n, c)    {.name = n, .type = PARAM_REF, .direction = PARAM_OUT, .class_name = c}
#define P_OUT_REFS(n, c)                                                                           \
    {.name = n, .type = PARAM_REF, .direction = PARAM_OUT, .class_name = c, .array = true}
/* Paths in the call, whole objects in the answer: as a GET shows them. */
#define P_OUT_OBJECTS(n, c)                                                                        \
    {.name = n, .type = PARAM_INSTANCE, .direction = PARAM_OUT, .class_name = c, .array = true}
#define P_OUT_U16(n)       {.name = n, .type = PARAM_U16, .direction = PARAM_OUT}
#define P_OUT_U64(n)       {.name = n, .type = PARAM_U64, .direction = PARAM_OUT}
#define P_OUT_U64S(n)      {.name = n, .type = PARAM_U64, .direction = PARAM_OUT, .array = true}
#define P_OUT_STRING(n)    {.name = n, .type = PARAM_STRING, .direction = PARAM_OUT}
#define P_OUT_BOOLS(n)     {.name = n, .type = PARAM_BOOL, .direction = PARAM_OUT, .array = true}
#define P_OUT_ENUM(n, m)   {.name = n, .type = PARAM_U16, .direction = PARAM_OUT, .map = &map_##m}
#define P_OUT_ENUMS(n, m)                                                                          \
    {.name = n, .type = PARAM_U16, .direction = PARAM_OUT, .map = &map_##m, .array = true}
#define P_OUT_INSTANCE(n, c)                                                                       \
    {.name = n,                                                                                    \
     .type = PARAM_INSTANCE,                                                                       \
     .direction = PARAM_OUT,                                                                       \
     .class_name = #c,                                                                             \
     .class = &class_##c}
#define P_OUT_INSTANCES(n, c)                                                                      \
    {.name = n,                                                                                    \
     .type = PARAM_INSTANCE,                                                                       \
     .direction = PARAM_OUT,                                                                       \
     .class_name = #c,                                                                             \
     .class = &class_##c,                                                                          \
     .array = true}
#define P_INOUT_REF(n, c)  {.name = n, .type = PARAM_REF, .direction = PARAM_INOUT, .class_name = c}
#define P_INOUT_REFS(n, c)                                                                         \
    {.name = n, .type = PARAM_REF, .direction = PARAM_INOUT, .class_name = c, .array = true}
#define P_INOUT_STRING(n)  {.name = n, .type = PARAM_STRING, .direction = PARAM_INOUT}
#define P_INOUT_U64(n)     {.name = n, .type = PARAM_U64, .direction = PARAM_INOUT}

/* A method row; params is an array in scope. */
#define METHOD(n, p, h, r)                                                                         \
    {.name = n, .params = p, .n_params = ARRAY_LEN(p), .handler = h, .return_values = &map_##r}
#define METHOD_READ(n, p, h, r)                                                                    \
    {.name = n,                                                                                    \
     .params = p,                                                                                  \
     .n_params = ARRAY_LEN(p),                                                                     \
     .handler = h,                                                                                 \
     .return_values = &map_##r,                                                                    \
     .read_only = true}
/* There in the model, not in this product: answers 1 Not Supported. */
#define METHOD_NOT_SUPPORTED(n) {.name = n, .return_values = &map_returns_k6}

#endif
