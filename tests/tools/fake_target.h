// SPDX-License-Identifier: Apache-2.0
/*
 * A target that misbehaves on demand: what no real target can be made to do, but some day does.
 *
 * Thread:    runs on a thread of its own, one connection at a time, blocking; the functions here may be called from the test's thread.
 * Ownership: fake_target_stop() joins the thread.
 * Errors:    aborts the test program.
 *
 * It has one LUN of 1 MiB in memory, 512-byte blocks, NAA name, UNMAP and WRITE SAME, and takes all write data without R2T.
 */
#ifndef TESTS_TOOLS_FAKE_TARGET_H
#define TESTS_TOOLS_FAKE_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { FAKE_BYTES = 1 << 20 };

/* How logins are answered. */
struct fake_login {
    uint8_t flags;      /* byte 1 of the response: T, C, CSG, NSG */
    uint16_t status;    /* class and detail */
    const char *text;   /* key=value pairs, separated by '\n' */
    const uint8_t *raw; /* instead of all: these bytes as they are */
    size_t raw_len;
    const uint8_t *behind; /* in one packet with it */
    size_t behind_len;
    bool close; /* after it */
};

/* Commands of this opcode (0x100: any that is not INQUIRY and the like) are answered with it. */
struct fake_fault {
    unsigned opcode; /* 0x9e12: GET LBA STATUS */
    unsigned skip;   /* so many pass first */
    unsigned count;  /* then so many fail */
    uint8_t status;  /* SCSI status */
    uint8_t key, asc, ascq;
    unsigned ahead; /* so many commands behind it, not yet received, get the same answer */
    bool silent;    /* no answer at all */
};

struct fake_target;

struct fake_target *fake_target_start(void);
void fake_target_stop(struct fake_target *fake);
void fake_target_address(const struct fake_target *fake, struct sockaddr_storage *ret_address);

/* The n-th response of each login; afterwards, and without any, logins are good. */
void fake_target_login(struct fake_target *fake, const struct fake_login *responses, unsigned n);
/* Replaces the fault. */
void fake_target_fault(struct fake_target *fake, const struct fake_fault *fault);
/* How many more commands than are open it allows: MaxCmdSN. */
void fake_target_window(struct fake_target *fake, unsigned window);
void fake_target_identity(struct fake_target *fake, uint8_t last_byte);
void fake_target_blocks(struct fake_target *fake, uint64_t blocks);
/* An asynchronous message (RFC 7143 11.9) before the next answer. */
void fake_target_async(struct fake_target *fake, uint8_t event);
/* LOGICAL UNIT RESET is answered with response (RFC 7143 11.6.1; 0, the default: done, and a unit attention follows),
 * or not at all (-1), or with Reject (-2). */
void fake_target_answer_resets(struct fake_target *fake, int response);
/* Ends the connection that there is. */
void fake_target_hang_up(struct fake_target *fake);
/* How often it came, for LUN 1. */
unsigned fake_target_resets(struct fake_target *fake);
/* How often the opcode came. */
unsigned fake_target_count(struct fake_target *fake, uint8_t opcode);
unsigned fake_target_logins(struct fake_target *fake);
/* The LUN's bytes. */
uint8_t *fake_target_data(struct fake_target *fake);

#endif
