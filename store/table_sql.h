// SPDX-License-Identifier: Apache-2.0
/*
 * Inside store/ only: for queries that table.c does not make but whose result is a whole row.
 *
 * Thread, Ownership, Errors: as in store/db.h.
 */
#ifndef STORE_TABLE_SQL_H
#define STORE_TABLE_SQL_H

#include "store/db.h"
#include "store/table.h"

/* Adds "SELECT seq, id, … FROM table". */
void table_select(const struct table *table, struct strbuf *sql);
/* Decodes the row on which a statement stands that begins with table_select(). */
int table_row_read(const struct table *table, struct statement *statement, void *ret_row);

#endif
