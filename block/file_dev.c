// SPDX-License-Identifier: Apache-2.0
/*
 * Every request becomes one piece of work for a worker thread (struct file_op): the worker reads
 * the request's range and slices, which are lent while it is submitted, and writes its result into
 * the op; the loop completes the request from it. A read of moderate length is first tried on the
 * loop with RWF_NOWAIT, which answers from the page cache or not at all.
 */
#include "block/file_dev.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/check.h"
#include "base/list.h"

enum {
    IOV_BATCH = 64,             /* slices per system call */
    READ_NOW_BYTES = 256 << 10, /* copying more than this would keep the loop from others */
    ZERO_BYTES = 1 << 20,
};

struct file_op {
    struct list link;
    struct loop_work work;
    struct file_dev *file;
    struct block_req *req;
    int status;
    unsigned n_extents;
};

struct file_dev {
    struct blockdev base;
    int fd; /* workers use it too, from open to close */
    bool read_now;
    struct list spare;
    struct file_dev_stats stats;
    struct loop_work close_work;
    block_close_fn close_done;
    void *close_arg;
};

static struct file_dev *of_dev(struct blockdev *dev)
{
    return container_of(dev, struct file_dev, base);
}

static int status_of_errno(int err)
{
    switch (err) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return -ENOSPC;
    case EROFS:
        return -EROFS;
    default:
        return -EIO;
    }
}

/* Where a transfer is among the slices of a request. */
struct slice_cursor {
    const struct block_req *req;
    unsigned index;
    size_t begin; /* within slices[index] */
};

static int cursor_vector(const struct slice_cursor *cursor, struct iovec iov[IOV_BATCH])
{
    int count = 0;
    size_t begin = cursor->begin;
    for (unsigned i = cursor->index; i < cursor->req->n_slices && count < IOV_BATCH; i++) {
        const struct slice *slice = &cursor->req->slices[i];
        if (slice->len > begin) {
            iov[count++] =
                (struct iovec){.iov_base = slice->data + begin, .iov_len = slice->len - begin};
        }
        begin = 0;
    }
    return count;
}

static void cursor_advance(struct slice_cursor *cursor, size_t len)
{
    while (len > 0) {
        size_t left = cursor->req->slices[cursor->index].len - cursor->begin;
        size_t step = len < left ? len : left;
        cursor->begin += step;
        len -= step;
        if (cursor->begin == cursor->req->slices[cursor->index].len) {
            cursor->index++;
            cursor->begin = 0;
        }
    }
}

static int sync_data(int fd)
{
    return fdatasync(fd) == 0 ? 0 : status_of_errno(errno);
}

/* READ or WRITE as a whole; -EAGAIN if flags has RWF_NOWAIT and something would have to wait. */
static int transfer(int fd, const struct block_req *req, int flags)
{
    struct slice_cursor cursor = {.req = req};
    uint64_t offset = req->offset;
    uint64_t end = req->offset + req->len;
    while (offset < end) {
        struct iovec iov[IOV_BATCH];
        int count = cursor_vector(&cursor, iov);
        ssize_t n = req->op == BLOCK_READ ? preadv2(fd, iov, count, (off_t)offset, flags)
                                          : pwritev2(fd, iov, count, (off_t)offset, flags);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (flags & RWF_NOWAIT) {
                return errno == EOPNOTSUPP ? -EOPNOTSUPP : -EAGAIN;
            }
            return status_of_errno(errno);
        }
        if (n == 0) {
            /* Somebody made the file shorter. */
            return -EIO;
        }
        cursor_advance(&cursor, (size_t)n);
        offset += (uint64_t)n;
    }
    return 0;
}

static int do_write(int fd, const struct block_req *req)
{
    int err = transfer(fd, req, 0);
    return err || !(req->flags & BLOCK_FUA) ? err : sync_data(fd);
}

