# SPDX-License-Identifier: Apache-2.0
"""Synchronous mirrors as data: both sides equal under load, through losses, restarts, failover and back."""

import itertools
import time

import pytest

from hosted import CREATE, Hosted, Lost, Stamp
from initiator import ScsiError
from process import MIB, SLOWNESS, until

ATTACH = "AttachOrModifyReplica"
_names = itertools.count(1)


class Mirrors(Hosted):
    """Mirrors of one service; each is its relationship, and knows its sides."""

    def mirror(self, source, target=None, wait=4, expect=202, setting=None, **more):
        body = {"SyncType": 6, "Mode": 2, "SourceElement": source, **more}
        if target:
            body["TargetElement"] = target
        if setting:
            body["ReplicationSettingData"] = setting
        answer = self.client.method(CREATE, body, expect=expect)
        if expect == 202 and wait:
            self.reaches(answer["Synchronization"], wait)
        return answer

    def reaches(self, synchronization, state, timeout=30):
        return self.client.until(synchronization, lambda r: r["CopyState"] == state, timeout * SLOWNESS)

    def flow(self, synchronization, operation, **more):
        """An operation after which data flows, until both sides are equal."""
        answer = self.modify(synchronization, operation, expect=202, **more)
        job = self.client.completed(answer["Job"], 60 * SLOWNESS)
        self.reaches(synchronization, 4)
        return job

    def moved(self, job):
        return self.client.get(job["self"])["BytesTotal"]


@pytest.fixture(scope="module")
def mirrors(service):
    return Mirrors(service)


@pytest.fixture
def pair(mirrors):
    """A volume with something in it, its mirror, the relationship."""
    source = mirrors.make(4 * MIB, name=f"m{next(_names)}")
    mirrors.fill(source, 1)
    answer = mirrors.mirror(source)
    return source, answer["TargetElement"], answer["Synchronization"]


def same(mirrors, source, target):
    assert mirrors.content(source) == mirrors.content(target)


def read_only(mirrors, volume):
    with mirrors.host(volume) as session:
        with pytest.raises(ScsiError):
            session.fill(0, 4096, 9)


# ---- both sides

def test_a_mirror_takes_what_is_there_and_what_comes(mirrors, pair):
    source, target, synchronization = pair
    shown = mirrors.client.get(synchronization)
    assert shown["SyncType"] == 6 and shown["Mode"] == 2 and shown["CopyType"] == 3 and shown["ReplicationType"] == 2
    assert shown["SyncMaintained"] and shown["PercentSynced"] == 100 and shown["WhenSynced"] and shown["Job"] is None
    mirrors.fill(source, 2, offset=MIB, length=MIB)
    assert mirrors.writers(target, 0, MIB) == {1} and mirrors.writers(target, MIB, MIB) == {2}
    assert mirrors.client.get(target)["WriteProtected"] and not mirrors.client.get(source)["WriteProtected"]
    read_only(mirrors, target)


def test_fracture_frees_the_target_and_resync_moves_what_changed(mirrors, pair):
    source, target, synchronization = pair
    mirrors.modify(synchronization, "Fracture")
    assert mirrors.client.get(synchronization)["CopyState"] == 6
    mirrors.fill(source, 3, offset=0, length=65536)
    mirrors.fill(target, 4, offset=2 * MIB, length=65536)
    assert mirrors.writers(target, 0, 65536) == {1}
    volumes = set(mirrors.volumes())
    job = mirrors.flow(synchronization, "Resync Replica")
    same(mirrors, source, target)
    assert mirrors.writers(target, 0, 65536) == {3}
    assert 131072 <= mirrors.moved(job) <= 131072 + 2 * MIB
    # What the target had is kept.
    (kept,) = set(mirrors.volumes()) - volumes
    assert mirrors.writers(kept, 2 * MIB, 65536) == {4} and "before-resync" in mirrors.client.get(kept)["ElementName"]
    read_only(mirrors, target)


def test_snapshots_of_both_sides_stay_what_they_are(mirrors, pair):
    source, target, synchronization = pair
    mirrors.modify(synchronization, "Fracture")
    snapshots = [mirrors.replica(volume)["TargetElement"] for volume in (source, target)]
    mirrors.fill(source, 2)
    mirrors.fill(target, 3)
    mirrors.flow(synchronization, "Resync Replica")
    same(mirrors, source, target)
    mirrors.modify(synchronization, "Fracture")
    mirrors.flow(synchronization, "Restore from Replica")
    for snapshot in snapshots:
        assert mirrors.writers(snapshot) == {1}


