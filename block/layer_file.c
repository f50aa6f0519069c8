// SPDX-License-Identifier: Apache-2.0
/*
 * Layer files in a file system.
 *
 * What the page cache can do at once is done on the loop: reads with RWF_NOWAIT, writes with it
 * where the file system can (XFS, Btrfs), and everything on tmpfs, which never waits for a disk.
 * Other reads go to io_uring where there is one, other writes to one thread for each file system
 * (block/write_thread.h), the rest and all else to worker threads.
 *
 * Only so many files are open at once (block/layer_fds.h). One that gives its place to another is
 * synced and closed; the next transfer opens it again, and must find the same file, unlocked.
 *
 *     OPEN ──its place is wanted──▶ CLOSING ──▶ CLOSED ──transfer──▶ OPENING ──▶ OPEN
 */
#include "block/layer_io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "block/layer_fds.h"
#include "block/layer_uring.h"
#include "block/write_thread.h"

enum {
    NOW_BYTES = 1 << 20, /* the loop copies as much again to and from the socket */
    IOV_ROOM = 64,
    /* The page cache gets folios as large as a write, and ext4 then looks at every block of a folio
     * for a write of one block: 30 us in one of 2 MiB. */
    WRITE_BYTES = 64 << 10,
    URING_IOV = 256,
    URING_BYTES = 1 << 30,
};

enum file_state { FILE_OPEN, FILE_CLOSING, FILE_CLOSED, FILE_OPENING };

struct real_file {
    struct layer_file base;
    int fd;
    enum file_state state;
    char *path;
    dev_t device;
    ino_t inode;
    unsigned inflight;
    bool changed; /* since it was opened */
    int failed;   /* a sync that nobody waited for */
    struct layer_fds *fds;
    struct layer_fds_idle idle;
    struct layer_fds_wait place;
    struct layer_io *queue; /* until it is open */
    struct layer_io **queue_end;
    struct loop_work move; /* opening and closing */
    bool memory;           /* tmpfs */
    bool unlisted; /* new: its directory is not on the disk yet, which the first sync does */
    bool read_now;
    bool write_now;
    struct layer_uring *uring;   /* or NULL */
    struct write_thread *writes; /* or NULL */
    loop_fn close_fn;
    void *close_arg;
};

const char *layer_io_op_name(enum layer_io_op op)
{
    static const char *const names[] = {"read",   "write", "punch", "sync",
                                        "extend", "find",  "count"};
    CHECK(op < ARRAY_LEN(names));
    return names[op];
}

int layer_file_submit(struct layer_file *file, struct layer_io *io)
{
    io->file = file;
    return file->ops->submit(file, io);
}

void layer_file_close(struct layer_file *file, loop_fn fn, void *arg)
{
    file->ops->close(file, fn, arg);
}

void layer_file_renamed(struct layer_file *file, const char *path)
{
    if (file->ops->renamed) {
        file->ops->renamed(file, path);
    }
}

static int status_of_errno(int err)
{
    return err == ENOSPC || err == EDQUOT || err == EFBIG ? -ENOSPC : -EIO;
}

/* -EAGAIN with RWF_NOWAIT: some or all of it was not possible at once. */
static int transfer(int fd, const struct layer_io *io, int flags)
{
    uint64_t done = 0;
    while (done < io->len) {
        struct iovec part[IOV_ROOM];
        int n = 0;
        uint64_t skip = done;
        uint64_t room = io->op == LAYER_IO_WRITE ? WRITE_BYTES : UINT64_MAX;
        for (int i = 0; i < io->n_iov && n < IOV_ROOM && room > 0; i++) {
            if (skip >= io->iov[i].iov_len) {
                skip -= io->iov[i].iov_len;
                continue;
            }
            uint64_t len = io->iov[i].iov_len - skip;
            len = len < room ? len : room;
            part[n].iov_base = (char *)io->iov[i].iov_base + skip;
            part[n++].iov_len = len;
            room -= len;
            skip = 0;
        }
        off_t offset = (off_t)(io->offset + done);
        ssize_t rc = io->op == LAYER_IO_READ ? preadv2(fd, part, n, offset, flags)
                                             : pwritev2(fd, part, n, offset, flags);
        if (rc < 0 && errno == EINTR) {
            continue;
        }
        if (rc < 0) {
            return flags && (errno == EAGAIN || errno == EOPNOTSUPP) ? -errno
                                                                     : status_of_errno(errno);
        }
        if (rc == 0) {
            return -EIO; /* somebody made the file shorter */
        }
        done += (uint64_t)rc;
    }
    return 0;
}