static int write_zeros(int fd, uint64_t offset, uint64_t len)
{
    static const uint8_t zeros[ZERO_BYTES];
    while (len > 0) {
        size_t step = len < sizeof(zeros) ? len : sizeof(zeros);
        ssize_t n = pwrite(fd, zeros, step, (off_t)offset);
        if (n < 0 && errno != EINTR) {
            return status_of_errno(errno);
        }
        if (n > 0) {
            offset += (uint64_t)n;
            len -= (uint64_t)n;
        }
    }
    return 0;
}

static int change_allocation(int fd, int mode, const struct block_req *req)
{
    int rc;
    do {
        rc = fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)req->offset, (off_t)req->len);
    } while (rc < 0 && errno == EINTR);
    return rc == 0 ? 0 : errno == EOPNOTSUPP ? -EOPNOTSUPP : status_of_errno(errno);
}

static int do_zero(int fd, const struct block_req *req)
{
    int err = -EOPNOTSUPP;
    if (req->flags & BLOCK_MAY_UNMAP || req->op == BLOCK_DISCARD) {
        err = change_allocation(fd, FALLOC_FL_PUNCH_HOLE, req);
    }
    if (err == -EOPNOTSUPP) {
        err = change_allocation(fd, FALLOC_FL_ZERO_RANGE, req);
    }
    if (err == -EOPNOTSUPP) {
        err = write_zeros(fd, req->offset, req->len);
    }
    return err || !(req->flags & BLOCK_FUA) ? err : sync_data(fd);
}

static void extent_add(struct file_op *op, uint64_t begin, uint64_t end,
                       enum block_extent_kind kind)
{
    struct block_extent *last = op->n_extents ? &op->req->extents[op->n_extents - 1] : NULL;
    if (begin == end) {
        return;
    }
    if (last && last->kind == kind) {
        last->len = end - last->offset;
    } else if (op->n_extents < op->req->max_extents) {
        op->req->extents[op->n_extents++] =
            (struct block_extent){.offset = begin, .len = end - begin, .kind = kind};
    }
}

/* Data is rounded outwards to whole blocks, so that no part of a hole extent is data. */
static int do_map(struct file_op *op)
{
    const struct block_req *req = op->req;
    uint64_t block = op->file->base.info.block_bytes;
    uint64_t end = req->offset + req->len;
    uint64_t at = req->offset;
    while (at < end && op->n_extents < req->max_extents) {
        off_t data = lseek(op->file->fd, (off_t)at, SEEK_DATA);
        if (data < 0) {
            if (errno != ENXIO) {
                return status_of_errno(errno);
            }
            /* Nothing but a hole from here on. */
            data = (off_t)end;
        }
        uint64_t data_begin = (uint64_t)data / block * block;
        if (data_begin > end) {
            data_begin = end;
        }
        if (data_begin > at) {
            extent_add(op, at, data_begin, BLOCK_EXTENT_ZERO);
            at = data_begin;
            continue;
        }
        off_t hole = lseek(op->file->fd, (off_t)at > data ? (off_t)at : data, SEEK_HOLE);
        if (hole < 0 && errno != ENXIO) {
            return status_of_errno(errno);
        }
        uint64_t data_end = hole < 0 ? end : ((uint64_t)hole + block - 1) / block * block;
        if (data_end > end) {
            data_end = end;
        }
        if (data_end <= at) {
            data_end = at + block;
        }
        extent_add(op, at, data_end, BLOCK_EXTENT_DATA);
        at = data_end;
    }
    return 0;
}

static void op_run(void *arg)
{
    struct file_op *op = arg;
    int fd = op->file->fd;
    switch (op->req->op) {
    case BLOCK_READ:
        op->status = transfer(fd, op->req, 0);
        break;
    case BLOCK_WRITE:
        op->status = do_write(fd, op->req);
        break;
    case BLOCK_ZERO:
    case BLOCK_DISCARD:
        op->status = do_zero(fd, op->req);
        break;
    case BLOCK_FLUSH:
        op->status = sync_data(fd);
        break;
    case BLOCK_MAP:
        op->status = do_map(op);
        break;
    }
}

static void op_done(void *arg)
{
    struct file_op *op = arg;
    struct block_req *req = op->req;
    req->n_extents = op->n_extents;
    list_push_back(&op->file->spare, &op->link);
    blockdev_complete_now(req, op->status);
}

