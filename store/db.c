// SPDX-License-Identifier: Apache-2.0
/*
 * One SQLite connection.
 *
 * Opening as writer, in this order, so that a file that is not ours is never changed:
 *   1. lock DIR/smirror.lock: one writer, whatever the process
 *   2. create the file with mode 0600 if there is none; SQLite gives -wal and -shm the same mode
 *   3. application_id, user_version, then quick_check
 *   4. WAL, synchronous=FULL, then migrations
 *
 * The main file is never opened by anything but SQLite once it exists: closing such a descriptor
 * would drop the POSIX locks of every connection of this process. The writer's lock is a flock() on
 * a file of its own for the same reason.
 *
 * Inside a transaction SQLite may roll back on its own when the disk is full or fails. What follows
 * would then run, and commit, outside any transaction. So the connection remembers the cause
 * (broken_err), refuses every statement with it, and db_commit() fails with it.
 *
 * Statements are prepared once and kept. One that is in use when it is wanted again (a walk inside
 * a walk over the same list) is prepared a second time and forgotten afterwards.
 */
#include "store/db.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/random.h"
#include "store/migrations.h"

#define BUSY_TIMEOUT_MS   5000
#define SAY_AGAIN_NS      10000000000u /* between two log lines of the same failure */
#define STATEMENT_BUCKETS 128          /* a power of two */
#define SAVEPOINTS_MAX    8
#define WAL_PAGES         "1000"     /* 4 MiB between checkpoints */
#define WAL_KEEP_BYTES    "16777216" /* a WAL that a long reader made grow is cut back to this */

struct statement {
    struct db *db;
    sqlite3_stmt *handle;
    struct statement *next; /* in its bucket */
    char *key;              /* NULL: not in the cache */
    bool busy;
    int bind_err;
};

struct db {
    sqlite3 *handle;
    int lock_fd; /* -1: a reader */
    bool in_transaction;
    bool in_read;
    unsigned savepoints;
    const struct db_watch *watch;
    size_t marks[SAVEPOINTS_MAX]; /* of the watcher, at each savepoint */
    int said_rc;                  /* the failure that was logged last, */
    uint64_t said_ns;             /* when, */
    unsigned unsaid;              /* and how often it was there since */
    int broken_err;               /* why SQLite has rolled the transaction back, or 0 */
    struct db_stats stats;
    char message[256]; /* what SQLite said of the last failure */
    struct statement *buckets[STATEMENT_BUCKETS];
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* What SQLite said */

static bool is_full(int error_number)
{
    return error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG;
}

/* ENOSPC has a result of its own (SQLITE_FULL); a quota and a limit on file sizes are told only by
 * what the file or its WAL remembers of the system call. */
static bool disk_is_full(sqlite3 *handle, int rc)
{
    int error_number = 0;
    sqlite3_file *wal = NULL;
    if (rc != SQLITE_IOERR_WRITE && rc != SQLITE_IOERR_FSYNC && rc != SQLITE_IOERR_SHMSIZE &&
        (rc & 0xff) != SQLITE_CANTOPEN) {
        return false;
    }
    if (is_full(sqlite3_system_errno(handle))) {
        return true;
    }
    sqlite3_file_control(handle, "main", SQLITE_FCNTL_LAST_ERRNO, &error_number);
    if (is_full(error_number)) {
        return true;
    }
    sqlite3_file_control(handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal);
    if (wal != NULL && wal->pMethods != NULL) {
        wal->pMethods->xFileControl(wal, SQLITE_FCNTL_LAST_ERRNO, &error_number);
    }
    return is_full(error_number);
}

static int errno_of(sqlite3 *handle, int rc)
{
    switch (rc) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID:
        return -EEXIST;
    }
    switch (rc & 0xff) {
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_RANGE:
        return -EINVAL;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_TOOBIG:
        return -E2BIG;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        return disk_is_full(handle, rc) ? -ENOSPC : -EIO;
    default:
        return -EIO;
    }
}

/* A disk that is full fails everything, again and again: the same failure is said every ten seconds. */
static void say_failure(struct db *db, int rc, const char *what)
{
    uint64_t now = now_ns();
    if (rc == db->said_rc && now - db->said_ns < SAY_AGAIN_NS) {
        db->unsaid++;
        return;
    }
    char more[48] = "";
    if (rc == db->said_rc && db->unsaid > 0) {
        snprintf(more, sizeof(more), ", and %u times since it was said", db->unsaid);
    }
    log_error("store: %.100s: %s (SQLite %d%s)", what, db->message, rc, more);
    db->said_rc = rc;
    db->said_ns = now;
    db->unsaid = 0;
}

