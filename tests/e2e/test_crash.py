# SPDX-License-Identifier: Apache-2.0
"""kill -9 of either side at any moment: no job lost, none doubled, the end equal, nothing copied twice beyond the checkpoint."""

import random
import threading
import time

import pytest

import lun as luns
from faults import Proxy
from process import MIB, SLOWNESS

# What a checkpoint may be behind: 2 seconds of data; and what may be on its way besides.
CHECKPOINT_SECONDS = 2.5
IN_FLIGHT = 4 * MIB


def new_files_counted(world, seconds=0.0):
    time.sleep(seconds)
    return world.client.get("/jobs")["Total"], world.client.get("/synchronizations")["Total"]


@pytest.mark.big
def test_20_times_kill_9_at_random_moments_of_one_copy(world):
    """The bytes that go to the array are counted by a proxy in front of the target, outside of smirror."""
    size, kills, rate = 96 * MIB, 20, 16 * MIB
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    source_lun, target_lun = world.lun(size, "full"), world.lun(size, "dirty")
    proxy = Proxy(world.array.port)
    try:
        source, target = world.volume(source_lun), world.client.volume_of(target_lun.url_at(proxy.portal))
        answer = world.clone(source, target, ReplicationSettingData={"BandwidthLimit": rate})
        job, last_percent, last_checkpoint, done, distances = answer["Job"], 0, 0, 0, []
        while done < kills:
            time.sleep(dice.uniform(0.0, 0.55))
            before = world.client.get(job)
            if before["JobState"] == 7:
                pytest.fail(f"the copy ended after {done} kills: the test is too slow or the limit too high")
            world.smirror.restart()
            done += 1
            after = world.client.get(job)
            assert after["JobState"] in (2, 3, 4, 7), after.text
            # What had been checkpointed stays so, and percent never goes back.
            assert after["CheckpointBytes"] >= last_checkpoint
            assert after["PercentComplete"] >= last_percent
            last_checkpoint, last_percent = after["CheckpointBytes"], after["PercentComplete"]
            distances.append(max(0, before["BytesDone"] - after["CheckpointBytes"]))
            assert new_files_counted(world) == (1, 1)
        ended = world.client.completed(job, 120 * SLOWNESS)
        luns.assert_equal(source_lun.path, target_lun.path)
        assert new_files_counted(world) == (1, 1)
        assert ended["Copies"][0]["Synchronization"] == answer["Synchronization"]
        # What went over the line beyond the LUN once: at each kill from the checkpoint to where the copy was, and what was on
        # its way or went between the look and the kill.
        assert max(distances) <= CHECKPOINT_SECONDS * rate, [d / MIB for d in distances]
        twice = proxy.sent - size
        print(f"{twice / MIB:.1f} MiB copied twice in {kills} kills, {sum(distances) / MIB:.1f} MiB between checkpoints and kills")
        assert twice <= sum(distances) + kills * IN_FLIGHT + 0.01 * size, (twice / MIB, sum(distances) / MIB, seed)
    finally:
        proxy.close()


def test_a_kill_costs_no_more_than_the_distance_of_a_checkpoint(world):
    """One kill late in a copy: what goes over the line afterwards is the rest and at most 2 seconds of data."""
    size, rate = 64 * MIB, 8 * MIB
    source_lun, target_lun = world.lun(size, "full"), world.lun(size, "dirty")
    proxy = Proxy(world.array.port)
    try:
        target = world.client.volume_of(target_lun.url_at(proxy.portal))
        answer = world.clone(world.volume(source_lun), target, ReplicationSettingData={"BandwidthLimit": rate})
        before = world.client.until(answer["Job"], lambda job: job["BytesDone"] >= 0.7 * size, 60 * SLOWNESS)
        assert before["CheckpointBytes"] >= before["BytesDone"] - CHECKPOINT_SECONDS * SLOWNESS * rate, before
        world.smirror.kill()
        sent = proxy.sent
        assert sent >= 0.7 * size
        world.smirror.start()
        first = world.client.get(answer["Job"])
        assert first["CheckpointBytes"] >= before["CheckpointBytes"] > 0
        world.client.completed(answer["Job"], 60 * SLOWNESS)
        luns.assert_equal(source_lun.path, target_lun.path)
        again = proxy.sent - (size - before["BytesDone"]) - sent
        assert again <= (CHECKPOINT_SECONDS * SLOWNESS * rate + 4 * MIB) * 1.05, f"{again / MIB:.1f} MiB were copied twice"
    finally:
        proxy.close()