static bool read_from_cache(struct file_dev *file, struct block_req *req)
{
    if (!file->read_now || req->op != BLOCK_READ || req->len > READ_NOW_BYTES) {
        return false;
    }
    int err = transfer(file->fd, req, RWF_NOWAIT);
    if (err == -EOPNOTSUPP) {
        file->read_now = false;
    }
    return err == 0;
}

static void file_submit(struct blockdev *dev, struct block_req *req)
{
    struct file_dev *file = of_dev(dev);
    if (read_from_cache(file, req)) {
        file->stats.reads_cached++;
        blockdev_complete(req, 0);
        return;
    }
    file->stats.reads_worker += req->op == BLOCK_READ;
    struct list *link = list_pop_front(&file->spare);
    struct file_op *op;
    if (link) {
        op = list_entry(link, struct file_op, link);
    } else {
        /* As many as ever were in flight at once; they are kept. */
        op = calloc(1, sizeof(*op));
        CHECK(op != NULL);
        op->file = file;
        op->work = (struct loop_work){.run = op_run, .done = op_done, .arg = op};
    }
    op->req = req;
    op->n_extents = 0;
    loop_work_submit(dev->loop, &op->work);
}

static void close_run(void *arg)
{
    struct file_dev *file = arg;
    close(file->fd);
}

static void close_done(void *arg)
{
    struct file_dev *file = arg;
    block_close_fn done = file->close_done;
    void *done_arg = file->close_arg;
    struct list *link;
    while ((link = list_pop_front(&file->spare)) != NULL) {
        free(list_entry(link, struct file_op, link));
    }
    free(file);
    done(done_arg);
}

static void file_idle(void *arg)
{
    struct file_dev *file = arg;
    file->close_work = (struct loop_work){.run = close_run, .done = close_done, .arg = file};
    loop_work_submit(file->base.loop, &file->close_work);
}

static void file_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    struct file_dev *file = of_dev(dev);
    file->close_done = done;
    file->close_arg = arg;
    blockdev_when_idle(dev, file_idle, file);
}

static const struct blockdev_ops file_ops = {
    .kind = "file",
    .submit = file_submit,
    .close = file_close,
};

struct opening {
    struct loop_work work;
    struct loop *loop;
    struct file_dev_spec spec;
    char *path;
    file_open_fn fn;
    void *arg;
    struct file_dev *file; /* NULL: error tells why */
    struct error error;
};

static int error_of_errno(struct error *error, const char *path, int err)
{
    enum error_code code;
    switch (err) {
    case ENOENT:
    case ENOTDIR:
        code = ERR_NO_SUCH_OBJECT;
        break;
    case EEXIST:
    case EWOULDBLOCK:
        code = ERR_IN_USE;
        break;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        code = ERR_NO_SPACE;
        break;
    default:
        code = ERR_INTERNAL;
    }
    /* strerror() has one buffer for all threads. */
    char text[128];
    return error_set(error, code, "%s: %s", path, strerror_r(err, text, sizeof(text)));
}

