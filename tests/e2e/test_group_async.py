# SPDX-License-Identifier: Apache-2.0
"""Rounds: the targets of a consistent group of asynchronous mirrors are, together, one moment of their sources at any time."""

import time

import pytest

from faults import Proxy
from hosted import Hosted
from process import MIB, SLOWNESS, until
from test_async import point
from test_group_cuts import Writer, prefix_of

MEMBERS, SIZE = 3, 4 * MIB
RATE = 2 * MIB


def groups_of(array, sources, targets=None, expect=202, **more):
    client = array.client
    body = {"SyncType": 6, "Mode": 3, "Consistency": 3, "WaitForCopyState": 4,
            "SourceGroup": client.method("CreateGroup", {"Members": sources}, expect=200)["ReplicationGroup"],
            "ReplicationSettingData": {"DeltaUpdateInterval": "PT1S", **more}}
    if targets:
        body["TargetGroup"] = client.method("CreateGroup", {"Members": targets}, expect=200)["ReplicationGroup"]
    return client.method("CreateGroupReplica", body, expect=expect)


def consistent_group(array, sources, targets=None, **more):
    """Its path, its pairs and their targets in the order of the sources."""
    answer = groups_of(array, sources, targets, **more)
    array.client.completed(answer["Job"])
    pairs = {each["SystemElement"]: each for each in map(array.client.get, array.client.get(answer["Synchronization"])["Synchronizations"])}
    return (answer["Synchronization"], [pairs[source]["self"] for source in sources],
            [pairs[source]["SyncedElement"] for source in sources])


def make(array, n=MEMBERS):
    return [array.make(SIZE) for _ in range(n)]


def modify(array, path, operation, expect=(200, 202), **more):
    answer = array.modify(path, operation, expect=expect, **more)
    if answer.status == 202:
        array.client.completed(answer["Job"])
    return answer


def consistency(array, path):
    shown = array.client.get(path)
    return shown["ConsistencyEnabled"], shown["ConsistencyState"], shown["ConsistencyStatus"]


def points(array, pairs):
    return [point(array, pair) for pair in pairs]


def in_the_middle(array, sources, pairs, writer=5):
    """A round of which the first member has two seconds of its own to copy, and the others nothing much."""
    before = array.client.get(pairs[0])["CycleBytes"]
    array.fill(sources[0], writer, MIB, SIZE - MIB)
    until(lambda: array.client.get(pairs[0])["CycleBytes"] > before, 30 * SLOWNESS, "a round that moves")


def all_after_now(array, pairs):
    """Until all targets have what was written before the call."""
    now = time.time() + 0.001
    until(lambda: min(points(array, pairs)) >= now, 30 * SLOWNESS, "a point after now")


def end(array, path, *volumes):
    modify(array, path, "Detach", Force=True)
    for volume in volumes:
        array.delete(volume)


@pytest.fixture(scope="module")
def array(service):
    return Hosted(service)


def test_failover_in_the_middle_of_a_round_under_load_lands_on_one_moment(array):
    sources = make(array)
    path, pairs, targets = consistent_group(array, sources, BandwidthLimit=RATE)
    shown = array.client.get(path)
    assert consistency(array, path) == (True, 3, 2) and 0 < shown["BarrierMicroseconds"] < 500_000
    writer = Writer(array, sources)
    try:
        writer.more(4 * MEMBERS)
        all_after_now(array, pairs)
        least = writer.count
        writer.more()
        all_after_now(array, pairs)
        assert len(set(points(array, pairs))) == 1
        in_the_middle(array, sources, pairs)
        until(lambda: array.smirror.query("SELECT count(*) FROM cycles WHERE way = 1")[0][0] == MEMBERS, 10, "all are in the round")
        modify(array, path, "Fracture")
        modify(array, path, "Failover")
        middle = writer.count
    finally:
        writer.close()
    last = prefix_of(array, targets, least)
    assert last <= middle + 1
    assert array.writers(targets[0], MIB, SIZE - MIB) == {None}  # nothing of that round
    assert consistency(array, path) == (True, 3, 2)
    modify(array, path, "Failback")
    array.client.until(path, lambda g: g["CopyState"] == 4, 30 * SLOWNESS)
    assert prefix_of(array, sources, last) == last
    end(array, path)


