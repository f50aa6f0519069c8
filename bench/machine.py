# SPDX-License-Identifier: Apache-2.0
"""What both benchmarks need to know of the machine: who used the processors, whether it is quiet, what it is; and tables."""

import os
import platform
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
# The array and the service are started by the harness of the end-to-end tests.
sys.path.insert(0, str(TOP / "tests" / "e2e"))
MIB = 1 << 20
CORES = os.cpu_count()
_TICK = os.sysconf("SC_CLK_TCK")


def tidy_end():
    """SIGTERM and SIGINT end a benchmark by way of its finally clauses, so that nothing it has started is left."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit("ended by a signal"))


def cpu_of(pid):
    """Seconds of processor that a process and all its threads have used, to the nanosecond."""
    return time.clock_gettime((~pid << 3) | 2)  # the kernel's CPUCLOCK_SCHED of that process


def _busy():
    """Seconds in which the processors worked for anybody, stolen time included."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = [int(word) for word in file.readline().split()[1:9]]
    return (user + nice + system + irq + softirq + steal) / _TICK


class Window:
    """A stretch of time: how long, what some processes used of it, and how much others took.

    `foreign` is the share of the whole machine that went to processes which have nothing to do with the measurement: a figure
    with much of it says more about the others.
    """

    def __init__(self, *pids):
        self.pids = pids

    def __enter__(self):
        self._cpu = [cpu_of(pid) for pid in self.pids]
        self._own = os.times()
        self._busy = _busy()
        self._began = time.monotonic()
        return self

    def __exit__(self, kind, value, traceback):
        self.seconds = time.monotonic() - self._began
        busy = _busy() - self._busy
        own = sum(os.times()[:4]) - sum(self._own[:4])
        self.cpu = [cpu_of(pid) - before for pid, before in zip(self.pids, self._cpu)]
        self.foreign = max(0.0, (busy - own - sum(self.cpu)) / (self.seconds * CORES))


def wait_quiet(limit, share=0.08):
    """Waits until others leave the processors alone, at most so many seconds; the share that they took at the end."""
    end = time.monotonic() + limit
    while True:
        with Window() as window:
            time.sleep(0.4)
        if window.foreign <= share or time.monotonic() >= end:
            return window.foreign


def warm(directory, size):
    """Writes a file of this size into memory and frees it again: the first touch of memory is several times slower."""
    piece = os.urandom(MIB)
    path = Path(directory) / "warm"
    with open(path, "wb", buffering=0) as file:
        for _ in range(size // MIB):
            file.write(piece)
    path.unlink()


def room(base):
    """A directory that an ordinary user may enter."""
    path = Path(tempfile.mkdtemp(prefix="smirror-bench-", dir=base))
    path.chmod(0o755)
    return path


def remove(path):
    shutil.rmtree(path, ignore_errors=True)


def describe():
    model = "unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (f"{time.strftime('%Y-%m-%d %H:%M')}; {CORES} cores ({model}), {memory:.0f} GiB; Linux {platform.release()}; "
            f"load at the beginning {load}")


def spread(values):
    """(lowest, median, highest)"""
    return min(values), statistics.median(values), max(values)


def ratio_interval(above, below):
    """The ratio of two medians, and the interval that holds it with 95 % by the spread of both (bootstrap)."""
    chance = random.Random(1)
    ratios = sorted(statistics.median(chance.choices(above, k=len(above))) / statistics.median(chance.choices(below, k=len(below)))
                    for _ in range(4000))
    return statistics.median(above) / statistics.median(below), ratios[100], ratios[-101]


def table(head, rows):
    """A Markdown table whose columns stand under each other; the first column is text, the others are numbers."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]

    def line(row):
        return "| " + " | ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                                 for i, (cell, width) in enumerate(zip(row, widths))) + " |"

    rule = "|" + "|".join("-" * (width + 1) + ("-" if i == 0 else ":") for i, width in enumerate(widths)) + "|"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])