static int punch(int fd, const struct layer_io *io)
{
    int rc;
    do {
        rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)io->offset,
                       (off_t)io->len);
    } while (rc < 0 && errno == EINTR);
    /* Without holes the space stays in use: the map says that these granules are not data. */
    return rc == 0 || errno == EOPNOTSUPP ? 0 : status_of_errno(errno);
}

static int extend(int fd, const struct layer_io *io)
{
    struct stat st;
    uint64_t size = io->offset + io->len;
    if (fstat(fd, &st) < 0 || ((uint64_t)st.st_size < size && ftruncate(fd, (off_t)size) < 0)) {
        return status_of_errno(errno);
    }
    return 0;
}

static int find(int fd, struct layer_io *io)
{
    off_t end = (off_t)(io->offset + io->len);
    off_t from = lseek(fd, (off_t)io->offset, SEEK_DATA);
    io->found_len = 0;
    if (from < 0) {
        return errno == ENXIO ? 0 : status_of_errno(errno);
    }
    if (from < end) {
        off_t to = lseek(fd, from, SEEK_HOLE);
        if (to < 0) {
            return status_of_errno(errno);
        }
        io->found_offset = (uint64_t)from;
        io->found_len = (uint64_t)((to < end ? to : end) - from);
    }
    return 0;
}

static int count(int fd, struct layer_io *io)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        return status_of_errno(errno);
    }
    io->found_len = (uint64_t)st.st_blocks * 512;
    return 0;
}

/* A new file is there after a crash only if its directory says so. After the file: mostly the file
 * system has both on the disk by then. */
static int sync_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *name = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int fd = name ? open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int err = fd < 0 || fsync(fd) < 0 ? errno : 0;
    if (fd >= 0) {
        close(fd);
    }
    free(name);
    return err;
}

static int sync_file(struct real_file *file)
{
    int err = fdatasync(file->fd) < 0 ? errno : 0;
    if (!err && file->unlisted) {
        err = sync_directory(file->path);
        file->unlisted = err != 0;
    }
    return err;
}

static int perform(struct real_file *file, struct layer_io *io)
{
    switch (io->op) {
    case LAYER_IO_READ:
    case LAYER_IO_WRITE:
        return transfer(file->fd, io, 0);
    case LAYER_IO_PUNCH:
        return punch(file->fd, io);
    case LAYER_IO_SYNC: {
        int err = sync_file(file);
        return err ? status_of_errno(err) : 0;
    }
    case LAYER_IO_EXTEND:
        return extend(file->fd, io);
    case LAYER_IO_FIND:
        return find(file->fd, io);
    case LAYER_IO_COUNT:
        return count(file->fd, io);
    }
    return -EIO;
}

/* One operation less; before its done(), which may close the file. */
static void used_end(struct real_file *file)
{
    if (--file->inflight == 0 && !file->close_fn) {
        layer_fds_rest(file->fds, &file->idle);
    }
}

static void used_begin(struct real_file *file)
{
    if (file->inflight++ == 0) {
        layer_fds_work(&file->idle);
    }
}

static void work_run(void *arg)
{
    struct layer_io *io = arg;
    io->status = perform((struct real_file *)io->file, io);
}

static void work_done(void *arg)
{
    struct layer_io *io = arg;
    used_end((struct real_file *)io->file);
    io->done(io);
}

static void work_start(struct layer_io *io)
{
    io->work = (struct loop_work){.run = work_run, .done = work_done, .arg = io};
    loop_work_submit(io->file->loop, &io->work);
}

