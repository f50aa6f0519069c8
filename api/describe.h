// SPDX-License-Identifier: Apache-2.0
/*
 * The methods of a service as GET /services shows them, out of the tables that also drive parsing.
 *
 * Thread:    any.
 * Ownership: writes to the sink.
 * Errors:    none.
 */
#ifndef API_DESCRIBE_H
#define API_DESCRIBE_H

#include "service/method.h"
#include "service/out.h"

/* The array of methods, as entry `name`. */
void describe_methods(struct out *out, const char *name, const struct service *service);

#endif
