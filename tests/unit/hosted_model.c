// SPDX-License-Identifier: Apache-2.0
/*
 * Random changes of hosted volumes against a model of what each of them reads.
 *
 * A process of its own has the service and makes the changes; the model is in a file that it shares with the test, which kills
 * it again and again, at any moment, or lets it end in order. The next one opens the same directory, looks at every volume,
 * and goes on. The one change that was under way when it was killed has happened or not; what was not flushed is the old or
 * the new, per page; everything else must be as the model says.
 *
 * test_hosted_model [seed [seconds]]
 */
#include "tests/unit/testing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "base/random.h"
#include "tests/unit/block_io.h"
#include "tests/unit/hosted_fixture.h"

enum { PAGE = 4096, N_PAGES = 48, PAGES_MAX = 4 * N_PAGES, N_VOLUMES = 14, SECONDS = 7 };

enum kind { NOTHING, WRITE, FLUSH, CREATE, DERIVE, REFRESH, RESTORE, BLANK, DELETE, GROW, N_KINDS };

static const char *const kind_names[N_KINDS] = {"nothing", "write",   "flush", "create", "derive",
                                                "refresh", "restore", "blank", "delete", "grow"};

/* What a page may read: now, or, as long as it is not flushed, what it was. */
struct volume {
    bool there;
    bool offline;
    unsigned name;
    unsigned n_pages;
    uint32_t now[PAGES_MAX];
    uint32_t old[PAGES_MAX];
};

struct model {
    char dir[64];
    uint64_t seed;
    unsigned names;
    uint32_t stamp;
    uint64_t n_changes[N_KINDS];
    unsigned n_starts;
    /* Under way. */
    enum kind kind;
    unsigned a;
    unsigned b;
    unsigned made;
    struct volume before; /* what is to be restored */
    struct volume volumes[N_VOLUMES];
};

static struct model *model;
static struct service_fixture fixture;
static struct random rnd;

static void volume_name(unsigned name, char text[32])
{
    snprintf(text, 32, "v%u", name);
}

static struct volume_row row_of(const struct volume *volume)
{
    struct volume_row row;
    char name[32];

    volume_name(volume->name, name);
    if (!hosted_find(&fixture, name, &row)) {
        fail_msg("%s is not there", name);
    }
    return row;
}

/* ---- content ---- */

static uint32_t pages[PAGES_MAX][PAGE / 4];

static void page_fill(unsigned number, uint32_t stamp)
{
    for (unsigned i = 0; i < PAGE / 8; i++) {
        pages[number][2 * i] = stamp;
        pages[number][2 * i + 1] = stamp == 0 ? 0 : number;
    }
}

static struct blockdev *device_of(const struct volume *volume)
{
    struct volume_row row = row_of(volume);
    struct blockdev *dev = hosted_connect(&fixture, row.head.id);

    if (dev == NULL || row.problem[0] != '\0') {
        fail_msg("%s is not open: %s", row.element_name, row.problem);
    }
    assert_int_equal(dev->info.size_bytes, (uint64_t)volume->n_pages * PAGE);
    return dev;
}

static void content_read(const struct volume *volume, uint32_t stamps[PAGES_MAX])
{
    struct blockdev *dev = device_of(volume);

    assert_int_equal(io_do(dev, BLOCK_READ, 0, pages, (uint64_t)volume->n_pages * PAGE, 0), 0);
    hosted_disconnect(dev);
    for (unsigned i = 0; i < volume->n_pages; i++) {
        uint32_t stamp = pages[i][0];

        for (unsigned j = 0; j < PAGE / 8; j++) {
            assert_int_equal(pages[i][2 * j], stamp);
            assert_int_equal(pages[i][2 * j + 1], stamp == 0 ? 0 : i);
        }
        stamps[i] = stamp;
    }
}

/* Killed in between, a page is still one of the two. */
static void content_set(struct volume *volume, const uint32_t *stamps, unsigned n)
{
    for (unsigned i = 0; i < PAGES_MAX; i++) {
        uint32_t stamp = i < n ? stamps[i] : 0;

        __atomic_store_n(&volume->now[i], stamp, __ATOMIC_SEQ_CST);
        __atomic_store_n(&volume->old[i], stamp, __ATOMIC_SEQ_CST);
    }
}

