// SPDX-License-Identifier: Apache-2.0
/*
 * LUNs of other iSCSI targets: as block devices that redial by themselves, and the questions one
 * asks before (probe, discovery, list of LUNs).
 *
 * Thread:    everything on the loop that was given at the start; callbacks come there, never before
 * the start has returned. Ownership: a spec is copied. Results handed to a callback belong to the
 * callee's caller and end when it returns, except a struct blockdev, which is the receiver's until
 * blockdev_close(). An iscsi_op ends when its callback is called or by iscsi_op_cancel(), whichever
 * comes first. Errors:    struct error, filled where the cause is known: remote_unreachable
 * connection refused, no route, connection lost timeout                  nothing came within the
 * time remote_refused           login refused: authentication, authorisation, the target did not
 * prove itself no_matching_target       the portal does not know the target name
 *              no_matching_logical_unit the target has no such LUN
 *              incompatible_element     there is a LUN but it is not a disk, or it is not ready or
 * has no medium lun_changed              not the LUN that the spec expects address_not_allowed a
 * redirect led to an address that the filter refuses not_supported            the spec wants what
 * this initiator cannot do (data digests) invalid_parameter        the spec contradicts itself
 *              remote_error             protocol errors and unexpected sense
 *            A detail never contains a secret.
 *
 * What a device does by itself (see block/blockdev.h for the contract): splits, queues beyond what
 * the target takes, retries UNIT ATTENTION, BUSY, TASK SET FULL and ABORTED COMMAND, falls back
 * where the target refuses a command. When the link is lost, every outstanding request completes
 * with -ENOTCONN, DOWN is reported, and it dials again; requests are accepted again after identity,
 * size and block size have been read and found to be the same (UP). A LUN that has become another
 * one is reported once (CHANGED) and answers -ESTALE from then on. A LUN that grew is the same LUN;
 * info.size_bytes stays.
 */
#ifndef BLOCK_ISCSI_DEV_H
#define BLOCK_ISCSI_DEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"
#include "base/loop.h"
#include "base/sockaddr.h"
#include "block/blockdev.h"

enum {
    ISCSI_MAX_PORTALS = 8,
    ISCSI_NAME_SIZE = 224,     /* RFC 7143 4.2.7.1: 223 bytes */
    ISCSI_ALIAS_SIZE = 256,    /* RFC 7143 6.1: 255 bytes */
    ISCSI_CHAP_SIZE = 256,     /* what libiscsi takes, with the final zero */
    ISCSI_IDENTITY_SIZE = 160, /* "t10." and the longest designator that is kept */
    ISCSI_ADDRESS_SIZE = 272,  /* a name or number, a port, a portal group tag */
};

enum iscsi_digest {
    ISCSI_DIGEST_NONE,
    ISCSI_DIGEST_PREFER,  /* CRC32C when the target can */
    ISCSI_DIGEST_REQUIRE, /* CRC32C or no session */
};

struct iscsi_chap {
    char user[ISCSI_CHAP_SIZE]; /* "": none */
    char secret[ISCSI_CHAP_SIZE];
};

/* 0: address may be dialled. Otherwise fills *error and returns its negative errno. Called on the
 * loop of the device for every address that a target hands back (login redirect), not for those of
 * the spec. */
typedef int (*iscsi_address_filter_fn)(void *arg, const struct sockaddr_storage *address,
                                       struct error *error);