/* Translates and logs a failure. A violated constraint is an answer, not an incident: the caller
 * tells it. */
static int db_failed(struct db *db, int rc, const char *what)
{
    int err = errno_of(db->handle, rc);
    snprintf(db->message, sizeof(db->message), "%s", sqlite3_errmsg(db->handle));
    if ((rc & 0xff) != SQLITE_CONSTRAINT) {
        say_failure(db, rc, what);
    }
    if (db->in_transaction && db->broken_err == 0 && sqlite3_get_autocommit(db->handle)) {
        db->broken_err = err;
    }
    return err;
}

const char *db_message(struct db *db)
{
    return db->message;
}

/* Statements */

static size_t bucket_of(const char *key)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *c = key; *c != '\0'; c++) {
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    }
    return (hash ^ hash >> 16) & (STATEMENT_BUCKETS - 1);
}

static struct statement *find_cached(struct db *db, const char *key)
{
    for (struct statement *s = db->buckets[bucket_of(key)]; s != NULL; s = s->next) {
        if (strcmp(s->key, key) == 0) {
            return s;
        }
    }
    return NULL;
}

static void statement_free(struct statement *statement)
{
    sqlite3_finalize(statement->handle);
    free(statement->key);
    free(statement);
}

/* key NULL: outside the cache. */
static int prepare(struct db *db, const char *key, const char *sql,
                   struct statement **ret_statement)
{
    struct statement *statement = calloc(1, sizeof(*statement));
    if (statement == NULL) {
        return -ENOMEM;
    }
    statement->db = db;
    if (key != NULL) {
        statement->key = strdup(key);
        if (statement->key == NULL) {
            free(statement);
            return -ENOMEM;
        }
    }
    int rc = sqlite3_prepare_v3(db->handle, sql, -1, key != NULL ? SQLITE_PREPARE_PERSISTENT : 0,
                                &statement->handle, NULL);
    if (rc != SQLITE_OK) {
        int err = db_failed(db, rc, sql);
        statement_free(statement);
        return err;
    }
    if (key != NULL) {
        struct statement **bucket = &db->buckets[bucket_of(key)];
        statement->next = *bucket;
        *bucket = statement;
    }
    *ret_statement = statement;
    return 0;
}

static void build_fixed(const void *arg, struct strbuf *sql)
{
    strbuf_puts(sql, arg);
}

int statement_get(struct db *db, const char *key, statement_build_fn build, const void *arg,
                  struct statement **ret_statement)
{
    if (db->broken_err != 0) {
        return db->broken_err;
    }
    struct statement *statement = find_cached(db, key);
    if (statement == NULL || statement->busy) {
        struct strbuf sql = STRBUF_INIT;
        build(arg, &sql);
        int err = strbuf_error(&sql);
        if (err == 0) {
            err = prepare(db, statement == NULL ? key : NULL, strbuf_str(&sql), &statement);
        }
        strbuf_fini(&sql);
        if (err < 0) {
            return err;
        }
    }
    statement->busy = true;
    statement->bind_err = 0;
    *ret_statement = statement;
    return 0;
}

int statement_sql(struct db *db, const char *sql, struct statement **ret_statement)
{
    return statement_get(db, sql, build_fixed, sql, ret_statement);
}

static void bound(struct statement *statement, int rc)
{
    if (rc != SQLITE_OK && statement->bind_err == 0) {
        statement->bind_err = db_failed(statement->db, rc, sqlite3_sql(statement->handle));
    }
}

void statement_bind_text(struct statement *statement, int parameter, const char *text)
{
    bound(statement, sqlite3_bind_text(statement->handle, parameter, text, -1, SQLITE_STATIC));
}

void statement_bind_i64(struct statement *statement, int parameter, int64_t value)
{
    bound(statement, sqlite3_bind_int64(statement->handle, parameter, value));
}

void statement_bind_u64(struct statement *statement, int parameter, uint64_t value)
{
    if (value > INT64_MAX) {
        if (statement->bind_err == 0) {
            statement->bind_err = -ERANGE;
        }
        return;
    }
    statement_bind_i64(statement, parameter, (int64_t)value);
}

void statement_bind_blob(struct statement *statement, int parameter, const void *data, size_t len)
{
    /* A NULL pointer would bind SQL's NULL. */
    bound(statement, sqlite3_bind_blob64(statement->handle, parameter, len > 0 ? data : "", len,
                                         SQLITE_STATIC));
}

