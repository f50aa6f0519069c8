// SPDX-License-Identifier: Apache-2.0
/*
 * Debian's tgtd as a foreign target for tests: unprivileged, on a loopback port, everything in a temporary directory.
 *
 * Thread:    one; calls block until what they ask for is so.
 * Ownership: tgtd_stop() ends the process that tgtd_start() began (and no other) and removes the directory. The process also dies with the
 *            test.
 * Errors:    a call that fails prints why, with the end of tgtd's log, and exits the test program with status 1: no
 *            test can go on without its target.
 *
 * The configuration is remembered: tgtd_restart() brings the same targets up on the same port.
 */
#ifndef TESTS_TOOLS_TGTD_H
#define TESTS_TOOLS_TGTD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct tgtd;

struct tgtd_lun {
    unsigned lun;
    const char *file; /* name in the directory; made if it is not there */
    uint64_t size_bytes;
    unsigned block_bytes; /* 0: 512 */
    const char *bstype;   /* NULL: "rdwr", which knows UNMAP; "aio" is faster and refuses it */
    bool thin;
    bool read_only;
    const char *scsi_id; /* VPD 83; NULL: tgtd's own */
    const char *serial;  /* VPD 80; NULL: tgtd's own */
};

struct tgtd *tgtd_start(void);
void tgtd_stop(struct tgtd *tgtd);

uint16_t tgtd_port(const struct tgtd *tgtd);
void tgtd_address(const struct tgtd *tgtd, struct sockaddr_storage *ret_address);
/* Path of a file in the directory, in static memory. */
const char *tgtd_path(const struct tgtd *tgtd, const char *file);

/* A target that every initiator may see, with long bursts (see the fair tgtd in bench/). */
void tgtd_target(struct tgtd *tgtd, unsigned tid, const char *name);
void tgtd_target_remove(struct tgtd *tgtd, unsigned tid);
void tgtd_lun(struct tgtd *tgtd, unsigned tid, const struct tgtd_lun *lun);
void tgtd_lun_remove(struct tgtd *tgtd, unsigned tid, unsigned lun);
/* A parameter of a target: "HeaderDigest", "RedirectAddress", … */
void tgtd_option(struct tgtd *tgtd, unsigned tid, const char *name, const char *value);
/* CHAP: initiators prove themselves with it, or (outgoing) the target does. */
void tgtd_account(struct tgtd *tgtd, unsigned tid, const char *user, const char *secret,
                  bool outgoing);

/* kill -9, and wait until it is gone. */
void tgtd_kill(struct tgtd *tgtd);
/* After tgtd_kill(): the same again, or (forget) without any target. */
void tgtd_restart(struct tgtd *tgtd, bool forget);
/* SIGSTOP and SIGCONT. */
void tgtd_freeze(struct tgtd *tgtd);
void tgtd_thaw(struct tgtd *tgtd);

#endif