def test_suspend_and_resume(mirrors, pair):
    source, target, synchronization = pair
    mirrors.modify(synchronization, "Suspend")
    shown = mirrors.client.get(synchronization)
    assert shown["CopyState"] == 9 and shown["WhenSuspended"] and shown["LegalOperations"] == [8, 16, 17, 18]
    mirrors.fill(source, 5, length=8192)
    assert mirrors.writers(target, 0, 8192) == {1}
    read_only(mirrors, target)
    mirrors.flow(synchronization, "Resume")
    same(mirrors, source, target)


def test_restore_brings_the_target_back_and_keeps_what_was_there(mirrors, pair):
    source, target, synchronization = pair
    mirrors.modify(synchronization, "Split")
    assert mirrors.client.get(synchronization)["CopyState"] == 7
    mirrors.fill(source, 6, length=MIB)
    mirrors.fill(target, 7, offset=MIB, length=8192)
    volumes = set(mirrors.volumes())
    mirrors.flow(synchronization, "Restore from Replica")
    assert mirrors.writers(source, 0, MIB) == {1} and mirrors.writers(source, MIB, 8192) == {7}
    same(mirrors, source, target)
    (kept,) = set(mirrors.volumes()) - volumes
    assert mirrors.writers(kept, 0, MIB) == {6}
    mirrors.fill(source, 8, length=8192)
    same(mirrors, source, target)


def test_failover_and_failback(mirrors, pair):
    source, target, synchronization = pair
    mirrors.modify(synchronization, "Failover")
    assert mirrors.client.get(synchronization)["CopyState"] == 10
    assert mirrors.client.get(source)["WriteProtected"] and not mirrors.client.get(target)["WriteProtected"]
    read_only(mirrors, source)
    mirrors.fill(target, 9, offset=MIB, length=65536)
    job = mirrors.flow(synchronization, "Failback")
    assert 65536 <= mirrors.moved(job) <= MIB + 65536
    assert mirrors.writers(source, MIB, 65536) == {9} and mirrors.writers(source, 0, MIB) == {1}
    read_only(mirrors, target)
    mirrors.fill(source, 10, length=8192)
    same(mirrors, source, target)


def test_roles_are_reversed(mirrors, pair):
    source, target, synchronization = pair
    answer = mirrors.modify(synchronization, "Reverse Roles", expect=202)
    assert answer["UpdatedSynchronization"] == synchronization
    shown = mirrors.reaches(synchronization, 4)
    assert shown["SystemElement"] == target and shown["SyncedElement"] == source
    read_only(mirrors, source)
    mirrors.fill(target, 11, length=8192)
    assert mirrors.writers(source, 0, 8192) == {11}
    same(mirrors, source, target)


@pytest.mark.parametrize("operation", ["Detach", "Dissolve"])
def test_after_its_end_both_are_volumes_like_others(mirrors, pair, operation):
    source, target, synchronization = pair
    mirrors.modify(synchronization, operation)
    mirrors.client.get(synchronization, expect=404)
    mirrors.fill(target, 12, length=8192)
    mirrors.fill(source, 13, length=8192)
    assert mirrors.writers(target, 0, 8192) == {12} and mirrors.writers(source, 0, 8192) == {13}
    assert not [name for name in mirrors.directory().iterdir() if name.name.startswith(synchronization.rsplit("/", 1)[1])]
    mirrors.delete(target)
    mirrors.delete(source)


def test_initialized_inactive_and_prepared(mirrors):
    source = mirrors.make(4 * MIB)
    mirrors.fill(source, 1)
    answer = mirrors.mirror(source, wait=None, expect=200, WaitForCopyState=2)
    synchronization, target = answer["Synchronization"], answer["TargetElement"]
    assert mirrors.client.get(synchronization)["CopyState"] == 2
    mirrors.modify(synchronization, "Prepare")
    assert mirrors.client.get(synchronization)["CopyState"] == 11
    mirrors.modify(synchronization, "Abort")
    assert mirrors.client.get(synchronization)["CopyState"] == 12
    mirrors.flow(synchronization, "Resync Replica")
    mirrors.modify(synchronization, "Deactivate")
    assert mirrors.client.get(synchronization)["CopyState"] == 8
    mirrors.fill(source, 2, length=8192)
    mirrors.flow(synchronization, "Activate", WaitForCopyState=4)
    same(mirrors, source, target)