static void flushed(struct volume *volume)
{
    memcpy(volume->old, volume->now, sizeof(volume->old));
}

static void wrong(const struct volume *volume, unsigned page, uint32_t stamp)
{
    fail_msg("v%u page %u reads %u, should %u or %u (seed %llu, start %u, %s %u %u)", volume->name,
             page, stamp, volume->now[page], volume->old[page], (unsigned long long)model->seed,
             model->n_starts, kind_names[model->kind], model->a, model->b);
}

/* It reads what it should. After a crash: from now on what it reads is what it is. */
static void check(struct volume *volume, bool crashed)
{
    uint32_t stamps[PAGES_MAX];

    content_read(volume, stamps);
    for (unsigned i = 0; i < volume->n_pages; i++) {
        bool fits = stamps[i] == volume->now[i] || (crashed && stamps[i] == volume->old[i]);

        if (!fits) {
            wrong(volume, i, stamps[i]);
        }
    }
    if (crashed) {
        content_set(volume, stamps, volume->n_pages);
    }
}

static bool reads(const struct volume *volume, const struct volume *as)
{
    uint32_t stamps[PAGES_MAX];

    content_read(volume, stamps);
    for (unsigned i = 0; i < volume->n_pages; i++) {
        if (stamps[i] != (i < as->n_pages ? as->now[i] : 0)) {
            return false;
        }
    }
    return true;
}

/* ---- after a crash: did it happen? ---- */

static void made_from(struct volume *made, const struct volume *from)
{
    made->there = true;
    made->offline = false;
    made->n_pages = from->n_pages;
    content_set(made, from->now, from->n_pages);
}

static void take(struct volume *volume, const struct volume *from)
{
    volume->offline = false;
    content_set(volume, from->now,
                from->n_pages < volume->n_pages ? from->n_pages : volume->n_pages);
}

static void kept_from(struct volume *kept, const struct volume *before)
{
    unsigned name = kept->name;

    *kept = *before;
    kept->name = name;
}

static bool is_made(const struct volume *volume)
{
    struct volume_row row;
    char name[32];

    volume_name(volume->name, name);
    return hosted_find(&fixture, name, &row);
}

static void recover(void)
{
    struct volume *a = &model->volumes[model->a];
    struct volume *b = &model->volumes[model->b];
    struct volume *made = &model->volumes[model->made];
    bool happened = false;

    switch (model->kind) {
    case NOTHING:
    case FLUSH:
    case N_KINDS:
        break;
    case WRITE:
        /* The pages under way have both in the model. */
        break;
    case CREATE:
        made->there = is_made(made);
        break;
    case DERIVE:
        check(a, true);
        if (is_made(made)) {
            made_from(made, a);
        }
        break;
    case REFRESH:
        check(a, true);
        happened = row_of(b).offline != b->offline || reads(b, a);
        if (happened) {
            take(b, a);
        }
        break;
    case RESTORE:
        check(b, true);
        if (is_made(made)) {
            kept_from(made, &model->before);
            take(a, b);
        }
        break;
    case BLANK:
        if (row_of(a).offline) {
            a->offline = true;
            content_set(a, NULL, 0);
        }
        break;
    case DELETE:
        a->there = is_made(a);
        break;
    case GROW:
        a->n_pages = (unsigned)(row_of(a).size_bytes / PAGE);
        break;
    }
    model->kind = NOTHING;
    for (unsigned i = 0; i < N_VOLUMES; i++) {
        if (model->volumes[i].there) {
            check(&model->volumes[i], true);
        }
    }
}

/* ---- changes ---- */

static int pick(bool there)
{
    unsigned from = (unsigned)random_below(&rnd, N_VOLUMES);

    for (unsigned i = 0; i < N_VOLUMES; i++) {
        unsigned at = (from + i) % N_VOLUMES;

        if (model->volumes[at].there == there) {
            return (int)at;
        }
    }
    return -1;
}

