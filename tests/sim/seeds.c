// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/seeds.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

struct random sim_random;

static char how_to_replay[128]; /* ready, for a signal handler must not make it */

static void tell_seed(int signal_number)
{
    if (write(STDERR_FILENO, how_to_replay, strlen(how_to_replay)) < 0) {
        _exit(1);
    }
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* Sanitizers end the program so that the seed is told. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "abort_on_error=1";
}
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
    return "abort_on_error=1:print_stacktrace=1";
}

static void run_one(const struct sim *sim, uint64_t seed)
{
    snprintf(how_to_replay, sizeof(how_to_replay),
             "\nfailed with seed %llu: replay with sim_%s %llu\n", (unsigned long long)seed,
             sim->name, (unsigned long long)seed);
    random_seed(&sim_random, seed);
    sim->run(seed);
}

int sim_main(int argc, char **argv, const struct sim *sim)
{
    const char *first_text = argc > 1 ? argv[1] : getenv("SMIRROR_SIM_SEED");
    const char *count_text = argc > 2 ? argv[2] : argc > 1 ? NULL : getenv("SMIRROR_SIM_COUNT");
    uint64_t first = first_text ? strtoull(first_text, NULL, 0) : 1;
    uint64_t count = count_text ? strtoull(count_text, NULL, 0) : first_text ? 1 : sim->seeds;
    log_set_level(argc > 1 && count == 1 ? LOG_DEBUG : LOG_ERROR);
    setenv("CMOCKA_TEST_ABORT", "1", 0); /* instead of exit(), which would not tell */
    signal(SIGABRT, tell_seed);
#if !defined(__SANITIZE_ADDRESS__) /* it tells what it was, and aborts */
    signal(SIGSEGV, tell_seed);
#endif
    for (uint64_t seed = first; seed < first + count; seed++) {
        run_one(sim, seed);
    }
    printf("%llu seeds from %llu passed\n", (unsigned long long)count, (unsigned long long)first);
    if (sim->passed) {
        sim->passed(count);
    }
    return 0;
}
