# SPDX-License-Identifier: Apache-2.0
"""SIGTERM ends the service in order within 5 seconds, whatever is going on, and a new start goes on."""

import contextlib
import fcntl
import http.client
import os
import signal
import socket
import threading
import time

import pytest

import lun as luns
from client import Client
from process import MIB, SLOWNESS


def test_sigterm_when_nothing_goes_on_is_quick(make_service):
    service = make_service()
    assert service.stop() < 2 * SLOWNESS


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_both_signals_end_it(make_service, sig):
    service = make_service()
    service.process.send_signal(sig)
    assert service.process.wait(5 * SLOWNESS) == 0


def test_a_second_sigterm_does_no_harm(world):
    _, source, _, target = world.pair(4 * MIB)
    world.slow_clone(source, target)
    world.smirror.process.send_signal(signal.SIGTERM)
    world.smirror.stop()


def test_sigterm_ends_it_although_nobody_reads_its_log(make_service):
    """Every thread that says something hangs then; the end does not wait for them."""
    service = make_service("--log-level", "debug", start=False)
    # The thread sanitizer would tell of threads that nobody has joined, when it ends the hard way, and hang as everybody does.
    service.environment["TSAN_OPTIONS"] = "halt_on_error=0:exitcode=86:report_thread_leaks=0:atexit_sleep_ms=0"
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(reading, False)
    try:
        service.spawn(stderr=writing)
        end = time.monotonic() + 15 * SLOWNESS
        while not service.ready_file.exists():
            assert time.monotonic() < end and service.process.poll() is None
            try:
                os.read(reading, 4096)
            except BlockingIOError:
                time.sleep(0.005)
        service.wait_ready()
        asked = threading.Event()

        def ask():
            """Until the pipe is full and no request is answered any more."""
            client = Client(service.http, service.client.token, timeout=2 * SLOWNESS)
            with contextlib.suppress(OSError, http.client.HTTPException):
                while True:
                    client.get("/healthz")
            asked.set()

        threading.Thread(target=ask).start()
        assert asked.wait(30 * SLOWNESS)
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        code = service.process.wait(5 * SLOWNESS)
        assert code == 3, "it could not end in order"
        assert time.monotonic() - began < 5 * SLOWNESS
    finally:
        os.close(reading)
        os.close(writing)
    service.process = None


def test_sigterm_under_load_ends_it_in_time_and_a_new_start_goes_on(world):
    """Copies run, clients post and read, others wait for jobs, one connection is idle."""
    pairs = [world.pair(16 * MIB, target_fill="dirty") for _ in range(3)]
    jobs = [world.clone(source, target, ReplicationSettingData={"BandwidthLimit": 6 * MIB})["Job"] for _, source, _, target in pairs]
    for job in jobs:
        world.client.until(job, lambda j: j["BytesDone"] > 0, 30 * SLOWNESS)
    stop = threading.Event()
    strange = []

    def load(i):
        client = Client(world.smirror.http, world.client.token)
        while not stop.is_set():
            try:
                if i % 3 == 0:
                    client.call("GET", jobs[0], query={"wait": "60s"}, expect=(200, 503))
                elif i % 3 == 1:
                    client.get("/volumes", expect=(200, 503))
                else:
                    client.method("AddServiceAccessPoint", {"ServiceAccessPoint": {"AccessInfo": f"127.30.{i}.1"}}, expect=(200, 503))
            except (OSError, http.client.HTTPException):
                client.close()
                time.sleep(0.01)
            except AssertionError as error:
                strange.append(error)
                return
        client.close()

    threads = [threading.Thread(target=load, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    host, port = world.smirror.http.rsplit(":", 1)
    with socket.create_connection((host, int(port))):
        time.sleep(0.3)
        took = world.smirror.stop()
    stop.set()
    for thread in threads:
        thread.join()
    assert not strange, strange
    assert took < 5 * SLOWNESS
    assert world.array.connections() == 0, "the sessions are closed in order"
    world.smirror.start()
    for job in jobs:
        body = world.client.completed(job, 60 * SLOWNESS)
        assert body["PercentComplete"] == 100
    for source_lun, _, target_lun, _ in pairs:
        luns.assert_equal(source_lun.path, target_lun.path)


def test_sigterm_writes_the_last_checkpoint(world):
    """An orderly end loses nothing: the next start goes on where the last one was."""
    _, source, _, target = world.pair(16 * MIB)
    answer = world.clone(source, target, ReplicationSettingData={"BandwidthLimit": 4 * MIB})
    job = world.client.until(answer["Job"], lambda j: j["BytesDone"] >= 5 * MIB, 30 * SLOWNESS)
    world.smirror.stop()
    world.smirror.start()
    assert world.client.get(answer["Job"])["CheckpointBytes"] >= job["BytesDone"] - MIB
    world.client.completed(answer["Job"], 60 * SLOWNESS)


@pytest.mark.parametrize("state", ["frozen", "gone"])
def test_sigterm_with_an_array_that_does_not_answer(world, state):
    source_lun, source, target_lun, target = world.pair(8 * MIB)
    answer = world.clone(source, target, ReplicationSettingData={"BandwidthLimit": 2 * MIB})
    world.client.until(answer["Job"], lambda j: j["BytesDone"] > 0, 30 * SLOWNESS)
    if state == "frozen":
        world.array.freeze()
    else:
        world.array.kill()
    try:
        time.sleep(0.2)
        world.smirror.stop()
    finally:
        if state == "frozen":
            world.array.thaw()
        else:
            world.array.start()
    world.smirror.start()
    world.client.completed(answer["Job"], 60 * SLOWNESS)
    luns.assert_equal(source_lun.path, target_lun.path)


def test_sigterm_while_a_call_asks_an_array_that_hangs(world):
    """The call is answered with 503, or its connection ends; it changes nothing."""
    lun = world.lun(MIB)
    world.array.freeze()
    got = []

    def ask():
        client = Client(world.smirror.http, world.client.token, timeout=30)
        try:
            got.append(client.method("AddReplicationEntity", {"ReplicationEntity": {"Type": 8, "EntityID": lun.url}},
                                     expect=(502, 503, 504)).status)
        except (OSError, http.client.HTTPException):
            got.append("cut")

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    try:
        world.smirror.stop()
    finally:
        world.array.thaw()
    thread.join()
    assert got and got[0] in (502, 503, 504, "cut")
    world.smirror.start()
    assert world.client.get("/volumes")["Total"] == 0


def test_many_starts_and_ends_keep_everything(world):
    _, source, _, target = world.pair(MIB)
    answer = world.clone(source, target, wait=True)
    before = [world.client.get(path).body for path in (answer["Synchronization"], source)]
    for _ in range(5):
        world.smirror.stop()
        world.smirror.start()
    after = [world.client.get(path).body for path in (answer["Synchronization"], source)]
    assert after == before