# ---- a LUN of another system

@pytest.fixture
def remote(shared):
    """A hosted volume, the LUN that is its mirror, both as volumes, the relationship."""
    mirrors = Mirrors(shared.smirror)
    lun = shared.lun(8 * MIB)
    target = shared.volume(lun)
    source = mirrors.make(8 * MIB)
    mirrors.fill(source, 1)
    answer = mirrors.mirror(source, target)
    yield mirrors, source, lun, answer["Synchronization"]
    left = shared.synchronization(source, target)
    if left:
        mirrors.modify(left["self"], "Detach", Force=True)


def holds(mirrors, source, lun):
    with open(lun.path, "rb") as file:
        return file.read(8 * MIB) == mirrors.content(source)


def test_a_lun_of_another_system_is_kept_equal_and_found_again(shared, remote):
    mirrors, source, lun, synchronization = remote
    assert mirrors.client.get(synchronization)["ReplicationType"] == 4
    assert holds(mirrors, source, lun)
    shared.array.kill()
    with mirrors.host(source) as host:
        host.fill(MIB, 65536, 2)
        shown = mirrors.reaches(synchronization, 16)
        assert shown["Problem"] and shown["ProgressStatus"] == 3
        host.fill(4 * MIB, 65536, 3)
    shared.array.start()
    mirrors.reaches(synchronization, 4)
    assert mirrors.client.get(synchronization)["Problem"] is None
    assert holds(mirrors, source, lun)


def test_by_hand_it_waits_for_resume(shared, remote):
    mirrors, source, lun, synchronization = remote
    mirrors.modify(synchronization, "Detach")
    synchronization = mirrors.mirror(source, shared.volume(lun), setting={"CopyRecoveryMode": 3})["Synchronization"]
    shared.array.kill()
    mirrors.fill(source, 4, length=8192)
    mirrors.reaches(synchronization, 16)
    shared.array.start()
    shown = mirrors.reaches(synchronization, 9)
    assert shown["ProgressStatus"] == 25 and shown["CopyRecoveryMode"] == 3
    mirrors.fill(source, 5, offset=MIB, length=8192)
    job = mirrors.flow(synchronization, "Resume")
    assert mirrors.moved(job) <= 3 * MIB
    assert holds(mirrors, source, lun)
    mirrors.modify(synchronization, "Detach")


def test_hosts_stop_when_they_are_to(shared, remote):
    mirrors, source, lun, synchronization = remote
    mirrors.modify(synchronization, "Detach")
    synchronization = mirrors.mirror(source, shared.volume(lun), setting={"FailedCopyStopsHostIO": True})["Synchronization"]
    assert mirrors.client.get(synchronization)["FailedCopyStopsHostIO"] is True
    shared.array.kill()
    with mirrors.host(source) as host:
        with pytest.raises(ScsiError):
            host.fill(0, 4096, 9)
    shared.array.start()
    mirrors.reaches(synchronization, 4)
    mirrors.fill(source, 10, length=4096)
    assert holds(mirrors, source, lun)
    mirrors.modify(synchronization, "Detach")


def test_it_can_be_failed_over_to_while_it_is_away(shared, remote):
    mirrors, source, lun, synchronization = remote
    shared.array.kill()
    mirrors.fill(source, 6, length=8192)
    mirrors.reaches(synchronization, 16)
    refusal = mirrors.modify(synchronization, "Failover", expect=409)
    assert "Force" in refusal["detail"]
    mirrors.modify(synchronization, "Failover", Force=True)
    assert mirrors.client.get(synchronization)["CopyState"] == 10
    read_only(mirrors, source)
    shared.array.start()
    with open(lun.path, "r+b") as file:
        file.seek(2 * MIB)
        file.write(b"w" * 4096)
    mirrors.flow(synchronization, "Failback")
    assert holds(mirrors, source, lun)
    with mirrors.host(source) as host:
        assert host.read(2 * MIB, 4096) == b"w" * 4096