/* Checks what was opened and finds out what it can do. */
static int opening_inspect(struct opening *opening, int fd, struct block_info *info)
{
    const struct file_dev_spec *spec = &opening->spec;
    struct error *error = &opening->error;
    struct stat st;
    if (flock(fd, (spec->read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0) {
        return errno == EWOULDBLOCK
                   ? error_set(error, ERR_IN_USE, "%s is in use by another", opening->path)
                   : error_of_errno(error, opening->path, errno);
    }
    if (spec->create && ftruncate(fd, (off_t)spec->size_bytes) < 0) {
        return error_of_errno(error, opening->path, errno);
    }
    if (fstat(fd, &st) < 0) {
        return error_of_errno(error, opening->path, errno);
    }
    if (!S_ISREG(st.st_mode)) {
        return error_set(error, ERR_INVALID_PARAMETER, "%s is not a regular file", opening->path);
    }
    uint64_t size = (uint64_t)st.st_size;
    if (spec->size_bytes && size != spec->size_bytes) {
        return error_set(error, ERR_INVALID_PARAMETER, "%s has %llu bytes instead of %llu",
                         opening->path, (unsigned long long)size,
                         (unsigned long long)spec->size_bytes);
    }
    info->block_bytes = spec->block_bytes ? spec->block_bytes : 512;
    info->physical_bytes = spec->physical_bytes ? spec->physical_bytes : 4096;
    if (size == 0 || size % info->block_bytes != 0) {
        return error_set(error, ERR_INVALID_PARAMETER, "%s has %llu bytes: no multiple of %u",
                         opening->path, (unsigned long long)size, info->block_bytes);
    }
    info->size_bytes = size;
    info->max_bytes = UINT32_MAX;
    info->max_inflight = spec->max_inflight ? spec->max_inflight : 32;
    info->read_only = spec->read_only;
    info->can_map = true;
    info->thin = true;
    /* Behind the end there is nothing to lose. */
    info->can_discard =
        !spec->read_only && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                      (off_t)((size + 4095) / 4096 * 4096), 4096) == 0;
    info->discard_zeroes = info->can_discard;
    return 0;
}

/* A new file is there after a crash only if its directory says so. */
static int opening_harden(struct opening *opening, int fd)
{
    const char *slash = strrchr(opening->path, '/');
    char *folder =
        slash ? strndup(opening->path, (size_t)(slash - opening->path) + 1) : strdup(".");
    if (!folder) {
        return error_set(&opening->error, ERR_NO_MEMORY, "%s", opening->path);
    }
    int folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = 0;
    if (folder_fd < 0 || fsync(fd) < 0 || fsync(folder_fd) < 0) {
        err = error_of_errno(&opening->error, opening->path, errno);
    }
    if (folder_fd >= 0) {
        close(folder_fd);
    }
    free(folder);
    return err;
}

static void opening_run(void *arg)
{
    struct opening *opening = arg;
    const struct file_dev_spec *spec = &opening->spec;
    struct block_info info = {0};
    int flags = (spec->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
                (spec->create ? O_CREAT | O_EXCL : 0);
    int fd = open(opening->path, flags, 0600);
    if (fd < 0) {
        error_of_errno(&opening->error, opening->path, errno);
        return;
    }
    struct file_dev *file = NULL;
    int err = opening_inspect(opening, fd, &info);
    if (!err && spec->create) {
        err = opening_harden(opening, fd);
    }
    if (!err) {
        file = calloc(1, sizeof(*file));
        err = file ? 0 : error_set(&opening->error, ERR_NO_MEMORY, "%s", opening->path);
    }
    if (err) {
        if (spec->create) {
            unlink(opening->path);
        }
        close(fd);
        return;
    }
    file->base.ops = &file_ops;
    file->base.loop = opening->loop;
    file->base.info = info;
    file->fd = fd;
    file->read_now = true;
    list_init(&file->spare);
    opening->file = file;
}

static void opening_done(void *arg)
{
    struct opening *opening = arg;
    file_open_fn fn = opening->fn;
    struct file_dev *file = opening->file;
    fn(opening->arg, file ? &file->base : NULL, file ? NULL : &opening->error);
    free(opening->path);
    free(opening);
}

int file_dev_open(struct loop *loop, const struct file_dev_spec *spec, file_open_fn fn, void *arg)
{
    struct opening *opening = calloc(1, sizeof(*opening));
    if (!opening) {
        return -ENOMEM;
    }
    opening->path = strdup(spec->path);
    if (!opening->path) {
        free(opening);
        return -ENOMEM;
    }
    opening->loop = loop;
    opening->spec = *spec;
    opening->spec.path = opening->path;
    opening->fn = fn;
    opening->arg = arg;
    opening->work = (struct loop_work){.run = opening_run, .done = opening_done, .arg = opening};
    loop_work_submit(loop, &opening->work);
    return 0;
}

const struct file_dev_stats *file_dev_stats(const struct blockdev *dev)
{
    CHECK(dev->ops == &file_ops);
    return &container_of(dev, const struct file_dev, base)->stats;
}
