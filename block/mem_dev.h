// SPDX-License-Identifier: Apache-2.0
/*
 * A block device in memory, sparse by pages of 4 KiB, that tests can look into and cut the power
 * of.
 *
 * Thread:    one loop, as block/blockdev.h says.
 * Ownership: a disk holds the bytes and outlives its devices; mem_dev_new() makes one of its own if
 *            the spec names none, and frees it with the device.
 * Errors:    -EINVAL for a spec that contradicts itself, -ENOMEM; requests: -ENOSPC beyond the
 *            capacity.
 */
#ifndef BLOCK_MEM_DEV_H
#define BLOCK_MEM_DEV_H

#include "base/random.h"
#include "block/blockdev.h"

struct mem_disk;

/* capacity_bytes: how much may be written before -ENOSPC; 0 is no limit. */
int mem_disk_new(uint64_t size_bytes, uint64_t capacity_bytes, struct mem_disk **ret_disk);
/* No device may be left. */
void mem_disk_free(struct mem_disk *disk);
uint64_t mem_disk_allocated_bytes(const struct mem_disk *disk);
/* Direct access, behind the back of the devices; what is poked is on stable storage. */
void mem_disk_peek(const struct mem_disk *disk, uint64_t offset, void *data, size_t len);
void mem_disk_poke(struct mem_disk *disk, uint64_t offset, const void *data, size_t len);
/* What a disk with a volatile cache is after a power failure: every block of block_bytes that was
 * written but not flushed is old or new. */
void mem_disk_power_cut(struct mem_disk *disk, struct random *random, uint32_t block_bytes);

struct mem_dev_spec {
    struct mem_disk *disk;   /* NULL: a new one of size_bytes */
    uint64_t size_bytes;     /* for a new disk */
    uint64_t capacity_bytes; /* for a new disk */
    uint32_t block_bytes;    /* 0: 512 */
    uint32_t physical_bytes; /* 0: 4096 */
    uint32_t max_bytes;      /* 0: no limit */
    uint32_t max_inflight;   /* 0: 64 */
    bool read_only;
    bool no_map;
    bool no_discard;
    bool discard_garbage; /* discarded ranges read as rubbish instead of zeros */
    bool volatile_cache;  /* remembers what was flushed, for mem_disk_power_cut() */
};

int mem_dev_new(struct loop *loop, const struct mem_dev_spec *spec, struct blockdev **ret_dev);
struct mem_disk *mem_dev_disk(struct blockdev *dev);

struct mem_dev_stats {
    uint64_t requests[BLOCK_OP_COUNT]; /* by enum block_op */
    uint64_t bytes[BLOCK_OP_COUNT];
};
const struct mem_dev_stats *mem_dev_stats(const struct blockdev *dev);

#endif
