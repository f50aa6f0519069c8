# SPDX-License-Identifier: Apache-2.0
"""Asynchronous mirrors: the target always holds a moment of the source, whatever happens in between."""

import datetime
import threading
import time

import pytest

import lun as luns
from faults import Proxy
from hosted import CREATE, MODIFY, Hosted
from initiator import ScsiError, host
from prefix import Prefix
from process import MIB, SLOWNESS, until

SIZE = 8 * MIB
PAGE = luns.BLOCK


@pytest.fixture(scope="module")
def array(service):
    return Hosted(service)


def begin(array, source, target=None, interval="PT1S", expect=202, **more):
    body = {"SyncType": 6, "Mode": 3, "SourceElement": source,
            "ReplicationSettingData": {"DeltaUpdateInterval": interval, **more}}
    if target:
        body["TargetElement"] = target
    return array.client.method(CREATE, body, expect=expect)


def mirror(array, source, target=None, **more):
    answer = begin(array, source, target, **more)
    array.client.completed(answer["Job"])
    return answer["Synchronization"], answer["TargetElement"]


def do(array, sync, operation, expect=(200, 202), **more):
    answer = array.client.method(MODIFY, {"Synchronization": sync, "Operation": operation, **more}, expect=expect)
    if answer.status == 202:
        array.client.completed(answer["Job"])
    return answer


def point(array, sync):
    text = array.client.get(sync)["LastConsistentPoint"]
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0


def after_now(array, sync):
    """Until the target has everything that was written before the call."""
    now = time.time() + 0.001
    until(lambda: point(array, sync) >= now, 30, "a point after now")


def state_becomes(array, sync, *states):
    until(lambda: array.client.get(sync)["CopyState"] in states, 30, f"CopyState {states}")


def end(array, sync, *volumes):
    do(array, sync, "Detach", Force=True)
    for volume in volumes:
        array.delete(volume)
    array.settle()


def test_cycles_move_what_has_changed(array):
    source = array.make(SIZE)
    array.fill(source, 1, 0, 4 * MIB)
    sync, target = mirror(array, source)
    assert array.writers(target, 0, 4 * MIB) == {1}
    shown = array.client.get(sync)
    assert shown["CopyState"] == 4 and shown["Mode"] == 3 and shown["CopyType"] == 2 and shown["Cycles"] == 1
    moved = shown["CycleBytes"]
    assert 4 * MIB <= moved <= SIZE
    with array.host(source) as session:
        for at in range(16):
            session.fill(MIB + at * 8 * PAGE, PAGE, 2)
        session.discard(2 * MIB, 16 * PAGE)
        session.flush()
    after_now(array, sync)
    assert array.content(target) == array.content(source)
    shown = array.client.get(sync)
    assert shown["CycleBytes"] - moved == 32 * PAGE
    until(lambda: array.client.get(sync)["LagBytes"] == 0, 10, "no lag")
    assert shown["LagSeconds"] <= 3 * SLOWNESS and shown["UpdateInterval"] == "PT1S"
    with pytest.raises(ScsiError), array.host(target) as session:
        session.fill(0, PAGE, 9)
    end(array, sync, target, source)


def test_the_target_is_a_past_moment_of_a_source_under_load(array):
    source = array.make(SIZE)
    load = Prefix(SIZE)
    load.run(array.url(source))
    sync, target = mirror(array, source)
    seen = []
    for _ in range(2):
        after_now(array, sync)
        do(array, sync, "Fracture")
        seen.append(load.moment(array.content(target)))
        do(array, sync, "Resync Replica")
    assert 0 < seen[0] < seen[1] <= load.written
    written = load.rest()
    after_now(array, sync)
    assert load.moment(array.content(target)) == written
    shown = array.client.get(sync)
    assert shown["AchievedRPO50"] and shown["AchievedRPO99"] and shown["Cycles"] >= 4
    end(array, sync)


SMALL = 4 * MIB
RATE = 2 * MIB


def slow_mirror(array, target=None):
    """A source of which the first MiB is of writer 1, and its mirror, whose cycles take their time."""
    source = array.make(SMALL)
    array.fill(source, 1, 0, MIB)
    return source, *mirror(array, source, target, BandwidthLimit=RATE)


