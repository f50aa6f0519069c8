# SPDX-License-Identifier: Apache-2.0
"""Instant clones of LUNs of another system (DesiredCopyMethodology 7): used at once, filled meanwhile, whatever comes between."""

import random
import threading

import pytest

import lun as luns
from faults import Proxy
from hosted import CREATE, DEFAULT, MODIFY, POOL, Hosted
from initiator import ScsiError
from process import MIB, SLOWNESS, until

FILLED = 7
SIZE = 16 * MIB
SLOW = 2 * MIB      # bytes a second: the filling goes on for some seconds
HARDLY = 128 << 10  # for minutes
CHECKPOINT_SECONDS = 2.5  # what a checkpoint may be behind, with what is on its way
RETURN_TO_POOL, DETACH, ABORT, RESYNC, SUSPEND, RESUME, RESTORE = 19, 8, 2, 14, 22, 16, 15


class Clone:
    """A clone that is being filled, of a LUN behind a proxy, and what it must read as."""

    def __init__(self, world, limit=SLOW, size=SIZE, lun=None, expect=202, pool=DEFAULT, **more):
        self.world, self.client, self.array = world, world.client, Hosted(world.smirror)
        self.size = size
        self.lun = lun or world.lun(size, "full")
        self.proxy = Proxy(world.array.port)
        self.source = self.client.volume_of(self.lun.url_at(self.proxy.portal))
        self.proxy.received = 0
        setting = {"DesiredCopyMethodology": FILLED, **({"BandwidthLimit": limit} if limit else {})}
        self.answer = self.client.method(CREATE, {"SyncType": 8, "SourceElement": self.source, "TargetPool": pool,
                                                  "ReplicationSettingData": setting, **more}, expect=expect)
        self.volume, self.sync, self.job = (self.answer[name] for name in ("TargetElement", "Synchronization", "Job"))
        self.now = [1] * (size // luns.BLOCK)  # the writer of each block, None for zeros

    def write(self, session, writer, count=20, seed=None):
        dice = random.Random(writer if seed is None else seed)
        for _ in range(count):
            block, n = dice.randrange(len(self.now) - 8), dice.randrange(1, 8)
            if dice.random() < 0.2:
                session.discard(block * luns.BLOCK, n * luns.BLOCK)
                self.now[block:block + n] = [None] * n
            else:
                session.fill(block * luns.BLOCK, n * luns.BLOCK, writer)
                self.now[block:block + n] = [writer] * n
        session.flush()

    def check(self, volume=None, now=None):
        now = now or self.now
        with self.array.host(volume or self.volume) as session:
            data = session.read(0, self.size)
        for number, writer in enumerate(now):
            at = number * luns.BLOCK
            found = luns.read_stamp(data[at:at + luns.BLOCK], at)
            assert (found[0] if found else None) == writer, f"block {number}: {found}, not {writer}"

    def state(self):
        return self.client.get(self.sync)["CopyState"]

    def filled(self):
        """Waits for the end of the filling; then nothing of the LUN is needed any more."""
        self.client.completed(self.job, 120 * SLOWNESS)
        assert self.state() == 4
        assert self.world.smirror.query("SELECT count(*) FROM layers WHERE bottom_volume_id <> ''") == [(0,)]
        return self

    def modify(self, operation, expect=200, **more):
        return self.client.method(MODIFY, {"Operation": operation, "Synchronization": self.sync, **more}, expect=expect)

    def resync(self, limit=None):
        more = {} if limit is None else {"ReplicationSettingData": {"BandwidthLimit": limit}}
        self.job = self.modify(RESYNC, expect=202, **more)["Job"]

    def some_is_there(self):
        self.client.until(self.job, lambda job: job["CheckpointBytes"] > 0, 30 * SLOWNESS)

    def close(self):
        self.proxy.close()


@pytest.fixture
def clone(world):
    made = []

    def make(*args, **kwargs):
        made.append(Clone(world, *args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_it_is_used_at_once_and_equal_in_the_end(clone):
    one = clone()
    assert one.state() == 3 and one.client.get(one.sync)["CopyMethodology"] == FILLED
    with one.array.host(one.volume) as session:
        assert session.size() == one.size
        # Far ahead of the filling: from the LUN.
        assert session.writers(one.size - MIB, MIB) == {1}
        assert one.client.get(one.job)["JobState"] in (2, 3, 4)
        one.write(session, 2, 60)
        assert one.client.get(one.job)["JobState"] in (2, 3, 4), "the writes did not overlap with the filling: a higher SIZE is needed"
    one.check()
    one.filled()
    # Now without the LUN, and after a restart too.
    one.proxy.refuse = True
    one.proxy.cut()
    one.check()
    one.world.smirror.restart()
    one.array.assert_all_online()
    one.check()
    luns.assert_equal(one.lun.path, luns.full(one.world.file(), one.size))  # and nothing was written to it


def test_its_job_tells_how_far_it_is_and_reads_the_lun_once(clone):
    one = clone(limit=4 * MIB)
    one.some_is_there()
    job = one.client.get(one.job)
    assert 0 < job["PercentComplete"] < 100 and job["BytesTotal"] == one.size
    one.filled()
    assert one.size <= one.proxy.received < one.size + MIB, one.proxy.received / MIB


def test_what_hosts_have_written_whole_is_not_read(clone):
    one = clone(limit=HARDLY)
    with one.array.host(one.volume) as session:
        session.fill(MIB, one.size - MIB, 3)
        session.flush()
    one.now[MIB // luns.BLOCK:] = [3] * ((one.size - MIB) // luns.BLOCK)
    one.modify(ABORT)
    before = one.proxy.received
    one.resync(limit=0)
    one.filled()
    assert one.proxy.received - before < 2 * MIB
    one.check()


def test_zeros_stay_without_space_and_odd_sizes_are_whole(clone, world):
    size = 8 * MIB + 512 * 3
    lun = world.lun(size)
    luns.fill(lun.path, [(MIB, MIB), (8 * MIB - 4096, 4096)])
    with open(lun.path, "r+b") as file:
        file.seek(8 * MIB)
        file.write(b"\x5a" * 1536)
    one = clone(limit=0, lun=lun, size=size)
    assert one.client.get(one.volume)["Size"] == 8 * MIB + 4096
    one.filled()
    content = one.array.content(one.volume)
    with open(lun.path, "rb") as file:
        assert content == file.read() + bytes(4096 - 1536)
    assert one.client.get(one.volume)["SpaceConsumed"] < 3 * MIB


def test_blocks_of_4096_bytes_become_a_volume_of_512(clone, world):
    one = clone(lun=world.lun(SIZE, "full", block=4096))
    with one.array.host(one.volume) as session:
        whole = session.read(SIZE - 8192, 4096)
        assert session.read(SIZE - 8192 + 512, 1024) == whole[512:1536]
        session.write(SIZE - 8192 + 512, b"\x11" * 512)
        assert session.read(SIZE - 8192, 4096) == whole[:512] + b"\x11" * 512 + whole[1024:]
    one.filled()
    with one.array.host(one.volume) as session:
        assert session.read(SIZE - 8192, 4096) == whole[:512] + b"\x11" * 512 + whole[1024:]
        assert session.writers(0, MIB) == {1}


def test_kill_9_in_the_middle(clone):
    one = clone()
    kills = 3
    for writer in range(2, 2 + kills):
        with one.array.host(one.volume) as session:
            one.write(session, writer)
        checkpoint = one.client.get(one.job)["CheckpointBytes"]
        one.client.until(one.job, lambda job, before=checkpoint: job["CheckpointBytes"] > before, 30 * SLOWNESS)
        one.world.smirror.restart()
    one.filled()
    # Beside each block once: what was between the checkpoints and the kills, and on its way; what hosts needed of blocks that they wrote
    # a part of is little.
    assert one.proxy.received < one.size + kills * CHECKPOINT_SECONDS * SLOW + MIB
    one.check()


def test_the_lun_goes_and_comes_back_in_the_middle(clone, world):
    one = clone()
    one.some_is_there()
    with one.array.host(one.volume, timeout=60) as session:
        one.write(session, 2)
        world.array.kill()
        session.fill(one.size - MIB, MIB, 9)  # whole blocks need nobody
        one.now[-(MIB // luns.BLOCK):] = [9] * (MIB // luns.BLOCK)
        assert session.writers(one.size - MIB, MIB) == {9}
        # One that has to be asked for waits for the LUN.
        place = next(at for at in range(len(one.now) - 1, 0, -1) if one.now[at] == 1)
        found = []
        reader = threading.Thread(target=lambda: found.append(session.read(place * luns.BLOCK, luns.BLOCK)))
        reader.start()
        until(lambda: "is away" in world.smirror.log(), 20 * SLOWNESS, "the LUN is missed")
        world.array.start()
        reader.join(40 * SLOWNESS)
        assert found and luns.read_stamp(found[0], place * luns.BLOCK)[0] == 1
    one.filled()
    one.check()


def test_the_lun_is_away_when_the_service_starts(clone, world):
    one = clone(limit=HARDLY)
    with one.array.host(one.volume) as session:
        session.fill(8 * MIB, MIB, 2)
        session.flush()
    one.now[8 * MIB // luns.BLOCK:9 * MIB // luns.BLOCK] = [2] * (MIB // luns.BLOCK)
    one.proxy.refuse = True
    one.proxy.cut()
    world.smirror.restart()
    one.array.assert_all_online()
    with one.array.host(one.volume, timeout=60) as session:
        assert session.writers(8 * MIB, MIB) == {2}
        session.fill(10 * MIB, MIB, 3)
        one.now[10 * MIB // luns.BLOCK:11 * MIB // luns.BLOCK] = [3] * (MIB // luns.BLOCK)
        # What is not there ends with an error after a while, and the session goes on.
        with pytest.raises(ScsiError):
            session.read(15 * MIB, 4096)
        assert session.writers(10 * MIB, MIB) == {3}
        one.proxy.refuse = False
        assert session.writers(15 * MIB, 4096) == {1}
    one.modify(ABORT)
    one.resync(limit=0)
    one.filled()
    one.check()


def test_snapshots_and_clones_of_it_are_filled_with_it(clone):
    one = clone()
    with one.array.host(one.volume) as session:
        one.write(session, 2)
    then = list(one.now)
    snapshot = one.array.replica(one.volume)
    copy = one.array.replica(one.volume, 8)
    with one.array.host(one.volume) as session:
        one.write(session, 3)
    with one.array.host(copy["TargetElement"]) as session:
        session.fill(3 * MIB, MIB, 4)
        session.flush()
    changed = list(then)
    changed[3 * MIB // luns.BLOCK:4 * MIB // luns.BLOCK] = [4] * (MIB // luns.BLOCK)
    assert one.client.get(one.job)["JobState"] in (2, 3, 4)
    one.check()
    one.check(snapshot["TargetElement"], then)
    one.check(copy["TargetElement"], changed)
    one.world.smirror.restart()
    one.check(snapshot["TargetElement"], then)
    # It cannot go before they have what they need, and says who is in the way.
    problem = one.client.method("ReturnToStoragePool", {"TheElement": one.volume}, expect=409)
    assert problem["ReturnValue"] == 6 and problem["BlockedOn"] in (snapshot["TargetElement"], copy["TargetElement"])
    problem = one.modify(RETURN_TO_POOL, expect=409)
    assert problem["ReturnValue"] == 6
    assert one.state() == 3 and one.client.get(one.job)["JobState"] in (2, 3, 4)
    one.filled()
    one.proxy.refuse = True
    one.proxy.cut()
    one.check()
    one.check(snapshot["TargetElement"], then)
    one.check(copy["TargetElement"], changed)
    one.array.modify(snapshot, RETURN_TO_POOL)
    one.check()
    one.modify(DETACH)
    one.array.delete(one.volume)
    one.check(copy["TargetElement"], changed)


def test_suspended_stopped_and_taken_up_again(clone):
    one = clone()
    one.some_is_there()
    one.modify(SUSPEND)
    assert one.state() == 9
    one.check()
    before = one.client.get(one.job)["CheckpointBytes"]
    one.modify(RESUME, expect=202)
    one.client.until(one.job, lambda job: job["CheckpointBytes"] > before, 30 * SLOWNESS)
    one.modify(ABORT)
    assert one.state() == 12
    one.check()
    with one.array.host(one.volume) as session:
        one.write(session, 5)
    # It cannot be let go of, for it is not whole.
    for operation in (DETACH, 9):
        for force in (False, True):
            problem = one.modify(operation, expect=409, Force=force)
            assert problem["ReturnValue"] == 4 and "Resync" in problem["detail"]
    one.world.smirror.restart()
    one.check()
    one.resync()
    one.client.post(f"{one.job}/RequestStateChange", {"RequestedState": 4}, expect=(200, 202))
    one.client.wait(one.job, 30 * SLOWNESS)
    assert one.state() == 12
    one.resync()
    one.filled()
    one.check()
    one.modify(DETACH)
    one.check()


def test_a_pool_that_is_full_stops_the_filling_and_nothing_else(clone, world):
    array = Hosted(world.smirror)
    pool = array.make_pool(size=SIZE // 2)
    one = clone(limit=0, pool=pool)
    job = one.client.wait(one.job, 60 * SLOWNESS)
    assert job["JobState"] == 10 and "no_space" in str(one.client.post(f"{one.job}/GetErrors", {}, expect=200).body)
    assert one.state() == 5
    one.check()
    one.modify(DETACH, expect=409)
    one.client.method(POOL, {"Pool": pool, "Size": 4 * SIZE}, expect=200)
    before = one.proxy.received
    one.resync()
    one.filled()
    assert one.proxy.received - before < SIZE * 3 // 4
    one.check()


def test_the_source_is_held(clone, world):
    one = clone(limit=HARDLY)
    target = world.volume(world.lun(SIZE))
    # Not to be written to, not to be forgotten.
    problem = world.client.method(CREATE, {"SyncType": 8, "SourceElement": target, "TargetElement": one.source}, expect=409)
    assert problem["ReturnValue"] == 6 and problem["BlockedOn"] == one.sync
    assert world.client.delete(one.source, expect=409)["BlockedOn"] == one.sync
    one.modify(ABORT)
    assert world.client.delete(one.source, expect=409)["BlockedOn"] == one.sync
    problem = world.client.method(CREATE, {"SyncType": 8, "SourceElement": target, "TargetElement": one.source}, expect=409)
    assert problem["BlockedOn"] == one.sync
    # It may be read: other clones.
    world.clone(one.source, target, wait=True)
    world.client.delete(target)
    one.modify(RETURN_TO_POOL)
    world.client.delete(one.source)
    one.array.assert_no_orphans()


@pytest.mark.parametrize("how", ["return", "operation", "delete"])
def test_it_is_deleted_while_it_is_filled(clone, how):
    one = clone(limit=HARDLY)
    with one.array.host(one.volume) as session:
        session.read(0, 4096)
        # While somebody is logged in nothing is stopped.
        if how == "return":
            assert one.client.method("ReturnToStoragePool", {"TheElement": one.volume}, expect=409)["ReturnValue"] == 6
        elif how == "operation":
            assert one.modify(RETURN_TO_POOL, expect=409)["ReturnValue"] == 6
        else:
            one.client.delete(one.volume, expect=409)
        assert one.client.get(one.job)["JobState"] in (2, 3, 4)
    if how == "return":
        one.array.delete(one.volume)
    elif how == "operation":
        one.modify(RETURN_TO_POOL)
    else:
        one.client.delete(one.volume)
    one.client.get(one.volume, expect=404)
    one.client.get(one.sync, expect=404)
    assert one.client.wait(one.job, 30 * SLOWNESS)["JobState"] in (7, 8, 9, 10)
    one.array.assert_no_orphans()
    one.client.delete(one.source)


def test_resync_takes_the_source_anew_and_restore_gives_back(clone, world):
    one = clone(limit=0)
    one.filled()
    with one.array.host(one.volume) as session:
        session.fill(0, MIB, 2)
    luns.fill(one.lun.path, [(2 * MIB, MIB)], 7)
    one.resync()
    one.now = [1] * len(one.now)
    one.now[2 * MIB // luns.BLOCK:3 * MIB // luns.BLOCK] = [7] * (MIB // luns.BLOCK)
    one.check()
    one.filled()
    one.check()
    with one.array.host(one.volume) as session:
        session.fill(4 * MIB, MIB, 8)
        session.flush()
    job = one.modify(RESTORE, expect=202)["Job"]
    one.client.completed(job, 60 * SLOWNESS)
    with open(one.lun.path, "rb") as file:
        file.seek(4 * MIB)
        assert luns.read_stamp(file.read(luns.BLOCK), 4 * MIB)[0] == 8
    assert one.state() == 4


def test_made_later_and_onto_a_volume_that_is_there(clone, world):
    one = clone(limit=0, expect=200, WaitForCopyState=8)
    assert one.job is None and one.state() == 8
    assert not one.client.get(one.volume)["Online"]
    one.job = one.modify(4, expect=202)["Job"]
    one.check()
    one.filled()
    one.check()
    target = one.array.make(32 * MIB)
    one.array.fill(target, 9, 20 * MIB)
    answer = one.client.method(CREATE, {"SyncType": 8, "SourceElement": one.source, "TargetElement": target,
                                        "ReplicationSettingData": {"DesiredCopyMethodology": FILLED}}, expect=202)
    one.check(target)
    one.client.completed(answer["Job"], 60 * SLOWNESS)
    one.check(target)
    with one.array.host(target) as session:
        assert session.writers(16 * MIB, 16 * MIB) == {None}


def test_what_cannot_be_is_refused(world):
    array = Hosted(world.smirror)
    source, target = world.volume(world.lun(4 * MIB, "full")), world.volume(world.lun(4 * MIB))
    hosted = array.make()
    seven = {"DesiredCopyMethodology": FILLED}
    for body in ({"SourceElement": source, "TargetElement": target, "ReplicationSettingData": seven},
                 {"SourceElement": hosted, "ReplicationSettingData": seven},
                 {"SourceElement": source, "TargetPool": world.pool(target), "ReplicationSettingData": seven},
                 {"SourceElement": source, "TargetPool": DEFAULT, "ReplicationSettingData": {**seven, "Verify": True}},
                 {"SourceElement": source, "TargetPool": DEFAULT, "ReplicationSettingData": {**seven, "ReadOnly": 3}}):
        problem = world.client.method(CREATE, {"SyncType": 8, **body}, expect=501)
        assert problem["ReturnValue"] == 1 and problem["Parameter"].startswith("ReplicationSettingData")


@pytest.mark.parametrize("how", ["refuses", "hangs"])
def test_the_service_stops_while_a_host_waits_for_the_lun(clone, world, how):
    one = clone(limit=HARDLY)
    with one.array.host(one.volume) as session:
        session.read(0, 4096)
        if how == "refuses":
            one.proxy.refuse = True
            one.proxy.cut()
        else:
            one.proxy.stuck = True
        sent, ended = threading.Event(), threading.Event()

        def read():
            sent.set()
            with pytest.raises((ScsiError, ConnectionError)):
                session.read(15 * MIB, 4096)
            ended.set()

        threading.Thread(target=read, daemon=True).start()
        sent.wait()
        if how == "refuses":
            until(lambda: "is away" in world.smirror.log(), 20 * SLOWNESS, "the LUN is missed")
        assert world.client.get(one.volume)["Online"] and not ended.is_set()
        world.smirror.stop()
        assert ended.wait(30)
    one.proxy.stuck = one.proxy.refuse = False
    world.smirror.start()
    with one.array.host(one.volume) as session:
        assert session.writers(15 * MIB, 4096) == {1}