def test_a_failover_with_force_asks_for_no_last_round_where_there_can_be_none(array):
    """One pair is suspended and holds the others: all land on the point that they have in common."""
    sources = make(array)
    path, pairs, targets = consistent_group(array, sources)
    for source in sources:
        array.fill(source, 1, 0, MIB)
    all_after_now(array, pairs)
    array.modify(pairs[0], "Suspend")
    common = set(points(array, pairs))
    for source in sources:
        array.fill(source, 2, 0, MIB)
    array.modify(path, "Failover", expect=409)
    began = time.monotonic()
    array.modify(path, "Failover", expect=200, Force=True)
    assert time.monotonic() - began < 4 * SLOWNESS
    assert set(points(array, pairs)) == common and len(common) == 1
    assert [array.writers(target, 0, MIB) for target in targets] == [{1}] * MEMBERS
    assert consistency(array, path) == (True, 3, 2)
    modify(array, path, "Failback")
    assert [array.writers(source, 0, MIB) for source in sources] == [{1}] * MEMBERS
    end(array, path, *sources, *targets)


def test_split_and_planned_failover_are_one_last_round(array):
    sources = make(array)
    path, pairs, targets = consistent_group(array, sources)
    writer = Writer(array, sources)
    try:
        writer.more()
        acknowledged = writer.count
        modify(array, path, "Split")
        last = prefix_of(array, targets, acknowledged)
        modify(array, path, "Resync Replica")
        array.client.until(path, lambda g: g["CopyState"] == 4, 30 * SLOWNESS)
        writer.more()
        acknowledged = writer.count
        assert acknowledged > last
        modify(array, path, "Failover")  # its writes fail from then on
        assert prefix_of(array, targets, acknowledged) <= writer.count + 1
    finally:
        writer.close()
    modify(array, path, "Failback")
    end(array, path)


def test_pairs_come_and_go_and_consistency_is_switched(array):
    sources = make(array)
    path, pairs, targets = consistent_group(array, sources)
    other, = make(array, 1)
    alone = array.client.method("CreateElementReplica", {"SyncType": 6, "Mode": 3, "SourceElement": other,
                                                         "ReplicationSettingData": {"DeltaUpdateInterval": "PT1S"}}, expect=202)
    array.client.completed(alone["Job"])
    modify(array, path, "AddSyncPair", SyncPair=[alone["Synchronization"]])
    array.client.until(path, lambda g: g["ConsistencyState"] == 3, 30 * SLOWNESS)
    pairs4, targets4 = [*pairs, alone["Synchronization"]], [*targets, alone["TargetElement"]]
    writer = Writer(array, [*sources, other])
    try:
        writer.more()
        all_after_now(array, pairs4)
        modify(array, pairs4[1], "Suspend")  # the others do not run ahead
        modify(array, path, "Deactivate Consistency")
        assert consistency(array, path) == (False, 2, 4)
        all_after_now(array, [pairs4[0], *pairs4[2:]])
        modify(array, path, "Activate Consistency")
        assert consistency(array, path) == (True, 4, 5)
        writer.more()
        held = points(array, pairs4)
        time_over = time.monotonic() + 1.3  # more than an interval
        until(lambda: time.monotonic() > time_over, 10, "an interval is over")
        assert points(array, pairs4) == held
        modify(array, pairs4[1], "Resume")
        array.client.until(path, lambda g: g["ConsistencyState"] == 3, 30 * SLOWNESS)
        all_after_now(array, pairs4)
        assert len(set(points(array, pairs4))) == 1
        modify(array, path, "Fracture")
        prefix_of(array, targets4, 2 * MEMBERS)
        modify(array, path, "Resync Replica")
        modify(array, path, "RemoveSyncPair", SyncPair=[alone["Synchronization"]])
        all_after_now(array, pairs4)
        modify(array, path, "Fracture")
    finally:
        writer.close()
    modify(array, alone["Synchronization"], "Detach", Force=True)
    end(array, path)