def test_a_way_back_that_waits_is_not_parted_from_the_target(shared, remote):
    """The link is lost in a Restore and back, by hand: what only the target has cannot be read, and after a restart it goes on."""
    mirrors, source, lun, synchronization = remote
    mirrors.modify(synchronization, "Detach")
    answer = mirrors.mirror(source, shared.volume(lun), setting={"CopyRecoveryMode": 3})
    synchronization, attached = answer["Synchronization"], {"SourceElement": source, "TargetElement": answer["TargetElement"], "CopyType": 3}
    mirrors.client.method(ATTACH, {**attached, "Goal": {"BandwidthLimit": MIB}}, expect=200)
    mirrors.modify(synchronization, "Split")
    with open(lun.path, "r+b") as file:
        file.write(b"r" * 8 * MIB)
    job = mirrors.modify(synchronization, "Restore from Replica", expect=202)["Job"]
    mirrors.client.until(job, lambda j: 0 < j["BytesDone"] < 8 * MIB, 20)
    shared.array.kill()
    mirrors.reaches(synchronization, 16)
    shared.array.start()
    shown = mirrors.reaches(synchronization, 9)
    assert 16 in shown["LegalOperations"] and 8 not in shown["LegalOperations"]
    with mirrors.host(source) as host:
        with pytest.raises(ScsiError):
            host.read(8 * MIB - 4096, 4096)
    mirrors.client.method(ATTACH, {**attached, "Goal": {"BandwidthLimit": 0}}, expect=200)
    assert mirrors.client.get(synchronization)["CopyState"] == 9
    shared.smirror.restart()
    mirrors.reaches(synchronization, 4)
    mirrors.client.completed(job, 30 * SLOWNESS)
    assert mirrors.content(source) == b"r" * 8 * MIB


# ---- load

def test_both_sides_are_equal_after_load_and_restarts(mirrors):
    stamp = Stamp(3)
    try:
        source = mirrors.make(8 * MIB)
        stamp("volume", "a", mirrors.url(source), 2, 8)
        stamp("run", "a")
        answer = mirrors.mirror(source)
        synchronization, target = answer["Synchronization"], answer["TargetElement"]
        for crash in (False, True):
            writes = stamp.stats("a")["writes"]
            until(lambda before=writes: stamp.stats("a")["writes"] > before + 200, 30, "hosts write")
            if crash:
                mirrors.smirror.kill()
            else:
                mirrors.smirror.stop()
            try:
                stamp("pause", "a")
            except Lost:
                pass
            mirrors.smirror.start()
            mirrors.reaches(synchronization, 4)
            stamp("reconnect", "a", mirrors.url(source), *([] if crash else ["all"]))
            stamp("mark", "a", f"m{crash}")
            stamp("marked", "a", f"m{crash}")
            stamp("check", f"m{crash}", mirrors.url(target))
            same(mirrors, source, target)
            stamp("run", "a")
        stamp("pause", "a")
    finally:
        stamp.close()


# ---- kill -9

@pytest.mark.parametrize("operation,back", [("Fracture", "Resync Replica"), ("Split", "Restore from Replica"), ("Failover", "Failback"),
                                            ("Suspend", "Resume")])
def test_what_is_parted_is_so_after_a_crash(mirrors, pair, operation, back):
    source, target, synchronization = pair
    mirrors.modify(synchronization, operation)
    state = mirrors.client.get(synchronization)["CopyState"]
    if operation != "Failover":
        mirrors.fill(source, 2, length=65536)
    if operation != "Suspend":
        mirrors.fill(target, 3, offset=2 * MIB, length=65536)
    mirrors.smirror.restart()
    assert mirrors.client.get(synchronization)["CopyState"] == state
    if operation in ("Failover", "Suspend"):
        read_only(mirrors, source if operation == "Failover" else target)
    if operation != "Suspend":
        mirrors.fill(target, 4, offset=3 * MIB, length=65536)
    job = mirrors.flow(synchronization, back)
    same(mirrors, source, target)
    wins = {"Fracture": (2, None), "Split": (1, 3), "Failover": (1, 3), "Suspend": (2, None)}[operation]
    assert mirrors.writers(source, 0, 65536) == {wins[0]} and mirrors.writers(source, 2 * MIB, 65536) == {wins[1]}
    assert mirrors.moved(job) <= 4 * MIB
    read_only(mirrors, target)