static void begin(enum kind kind, int a, int b, int made)
{
    model->a = (unsigned)(a < 0 ? 0 : a);
    model->b = (unsigned)(b < 0 ? 0 : b);
    if (made >= 0) {
        model->made = (unsigned)made;
        model->volumes[made] = (struct volume){.name = model->names++};
    }
    __atomic_store_n(&model->kind, kind, __ATOMIC_SEQ_CST);
    print_error("%s v%u v%u -> v%u\n", kind_names[kind], model->volumes[model->a].name,
                model->volumes[model->b].name, made >= 0 ? model->volumes[made].name : 0);
}

static void end(enum kind kind)
{
    model->n_changes[kind]++;
    __atomic_store_n(&model->kind, NOTHING, __ATOMIC_SEQ_CST);
}

static void ask_id(char id[ID_SIZE], const struct volume *volume)
{
    strcpy(id, row_of(volume).head.id);
}

static void do_flush(int at)
{
    struct volume *volume = &model->volumes[at];
    struct blockdev *dev = device_of(volume);

    begin(FLUSH, at, -1, -1);
    assert_int_equal(io_do(dev, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
    flushed(volume);
    end(FLUSH);
    hosted_disconnect(dev);
}

static void do_write(int at)
{
    struct volume *volume = &model->volumes[at];
    unsigned n = 1 + (unsigned)random_below(&rnd, 12);
    unsigned first = (unsigned)random_below(&rnd, volume->n_pages - n);
    bool zero = random_chance(&rnd, 1, 5);
    bool again = false;

    for (unsigned i = first; i < first + n; i++) {
        again |= volume->now[i] != volume->old[i];
    }
    if (again) {
        do_flush(at); /* a page has two contents at most */
    }
    struct blockdev *dev = device_of(volume);

    begin(WRITE, at, -1, -1);
    for (unsigned i = first; i < first + n; i++) {
        volume->now[i] = zero ? 0 : ++model->stamp;
        page_fill(i, volume->now[i]);
    }
    assert_int_equal(io_do(dev, zero ? BLOCK_ZERO : BLOCK_WRITE, (uint64_t)first * PAGE,
                           zero ? NULL : pages[first], (uint64_t)n * PAGE, 0),
                     0);
    end(WRITE);
    hosted_disconnect(dev);
}

static void do_create(int made)
{
    struct hosted_ask ask = {.change = HOSTED_CREATE, .size_bytes = N_PAGES * PAGE};
    struct volume *volume = &model->volumes[made];

    begin(CREATE, -1, -1, made);
    volume->n_pages = N_PAGES;
    volume_name(volume->name, ask.name);
    hosted_do(&fixture, &ask);
    volume->there = true;
    end(CREATE);
}

static void do_derive(int a, int made)
{
    struct hosted_ask ask = {.change = HOSTED_DERIVE, .watched = random_chance(&rnd, 1, 2)};
    struct volume *volume = &model->volumes[made];

    ask_id(ask.id, &model->volumes[a]);
    begin(DERIVE, a, -1, made);
    volume_name(volume->name, ask.name);
    hosted_do(&fixture, &ask);
    flushed(&model->volumes[a]);
    made_from(volume, &model->volumes[a]);
    end(DERIVE);
}

static void do_refresh(int a, int b)
{
    struct hosted_ask ask = {.change = HOSTED_REFRESH, .watched = random_chance(&rnd, 1, 2)};

    ask_id(ask.id, &model->volumes[a]);
    ask_id(ask.other_id, &model->volumes[b]);
    begin(REFRESH, a, b, -1);
    hosted_do(&fixture, &ask);
    flushed(&model->volumes[a]);
    take(&model->volumes[b], &model->volumes[a]);
    end(REFRESH);
}

static void do_restore(int a, int b, int made)
{
    struct hosted_ask ask = {.change = HOSTED_RESTORE};
    struct volume *kept = &model->volumes[made];

    model->before = model->volumes[a];
    ask_id(ask.id, &model->volumes[a]);
    ask_id(ask.other_id, &model->volumes[b]);
    begin(RESTORE, a, b, made);
    volume_name(kept->name, ask.name);
    hosted_do(&fixture, &ask);
    flushed(&model->volumes[b]);
    kept_from(kept, &model->before);
    take(&model->volumes[a], &model->volumes[b]);
    end(RESTORE);
}

static void do_blank(int a)
{
    struct hosted_ask ask = {.change = HOSTED_BLANK};

    ask_id(ask.id, &model->volumes[a]);
    begin(BLANK, a, -1, -1);
    hosted_do(&fixture, &ask);
    model->volumes[a].offline = true;
    content_set(&model->volumes[a], NULL, 0);
    end(BLANK);
}

static void do_delete(int a)
{
    struct hosted_ask ask = {.change = HOSTED_DELETE};

    ask_id(ask.id, &model->volumes[a]);
    begin(DELETE, a, -1, -1);
    hosted_do(&fixture, &ask);
    model->volumes[a].there = false;
    end(DELETE);
}

static void do_grow(int a)
{
    struct volume *volume = &model->volumes[a];
    struct hosted_ask ask = {.change = HOSTED_GROW};
    unsigned n = volume->n_pages + 1 + (unsigned)random_below(&rnd, N_PAGES);

    n = n < PAGES_MAX ? n : PAGES_MAX;
    if (n == volume->n_pages) {
        return;
    }
    ask_id(ask.id, volume);
    ask.size_bytes = (uint64_t)n * PAGE;
    begin(GROW, a, -1, -1);
    hosted_do(&fixture, &ask);
    volume->n_pages = n;
    end(GROW);
}

static void step(void)
{
    int a = pick(true);
    int b = pick(true);
    int made = pick(false);
    unsigned roll = (unsigned)random_below(&rnd, 100);
    const struct volume *volumes = model->volumes;

    /* What cannot be now is a look instead. */
    if (a < 0 || (roll < 4 && made >= 0)) {
        do_create(made);
    } else if (roll < 44) {
        do_write(a);
    } else if (roll < 48) {
        do_flush(a);
    } else if (roll < 66 && made >= 0 && !volumes[a].offline) {
        do_derive(a, made);
    } else if (roll < 74 && a != b && !volumes[a].offline &&
               volumes[b].n_pages >= volumes[a].n_pages) {
        do_refresh(a, b);
    } else if (roll < 82 && a != b && made >= 0 && !volumes[b].offline &&
               volumes[a].n_pages >= volumes[b].n_pages) {
        do_restore(a, b, made);
    } else if (roll >= 82 && roll < 84) {
        do_blank(a);
    } else if (roll >= 84 && roll < 87) {
        do_grow(a);
    } else if (roll >= 87 && roll < 97) {
        do_delete(a);
    } else {
        check(&model->volumes[a], false);
    }
}

/* ---- the process that has the service ---- */

static struct model *model_map(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    void *mapped = mmap(NULL, sizeof(struct model), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    assert_true(mapped != MAP_FAILED);
    close(fd);
    return mapped;
}

static void service_start(void)
{
    fixture_start(&fixture);
    hosted_io_begin();
}

static void service_stop(void)
{
    hosted_io_end();
    fixture_stop(&fixture);
}

/* Ends in order after some changes, unless it is killed before. */
static int child(const char *path)
{
    model = model_map(path);
    random_seed(&rnd, model->seed * 1000003 + model->n_starts);
    model->n_starts++;
    print_error("start %u after %s v%u v%u\n", model->n_starts, kind_names[model->kind],
                model->volumes[model->a].name, model->volumes[model->b].name);
    fixture_init(&fixture);
    assert_int_equal(rmdir(fixture.dir), 0);
    strcpy(fixture.dir, model->dir);
    service_start();
    recover();
    for (unsigned i = 0; i < 150; i++) {
        if (random_chance(&rnd, 1, 60)) {
            service_stop();
            service_start();
            for (unsigned j = 0; j < N_VOLUMES; j++) {
                flushed(&model->volumes[j]);
            }
        }
        step();
    }
    for (unsigned i = 0; i < N_VOLUMES; i++) {
        if (model->volumes[i].there) {
            check(&model->volumes[i], false);
        }
    }
    service_stop();
    return 0;
}

/* ---- the test ---- */

static uint64_t seed = 20261121;
static unsigned seconds = SECONDS;
static const char *self;

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static pid_t child_start(const char *path)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        int out = open("/dev/null", O_WRONLY | O_CLOEXEC);
        char log[128];

        snprintf(log, sizeof(log), "%s.log", path);
        int err = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        execl(self, self, "child", path, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void log_show(const char *path)
{
    char log[128];
    char line[512];

    snprintf(log, sizeof(log), "%s.log", path);
    FILE *file = fopen(log, "r");

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        print_error("%s", line);
    }
    if (file != NULL) {
        fclose(file);
    }
}

/* Enough to mean something. */
static bool has_changed(const struct model *shared)
{
    return shared->n_changes[WRITE] > 0 && shared->n_changes[DERIVE] > 0;
}

static void test_model(void **state)
{
    struct random times;
    char path[64] = "/tmp/smirror-model-XXXXXX";
    struct model *shared;
    int fd = mkstemp(path);
    double end_s = now_s() + seconds;
    unsigned kills = 0;
    unsigned orderly = 0;

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, sizeof(struct model)), 0);
    close(fd);
    shared = model_map(path);
    shared->seed = seed;
    shared->names = 1;
    snprintf(shared->dir, sizeof(shared->dir), "%s/smirror-model-XXXXXX", (const char *)*state);
    assert_non_null(mkdtemp(shared->dir));
    random_seed(&times, seed);
    /* On a machine that is busy with other things some starts are killed before they have done anything: more of them. */
    while (now_s() < end_s || (!has_changed(shared) && now_s() < end_s + 60)) {
        pid_t pid = child_start(path);
        double kill_s = now_s() + (random_chance(&times, 1, 6)
                                       ? 1000
                                       : 0.02 + (double)random_below(&times, 900) / 1000.0);
        int status;
        pid_t ended = 0;

        while ((ended = waitpid(pid, &status, WNOHANG)) == 0) {
            if (now_s() >= kill_s || now_s() > end_s + 80) {
                kill(pid, SIGKILL);
                assert_int_equal(waitpid(pid, &status, 0), pid);
                break;
            }
            nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
        }
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
            kills++;
        } else if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            orderly++;
        } else {
            log_show(path);
            fail_msg("seed %llu, start %u: status %x; the volumes are in %s",
                     (unsigned long long)seed, shared->n_starts, (unsigned)status, shared->dir);
        }
    }
    print_message("%u starts, %u killed, %u orderly;", shared->n_starts, kills, orderly);
    for (unsigned i = WRITE; i < N_KINDS; i++) {
        print_message(" %s %llu", kind_names[i], (unsigned long long)shared->n_changes[i]);
    }
    print_message("\n");
    assert_true(has_changed(shared));
    strcpy(fixture.dir, shared->dir);
    fixture_destroy(&fixture);
    munmap(shared, sizeof(*shared));
    unlink(path);
    strcat(path, ".log");
    unlink(path);
}

int main(int argc, char **argv)
{
    static char memory[] = "/dev/shm";
    static char disk[] = "/tmp";
    const struct CMUnitTest tests[] = {
        {.name = "in memory", .test_func = test_model, .initial_state = memory},
        {.name = "on disk", .test_func = test_model, .initial_state = disk},
    };

    if (argc == 3 && strcmp(argv[1], "child") == 0) {
        return child(argv[2]);
    }
    self = argv[0];
    if (argc > 1) {
        seed = strtoull(argv[1], NULL, 10);
    }
    if (argc > 2) {
        seconds = (unsigned)strtoul(argv[2], NULL, 10);
    }
    return cmocka_run_group_tests_name("hosted volumes and their model", tests, NULL, NULL);
}