def slow(array, sync, source, writer=5):
    """A cycle over all of the source, of two seconds, is under way and has left its first checkpoint behind."""
    before = array.client.get(sync)["CycleBytes"]
    with array.host(source) as session:
        session.fill(0, SMALL, writer)
        session.flush()
    until(lambda: array.client.get(sync)["CycleBytes"] > before, 30, "a cycle that moves")


def test_failover_in_the_middle_of_a_cycle_lands_on_the_last_point_and_failback_moves_the_differences(array):
    source, sync, target = slow_mirror(array)
    slow(array, sync, source)
    do(array, sync, "Fracture")
    do(array, sync, "Failover")
    assert array.client.get(sync)["CopyState"] == 10
    assert array.writers(target, 0, MIB) == {1} and array.writers(target, MIB, SMALL - MIB) == {None}
    with pytest.raises(ScsiError), array.host(source) as session:
        session.fill(0, PAGE, 9)
    with array.host(target) as session:
        session.fill(2 * MIB, 16 * PAGE, 7)
        session.flush()
    moved = array.client.get(sync)["CycleBytes"]
    do(array, sync, "Failback")
    state_becomes(array, sync, 4)
    assert array.writers(source, 0, MIB) == {1} and array.writers(source, 2 * MIB, 16 * PAGE) == {7}
    assert array.content(source) == array.content(target)
    assert array.client.get(sync)["CycleBytes"] - moved == 16 * PAGE
    kept = [path for path, volume in array.volumes().items() if "before-failback" in volume["ElementName"]]
    assert len(kept) == 1 and array.writers(kept[0], 0, SMALL) == {5}
    array.fill(source, 8, 0, 16 * PAGE)
    after_now(array, sync)
    assert array.content(source) == array.content(target)
    end(array, sync)


def test_a_target_that_is_larger_gives_back_what_the_source_has_room_for(array):
    source, target = array.make(SIZE), array.make(SIZE + 4 * MIB)
    array.fill(source, 1, length=SIZE)
    sync, _ = mirror(array, source, target)
    do(array, sync, "Failover")
    array.fill(target, 2, offset=MIB)
    array.fill(target, 3, offset=SIZE + MIB)
    do(array, sync, "Failback")
    state_becomes(array, sync, 4)
    assert array.client.get(source)["Size"] == SIZE
    assert array.writers(source, 0, MIB) == {1} and array.writers(source, MIB, MIB) == {2} and array.writers(source, SIZE - MIB, MIB) == {1}
    array.fill(source, 4, offset=2 * MIB)
    after_now(array, sync)
    do(array, sync, "Split")
    assert array.content(target)[:SIZE] == array.content(source)
    end(array, sync, source, target)


def test_a_lun_that_has_grown_is_compared_with_the_new_end_of_the_source(world):
    array = Hosted(world.smirror)
    source, lun = array.make(SIZE), world.lun(2 * SIZE, "dirty")
    array.fill(source, 1, length=SIZE)
    sync, _ = mirror(array, source, world.volume(lun))
    do(array, sync, "Suspend")
    array.grow(source, 2 * SIZE)  # zeros, and the LUN has something else there
    do(array, sync, "Resume")
    state_becomes(array, sync, 4)
    after_now(array, sync)
    do(array, sync, "Split")
    with open(lun.path, "rb") as file:
        assert file.read() == array.content(source)
    end(array, sync, source)


def test_detached_in_a_cycle_the_target_is_its_last_point(array):
    source, sync, target = slow_mirror(array)
    slow(array, sync, source)
    do(array, sync, "Detach")
    until(lambda: array.writers(target, 0, SMALL) == {1, None}, 10, "the last point")
    assert array.writers(target, 0, MIB) == {1}
    array.fill(target, 9, 0, PAGE)
    array.delete(target)
    array.delete(source)
    array.settle()


