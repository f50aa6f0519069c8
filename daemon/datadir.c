// SPDX-License-Identifier: Apache-2.0
#include "daemon/datadir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/random.h"

enum { FILE_SIZE_MAX = 1 << 20 };

static int failed(struct error *error, const char *verb, const char *path)
{
    int err = errno;
    return error_set(error, err == ENOSPC ? ERR_NO_SPACE : ERR_INTERNAL, "Cannot %s %s: %s.", verb,
                     path, strerror(err));
}

static char *join(const char *dir, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", dir, name) >= 0 ? path : NULL;
}

static int no_memory(struct error *error)
{
    return error_set(error, ERR_NO_MEMORY, "There is not enough memory.");
}

static void sync_parent(const char *path)
{
    char *dir = strdup(path);
    if (dir == NULL) {
        return;
    }
    char *slash = strrchr(dir, '/');
    const char *parent = ".";
    if (slash != NULL) {
        slash[slash == dir ? 1 : 0] = '\0';
        parent = dir;
    }
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(dir);
}

int file_replace(const char *path, const char *text, size_t len, struct error *error)
{
    char *temporary = NULL;
    if (asprintf(&temporary, "%s.%d.new", path, (int)getpid()) < 0) {
        return no_memory(error);
    }
    int err = 0;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        err = failed(error, "make", temporary);
    } else {
        ssize_t n = write(fd, text, len);
        if (n >= 0 && (size_t)n != len) {
            errno = ENOSPC;
        }
        if (n < 0 || (size_t)n != len || fsync(fd) != 0) {
            err = failed(error, "write", temporary);
        }
        close(fd);
        if (err == 0 && rename(temporary, path) != 0) {
            err = failed(error, "make", path);
        }
        if (err == 0) {
            sync_parent(path);
        } else {
            unlink(temporary);
        }
    }
    free(temporary);
    return err;
}

int file_read(const char *path, char **ret_text, struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return failed(error, "read", path);
    }
    char *text = malloc(FILE_SIZE_MAX + 1);
    size_t len = 0;
    int err = text != NULL ? 0 : no_memory(error);
    while (err == 0 && len < FILE_SIZE_MAX) {
        ssize_t n = read(fd, text + len, FILE_SIZE_MAX - len);
        if (n < 0) {
            err = failed(error, "read", path);
        } else if (n == 0) {
            break;
        } else {
            len += (size_t)n;
        }
    }
    close(fd);
    if (err != 0) {
        free(text);
        return err;
    }
    text[len] = '\0';
    *ret_text = text;
    return 0;
}

/* The directory and those above it that are missing; ours gets mode 0700. */
static int make_directories(const char *path, struct error *error)
{
    char *partial = strdup(path);
    if (partial == NULL) {
        return no_memory(error);
    }
    int err = 0;
    for (char *p = partial + 1; err == 0; p++) {
        if (*p != '/' && *p != '\0') {
            continue;
        }
        char kept = *p;
        *p = '\0';
        if (mkdir(partial, 0700) != 0 && errno != EEXIST) {
            err = failed(error, "make the directory", partial);
        }
        *p = kept;
        if (kept == '\0') {
            break;
        }
    }
    free(partial);
    return err;
}

static int lock(struct datadir *dir, struct error *error)
{
    char number[32] = "";
    char *path = join(dir->path, "lock");
    if (path == NULL) {
        return no_memory(error);
    }
    int err = 0;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        err = failed(error, "open", path);
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) {
            err = failed(error, "lock", path);
        } else {
            ssize_t n = pread(fd, number, sizeof(number) - 1, 0);
            number[n > 0 ? n : 0] = '\0';
            number[strcspn(number, "\n")] = '\0';
            err = error_set(error, ERR_IN_USE,
                            "Another smirrord (process %s) uses the data directory %s. Stop it, or "
                            "give --data another "
                            "directory.",
                            number[0] != '\0' ? number : "?", dir->path);
        }
        close(fd);
    } else {
        /* The lock is what counts; the number is for people. Written over the old one it needs no new
         * space. */
        int len = snprintf(number, sizeof(number), "%d\n", (int)getpid());
        if (pwrite(fd, number, (size_t)len, 0) != len || ftruncate(fd, len) != 0) {
            log_warning("smirrord %s does not tell our process: %s", path, strerror(errno));
        }
        dir->lock_fd = fd;
    }
    free(path);
    return err;
}