static void uring_done(struct layer_io *io, int result)
{
    if (result == (int)io->len) {
        io->status = 0;
        used_end((struct real_file *)io->file);
        io->done(io);
    } else {
        /* In part, or not at all: a worker does the whole and finds out why. */
        work_start(io);
    }
}

static int open_submit(struct real_file *file, struct layer_io *io)
{
    bool transfers = io->op == LAYER_IO_READ || io->op == LAYER_IO_WRITE;
    if (file->memory && (!transfers || io->len <= NOW_BYTES)) {
        return perform(file, io);
    }
    bool *now = io->op == LAYER_IO_READ ? &file->read_now : &file->write_now;
    if (transfers && *now && io->len <= NOW_BYTES) {
        int status = transfer(file->fd, io, RWF_NOWAIT);
        if (status != -EAGAIN && status != -EOPNOTSUPP) {
            return status;
        }
        *now = status == -EAGAIN;
    }
    if (io->op == LAYER_IO_WRITE && file->writes) {
        io->work = (struct loop_work){.run = work_run, .done = work_done, .arg = io};
        write_thread_submit(file->writes, &io->work);
        return -EINPROGRESS;
    }
    if (!transfers || !file->uring || io->len > URING_BYTES || io->n_iov > URING_IOV ||
        !layer_uring_submit(file->uring, file->fd, io, uring_done)) {
        work_start(io);
    }
    return -EINPROGRESS;
}

/* ---- open again ---- */

static int real_submit(struct layer_file *base, struct layer_io *io);

/* It is open again, or cannot be: what has waited goes on. All of it before the first done(), which
 * may close the file. */
static void queue_start(struct real_file *file, int failure)
{
    struct layer_io *io = file->queue;
    struct layer_io *ended = NULL;
    struct layer_io **ended_end = &ended;
    file->queue = NULL;
    file->queue_end = &file->queue;
    while (io) {
        struct layer_io *next = io->next;
        int status = failure ? failure : real_submit(&file->base, io);
        if (status != -EINPROGRESS) {
            io->status = status;
            io->next = NULL;
            *ended_end = io;
            ended_end = &io->next;
        }
        io = next;
    }
    if (!failure) {
        used_end(file);
    }
    while (ended) {
        io = ended;
        ended = io->next;
        io->done(io);
    }
}

static void reopen_run(void *arg)
{
    struct real_file *file = arg;
    struct stat st;
    const char *why = NULL;
    char text[128];
    int fd = open(file->path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0) {
        why = strerror_r(errno, text, sizeof(text));
    } else if (st.st_dev != file->device || st.st_ino != file->inode) {
        why = "another file is in its place";
    } else if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        why = "it is locked by somebody else";
    }
    if (!why) {
        file->fd = fd;
        return;
    }
    log_error("layer[%s]: it cannot be opened again: %s", file->path, why);
    if (fd >= 0) {
        close(fd);
    }
}

static void reopen_done(void *arg)
{
    struct real_file *file = arg;
    if (file->fd < 0) {
        file->state = FILE_CLOSED;
        layer_fds_give(file->fds);
        queue_start(file, -EIO);
        return;
    }
    file->state = FILE_OPEN;
    used_begin(file);
    queue_start(file, 0);
}

static void reopen_placed(void *arg)
{
    struct real_file *file = arg;
    file->move = (struct loop_work){.run = reopen_run, .done = reopen_done, .arg = file};
    loop_work_submit(file->base.loop, &file->move);
}

static void reopen_start(struct real_file *file)
{
    file->state = FILE_OPENING;
    file->place = (struct layer_fds_wait){.fn = reopen_placed, .arg = file};
    layer_fds_take(file->fds, &file->place);
}

