// SPDX-License-Identifier: Apache-2.0
/* The linker sends here what the code under test calls outside of it (--wrap, see tests/hosted.cmake). */
#include "tests/sim/machine.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/check.h"
#include "block/layer.h"

enum { PATIENCE_S = 3600 };

static struct loop_sim *sim;
static struct layer_disk *disk;
static struct layer_disk *survivor;
static struct random numbers;

void machine_begin(uint64_t seed, unsigned delay_percent)
{
    CHECK(sim == NULL && loop_sim_new(seed, &sim) == 0);
    disk = layer_disk_new(seed * 3 + 1, delay_percent);
    random_seed(&numbers, seed * 5 + 2);
}

void machine_end(void)
{
    layer_disk_free(disk);
    loop_sim_free(sim);
    disk = NULL;
    sim = NULL;
    machine_on_power_cut(NULL);
}

struct loop_sim *machine_sim(void)
{
    return sim;
}

struct layer_disk *machine_disk(void)
{
    return disk;
}

/* ---- time ---- */

static void (*on_cut)(void);

void machine_on_power_cut(void (*fn)(void))
{
    on_cut = fn;
}

static void power_look(void)
{
    void (*fn)(void) = on_cut;

    if (fn != NULL && layer_disk_is_cut(disk)) {
        on_cut = NULL;
        survivor = layer_disk_survivor(disk);
        fn();
    }
}

void machine_power_on(void)
{
    layer_disk_free(disk);
    disk = survivor;
    survivor = NULL;
}

struct until {
    bool (*done)(void *arg);
    void *arg;
};

static bool until_done(void *arg)
{
    struct until *until = arg;

    power_look();
    return until->done(until->arg);
}

bool machine_run_until(bool (*done)(void *arg), void *arg, uint64_t limit_ns)
{
    struct until until = {done, arg};

    return loop_sim_run_until(sim, until_done, &until, limit_ns);
}

static bool time_is_later(void *arg)
{
    return loop_sim_now_ns(sim) > *(uint64_t *)arg;
}

void machine_pass(uint64_t ns)
{
    uint64_t end_ns = loop_sim_now_ns(sim) + ns;

    machine_run_until(time_is_later, &end_ns, ns);
    uint64_t now_ns = loop_sim_now_ns(sim);

    if (now_ns < end_ns) {
        loop_sim_advance(sim, end_ns - now_ns); /* nothing happens until then */
    }
}

/* ---- loops, and who waits for one ---- */

int __wrap_loop_new(const char *name, struct loop **ret_loop);
int __wrap_loop_new(const char *name, struct loop **ret_loop)
{
    return loop_sim_add(sim, name, ret_loop);
}

static uint64_t waiting_since_ns;
static pthread_cond_t *waited_for;

/* One thing happens; whoever waits looks again, as after any wake-up. */
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    uint64_t now_ns = loop_sim_now_ns(sim);

    if (waited_for != cond || now_ns < waiting_since_ns) {
        waited_for = cond;
        waiting_since_ns = now_ns;
    }
    CHECK(now_ns - waiting_since_ns < PATIENCE_S * SEC_NS);
    pthread_mutex_unlock(mutex);
    if (!loop_sim_step(sim)) {
        CHECK(machine_run_until(time_is_later, &now_ns, PATIENCE_S * SEC_NS));
    }
    power_look();
    pthread_mutex_lock(mutex);
    return 0;
}

/* ---- files ---- */

int __real_layer_create(struct loop *loop, const struct layer_spec *spec, layer_open_fn fn,
                        void *arg);
int __wrap_layer_create(struct loop *loop, const struct layer_spec *spec, layer_open_fn fn,
                        void *arg);
int __wrap_layer_create(struct loop *loop, const struct layer_spec *spec, layer_open_fn fn,
                        void *arg)
{
    struct layer_spec here = *spec;

    here.backend = layer_disk_backend(disk);
    here.log_half_bytes = here.log_half_bytes != 0 ? here.log_half_bytes : 8192;
    return __real_layer_create(loop, &here, fn, arg);
}

int __real_layer_open(struct loop *loop, const struct layer_spec *spec, layer_open_fn fn,
                      void *arg);
int __wrap_layer_open(struct loop *loop, const struct layer_spec *spec, layer_open_fn fn,
                      void *arg);
int __wrap_layer_open(struct loop *loop, const struct layer_spec *spec, layer_open_fn fn, void *arg)
{
    struct layer_spec here = *spec;

    here.backend = layer_disk_backend(disk);
    return __real_layer_open(loop, &here, fn, arg);
}

int __wrap_reaper_unlink(const char *path);
int __wrap_reaper_unlink(const char *path)
{
    const struct layer_backend *backend = layer_disk_backend(disk);

    if (layer_disk_is_cut(disk)) {
        return -EIO;
    }
    if (!layer_disk_exists(disk, path)) {
        return -ENOENT;
    }
    backend->remove(backend, path);
    return 0;
}

int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to)
{
    int r = layer_disk_rename(disk, from, to);

    errno = -r;
    return r == 0 ? 0 : -1;
}

/* ---- numbers ---- */

void __wrap_random_bytes(void *data, size_t len);
void __wrap_random_bytes(void *data, size_t len)
{
    random_fill(&numbers, data, len);
}

uint64_t __wrap_random_unpredictable_u64(void);
uint64_t __wrap_random_unpredictable_u64(void)
{
    return random_u64(&numbers);
}

void __wrap_random_id_hex(char *out, size_t digits);
void __wrap_random_id_hex(char *out, size_t digits)
{
    for (size_t i = 0; i < digits; i++) {
        out[i] = "0123456789abcdef"[random_below(&numbers, 16)];
    }
    out[digits] = '\0';
}
