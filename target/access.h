// SPDX-License-Identifier: Apache-2.0
/*
 * Who may log in: an immutable copy of a struct target_access.
 *
 * Thread:    any; the count of references is atomic, the content never changes.
 * Ownership: access_new() gives one reference.
 * Errors:    access_new(): invalid_parameter, no_memory.
 */
#ifndef TARGET_ACCESS_H
#define TARGET_ACCESS_H

#include <stdatomic.h>

#include "target/target.h"

struct access {
    atomic_uint refs;
    size_t n_initiators;
    struct target_initiator initiators[];
};

int access_new(const struct target_access *spec, struct access **ret_access, struct error *error);
struct access *access_ref(struct access *access);
void access_unref(struct access *access);

/* The row for a name, or NULL: not let in. */
const struct target_initiator *access_find(const struct access *access, const char *initiator);

/* iqn.…, eui.…, naa.… within the length of RFC 7143. */
bool access_name_is_valid(const char *name);

#endif