static int real_submit(struct layer_file *base, struct layer_io *io)
{
    struct real_file *file = (struct real_file *)base;
    if (io->op == LAYER_IO_SYNC && (file->failed || file->state == FILE_CLOSED)) {
        return file->failed; /* nothing has changed since it was synced and closed */
    }
    if (file->state != FILE_OPEN) {
        io->next = NULL;
        *file->queue_end = io;
        file->queue_end = &io->next;
        if (file->state == FILE_CLOSED) {
            reopen_start(file);
        }
        return -EINPROGRESS;
    }
    file->changed |=
        io->op == LAYER_IO_WRITE || io->op == LAYER_IO_PUNCH || io->op == LAYER_IO_EXTEND;
    used_begin(file);
    int status = open_submit(file, io);
    if (status != -EINPROGRESS) {
        used_end(file);
    }
    return status;
}

/* ---- close ---- */

static void close_run(void *arg)
{
    struct real_file *file = arg;
    if (file->fd >= 0) {
        close(file->fd);
    }
}

static void close_done(void *arg)
{
    struct real_file *file = arg;
    loop_fn fn = file->close_fn;
    void *fn_arg = file->close_arg;
    if (file->fd >= 0) {
        layer_fds_give(file->fds);
    }
    layer_fds_put(file->fds);
    free(file->path);
    free(file);
    fn(fn_arg);
}

static void close_start(struct real_file *file)
{
    file->move = (struct loop_work){.run = close_run, .done = close_done, .arg = file};
    loop_work_submit(file->base.loop, &file->move);
}

static void evict_run(void *arg)
{
    struct real_file *file = arg;
    int err = file->changed || file->unlisted ? sync_file(file) : 0;
    if (err) {
        /* The flush that would have done this must not succeed. */
        file->failed = status_of_errno(err);
        log_error("layer[%s]: it cannot be synced: %s", file->path, strerrorname_np(err));
    }
    close(file->fd);
}

static void evict_done(void *arg)
{
    struct real_file *file = arg;
    file->fd = -1;
    file->changed = false;
    file->state = FILE_CLOSED;
    layer_fds_give(file->fds);
    if (file->close_fn) {
        close_start(file);
    } else if (file->queue) {
        reopen_start(file);
    }
}

static void evict(struct layer_fds_idle *idle)
{
    struct real_file *file = container_of(idle, struct real_file, idle);
    file->state = FILE_CLOSING;
    file->move = (struct loop_work){.run = evict_run, .done = evict_done, .arg = file};
    loop_work_submit(file->base.loop, &file->move);
}

static void real_close(struct layer_file *base, loop_fn fn, void *arg)
{
    struct real_file *file = (struct real_file *)base;
    layer_uring_put(file->uring);
    file->uring = NULL;
    write_thread_put(file->writes);
    file->writes = NULL;
    file->close_fn = fn;
    file->close_arg = arg;
    if (file->state == FILE_CLOSING) {
        return; /* evict_done() goes on */
    }
    layer_fds_work(&file->idle);
    close_start(file);
}

/* A thread that closes the file because it is idle may be about to name it in the log. */
static void real_renamed(struct layer_file *base, const char *path)
{
    struct real_file *file = (struct real_file *)base;
    CHECK(strlen(path) == strlen(file->path));
    memcpy(file->path, path, strlen(path));
}

static const struct layer_file_ops real_ops = {
    .submit = real_submit, .close = real_close, .renamed = real_renamed};

struct file_opening {
    struct loop_work work;
    struct layer_fds *fds;
    struct layer_fds_wait place;
    struct loop *loop;
    char *path;
    bool create;
    uint64_t size_bytes;
    layer_file_open_fn fn;
    void *arg;
    struct real_file *file;
    struct error error;
};

static int open_error(struct file_opening *opening, int err)
{
    enum error_code code = ERR_INTERNAL; /* a directory that is gone, too: no caller has named it */
    char text[128];
    if (!opening->create && (err == ENOENT || err == ENOTDIR)) {
        code = ERR_NO_SUCH_OBJECT;
    } else if (err == EEXIST || err == EWOULDBLOCK) {
        code = ERR_IN_USE;
    } else if (err == EMFILE || err == ENFILE) {
        code = ERR_LIMIT_REACHED;
    } else if (status_of_errno(err) == -ENOSPC) {
        code = ERR_NO_SPACE;
    }
    return error_set(&opening->error, code, "%s: %s", opening->path,
                     strerror_r(err, text, sizeof(text)));
}