static int step(struct statement *statement, int *ret_rc)
{
    struct db *db = statement->db;
    *ret_rc = SQLITE_OK;
    if (statement->bind_err != 0) {
        return statement->bind_err;
    }
    if (db->broken_err != 0) {
        return db->broken_err;
    }
    int rc = sqlite3_step(statement->handle);
    if (rc == SQLITE_ROW) {
        return 1;
    }
    if (rc == SQLITE_DONE) {
        return 0;
    }
    *ret_rc = rc = sqlite3_extended_errcode(db->handle);
    return db_failed(db, rc, sqlite3_sql(statement->handle));
}

int statement_step(struct statement *statement)
{
    int rc;
    return step(statement, &rc);
}

int64_t statement_i64(struct statement *statement, int column)
{
    return sqlite3_column_int64(statement->handle, column);
}

const char *statement_text(struct statement *statement, int column, size_t *ret_len)
{
    const char *text = (const char *)sqlite3_column_text(statement->handle, column);
    *ret_len = (size_t)sqlite3_column_bytes(statement->handle, column);
    return text;
}

const void *statement_blob(struct statement *statement, int column, size_t *ret_len)
{
    const void *data = sqlite3_column_blob(statement->handle, column);
    *ret_len = (size_t)sqlite3_column_bytes(statement->handle, column);
    return data;
}

void statement_done(struct statement *statement)
{
    CHECK(statement->busy);
    if (statement->key == NULL) {
        statement_free(statement);
        return;
    }
    sqlite3_reset(statement->handle); /* repeats the result of the last step */
    sqlite3_clear_bindings(statement->handle);
    statement->busy = false;
}

int statement_run(struct statement *statement, int foreign_key_err, int64_t *ret_changes)
{
    int rc;
    int err;
    do {
        err = step(statement, &rc);
    } while (err > 0);
    if (rc == SQLITE_CONSTRAINT_FOREIGNKEY) {
        err = foreign_key_err;
    }
    if (err == 0 && ret_changes != NULL) {
        *ret_changes = sqlite3_changes64(statement->db->handle);
    }
    statement_done(statement);
    return err;
}

int64_t db_last_insert_seq(struct db *db)
{
    return sqlite3_last_insert_rowid(db->handle);
}

int db_exec(struct db *db, const char *sql)
{
    if (db->broken_err != 0) {
        return db->broken_err;
    }
    int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
    if (rc != SQLITE_OK) {
        return db_failed(db, sqlite3_extended_errcode(db->handle), sql);
    }
    return 0;
}

int db_number(struct db *db, const char *sql, int64_t *ret_value)
{
    struct statement *statement;
    int err = statement_sql(db, sql, &statement);
    if (err < 0) {
        return err;
    }
    err = statement_step(statement);
    if (err >= 0) {
        *ret_value = err > 0 ? statement_i64(statement, 0) : 0;
        err = 0;
    }
    statement_done(statement);
    return err;
}

/* Transactions */

/* Runs a fixed text through the cache. */
static int run(struct db *db, const char *sql)
{
    struct statement *statement;
    int err = statement_sql(db, sql, &statement);
    if (err < 0) {
        return err;
    }
    return statement_run(statement, -EIO, NULL);
}

int db_begin(struct db *db)
{
    CHECK(!db->in_transaction && !db->in_read);
    int err = run(db, "BEGIN IMMEDIATE");
    if (err < 0) {
        return err;
    }
    db->in_transaction = true;
    return 0;
}

/* Leaves the transaction whatever state SQLite has it in. */
static void end_transaction(struct db *db)
{
    db->broken_err = 0;
    db->in_transaction = false;
    db->savepoints = 0;
    if (!sqlite3_get_autocommit(db->handle)) {
        run(db, "ROLLBACK");
    }
}

int db_commit(struct db *db)
{
    CHECK(db->in_transaction && db->savepoints == 0);
    uint64_t start_ns = now_ns();
    int err = run(db, "COMMIT");
    if (err == 0) {
        db->stats.commits++;
        db->stats.commit_ns += now_ns() - start_ns;
    }
    end_transaction(db);
    return err;
}

void db_rollback(struct db *db)
{
    CHECK(db->in_transaction);
    end_transaction(db);
}