def test_kill_9_right_after_the_answer_loses_nothing_that_was_answered(world):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    pairs = [world.pair(MIB) for _ in range(6)]
    jobs = []
    for source_lun, source, target_lun, target in pairs:
        answer = world.clone(source, target)
        jobs.append(answer["Job"])
        time.sleep(dice.choice([0, 0, 0.001, 0.01, 0.05]))
        world.smirror.restart()
        assert world.client.get(answer["Synchronization"])["SyncedElement"] == target
        del source_lun, target_lun
    assert [job["self"] for job in world.client.list("/jobs")] == jobs
    for job in jobs:
        world.client.completed(job)
    for source_lun, _, target_lun, _ in pairs:
        luns.assert_equal(source_lun.path, target_lun.path)


@pytest.mark.parametrize("method", ["CreateListReplica", "CreateReplica", "AttachOrModifyReplica", "ModifyReplicaSynchronization"])
def test_every_way_to_start_a_copy_survives_kill_9(world, method):
    source_lun, target_lun = world.lun(8 * MIB, "full"), world.lun(8 * MIB, "dirty")
    source, target = world.volume(source_lun), world.volume(target_lun)
    if method == "CreateListReplica":
        answer = world.client.method(method, {"SyncType": 8, "SourceElements": [source], "TargetElements": [target]}, expect=202)
    elif method == "CreateReplica":
        answer = world.client.method(method, {"SourceElement": source, "TargetPool": world.pool(target), "CopyType": 4}, expect=202)
    elif method == "AttachOrModifyReplica":
        answer = world.client.method(method, {"SourceElement": source, "TargetElement": target, "CopyType": 5}, expect=202)
    else:
        done = world.clone(source, target, wait=True)
        luns.full(source_lun.path, 8 * MIB, writer=2)
        answer = world.client.method(method, {"Operation": 14, "Synchronization": done["Synchronization"]}, expect=202)
    world.smirror.restart()
    time.sleep(0.05)
    world.smirror.restart()
    world.client.completed(answer["Job"])
    luns.assert_equal(source_lun.path, target_lun.path)
    if method == "AttachOrModifyReplica":
        assert world.synchronization(source, target) is None


def test_calls_under_kill_9_happen_once_or_not_at_all(world):
    """Clients that retry with their key while the service is killed again and again: one relationship for each."""
    import http.client
    import uuid
    pairs = [world.pair(MIB, fill=None) for _ in range(12)]
    answers = {}
    stop = threading.Event()

    def post(i):
        from client import Client
        _, source, _, target = pairs[i]
        key = {"Idempotency-Key": str(uuid.uuid4())}
        client = Client(lambda: world.smirror.http, world.client.token, timeout=10)
        while not stop.is_set():
            try:
                answer = client.method("CreateElementReplica", {"SyncType": 8, "SourceElement": source, "TargetElement": target},
                                       headers=key, expect=(202, 503))
                if answer.status == 202:
                    answers[i] = answer.body
                    return
            except (OSError, http.client.HTTPException):
                pass
            client.close()
            time.sleep(0.01)

    threads = [threading.Thread(target=post, args=(i,)) for i in range(len(pairs))]
    for i, thread in enumerate(threads):
        thread.start()
        if i % 3 == 2:
            time.sleep(0.02)
            world.smirror.restart()
    for thread in threads:
        thread.join(60 * SLOWNESS)
    stop.set()
    assert len(answers) == len(pairs)
    assert [r["Total"] for r in (world.client.get("/jobs"), world.client.get("/synchronizations"))] == [len(pairs)] * 2
    for i, (_, source, _, target) in enumerate(pairs):
        assert world.synchronization(source, target)["self"] == answers[i]["Synchronization"]
        world.client.completed(answers[i]["Job"])


# ---- the array