static int opening_prepare(struct file_opening *opening, int fd)
{
    struct stat st;
    struct statfs fs;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        return open_error(opening, errno);
    }
    if (opening->create && ftruncate(fd, (off_t)opening->size_bytes) < 0) {
        return open_error(opening, errno);
    }
    if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0) {
        return open_error(opening, errno);
    }
    if (!S_ISREG(st.st_mode)) {
        return error_set(&opening->error, ERR_INVALID_PARAMETER, "%s is not a regular file",
                         opening->path);
    }
    struct real_file *file = calloc(1, sizeof(*file));
    if (!file) {
        return error_set(&opening->error, ERR_NO_MEMORY, "%s", opening->path);
    }
    *file = (struct real_file){
        .base = {.ops = &real_ops,
                 .loop = opening->loop,
                 .size_bytes = (uint64_t)st.st_size,
                 .used_bytes = (uint64_t)st.st_blocks * 512},
        .fd = fd,
        .device = st.st_dev,
        .inode = st.st_ino,
        .idle = {.evict = evict},
        .memory = fs.f_type == TMPFS_MAGIC,
        .unlisted = opening->create && fs.f_type != TMPFS_MAGIC,
        .read_now = true,
        .write_now = true,
    };
    opening->file = file;
    return 0;
}

static void opening_run(void *arg)
{
    struct file_opening *opening = arg;
    int flags =
        O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (opening->create ? O_CREAT | O_EXCL : 0);
    int fd = open(opening->path, flags, 0600);
    if (fd < 0) {
        open_error(opening, errno);
        return;
    }
    if (opening_prepare(opening, fd)) {
        if (opening->create) {
            unlink(opening->path);
        }
        close(fd);
    }
}

static void opening_done(void *arg)
{
    struct file_opening *opening = arg;
    struct real_file *file = opening->file;
    if (file) {
        file->path = opening->path;
        file->fds = opening->fds;
        file->queue_end = &file->queue;
        list_init(&file->idle.link);
        file->uring = file->memory ? NULL : layer_uring_get(opening->loop);
        file->writes = file->memory ? NULL : write_thread_get(opening->loop, file->device);
        /* In use until it has been looked at. */
        used_begin(file);
        opening->fn(opening->arg, &file->base, NULL);
        used_end(file);
    } else {
        layer_fds_give(opening->fds);
        opening->fn(opening->arg, NULL, &opening->error);
        layer_fds_put(opening->fds);
        free(opening->path);
    }
    free(opening);
}

static void opening_placed(void *arg)
{
    struct file_opening *opening = arg;
    opening->work = (struct loop_work){.run = opening_run, .done = opening_done, .arg = opening};
    loop_work_submit(opening->loop, &opening->work);
}

static int real_open(const struct layer_backend *backend, struct loop *loop, const char *path,
                     bool create, uint64_t size_bytes, layer_file_open_fn fn, void *arg)
{
    (void)backend;
    struct file_opening *opening = calloc(1, sizeof(*opening));
    if (!opening) {
        return -ENOMEM;
    }
    opening->path = strdup(path);
    if (!opening->path) {
        free(opening);
        return -ENOMEM;
    }
    opening->loop = loop;
    opening->create = create;
    opening->size_bytes = size_bytes;
    opening->fn = fn;
    opening->arg = arg;
    opening->fds = layer_fds_get(loop);
    opening->place = (struct layer_fds_wait){.fn = opening_placed, .arg = opening};
    layer_fds_take(opening->fds, &opening->place);
    return 0;
}

static void real_remove(const struct layer_backend *backend, const char *path)
{
    (void)backend;
    unlink(path);
}

const struct layer_backend layer_backend_files = {.open = real_open, .remove = real_remove};
