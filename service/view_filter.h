// SPDX-License-Identifier: Apache-2.0
/*
 * Inside the views only: the filters of a list as conditions on columns.
 *
 * Thread:    that of the reader.
 * Ownership: conditions point into the struct view_where that holds them, and into the query.
 * Errors:    bad_query, naming the filter and what is allowed.
 */
#ifndef SERVICE_VIEW_FILTER_H
#define SERVICE_VIEW_FILTER_H

#include "service/view_parts.h"

enum { IDENTITY_KINDS = 4 };

struct view_where {
    struct condition conditions[VIEW_FILTERS_MAX + 1];
    unsigned n;
    char ids[VIEW_FILTERS_MAX][ID_SIZE];
    bool nothing; /* a filter that no object can meet */
    /* A volume's Name may stand for several identities: conditions[identity] is set to each in
     * turn. */
    bool by_identity;
    unsigned identity;
    char identities[IDENTITY_KINDS][NAME_SIZE];
};

int view_where_init(struct view_where *where, enum collection collection,
                    const struct view_kind *kind, const struct view_query *query,
                    struct error *error);

#endif