@pytest.mark.parametrize("operation,back", [("Split", "Restore from Replica"), ("Failover", "Failback")])
def test_a_way_back_goes_on_after_a_crash(mirrors, operation, back):
    """While it lasts hosts see what the target has; what they write is on both sides."""
    source = mirrors.make(4 * MIB)
    mirrors.fill(source, 1, length=4 * MIB)
    answer = mirrors.mirror(source)
    synchronization, target = answer["Synchronization"], answer["TargetElement"]
    attached = {"SourceElement": source, "TargetElement": target, "CopyType": 3}
    mirrors.client.method(ATTACH, {**attached, "Goal": {"BandwidthLimit": MIB}}, expect=200)
    mirrors.modify(synchronization, operation)
    mirrors.fill(target, 2, length=4 * MIB)
    job = mirrors.modify(synchronization, back, expect=202)["Job"]
    assert mirrors.client.get(synchronization)["CopyState"] == 3
    assert mirrors.writers(source, 0, 4 * MIB) == {2}
    mirrors.fill(source, 3, offset=3 * MIB, length=65536)
    mirrors.smirror.restart()
    shown = mirrors.client.get(synchronization)
    assert shown["CopyState"] == 3 and shown["Job"] == job
    assert mirrors.writers(source, 0, 3 * MIB) == {2} and mirrors.writers(source, 3 * MIB, 65536) == {3}
    for refused in ("Suspend", "Split", "Fracture"):
        assert "incomplete" in mirrors.modify(synchronization, refused, expect=409)["detail"]
    mirrors.client.method(ATTACH, {**attached, "Goal": {"BandwidthLimit": 0}}, expect=200)
    mirrors.client.completed(job, 60 * SLOWNESS)
    mirrors.reaches(synchronization, 4)
    same(mirrors, source, target)
    assert mirrors.writers(source, 0, 3 * MIB) == {2}


def test_under_load_either_end_may_die(shared):
    """The array is killed while hosts write, then we are, during the copying too; nothing that was flushed is lost, and both sides are equal."""
    mirrors = Mirrors(shared.smirror)
    lun = shared.lun(8 * MIB)
    source = mirrors.make(8 * MIB)
    stamp = Stamp(5)
    try:
        stamp("volume", "a", mirrors.url(source), 2, 8)
        stamp("run", "a")
        synchronization = mirrors.mirror(source, shared.volume(lun), wait=None)["Synchronization"]
        for who in ("array", "both", "us"):
            if who != "us":
                shared.array.kill()
                mirrors.reaches(synchronization, 16)
            writes = stamp.stats("a")["writes"]
            until(lambda before=writes: stamp.stats("a")["writes"] > before + 100, 30, "hosts write")
            if who != "array":
                mirrors.smirror.kill()
                try:
                    stamp("pause", "a")
                except Lost:
                    pass
                mirrors.smirror.start()
                stamp("reconnect", "a", mirrors.url(source))
                stamp("run", "a")
            if who != "us":
                shared.array.start()
            mirrors.reaches(synchronization, 4)
            stamp("pause", "a")
            stamp("verify", "a", mirrors.url(source))
            assert holds(mirrors, source, lun)
            stamp("run", "a")
        stamp("pause", "a")
        mirrors.modify(synchronization, "Detach")
    finally:
        stamp.close()


# ---- volumes that are mostly empty

TIB = 1 << 40


def scattered(size, pieces=10):
    """Places of pieces of data, writer by offset."""
    return {number * (size // pieces) + 3 * 65536: number % 250 + 1 for number in range(pieces)}


def test_a_thin_volume_of_a_tebibyte_is_copied_at_once(mirrors):
    size = TIB if SLOWNESS < 4 else TIB // 4  # the thread sanitizer is slower by more than the rest allows for
    source = mirrors.make(size, name="thin")
    places = scattered(size)
    with mirrors.host(source) as session:
        for offset, writer in places.items():
            session.fill(offset, MIB, writer)
        session.flush()
    begun = time.monotonic()
    answer = mirrors.mirror(source)
    took = time.monotonic() - begun
    assert took < 5 * SLOWNESS, took
    target = answer["TargetElement"]
    with mirrors.host(target) as session:
        for offset, writer in places.items():
            assert session.writers(offset, MIB) == {writer}
            assert session.writers(offset + MIB, MIB) == {None}
    consumed = mirrors.client.until(target, lambda v: v["SpaceConsumed"] >= 10 * MIB, 10 * SLOWNESS)["SpaceConsumed"]
    assert consumed < 32 * MIB
