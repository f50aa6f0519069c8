# SPDX-License-Identifier: Apache-2.0
"""Processes of the tests: ports, ordinary user, waiting by condition, limits that know about sanitizers."""

import atexit
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SMIRRORD = Path(os.environ.get("SMIRRORD", TOP / "build" / "smirrord"))
# How much slower than a release build the binary is: limits of time are multiplied, amounts of work divided.
SLOWNESS = int(os.environ.get("SMIRROR_SLOWNESS", "1"))
MIB = 1 << 20


def free_port():
    """Below those that connections and others that ask for any port are given: it stays free until it is taken."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def ordinary_user(*paths):
    """Arguments of Popen that give up root, where these paths can be reached without it; {} otherwise."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for path in paths:
        for parent in [Path(path), *Path(path).parents]:
            if not parent.stat().st_mode & 0o001:
                return {}
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def hand_over(path, user):
    """Makes a path belong to the user that ordinary_user() has given."""
    if user:
        os.chown(path, user["user"], user["group"])


def until(condition, timeout, what, process=None, interval=0.005):
    """Waits for condition() to be true and returns what it returned."""
    end = time.monotonic() + timeout * SLOWNESS
    while True:
        result = condition()
        if result:
            return result
        if process is not None and process.poll() is not None:
            raise AssertionError(f"{what}: the process has ended with {process.returncode}")
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not after {timeout * SLOWNESS} s")
        time.sleep(interval)


_started = []


def start_process(argv, **kwargs):
    """A process that does not outlive the tests, whatever becomes of the test that started it."""
    process = subprocess.Popen(argv, **{"stdin": subprocess.DEVNULL, **kwargs})  # pylint: disable=consider-using-with
    _started[:] = [other for other in _started if other.poll() is None] + [process]
    return process


@atexit.register
def _end_all():
    for process in _started:
        if process.poll() is None:
            process.kill()


def stop_process(process, sig, timeout):
    """Ends one process, by its id."""
    if process.poll() is None:
        process.send_signal(sig)
        # A stopped process takes no signal but KILL before it goes on.
        if sig != signal.SIGKILL:
            process.send_signal(signal.SIGCONT)
    return process.wait(timeout)


def run_quiet(argv, **kwargs):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **kwargs)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, argv))} gave {done.returncode}: {done.stdout}")
    return done.stdout


def program(name):
    """A program, also where sbin is not in the PATH."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert found, f"{name} is not installed"
    return found