struct iscsi_spec {
    /* Where: numeric, already checked by the caller, with port; tried in this order, round after
     * round. */
    struct sockaddr_storage portals[ISCSI_MAX_PORTALS];
    unsigned n_portals;
    struct sockaddr_storage source; /* the address of ours that is dialled from; family 0: any */
    char initiator[ISCSI_NAME_SIZE];
    char target[ISCSI_NAME_SIZE]; /* not for discovery */
    char alias
        [ISCSI_ALIAS_SIZE]; /* InitiatorAlias: what the target may show its administrator; "": none */
    uint16_t lun; /* the first two bytes of the LUN field, as REPORT LUNS gives them: below 256
                     the number itself, 0x4000 | number in the flat space */
    struct iscsi_chap chap;        /* we prove ourselves */
    struct iscsi_chap mutual_chap; /* the target must prove itself; needs chap */
    enum iscsi_digest header_digest;
    enum iscsi_digest
        data_digest; /* libiscsi 1.19 has none: PREFER is ignored, REQUIRE answers not_supported */
    /* Names the session at the target (40 bits are used): the same number each time, so that a new
     * login ends the old session and its tasks. Different for every session that shall exist at a
     * time. 0: random, the same for the life of a device. */
    uint64_t isid;
    /* Only for a LUN that nobody but this device may write to and nobody counts on now (the target of a
     * copy): once it is known to be the right one, LOGICAL UNIT RESET ends what an older session may
     * still have under way there, before requests are accepted. fence: at each redial; fence_open: at the
     * open as well. A target that refuses it is waited for, two seconds. */
    bool fence;
    bool fence_open;

    /* What it must be, checked at every login. "" or 0: whatever the first login finds. */
    char identity[ISCSI_IDENTITY_SIZE];
    uint64_t size_bytes; /* a larger LUN is fine: then info.size_bytes is this number */
    uint32_t block_bytes;

    /* 0: the default. */
    uint32_t
        open_timeout_ms; /* 30000: all portals together, for open, probe, discovery, list of LUNs */
    uint32_t connect_timeout_ms; /* 10000: one portal, from the dial to the end of the checks */
    uint32_t stall_timeout_ms;   /* 15000: with something outstanding and no answer to anything, the
                                    link is lost */
    uint32_t command_timeout_ms; /* four times that, but at least 60000: a command is not answered
                                    although NOPs are; the link is given up */
    uint32_t backoff_min_ms;     /* 100 */
    uint32_t backoff_max_ms;     /* 10000 */
    uint32_t max_inflight;       /* 64: commands at the target, at most */

    iscsi_address_filter_fn address_filter; /* NULL: no redirect is followed */
    void *address_filter_arg;
};

enum iscsi_identity_kind {
    ISCSI_IDENTITY_NONE,
    ISCSI_IDENTITY_NAA,    /* "naa.6000…" */
    ISCSI_IDENTITY_EUI64,  /* "eui.…" */
    ISCSI_IDENTITY_T10,    /* "t10.…" */
    ISCSI_IDENTITY_SERIAL, /* "serial.…" */
};
const char *iscsi_identity_kind_name(enum iscsi_identity_kind kind);

struct iscsi_lun_info {
    uint64_t size_bytes;
    uint32_t block_bytes;
    uint32_t physical_bytes;
    bool thin;  /* LBPME, and the provisioning type of VPD B2 is thin where it is told */
    bool lbpme; /* logical block provisioning management enabled */
    bool lbprz; /* unmapped blocks read as zeros */
    bool write_protected;
    uint8_t peripheral_type;
    char vendor[9];
    char product[17];
    char revision[5];
    char serial[128];
    enum iscsi_identity_kind identity_kind;
    char identity[ISCSI_IDENTITY_SIZE]; /* printable ASCII, no spaces at the ends */
    uint64_t t10_hash; /* of the T10 vendor names, which some targets (tgtd) keep apart better than
                          their NAA names; 0: none */
    char portal[SOCKADDR_TEXT_LEN]; /* where it was found, after redirects */

    /* VPD B0 and B2; 0: not told. In blocks, except max_unmap_descriptors. */
    bool has_limits;
    bool has_provisioning;
    uint32_t max_transfer_blocks;
    uint32_t optimal_transfer_blocks;
    uint32_t max_unmap_blocks;
    uint32_t max_unmap_descriptors;
    uint32_t unmap_granularity_blocks;
    uint32_t unmap_alignment_blocks; /* offset of the first granule; 0 where UGAVALID is not set */
    uint64_t max_write_same_blocks;
    bool wsnz; /* WRITE SAME with number of blocks 0 is refused */
    bool lbpu; /* UNMAP */
    bool lbpws;
    bool lbpws10;
};

