# SPDX-License-Identifier: Apache-2.0
"""The end in order and the next start, with hosts at work and with many volumes."""

import threading
import time

import pytest

from hosted import CREATE, Hosted, Lost, Stamp
from process import MIB, SLOWNESS

MANY = max(60, 400 // SLOWNESS)


def test_sigterm_under_load_ends_in_time_and_keeps_every_write_that_was_answered(make_service):
    array = Hosted(make_service())
    stamp = Stamp(4)
    try:
        volumes = {f"v{number}": array.make(8 * MIB) for number in range(3)}
        for name, volume in volumes.items():
            stamp("volume", name, array.url(volume), 4, 64)
            stamp("run", name)
        for turn in range(3):
            marks = {}
            for name, volume in volumes.items():
                # Layers to be merged while the end comes.
                doomed = [array.replica(volume) for _ in range(3)]
                stamp("mark", name, f"{name}.{turn}")
                marks[f"{name}.{turn}"] = array.replica(volume)["TargetElement"]
                stamp("marked", name, f"{name}.{turn}")
                for answer in doomed:
                    array.modify(answer, "Return To ResourcePool")
            array.smirror.stop()
            array.smirror.start()
            array.assert_all_online()
            for name, volume in volumes.items():
                stamp("reconnect", name, array.url(volume), "all")
            for mark, target in marks.items():
                stamp("check", mark, array.url(target))
            array.assert_no_orphans()
        for name, volume in volumes.items():
            stamp("pause", name)
            stamp("verify", name, array.url(volume))
            assert stamp.stats(name)["writes"] > 0
    finally:
        stamp.close()


def test_sigterm_while_calls_make_volumes_loses_no_answer_and_leaves_no_file(make_service):
    array = Hosted(make_service())
    source = array.make(MIB)
    array.fill(source, 1)
    made, stop = [], threading.Event()

    def call(number):
        while not stop.is_set():
            try:
                if number % 2:
                    made.append(array.make(MIB))
                else:
                    answer = array.client.method(CREATE, {"SyncType": 7, "SourceElement": source}, expect=(200, 422, 503))
                    if answer.status == 200:
                        made.append(answer["TargetElement"])
            except Exception:  # pylint: disable=broad-exception-caught
                return  # the service has gone

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    while len(made) < 16:
        time.sleep(0.01)
    array.smirror.stop()
    stop.set()
    for thread in threads:
        thread.join()
    array.smirror.start()
    assert set(made) <= set(array.volumes())
    array.assert_all_online()
    array.assert_no_orphans()
    assert array.writers(source) == {1}


def test_a_start_with_many_volumes_is_quick_and_so_is_the_end(make_service):
    array = Hosted(make_service())
    written = []
    for number in range(MANY // 2):
        volume = array.make(1 << 40, name=f"v{number}")
        if number % 20 == 0:
            array.fill(volume, number + 1, 1 << 39)
            written.append((volume, number + 1))
        snapshot = array.replica(volume)["TargetElement"]
        if number % 20 == 0:
            array.fill(volume, 0x1000 + number, (1 << 39) + MIB)
            written.append((snapshot, number + 1))
    took = array.smirror.stop()
    began = time.monotonic()
    array.smirror.start()
    started = time.monotonic() - began
    array.assert_all_online()
    assert len(array.volumes()) == MANY // 2 * 2
    for volume, writer in written:
        assert array.writers(volume, 1 << 39) == {writer}
    print(f"{MANY} volumes: end {took:.2f} s, start {started:.2f} s")
    assert started < 2 * SLOWNESS, started
    array.smirror.kill()
    began = time.monotonic()
    array.smirror.start()
    assert time.monotonic() - began < 2 * SLOWNESS
    array.assert_all_online()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_initiators_that_were_logged_in_find_everything_again(make_service, how):
    array = Hosted(make_service())
    volume = array.make(8 * MIB)
    stamp = Stamp(8)
    try:
        stamp("volume", "v", array.url(volume), 8, 32)
        stamp("run", "v")
        snapshot = array.replica(volume, ReplicationSettingData={"ReadOnly": 3})
        getattr(array.smirror, how)()
        with pytest.raises(Lost):
            for _ in range(100):
                stamp("pause", "v")
                stamp("run", "v")
                time.sleep(0.1)
        array.smirror.start()
        stamp("reconnect", "v", array.url(volume), *(["all"] if how == "stop" else []))
        stamp("pause", "v")
        stamp("verify", "v", array.url(volume))
        assert array.client.get(snapshot["TargetElement"])["WriteProtected"] is True
    finally:
        stamp.close()