int db_try_commit(struct db *db)
{
    char pragma[48];
    int64_t version;
    int err = db_begin(db);
    if (err < 0) {
        return err;
    }
    /* Setting a number of the header, also to what it is, writes the first page. */
    err = db_number(db, "PRAGMA user_version", &version);
    if (err == 0) {
        snprintf(pragma, sizeof(pragma), "PRAGMA user_version = %" PRId64, version);
        err = db_exec(db, pragma);
    }
    if (err < 0) {
        db_rollback(db);
        return err;
    }
    return db_commit(db);
}

int db_savepoint(struct db *db)
{
    CHECK(db->in_transaction && db->savepoints < SAVEPOINTS_MAX);
    int err = run(db, "SAVEPOINT call");
    if (err < 0) {
        return err;
    }
    db->marks[db->savepoints++] = db->watch != NULL ? db->watch->mark(db->watch->arg) : 0;
    return 0;
}

int db_release(struct db *db)
{
    CHECK(db->savepoints > 0);
    db->savepoints--;
    int err = run(db, "RELEASE call");
    if (err < 0 && db->broken_err == 0) {
        db->broken_err = err; /* its caller will say that nothing was done */
    }
    return err;
}

void db_rollback_to(struct db *db)
{
    CHECK(db->savepoints > 0);
    db->savepoints--;
    if (db->watch != NULL) {
        db->watch->undo(db->watch->arg, db->marks[db->savepoints]);
    }
    int err = run(db, "ROLLBACK TO call");
    if (err == 0) {
        err = run(db, "RELEASE call");
    }
    if (err < 0 && db->broken_err == 0) {
        db->broken_err = err; /* what should have gone may not be committed */
    }
}

int db_read_begin(struct db *db)
{
    CHECK(!db->in_read && !db->in_transaction);
    int err = run(db, "BEGIN");
    if (err < 0) {
        return err;
    }
    db->in_read = true;
    return 0;
}

void db_read_end(struct db *db)
{
    CHECK(db->in_read);
    db->in_read = false;
    if (!sqlite3_get_autocommit(db->handle)) {
        run(db, "COMMIT");
    }
}

/* SQLite counts, for each connection, how often it has found the file changed by another one. This
 * begins the snapshot when nothing was read before, so number and snapshot belong together. */
int db_read_version(struct db *db, uint64_t *ret_version)
{
    int64_t version = 0;
    CHECK(db->in_read);
    int err = db_number(db, "PRAGMA data_version", &version);
    if (err == 0) {
        *ret_version = (uint64_t)version;
    }
    return err;
}

void db_watch(struct db *db, const struct db_watch *watch)
{
    CHECK(!db->in_transaction);
    db->watch = watch;
}

const struct db_watch *db_watcher(const struct db *db)
{
    return db->watch;
}

struct db_stats db_stats(const struct db *db)
{
    return db->stats;
}

/* Opening */

static int db_path(const char *dir, const char *name, char ret_path[4096], struct error *error)
{
    int len = snprintf(ret_path, 4096, "%s/%s", dir, name);
    if (len < 0 || len >= 4096) {
        error_set(error, ERR_STORE_FAILED, "The name of the data directory is too long.");
        return -ENAMETOOLONG;
    }
    return 0;
}

static int lock_dir(const char *dir, int *ret_fd, struct error *error)
{
    char path[4096];
    int err = db_path(dir, "smirror.lock", path, error);
    if (err < 0) {
        return err;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        err = -errno;
        error_set(error, ERR_STORE_FAILED, "%s cannot be opened: %s.", path, strerror(-err));
        return err;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        err = errno == EWOULDBLOCK ? -EBUSY : -errno;
        if (err == -EBUSY) {
            error_set(error, ERR_CONFLICT, "The data directory %s is in use by another smirrord.",
                      dir);
        } else {
            error_set(error, ERR_STORE_FAILED, "%s cannot be locked: %s.", path, strerror(-err));
        }
        close(fd);
        return err;
    }
    *ret_fd = fd;
    return 0;
}

/* Makes the file, empty and private, if there is none, and takes an existing one out of others'
 * sight. */
static int create_file(const char *dir, const char *path, struct error *error)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        close(fd);
        int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int synced = dir_fd >= 0 ? fsync(dir_fd) : -1;
        int err = synced < 0 ? -errno : 0;
        if (dir_fd >= 0) {
            close(dir_fd);
        }
        if (err < 0) {
            error_set(error, ERR_STORE_FAILED, "%s cannot be synced: %s.", dir, strerror(-err));
        }
        return err;
    }
    if (errno != EEXIST) {
        int err = -errno;
        error_set(error, err == -ENOSPC ? ERR_NO_SPACE : ERR_STORE_FAILED,
                  "%s cannot be created: %s.", path, strerror(-err));
        return err;
    }
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        char name[4096 + 8];
        struct stat st;
        snprintf(name, sizeof(name), "%s%s", path, suffixes[i]);
        if (stat(name, &st) == 0 && (st.st_mode & 077) != 0 && chmod(name, 0600) < 0) {
            log_warning("store: %s is readable for others: %s", name, strerror(errno));
        }
    }
    return 0;
}

