// SPDX-License-Identifier: Apache-2.0
/*
 * What the files of a connection know of each other.
 *
 * Thread:    the connection's loop.
 * Ownership: as target/connection.h.
 * Errors:    as target/connection.h.
 */
#ifndef TARGET_CONNECTION_PRIVATE_H
#define TARGET_CONNECTION_PRIVATE_H

#include "target/connection.h"

/* connection.c: asks the loop for what the connection can make use of now. */
void connection_set_events(struct connection *conn);

/* transmit.c */
void transmit_run(void *arg);
/* Lets go of messages, and of tasks without ending them. */
void transmit_release(struct connection *conn, struct list *items);

/* receive.c */
void receive_read(struct connection *conn);
void receive_parse(struct connection *conn);
void receive_buffer_there(void *arg);
void receive_resume(void *arg);

/* attach.c: a PDU of the login phase is in rx_bhs and rx_data. */
void attach_receive(struct connection *conn);
void attach_refuse(struct connection *conn, enum login_status status);

#endif