def test_an_array_that_is_killed_in_the_middle_and_comes_back_loses_nothing(world):
    size = 64 * MIB
    source_lun, target_lun = world.lun(size, "full"), world.lun(size, "dirty")
    answer = world.clone(world.volume(source_lun), world.volume(target_lun), ReplicationSettingData={"BandwidthLimit": 24 * MIB})
    for part in (0.2, 0.5, 0.8):
        world.client.until(answer["Job"], lambda job, part=part: job["BytesDone"] >= part * size, 60 * SLOWNESS)
        world.array.restart()
    job = world.client.completed(answer["Job"], 60 * SLOWNESS)
    luns.assert_equal(source_lun.path, target_lun.path)
    assert job["Attempts"] >= 1 and job["LastError"]


def test_what_a_lost_array_had_not_flushed_is_written_again(world):
    """The array is killed, and what it had taken since the last flush is lost: the end is equal all the same."""
    size, rate = 48 * MIB, 8 * MIB
    source_lun, target_lun = world.lun(size, "full"), world.lun(size, "dirty")
    answer = world.clone(world.volume(source_lun), world.volume(target_lun), ReplicationSettingData={"BandwidthLimit": rate})
    job = world.client.until(answer["Job"], lambda j: j["CheckpointBytes"] > 8 * MIB and j["BytesDone"] > j["CheckpointBytes"] + 2 * MIB,
                             60 * SLOWNESS)
    world.array.freeze()
    job = world.client.get(answer["Job"])
    world.array.kill()
    with open(target_lun.path, "r+b") as file:
        file.seek(job["CheckpointBytes"])
        file.write(b"\x66" * (size - job["CheckpointBytes"]))
    world.array.start()
    world.client.completed(answer["Job"], 60 * SLOWNESS)
    luns.assert_equal(source_lun.path, target_lun.path)


def test_an_array_that_stops_answering_holds_the_copy_up_and_no_more(world):
    source_lun, target_lun = world.lun(16 * MIB, "full"), world.lun(16 * MIB, "dirty")
    answer = world.clone(world.volume(source_lun), world.volume(target_lun), ReplicationSettingData={"BandwidthLimit": 8 * MIB})
    world.client.until(answer["Job"], lambda job: job["BytesDone"] >= 4 * MIB, 30 * SLOWNESS)
    world.array.freeze()
    time.sleep(1)
    job = world.client.get(answer["Job"])
    assert job["JobState"] == 4 and job["BytesDone"] < 16 * MIB
    began = time.monotonic()
    world.client.method("GetPeerSystems", {})
    assert time.monotonic() - began < 1 * SLOWNESS
    world.array.thaw()
    world.client.completed(answer["Job"], 60 * SLOWNESS)
    luns.assert_equal(source_lun.path, target_lun.path)


def test_terminate_ends_a_copy_whose_array_does_not_answer(world):
    _, source, _, target = world.pair(4 * MIB)
    answer = world.slow_clone(source, target)
    world.client.until(answer["Job"], lambda job: job["BytesDone"] > 0, 20 * SLOWNESS)
    world.array.freeze()
    try:
        job, = world.terminate(answer["Job"])
        assert job["JobState"] == 8
    finally:
        world.array.thaw()


def test_both_sides_are_killed_and_come_back(world):
    source_lun, target_lun = world.lun(32 * MIB, "full"), world.lun(32 * MIB, "dirty")
    answer = world.clone(world.volume(source_lun), world.volume(target_lun), ReplicationSettingData={"BandwidthLimit": 16 * MIB})
    world.client.until(answer["Job"], lambda job: job["BytesDone"] >= 8 * MIB, 30 * SLOWNESS)
    world.array.kill()
    world.smirror.restart()
    job = world.client.until(answer["Job"], lambda j: j["Attempts"] >= 1 and j["LastError"], 30 * SLOWNESS)
    assert job["JobState"] in (2, 3, 4)
    world.array.start()
    world.client.completed(answer["Job"], 60 * SLOWNESS)
    luns.assert_equal(source_lun.path, target_lun.path)


@pytest.mark.parametrize("side", ["source", "target"])
def test_connections_that_are_cut_again_and_again_only_cost_time(world, side):
    source_lun, target_lun = world.lun(32 * MIB, "full"), world.lun(32 * MIB, "dirty")
    proxy = Proxy(world.array.port)
    stop = threading.Event()

    def cutter():
        while not stop.wait(0.25):
            proxy.cut()

    try:
        source = world.client.volume_of(source_lun.url_at(proxy.portal)) if side == "source" else world.volume(source_lun)
        target = world.client.volume_of(target_lun.url_at(proxy.portal)) if side == "target" else world.volume(target_lun)
        answer = world.clone(source, target, ReplicationSettingData={"BandwidthLimit": 16 * MIB})
        thread = threading.Thread(target=cutter)
        thread.start()
        time.sleep(2)
        stop.set()
        thread.join()
        world.client.completed(answer["Job"], 60 * SLOWNESS)
        assert proxy.connections >= 4, "it was cut, and dialled again"
        luns.assert_equal(source_lun.path, target_lun.path)
    finally:
        stop.set()
        proxy.close()