def test_killed_in_a_cycle_it_goes_on(make_service):
    array = Hosted(make_service())
    source, sync, target = slow_mirror(array)
    slow(array, sync, source)
    array.smirror.kill()
    array.smirror.start()
    after_now(array, sync)
    assert array.client.get(sync)["CopyState"] == 4
    assert array.writers(target, 0, SMALL) == {5}
    slow(array, sync, source, 6)
    array.smirror.kill()
    array.smirror.start()
    do(array, sync, "Fracture")
    do(array, sync, "Failover")
    assert array.writers(target, 0, SMALL) == {5}
    array.settle()
    array.assert_no_orphans()


def test_an_interval_is_kept_with_many_small_changes(array):
    size = 128 * MIB
    source = array.make(size)
    sync, target = mirror(array, source)
    with array.host(source) as session:
        block = luns.stamp(0, 3)
        began = time.monotonic()
        for number in range(10000):
            session.write(number * 7919 % (size // PAGE) * PAGE, block)
        session.flush()
        took = time.monotonic() - began
    before = time.time()
    after_now(array, sync)
    behind = time.time() - before
    shown = array.client.get(sync)
    assert behind < (2 + took) * SLOWNESS, (behind, took)
    assert array.client.get(sync)["CycleBytes"] <= 10000 * PAGE * 1.1
    assert shown["AchievedRPO99"]
    do(array, sync, "Fracture")
    with array.host(target) as session:
        assert all(session.read(number * 7919 % (size // PAGE) * PAGE, PAGE) == block for number in range(0, 10000, 97))
    end(array, sync, target, source)


def test_a_target_that_goes_away_is_waited_for(world):
    array = Hosted(world.smirror)
    proxy = Proxy(world.array.port)
    lun = world.lun(SIZE)
    target = world.client.volume_of(lun.url_at(proxy.portal))
    source = array.make(SIZE)
    array.fill(source, 1)
    sync, _ = mirror(array, source, target)
    proxy.refuse = True
    proxy.cut()
    array.fill(source, 2)
    state_becomes(array, sync, 16)
    assert array.client.get(sync)["Problem"]
    proxy.refuse = False
    state_becomes(array, sync, 4)
    after_now(array, sync)
    assert array.client.get(sync)["Problem"] is None
    source_content = array.content(source)
    do(array, sync, "Split")
    with open(lun.path, "rb") as file:
        assert file.read() == source_content
    proxy.close()


def test_a_lun_of_another_system_is_compared_and_what_differs_is_written(world):
    array = Hosted(world.smirror)
    lun = world.lun(SIZE, "full")
    source = world.volume(lun)
    target = array.make(SIZE)
    sync, _ = mirror(array, source, target)
    with open(lun.path, "rb") as file:
        assert array.content(target) == file.read()
    moved = array.client.get(sync)["CycleBytes"]
    assert array.client.get(sync)["LagBytes"] is None
    luns.fill(lun.path, [(MIB, 2 * PAGE), (3 * MIB + 5 * PAGE, PAGE)], 7)
    after_now(array, sync)
    after_now(array, sync)
    assert array.client.get(sync)["CycleBytes"] - moved == 3 * PAGE
    assert array.writers(target, MIB, 2 * PAGE) == {7}
    do(array, sync, "Detach", Force=True)


def test_a_cycle_onto_a_lun_of_another_system_is_undone(world):
    array = Hosted(world.smirror)
    lun = world.lun(SMALL)
    source, sync, _ = slow_mirror(array, world.volume(lun))
    slow(array, sync, source)
    do(array, sync, "Fracture")
    with open(lun.path, "rb") as file:
        found = [luns.read_stamp(file.read(PAGE), at) for at in range(0, SMALL, PAGE)]
    assert found == [(1, 1)] * (MIB // PAGE) + [None] * ((SMALL - MIB) // PAGE)
    luns.fill(lun.path, [(3 * MIB, 3 * PAGE)], 7)
    do(array, sync, "Failover")
    do(array, sync, "Failback")
    with open(lun.path, "rb") as file:
        assert array.content(source) == file.read()
    state_becomes(array, sync, 4)


def test_planned_failover_and_roles_reversed(array):
    source = array.make(SIZE)
    array.fill(source, 1, 0, 4 * MIB)
    sync, target = mirror(array, source, interval="PT1H")
    array.fill(source, 2, 0, 2 * MIB)
    do(array, sync, "Failover")
    assert array.writers(target, 0, 2 * MIB) == {2}
    array.fill(target, 3, MIB, MIB)
    do(array, sync, "Failback")
    assert array.writers(source, MIB, MIB) == {3} and array.writers(source, 0, MIB) == {2}
    array.fill(source, 4, 0, 16 * PAGE)
    moved = array.client.get(sync)["CycleBytes"]
    do(array, sync, "Reverse Roles")
    state_becomes(array, sync, 4)
    shown = array.client.get(sync)
    assert shown["SystemElement"] == target and shown["SyncedElement"] == source
    assert shown["CycleBytes"] - moved == 16 * PAGE
    array.fill(target, 5, 0, 8 * PAGE)
    do(array, sync, "Split")
    assert array.content(source) == array.content(target)
    assert array.client.get(sync)["CycleBytes"] - moved == 24 * PAGE
    end(array, sync)


class Eager(threading.Thread):
    """Tries to write page after page, from before they are accepted on; the cut of the new source is to be below the first one."""

    def __init__(self, array, volume):
        super().__init__(daemon=True)
        self.url = array.url(volume)
        self.accepted = self.refused = 0
        self.trying = threading.Event()
        self.ended = threading.Event()
        self.start()

    def run(self):
        with host(self.url) as session:
            while not self.ended.is_set() and self.accepted < SIZE // PAGE:
                offset = self.accepted * PAGE
                try:
                    session.write(offset, luns.stamp(offset, 9, self.accepted + 1))
                    self.accepted += 1
                except ScsiError:
                    self.refused += 1
                self.trying.set()

    def stop(self):
        self.ended.set()
        self.join()


def test_what_is_written_as_soon_as_roles_are_reversed_gets_to_the_other_side(array):
    source = array.make(SIZE)
    array.fill(source, 1, 0, MIB)
    sync, target = mirror(array, source, interval="PT1H")
    for _ in range(3):
        eager = Eager(array, target)
        assert eager.trying.wait(30)
        do(array, sync, "Reverse Roles")
        state_becomes(array, sync, 4)
        until(lambda eager=eager: eager.accepted > 20 or not eager.is_alive(), 30, "writes to the new source")
        eager.stop()
        assert eager.refused > 0 and eager.accepted > 0
        do(array, sync, "Split")
        assert array.content(source) == array.content(target)
        do(array, sync, "Resync Replica")
        state_becomes(array, sync, 4)
        source, target = target, source
        array.fill(source, 1, 0, SIZE)
    end(array, sync)


def test_what_is_written_as_soon_as_a_source_is_given_back_stays_and_gets_to_the_target(array):
    source = array.make(SIZE)
    array.fill(source, 1, 0, MIB)
    sync, target = mirror(array, source, interval="PT1H")
    do(array, sync, "Failover")
    array.fill(target, 2, 0, SIZE)
    eager = Eager(array, source)
    assert eager.trying.wait(30)
    do(array, sync, "Failback")
    state_becomes(array, sync, 4)
    until(lambda: eager.accepted > 20, 30, "writes to the source")
    eager.stop()
    do(array, sync, "Split")
    assert array.writers(source, 0, eager.accepted * PAGE) == {9}
    assert array.content(source) == array.content(target)
    end(array, sync)


def test_a_synchronous_mirror_beside_it_gets_what_a_failback_brings(array):
    source = array.make(SMALL)
    array.fill(source, 1, 0, MIB)
    sync, target = mirror(array, source, interval="PT1H")
    answer = array.client.method(CREATE, {"SyncType": 6, "Mode": 2, "SourceElement": source}, expect=202)
    array.client.completed(answer["Job"])
    do(array, sync, "Failover")
    array.fill(target, 2, 0, 8 * PAGE)
    do(array, sync, "Failback")
    array.fill(source, 3, 8 * PAGE, PAGE)
    state_becomes(array, answer["Synchronization"], 4)
    do(array, answer["Synchronization"], "Split")
    assert array.content(answer["TargetElement"]) == array.content(source)
    assert array.writers(source, 0, 8 * PAGE) == {2}
    end(array, answer["Synchronization"])
    end(array, sync)


def test_suspended_in_a_cycle_it_goes_on_and_blocks_may_begin_one(array):
    source = array.make(SMALL)
    sync, target = mirror(array, source, interval="PT1H", DeltaUpdateBlocks=2048, BandwidthLimit=RATE, DesiredRPO="PT2H")
    slow(array, sync, source)
    do(array, sync, "Suspend")
    assert array.client.get(sync)["CopyState"] == 9
    do(array, sync, "Resume")
    state_becomes(array, sync, 4)
    until(lambda: array.client.get(sync)["LagBytes"] == 0, 10, "no lag")
    before = array.client.get(sync)["Cycles"]
    array.fill(source, 6, 0, MIB)
    until(lambda: array.client.get(sync)["Cycles"] > before, 10, "a cycle because of many blocks")
    array.fill(source, 7, 0, 4 * PAGE)
    until(lambda: array.client.get(sync)["LagBytes"] > 0, 10, "lag")
    assert array.client.get(sync)["Cycles"] == before + 1
    end(array, sync)


PART = MIB // 4


def dry(array, sync, operation):
    answer = array.client.method("ModifyReplicaSynchronization", {"Operation": operation, "Synchronization": sync}, query={"dryRun": "true"}, expect=200)
    told = answer["DryRun"]
    return told["Overwritten"], told["Reason"], told["BytesToCopy"], told["BytesDiscarded"]


def about(told, *expected):
    """Layers occupy a little more than what was written."""
    return all(want == got if not isinstance(want, int) or not isinstance(got, int) or want < PAGE else want <= got <= want * 1.1 + 4 * PAGE
               for got, want in zip(told, expected))


def test_a_dry_run_tells_what_the_layers_know(array):
    source = array.make(SIZE)
    array.fill(source, 1, 0, SIZE)
    sync, target = mirror(array, source, interval="PT1H")
    assert about(dry(array, sync, "Split"), 3, "Map", 0, 0)
    array.fill(source, 2, 0, 4 * PART)
    told = dry(array, sync, "Split")
    assert about(told, 3, "Map", 4 * PART, 0)
    assert dry(array, sync, "Failover") == dry(array, sync, "Reverse Roles") == told
    before = array.client.get(sync)["CycleBytes"]
    do(array, sync, "Split")
    assert array.client.get(sync)["CycleBytes"] - before <= told[2]
    array.fill(source, 3, 0, PART)
    array.fill(target, 4, MIB, 2 * PART)
    assert about(dry(array, sync, "Resync Replica"), 3, "Map", PART, 2 * PART)
    back = dry(array, sync, "Restore from Replica")
    assert about(back, 2, "Map", 2 * PART, PART)
    before = array.client.get(sync)["CycleBytes"]
    do(array, sync, "Restore from Replica")
    assert array.client.get(sync)["CycleBytes"] - before <= back[2]
    do(array, sync, "Suspend")
    array.fill(source, 5, 0, PART)
    assert about(dry(array, sync, "Resume"), 3, "Map", PART, 0)
    end(array, sync, target, source)


def test_a_dry_run_says_where_all_is_compared_or_copied(world):
    array = Hosted(world.smirror)
    lun = world.lun(SIZE)
    target = world.client.volume_of(lun.url)
    source = array.make(SIZE)
    body = {"SyncType": 6, "Mode": 3, "SourceElement": source, "TargetElement": target, "WaitForCopyState": 2}
    waiting = array.client.method(CREATE, body, expect=200)["Synchronization"]
    assert dry(array, waiting, "Activate") == (3, "Full", SIZE, 0)
    do(array, waiting, "Activate")
    do(array, waiting, "Suspend")
    array.fill(source, 2, 0, PART)
    assert about(dry(array, waiting, "Resume"), 3, "Map", PART, 0)
    do(array, waiting, "Resume")
    do(array, waiting, "Split")
    assert dry(array, waiting, "Resync Replica") == (3, "Compare", SIZE, None)
    assert dry(array, waiting, "Restore from Replica") == (2, "Compare", SIZE, None)
    end(array, waiting, source)
    world.client.delete(target)