/* One target of a SendTargets answer. Addresses are numeric text as the target gave it:
 * "192.0.2.1:3260,1" or
 * "[2001:db8::1]:3260,1"; who wants to dial one parses and checks it (iscsi_address_parse()). A
 * target that gives names instead of numbers keeps them here. */
struct iscsi_found_target {
    char name[ISCSI_NAME_SIZE];
    unsigned n_addresses;
    char addresses[ISCSI_MAX_PORTALS][ISCSI_ADDRESS_SIZE];
};

struct iscsi_op;

typedef void (*iscsi_open_fn)(void *arg, struct blockdev *dev, const struct error *error);
typedef void (*iscsi_probe_fn)(void *arg, const struct iscsi_lun_info *info,
                               const struct error *error);
typedef void (*iscsi_discover_fn)(void *arg, const struct iscsi_found_target *targets,
                                  unsigned n_targets, const struct error *error);
typedef void (*iscsi_report_luns_fn)(void *arg, const uint16_t *luns, unsigned n_luns,
                                     const struct error *error);

/* In each callback error is NULL on success, and the result NULL on failure. One round over the
 * portals, the first that works wins; the error is the one that says most (a refused login before a
 * dead address). NULL: out of memory, there will be no callback. */
struct iscsi_op *iscsi_dev_open(struct loop *loop, const struct iscsi_spec *spec, iscsi_open_fn fn,
                                void *arg);
struct iscsi_op *iscsi_probe_start(struct loop *loop, const struct iscsi_spec *spec,
                                   iscsi_probe_fn fn, void *arg);
struct iscsi_op *iscsi_discover_start(struct loop *loop, const struct iscsi_spec *spec,
                                      iscsi_discover_fn fn, void *arg);
/* spec->lun is not used; the question goes to LUN 0. */
struct iscsi_op *iscsi_report_luns_start(struct loop *loop, const struct iscsi_spec *spec,
                                         iscsi_report_luns_fn fn, void *arg);
/* The callback will not come; sockets are closed by the end of this round of the loop. Not after
 * the callback has been called. */
void iscsi_op_cancel(struct iscsi_op *op);

/* Of an open device: what it is, what went wrong last ("" at first; one sentence with sense data in
 * words), and what it has done. */
const struct iscsi_lun_info *iscsi_dev_lun(const struct blockdev *dev);
const char *iscsi_dev_last_error(const struct blockdev *dev);

/* For block/multi_dev.h (struct multi_ops). What tells the LUN from others: its identity and what goes with it; "" when it has nothing
 * of that kind. */
void iscsi_dev_name(const struct blockdev *dev, char *text, size_t size);
/* As spec.fence, in a session that is up and has nothing outstanding: UP follows, or RETRY when it was lost. */
void iscsi_dev_fence(struct blockdev *dev);
/* Another session has reset the LUN: it is asked again what it is, which takes the unit attention away. */
void iscsi_dev_fenced(struct blockdev *dev);
/* Has the last session ended because the LUN said that it was reset? */
bool iscsi_dev_was_reset(const struct blockdev *dev);

struct iscsi_dev_stats {
    uint64_t commands; /* SCSI commands sent for requests */
    uint64_t bytes_read;
    uint64_t bytes_written;
    uint64_t retries; /* commands sent again: unit attention, busy, aborted */
    uint64_t logins;  /* sessions that came up */
    uint64_t link_losses;
};
void iscsi_dev_stats(const struct blockdev *dev, struct iscsi_dev_stats *ret_stats);

/* What SendTargets and redirects give: "192.0.2.1:3260,1", "[2001:db8::1]:3260,1", also without tag
 * and port (3260). Numbers only: -EINVAL for anything else, "localhost" too. */
int iscsi_address_parse(const char *text, struct sockaddr_storage *ret_address);

#endif