static bool is_hex(const char *text, size_t len)
{
    return strlen(text) == len && strspn(text, "0123456789abcdef") == len;
}

/* Reads len hexadecimal digits from a file of ours; makes them at the first start. */
static int keep_hex(const struct datadir *dir, const char *name, size_t len, char *ret_text,
                    struct error *error)
{
    char *path = join(dir->path, name);
    char *text = NULL;
    int err = path != NULL ? 0 : no_memory(error);
    if (err == 0 && access(path, F_OK) == 0) {
        err = file_read(path, &text, error);
        if (err == 0) {
            text[strcspn(text, "\r\n")] = '\0';
            if (is_hex(text, len)) {
                memcpy(ret_text, text, len + 1);
                chmod(path, 0600);
            } else {
                err = error_set(
                    error, ERR_INTERNAL,
                    "%s does not hold %zu hexadecimal digits. Remove it to get a new one.", path,
                    len);
            }
        }
    } else if (err == 0) {
        char line[80];
        random_id_hex(ret_text, len);
        int line_len = snprintf(line, sizeof(line), "%s\n", ret_text);
        err = file_replace(path, line, (size_t)line_len, error);
        explicit_bzero(line, sizeof(line));
    }
    free(text);
    free(path);
    return err;
}

/* Whether the file is there as it should be: then a full disk does not keep us from starting. */
static bool holds(const char *path, const char *text)
{
    char *found = NULL;
    struct stat info;
    bool same = stat(path, &info) == 0 && S_ISREG(info.st_mode) && (info.st_mode & 07777) == 0600 &&
                file_read(path, &found, NULL) == 0 && strcmp(found, text) == 0;
    if (found != NULL) {
        explicit_bzero(found, strlen(found));
    }
    free(found);
    return same;
}

static int write_auth_header(struct datadir *dir, struct error *error)
{
    char line[TOKEN_SIZE + 32];
    dir->auth_header_file = join(dir->path, "auth-header");
    if (dir->auth_header_file == NULL) {
        return no_memory(error);
    }
    int len = snprintf(line, sizeof(line), "Authorization: Bearer %s\n", dir->token);
    int err = holds(dir->auth_header_file, line)
                  ? 0
                  : file_replace(dir->auth_header_file, line, (size_t)len, error);
    explicit_bzero(line, sizeof(line));
    return err;
}

int datadir_open(const char *path, struct datadir *ret_dir, struct error *error)
{
    struct datadir dir = {.lock_fd = -1};
    struct stat info;
    int err = make_directories(path, error);
    if (err != 0) {
        return err;
    }
    dir.path = realpath(path, NULL);
    if (dir.path == NULL || stat(dir.path, &info) != 0) {
        err = failed(error, "use the directory", path);
    } else if (!S_ISDIR(info.st_mode)) {
        err = error_set(error, ERR_INTERNAL, "%s is not a directory.", path);
    } else if ((info.st_mode & 07777) != 0700 && chmod(dir.path, 0700) != 0) {
        err = failed(error, "protect the directory", path);
    }
    if (err == 0) {
        err = lock(&dir, error);
    }
    if (err == 0) {
        err = keep_hex(&dir, "token", TOKEN_SIZE - 1, dir.token, error);
    }
    if (err == 0) {
        err = keep_hex(&dir, "initiator-id", INITIATOR_ID_SIZE - 1, dir.initiator_id, error);
    }
    if (err == 0) {
        err = write_auth_header(&dir, error);
    }
    if (err != 0) {
        datadir_close(&dir);
        return err;
    }
    *ret_dir = dir;
    return 0;
}

void datadir_close(struct datadir *dir)
{
    if (dir->lock_fd >= 0) {
        close(dir->lock_fd);
    }
    explicit_bzero(dir->token, sizeof(dir->token));
    free(dir->auth_header_file);
    free(dir->path);
    *dir = (struct datadir){.lock_fd = -1};
}
