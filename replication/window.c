// SPDX-License-Identifier: Apache-2.0
#include "replication/window.h"

enum {
    ROUNDS_PER_SHORTEST = 256,
    PROBE_COMPLETIONS = 6, /* the first of them began before */
};

static unsigned clamp(const struct window *window, unsigned size)
{
    if (size > window->ceiling) {
        size = window->ceiling;
    }
    return size < window->floor ? window->floor : size;
}

void window_init(struct window *window, unsigned floor, unsigned ceiling)
{
    *window = (struct window){.ceiling = ceiling};
    window_set_floor(window, floor);
    window->size = window->floor;
}

void window_set_floor(struct window *window, unsigned floor)
{
    window->floor = floor == 0 ? 1 : floor;
    if (window->floor > window->ceiling) {
        window->floor = window->ceiling;
    }
    if (window->resume_size > 0) {
        window->resume_size = clamp(window, window->resume_size);
    } else {
        window->size = clamp(window, window->size);
    }
}

static void probe(struct window *window)
{
    window->resume_size = window->size;
    window->size = window->floor / 4 ? window->floor / 4 : 1;
    window->completions = 0;
    window->rounds = 0;
}

static void probe_completed(struct window *window, uint64_t took_ns)
{
    /* What was in flight when it began has to end first. */
    unsigned before = window->resume_size - window->size;
    window->completions++;
    if (window->completions <= before) {
        return;
    }
    if (window->completions == before + 1 || took_ns < window->shortest_ns) {
        window->shortest_ns = took_ns ? took_ns : 1;
    }
    if (window->completions >= before + PROBE_COMPLETIONS) {
        window->size = window->resume_size;
        window->resume_size = 0;
        window->completions = 0;
        window->latency_ns = 0;
    }
}

void window_completed(struct window *window, uint64_t took_ns)
{
    if (window->resume_size > 0) {
        probe_completed(window, took_ns);
        return;
    }
    if (window->shortest_ns == 0 || took_ns < window->shortest_ns) {
        window->shortest_ns = took_ns ? took_ns : 1;
    }
    window->latency_ns = window->latency_ns == 0
                             ? took_ns
                             : window->latency_ns - window->latency_ns / 8 + took_ns / 8;
    window->completions++;
    if (window->completions < window->size) {
        return;
    }
    window->completions = 0;
    uint64_t latency_ns = window->latency_ns;
    if (latency_ns < window->shortest_ns) {
        latency_ns = window->shortest_ns;
    }
    double queued = window->size * (1.0 - (double)window->shortest_ns / (double)latency_ns);
    /* A queue of as many as the floor is what the floor alone makes on a path without latency. */
    double high = 0.75 * window->floor;
    double low = 0.25 * window->floor;
    if (queued < low / 2) {
        window->size = clamp(window, window->size * 2);
    } else if (queued < low) {
        window->size = clamp(window, window->size + 1);
    } else if (queued > high) {
        window->size = clamp(window, window->size - 1);
    }
    window->rounds++;
    if (window->rounds >= ROUNDS_PER_SHORTEST) {
        probe(window);
    }
}