static int error_cannot_read(struct error *error, int err, const char *path, const char *message)
{
    if (err == -ENOSPC) {
        error_set(error, ERR_NO_SPACE,
                  "%s cannot be read (%s): the disk is full, and the index of the write-ahead log "
                  "needs 32 KiB.",
                  path, message);
    } else {
        error_set(error, ERR_STORE_FAILED, "%s cannot be read: %s.", path, message);
    }
    return err;
}

/* Refuses files that smirror did not write. *ret_version is 0 for an empty file. */
static int check_file(struct db *db, const char *path, int64_t *ret_version, struct error *error)
{
    int64_t application_id;
    int64_t version;
    int64_t objects;
    int err = db_number(db, "PRAGMA application_id", &application_id);
    if (err == 0) {
        err = db_number(db, "PRAGMA user_version", &version);
    }
    if (err == 0) {
        err = db_number(db, "SELECT count(*) FROM sqlite_schema", &objects);
    }
    if (err < 0) {
        return error_cannot_read(error, err, path, db_message(db));
    }
    bool empty = application_id == 0 && version == 0 && objects == 0;
    if (!empty && application_id != STORE_APPLICATION_ID) {
        return error_set(error, ERR_STORE_FAILED,
                         "%s is not a file of smirror: move it away or choose another data "
                         "directory.",
                         path);
    }
    *ret_version = version;
    return 0;
}

/* Runs a PRAGMA that answers with one text and compares it. *ret_text gets the answer, perhaps cut.
 * */
static int pragma_says(struct db *db, const char *pragma, const char *expected, bool *ret_same,
                       char ret_text[200])
{
    struct statement *statement;
    int err = statement_sql(db, pragma, &statement);
    if (err < 0) {
        return err;
    }
    err = statement_step(statement);
    if (err >= 0) {
        size_t len;
        const char *text = err > 0 ? statement_text(statement, 0, &len) : NULL;
        snprintf(ret_text, 200, "%s", text != NULL ? text : "no answer");
        *ret_same = strcmp(ret_text, expected) == 0;
        err = 0;
    }
    statement_done(statement);
    return err;
}

static int check_integrity(struct db *db, const char *path, struct error *error)
{
    bool good;
    char text[200];
    int err = pragma_says(db, "PRAGMA quick_check(1)", "ok", &good, text);
    if (err < 0) {
        error_set(error, ERR_STORE_FAILED, "%s is damaged (%s): restore it from a backup.", path,
                  db_message(db));
        return err;
    }
    if (!good) {
        return error_set(error, ERR_STORE_FAILED, "%s is damaged (%s): restore it from a backup.",
                         path, text);
    }
    return 0;
}

/* The connection itself; nothing of the file is read or written yet. */
static int open_connection(const char *path, int lock_fd, struct db **ret_db, struct error *error)
{
    struct db *db = calloc(1, sizeof(*db));
    if (db == NULL) {
        return error_set(error, ERR_NO_MEMORY, "The records could not be opened.");
    }
    db->lock_fd = -1; /* stays the caller's until this has succeeded */
    int rc = sqlite3_open_v2(path, &db->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK || db->handle == NULL) {
        int err = db->handle == NULL ? -ENOMEM : db_failed(db, rc, path);
        error_set(error, ERR_STORE_FAILED, "%s cannot be opened: %s.", path,
                  db->handle == NULL ? "out of memory" : db_message(db));
        db_close(db);
        return err;
    }
    sqlite3_extended_result_codes(db->handle, 1);
    /* The WAL (empty) and its index stay when the last connection closes: with their space kept, the
     * next start has it also on a disk that is full by then. */
    int persist = 1;
    sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
    sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
    db->lock_fd = lock_fd;
    *ret_db = db;
    return 0;
}

