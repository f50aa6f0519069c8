# SPDX-License-Identifier: Apache-2.0
"""Reset To Sync and Reset To Async of mirrors that run: hosts write on, both ways of change, both sides equal afterwards."""

import datetime
import time

import pytest

from hosted import CREATE, Hosted, Stamp
from process import MIB, SLOWNESS, until

SIZE = 8 * MIB
TO_SYNC, TO_ASYNC = "Reset To Sync", "Reset To Async"


class Reset:
    """A mirror of a volume that hosts write to all the time."""

    def __init__(self, array, stamp, target, mode, remote=None):
        self.array = array
        self.client = array.client
        self.stamp = stamp
        self.source = array.make(SIZE)
        self.target = target
        self.remote = remote  # who reads the target, when it is not ours
        body = {"SyncType": 6, "Mode": mode, "SourceElement": self.source, "TargetElement": target, "WaitForCopyState": 4}
        if mode == 3:
            body["ReplicationSettingData"] = {"DeltaUpdateInterval": "PT1S"}
        stamp("volume", "a", array.url(self.source), 2, 8)
        stamp("run", "a")
        answer = self.client.method(CREATE, body, expect=202)
        self.client.completed(answer["Job"], 60 * SLOWNESS)
        self.synchronization = answer["Synchronization"]

    def do(self, operation, **more):
        answer = self.array.modify(self.synchronization, operation, expect=(200, 202), **more)
        if answer.status == 202:
            self.client.completed(answer["Job"], 60 * SLOWNESS)

    def reset(self, operation):
        """Mode changes at once; what that takes goes on while hosts write."""
        mode = 2 if operation == TO_SYNC else 3
        setting = {} if mode == 2 else {"ReplicationSettingData": {"DeltaUpdateInterval": "PT1S"}}
        self.do(operation, **setting)
        shown = self.client.get(self.synchronization)
        assert shown["Mode"] == mode and shown["CopyType"] == (3 if mode == 2 else 2) and shown["CopyState"] in (3, 4)
        self.flows()

    def flows(self):
        self.client.until(self.synchronization, lambda r: r["CopyState"] == 4 and r["Problem"] is None, 60 * SLOWNESS)

    def written(self):
        writes = self.stamp.stats("a")["writes"]
        until(lambda: self.stamp.stats("a")["writes"] > writes + 100, 30, "hosts write")

    def _point(self):
        text = self.client.get(self.synchronization)["LastConsistentPoint"]
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0

    def equal(self):
        """Hosts stop for a moment; the target has all that they have written."""
        self.stamp("pause", "a")
        now = time.time() + 0.001
        if self.client.get(self.synchronization)["Mode"] == 3:
            until(lambda: self._point() >= now, 30, "a cycle after the last write")
        self.flows()
        self.stamp("verify", "a", self.array.url(self.source))
        there = self.remote or self.target
        assert (self.content_there(there) == self.array.content(self.source))
        self.stamp("run", "a")

    def turns(self, *operations):
        """Each with hosts that write before, meanwhile and after."""
        for operation in operations:
            self.written()
            self.reset(operation)
            self.written()
            self.equal()
        self.do("Detach", Force=True)

    def content_there(self, there):
        return there.read_bytes() if self.remote else self.array.content(there)


@pytest.fixture
def stamp():
    made = Stamp(17)
    yield made
    made.close()


@pytest.mark.parametrize("first", [2, 3])
def test_a_mirror_changes_its_mode_under_load(service, stamp, first):
    array = Hosted(service)
    mirror = Reset(array, stamp, array.make(SIZE), first)
    mirror.turns(*(TO_ASYNC, TO_SYNC) if first == 2 else (TO_SYNC, TO_ASYNC))


def test_a_mirror_onto_another_system_changes_its_mode_under_load(shared, stamp):
    array = Hosted(shared.smirror)
    lun = shared.lun(SIZE, "dirty")
    mirror = Reset(array, stamp, shared.volume(lun), 2, remote=lun.path)
    mirror.turns(TO_ASYNC, TO_SYNC)


def test_resets_that_follow_each_other_at_once_end_in_the_last_one(service, stamp):
    array = Hosted(service)
    mirror = Reset(array, stamp, array.make(SIZE), 2)
    for operation in (TO_ASYNC, TO_SYNC, TO_ASYNC, TO_SYNC, TO_SYNC, TO_ASYNC):
        mirror.do(operation)
    mirror.do(TO_ASYNC, ReplicationSettingData={"DeltaUpdateInterval": "PT1S"})  # what else it says counts, too
    mirror.client.until(mirror.synchronization, lambda r: r["Mode"] == 3 and r["UpdateInterval"] == "PT1S", 30 * SLOWNESS)
    mirror.equal()
    mirror.do(TO_SYNC)
    mirror.equal()
    mirror.do("Detach", Force=True)


@pytest.mark.parametrize("operation", [TO_SYNC, TO_ASYNC])
def test_a_reset_that_is_killed_goes_on(make_service, stamp, operation):
    service = make_service()
    array = Hosted(service)
    mirror = Reset(array, stamp, array.make(SIZE), 3 if operation == TO_SYNC else 2)
    mirror.written()
    mirror.stamp("pause", "a")
    mirror.do(operation)
    service.kill()
    service.start()
    shown = mirror.client.get(mirror.synchronization)
    assert shown["Mode"] == (2 if operation == TO_SYNC else 3)
    mirror.stamp("reconnect", "a", array.url(mirror.source))
    mirror.stamp("run", "a")
    mirror.flows()
    mirror.written()
    if operation == TO_SYNC:
        mirror.equal()
    mirror.stamp("pause", "a")
    mirror.do("Split")
    assert array.content(mirror.target) == array.content(mirror.source)


def test_a_reset_mirror_changes_direction_and_gives_back(service, stamp):
    """Both ways of change: what hosts write at the target of either mode comes back, also when the mode has just changed."""
    array = Hosted(service)
    mirror = Reset(array, stamp, array.make(SIZE), 3)
    mirror.stamp("pause", "a")
    for writer, operation in ((5, TO_SYNC), (6, TO_ASYNC)):
        mirror.reset(operation)
        mirror.do("Failover")
        array.fill(mirror.target, writer, offset=writer * MIB)
        mirror.do("Failback")
        mirror.flows()
        assert array.writers(mirror.source, writer * MIB, MIB) == {writer}
    for operation in (TO_SYNC, TO_ASYNC):
        mirror.do("Reverse Roles")
        mirror.flows()
        mirror.source, mirror.target = mirror.target, mirror.source
        array.fill(mirror.source, 9, offset=MIB)
        mirror.reset(operation)
        mirror.do("Split")
        assert array.content(mirror.target) == array.content(mirror.source) and array.writers(mirror.target, MIB, MIB) == {9}
        mirror.do("Resync Replica")
        mirror.flows()
    mirror.do("Detach", Force=True)