def test_killed_in_a_round_all_are_on_one_point(make_service):
    array = Hosted(make_service())
    sources = make(array)
    path, pairs, targets = consistent_group(array, sources, BandwidthLimit=RATE)
    count = 0
    for number in range(2):
        writer = Writer(array, sources, True, count)
        try:
            writer.more()
            least = writer.count
            all_after_now(array, pairs)
            in_the_middle(array, sources, pairs, 5 + number)
            array.smirror.kill()
        finally:
            writer.close()
        count = writer.count
        array.smirror.start()
        if number == 0:  # the round goes on
            all_after_now(array, pairs)
            assert consistency(array, path) == (True, 3, 2)
        modify(array, path, "Fracture")
        modify(array, path, "Failover")
        assert prefix_of(array, targets, least) <= count + 1
        modify(array, path, "Failback")
        array.client.until(path, lambda g: g["CopyState"] == 4, 30 * SLOWNESS)
        count = prefix_of(array, sources, least)
    end(array, path)
    array.settle()
    array.assert_no_orphans()


def test_a_target_that_is_away_holds_the_others(world):
    array = Hosted(world.smirror)
    proxy = Proxy(world.array.port)
    lun = world.lun(SIZE)
    sources = make(array)
    targets = [*make(array, 2), world.client.volume_of(lun.url_at(proxy.portal))]
    path, pairs, targets = consistent_group(array, sources, targets)
    writer = Writer(array, sources)
    try:
        writer.more()
        all_after_now(array, pairs)
        proxy.refuse = True
        proxy.cut()
        array.client.until(pairs[2], lambda s: s["CopyState"] == 16, 30 * SLOWNESS)
        held = points(array, pairs)
        assert len(set(held)) == 1
        writer.more()
        time_over = time.monotonic() + 1.3  # more than an interval
        until(lambda: time.monotonic() > time_over, 10, "an interval is over")
        assert points(array, pairs) == held and consistency(array, path)[1] == 3
        proxy.refuse = False
        array.client.until(path, lambda g: g["CopyState"] == 4, 30 * SLOWNESS)
        all_after_now(array, pairs)
        assert len(set(points(array, pairs))) == 1
        modify(array, path, "Fracture")
        prefix_of(array, targets, 2 * MEMBERS)
    finally:
        writer.close()
        proxy.close()
    end(array, path)


def test_sources_of_other_systems_are_not_cut(world):
    array = Hosted(world.smirror)
    source = world.volume(world.lun(MIB, "full"))
    group = world.client.method("CreateGroup", {"Members": [source]}, expect=200)["ReplicationGroup"]
    targets = world.client.method("CreateGroup", {"Members": [array.make(MIB)]}, expect=200)["ReplicationGroup"]
    body = {"SyncType": 6, "Mode": 3, "SourceGroup": group, "TargetGroup": targets}
    world.client.refused("CreateGroupReplica", {**body, "Consistency": 3}, 1, 501, "Consistency")
    answer = world.client.method("CreateGroupReplica", body, expect=202)
    world.client.completed(answer["Job"])
    assert 3 not in world.client.get(answer["Synchronization"])["LegalOperations"]
    array.client.refused("ModifyReplicaSynchronization", {"Operation": 3, "Synchronization": answer["Synchronization"]}, 1, 501, "Operation")
    modify(array, answer["Synchronization"], "Detach", Force=True)
    for kind, supported in ((2, [2]), (3, [2]), (4, [2]), (5, [2]), (13, [])):
        told = world.client.method("GetSupportedConsistency", {"ReplicationType": kind}, expect=200)
        assert told["SupportedConsistency"] == supported