static int set_up_writer(struct db *db, const char *path, struct error *error)
{
    int64_t version;
    int err = check_file(db, path, &version, error);
    if (err < 0) {
        return err;
    }
    if (version > 0) {
        err = check_integrity(db, path, error);
        if (err < 0) {
            return err;
        }
    }
    bool is_wal;
    char text[200];
    err = pragma_says(db, "PRAGMA journal_mode = WAL", "wal", &is_wal, text);
    if (err == 0 && !is_wal) {
        return error_set(error, ERR_STORE_FAILED,
                         "%s cannot have a write-ahead log (its journal is \"%s\"): use a data "
                         "directory on a local file system.",
                         path, text);
    }
    if (err == 0) {
        err = db_exec(db, "PRAGMA synchronous = FULL;"
                          "PRAGMA temp_store = MEMORY;" /* what a savepoint must be able to undo */
                          "PRAGMA foreign_keys = ON;"
                          "PRAGMA secure_delete = ON;"
                          "PRAGMA wal_autocheckpoint = " WAL_PAGES ";"
                          "PRAGMA journal_size_limit = " WAL_KEEP_BYTES);
    }
    if (err < 0) {
        error_set(error, err == -ENOSPC ? ERR_NO_SPACE : ERR_STORE_FAILED,
                  "%s cannot be written: %s.", path, db_message(db));
        return err;
    }
    return migrations_run(db, schema_steps, schema_version, error);
}

bool store_is_there(const char *dir)
{
    char path[4096];
    struct stat st;

    /* A file that has been written to is not empty, whatever is still in the log only. */
    return db_path(dir, "smirror.db", path, NULL) == 0 && stat(path, &st) == 0 && st.st_size > 0;
}

int store_open(const char *dir, struct db **ret_db, struct error *error)
{
    char path[4096];
    int lock_fd = -1;
    int err = db_path(dir, "smirror.db", path, error);
    if (err < 0) {
        return err;
    }
    err = lock_dir(dir, &lock_fd, error);
    if (err < 0) {
        return err;
    }
    struct db *db;
    err = create_file(dir, path, error);
    if (err == 0) {
        err = open_connection(path, lock_fd, &db, error);
    }
    if (err < 0) {
        close(lock_fd);
        return err;
    }
    err = set_up_writer(db, path, error);
    if (err < 0) {
        db_close(db);
        return err;
    }
    *ret_db = db;
    return 0;
}

static int set_up_reader(struct db *db, const char *path, struct error *error)
{
    /* Whoever closes last empties the WAL, given that it has a limit. */
    int err = db_exec(db, "PRAGMA query_only = ON;"
                          "PRAGMA journal_size_limit = " WAL_KEEP_BYTES);
    if (err < 0) {
        error_set(error, ERR_STORE_FAILED, "%s cannot be read: %s.", path, db_message(db));
        return err;
    }
    int64_t version;
    err = check_file(db, path, &version, error);
    if (err < 0) {
        return err;
    }
    if ((uint64_t)version != schema_version) {
        return error_set(error, ERR_STORE_FAILED,
                         "%s has schema version %" PRId64 ", this program reads version %zu: start "
                         "the service first.",
                         path, version, schema_version);
    }
    return 0;
}

int store_reader_open(const char *dir, struct db **ret_db, struct error *error)
{
    char path[4096];
    int err = db_path(dir, "smirror.db", path, error);
    if (err < 0) {
        return err;
    }
    if (access(path, F_OK) < 0) {
        err = -errno;
        error_set(error, ERR_STORE_FAILED, "%s cannot be opened: %s.", path, strerror(-err));
        return err;
    }
    struct db *db;
    err = open_connection(path, -1, &db, error);
    if (err < 0) {
        return err;
    }
    err = set_up_reader(db, path, error);
    if (err < 0) {
        db_close(db);
        return err;
    }
    *ret_db = db;
    return 0;
}

void db_close(struct db *db)
{
    if (db == NULL) {
        return;
    }
    if (db->in_transaction) {
        db_rollback(db);
    }
    for (size_t i = 0; i < STATEMENT_BUCKETS; i++) {
        while (db->buckets[i] != NULL) {
            struct statement *statement = db->buckets[i];
            CHECK(!statement->busy);
            db->buckets[i] = statement->next;
            statement_free(statement);
        }
    }
    int rc = sqlite3_close(db->handle);
    if (rc != SQLITE_OK) {
        log_error("store: close: %s", sqlite3_errmsg(db->handle));
    }
    if (db->lock_fd >= 0) {
        close(db->lock_fd); /* gives the lock back */
    }
    free(db);
}

void store_new_id(char ret_id[ID_SIZE])
{
    random_id_hex(ret_id, ID_LEN);
}
