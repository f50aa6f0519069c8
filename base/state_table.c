// SPDX-License-Identifier: Apache-2.0
#include "base/state_table.h"

#include <string.h>

#include "base/check.h"
#include "base/log.h"

bool state_may_move(const struct state_table *table, unsigned from, unsigned to)
{
    CHECK(table->count <= STATE_TABLE_MAX && from < table->count && to < table->count);
    return (table->moves[from] & STATE_TO(to)) != 0;
}

void state_move(const struct state_table *table, unsigned *state, unsigned to, const char *owner)
{
    if (!state_may_move(table, *state, to)) {
        log_error("%s[%s] may not move from %s to %s", table->name, owner,
                  state_name(table, *state), state_name(table, to));
        CHECK(!"a move that the state table allows");
    }
    log_debug("%s[%s] %s > %s", table->name, owner, state_name(table, *state),
              state_name(table, to));
    *state = to;
}

const char *state_name(const struct state_table *table, unsigned state)
{
    CHECK(state < table->count && table->names[state] != NULL);
    return table->names[state];
}

int state_by_name(const struct state_table *table, const char *name)
{
    for (unsigned state = 0; state < table->count; state++) {
        if (table->names[state] && strcmp(table->names[state], name) == 0) {
            return (int)state;
        }
    }
    return -1;
}