@pytest.mark.parametrize("change", ["identity", "size", "block", "gone_smaller"])
def test_a_lun_that_is_another_one_when_it_comes_back_is_not_written_to(world, change):
    size = 8 * MIB
    source_lun, target_lun = world.lun(size, "full"), world.lun(size, "dirty")
    answer = world.clone(world.volume(source_lun), world.volume(target_lun), ReplicationSettingData={"BandwidthLimit": 2 * MIB})
    world.client.until(answer["Job"], lambda job: job["BytesDone"] >= MIB, 30 * SLOWNESS)
    world.array.kill()
    luns.dirty(target_lun.path, size, 0x77)
    if change == "identity":
        target_lun.options["scsi_id"] = target_lun.options["scsi_sn"] = "smirror-other"
    elif change == "size":
        luns.dirty(target_lun.path, 2 * size, 0x77)
    elif change == "gone_smaller":
        luns.dirty(target_lun.path, size // 2, 0x77)
    else:
        target_lun.options["block"] = 4096
    world.array.start()
    if change == "size":
        # Grown: nothing is lost by it. Either it is told as another LUN, or the copy goes on to its end.
        job = world.client.wait(answer["Job"], 60 * SLOWNESS)
        if job["JobState"] == 7:
            luns.assert_byte(target_lun.path, 0x77, size, size)
            return
    job = world.client.wait(answer["Job"], 60 * SLOWNESS)
    assert job["JobState"] == 10 and job["ErrorCodeText"] == "lun_changed", job
    assert world.client.get(answer["Synchronization"])["CopyState"] == 5
    import os
    luns.assert_byte(target_lun.path, 0x77, 0, os.stat(target_lun.path).st_size)
    assert world.client.get(answer["TargetElement"])["Problem"]


def test_a_lun_that_became_another_one_between_two_copies_is_not_written_to(world):
    source_lun, target_lun = world.lun(4 * MIB, "full"), world.lun(4 * MIB, "dirty")
    source, target = world.volume(source_lun), world.volume(target_lun)
    world.array.kill()
    target_lun.options["scsi_id"] = target_lun.options["scsi_sn"] = "smirror-other"
    world.array.start()
    answer = world.client.method("CreateElementReplica", {"SyncType": 8, "SourceElement": source, "TargetElement": target}, expect=(202, 409))
    if answer.status == 202:
        job = world.client.wait(answer["Job"], 30 * SLOWNESS)
        assert job["JobState"] == 10 and job["ErrorCodeText"] == "lun_changed", job
    else:
        assert answer["Code"] == "lun_changed"
    luns.assert_byte(target_lun.path, 0xdb, 0, 4 * MIB)


def test_a_full_disk_under_the_records_loses_no_answer(make_service):
    """A limit of the size of files stands in for the full disk: the records cannot grow beyond it."""
    service = make_service("--reach-interval", "1h")
    service.stop()
    blocks = (service.database.stat().st_size + (96 << 10)) // 512
    service.before = ["/bin/sh", "-c", f'trap "" XFSZ; ulimit -f {blocks}; exec "$@"', "sh"]
    service.start()
    kept, failed = [], 0
    for i in range(600):
        answer = service.client.post("/services/ReplicationService/AddServiceAccessPoint",
                                     {"ServiceAccessPoint": {"AccessInfo": f"127.8.{i // 250}.{i % 250 + 1}"}}, expect=(200, 500, 503, 507))
        if answer.status == 200:
            kept.append(answer["ServiceAccessPointPath"])
        else:
            failed += 1
            if failed >= 3:
                break
    assert failed, "the limit was never reached"
    service.client.get("/healthz")
    assert service.client.get("/accesspoints")["Total"] == len(kept)
    service.kill()
    service.before = []
    service.start()
    assert [member["self"] for member in service.client.list("/accesspoints", limit=1000)] == kept
