# SPDX-License-Identifier: Apache-2.0
"""Synchronous mirrors of a consistent group: whatever parts them leaves targets that are, together, one moment of their sources."""

import http.client
import random
import threading

import pytest

from faults import Proxy
from hosted import CREATE, Hosted, busy
from initiator import ScsiError
from process import MIB, SLOWNESS, until
from test_group_async import consistency, modify
from test_group_cuts import AWAY, Writer, prefix_of

MEMBERS, SIZE, KILLS = 6, 2 * MIB, 4


def group_of(array, members):
    return array.client.method("CreateGroup", {"Members": members}, expect=200)["ReplicationGroup"]


def mirrored(array, sources, targets=None):
    """The path of a consistent relationship that is Synchronized, and its targets in the order of the sources."""
    client = array.client
    body = {"SyncType": 6, "Mode": 2, "Consistency": 3, "WaitForCopyState": 4, "SourceGroup": group_of(array, sources)}
    if targets:
        body["TargetGroup"] = group_of(array, targets)
    answer = client.method("CreateGroupReplica", body, expect=202)
    client.completed(answer["Job"])
    assert answer["BarrierMicroseconds"] is None
    by_source = {each["SystemElement"]: each["SyncedElement"] for each in pairs_of(array, answer["Synchronization"])}
    return answer["Synchronization"], [by_source[source] for source in sources]


def pairs_of(array, path):
    return [array.client.get(pair) for pair in array.client.get(path)["Synchronizations"]]


def states(array, path):
    return {pair["CopyState"] for pair in pairs_of(array, path)}


def takes_writes(array, volume):
    try:
        array.fill(volume, 6)
        return True
    except ScsiError:
        return False


def equal_again(array, path):
    array.client.until(path, lambda shown: shown["CopyState"] == 4 and shown["ConsistencyState"] == 3, 30 * SLOWNESS)


@pytest.fixture(scope="module")
def array(service):
    return Hosted(service)


def test_whatever_parts_a_group_leaves_one_moment_of_it(array):
    sources = [array.make(SIZE) for _ in range(MEMBERS)]
    loaded = [array.make(8 * MIB) for _ in range(2)]
    path, targets = mirrored(array, sources + loaded)
    assert consistency(array, path) == (True, 3, 2)
    last = 0
    with busy(array, loaded), Writer(array, sources) as writer:  # other members are busy
        for operation, back, state in (("Split", "Resync Replica", 7), ("Fracture", "Resync Replica", 6), ("Suspend", "Resume", 9),
                                       ("Deactivate", "Activate", 8), ("Fracture", "Resync Replica", 6), ("Split", "Resync Replica", 7)):
            writer.more(MEMBERS)
            acknowledged = writer.count
            answer = modify(array, path, operation)
            assert 0 < answer["BarrierMicroseconds"] < 500_000, operation
            shown = array.client.get(path)
            assert shown["CopyState"] == state and shown["BarrierMicroseconds"] == answer["BarrierMicroseconds"]
            assert consistency(array, path) == (True, 3, 2)
            writer.more(MEMBERS)
            last = prefix_of(array, targets[:MEMBERS], max(acknowledged, last))
            assert last < writer.count
            modify(array, path, back)
            equal_again(array, path)
        writer.more(MEMBERS)
        acknowledged = writer.count
        assert modify(array, path, "Detach")["BarrierMicroseconds"] > 0  # what is left of it is of one moment, too
        writer.more(MEMBERS)
        prefix_of(array, targets[:MEMBERS], acknowledged)
    array.assert_all_online()


def test_hosts_are_stopped_at_one_moment(array):
    sources = [array.make(SIZE) for _ in range(MEMBERS)]
    path, targets = mirrored(array, sources)
    with Writer(array, sources) as writer:
        writer.more()
        acknowledged = writer.count
        assert modify(array, path, "Failover")["BarrierMicroseconds"] > 0
    assert writer.error is not None
    last = prefix_of(array, targets, acknowledged)
    assert last in (writer.count, writer.count + 1) and consistency(array, path) == (True, 3, 2)
    modify(array, path, "Failback")
    equal_again(array, path)
    with Writer(array, sources, count=last) as writer:
        writer.more()
        acknowledged = writer.count
        modify(array, path, "Reverse Roles")  # what was written until then is on the new sources
    assert prefix_of(array, targets, acknowledged) in (writer.count, writer.count + 1)
    equal_again(array, path)
    modify(array, path, "Detach")


def test_consistency_is_switched_and_asked_for_where_it_can_be(array):
    client = array.client
    sources = [array.make(SIZE) for _ in range(2)]
    path, targets = mirrored(array, sources)
    modify(array, path, "Deactivate Consistency")
    assert consistency(array, path) == (False, 2, 4)
    assert modify(array, path, "Split")["BarrierMicroseconds"] is None
    modify(array, path, "Activate Consistency")
    assert consistency(array, path) == (True, 4, 5)  # they were parted one after the other
    modify(array, path, "Resync Replica")
    equal_again(array, path)
    first, second = client.get(path)["Synchronizations"]
    modify(array, first, "Fracture")  # one alone has a moment of its own
    assert consistency(array, path) == (True, 4, 5) and client.get(path)["CopyState"] == 14
    modify(array, second, "Fracture")
    assert consistency(array, path) == (True, 4, 5)
    modify(array, path, "Resync Replica")
    equal_again(array, path)
    assert modify(array, path, "Split")["BarrierMicroseconds"] > 0
    # Writes to one source that come by another mirror would wait for themselves.
    beside = client.method(CREATE, {"SyncType": 6, "Mode": 2, "SourceElement": sources[0], "WaitForCopyState": 4}, expect=202)
    behind = client.method(CREATE, {"SyncType": 6, "Mode": 2, "SourceElement": targets[0], "WaitForCopyState": 4}, expect=202)
    for other in (beside, behind):
        client.completed(other["Job"])
        client.refused("ModifyReplicaSynchronization", {"Operation": "AddSyncPair", "Synchronization": path,
                                                        "SyncPair": [other["Synchronization"]]}, 5, 400, "SyncPair")
    body = {"SyncType": 6, "Mode": 2, "Consistency": 3}
    client.refused("CreateGroupReplica", {**body, "SourceElement": sources[1], "TargetGroup": group_of(array, [array.make(SIZE), array.make(SIZE)])},
                   1, 501, "Consistency")
    third = array.make(SIZE)
    apart = client.method(CREATE, {"SyncType": 6, "Mode": 2, "SourceElement": third, "WaitForCopyState": 4}, expect=202)
    client.completed(apart["Job"])
    modify(array, path, "Resync Replica")
    equal_again(array, path)
    modify(array, path, "AddSyncPair", SyncPair=[apart["Synchronization"]])
    assert consistency(array, path) == (True, 3, 2)
    assert modify(array, path, "Fracture")["BarrierMicroseconds"] > 0 and consistency(array, path) == (True, 3, 2)
    for other in (beside, behind):
        modify(array, other, "Detach")


def test_a_target_that_does_not_answer_voids_it(world):
    """Nothing is parted, and the hosts of all the others go on all the time; those that were stopped for a Failover go on afterwards."""
    array = Hosted(world.smirror)
    proxy = Proxy(world.array.port)
    sources = [array.make(SIZE) for _ in range(4)]
    stuck = [world.client.volume_of(world.lun(SIZE, "full").url_at(proxy.portal)) for _ in range(2)]
    path, targets = mirrored(array, sources, [*(array.make(SIZE) for _ in range(3)), stuck[0]])
    stopped = [array.make(SIZE) for _ in range(2)]
    other, _ = mirrored(array, stopped, [array.make(SIZE), stuck[1]])
    rows = "SELECT id, copy_state, revision, moment FROM synchronizations ORDER BY id"
    writer = Writer(array, sources[:3])
    writes = threading.Thread(target=lambda: array.fill(sources[3], 5))
    refused = []
    failover = threading.Thread(target=lambda: refused.append(array.modify(other, "Failover", expect=504)))
    try:
        writer.more()
        records = world.smirror.query(rows)
        proxy.stuck = True
        writes.start()
        until(proxy.holds, 10 * SLOWNESS, "a write is on its way")
        began = writer.count
        failover.start()
        problem = array.modify(path, "Split", expect=504)
        failover.join()
        for told, group, target in ((problem, path, stuck[0]), (*refused, other, stuck[1])):
            assert told["ReturnValue"] == 3 and told["Code"] == "timeout"
            culprit, = (pair["self"] for pair in pairs_of(array, group) if pair["SyncedElement"] == target)
            assert told["BlockedOn"] == culprit and culprit in told["detail"]
            records = [each for each in records if each[0] not in culprit]  # it may be found to be away
        assert writer.count > began + 10
        writer.more()
        assert [each for each in world.smirror.query(rows) if each[0] in {before[0] for before in records}] == records
        until(lambda: takes_writes(array, stopped[0]), 10 * SLOWNESS, "hosts of a source may write again")
    finally:
        proxy.stuck = False
    try:
        writes.join()
        for group in (path, other):
            equal_again(array, group)
        acknowledged = writer.count
        assert modify(array, path, "Split")["BarrierMicroseconds"] > 0
        prefix_of(array, targets[:3], acknowledged)
    finally:
        writer.close()
        proxy.close()


def test_killed_at_any_time_all_are_parted_at_one_moment_or_none_is(make_service):
    array = Hosted(make_service())
    sources = [array.make(SIZE) for _ in range(MEMBERS)]
    path, targets = mirrored(array, sources)
    count, chance = 0, random.Random(11)
    for number in range(KILLS):
        writer = Writer(array, sources, True, count)
        rounds, last = [], number == KILLS - 1

        def go_on():
            try:
                while True:
                    rounds.append(writer.count)
                    array.modify(path, "Split", expect=200)
                    if last and len(rounds) > 2:
                        return
                    answer = array.modify(path, "Resync Replica", expect=202)
                    array.client.completed(answer["Job"])
            except (*AWAY, http.client.HTTPException):
                pass

        thread = threading.Thread(target=go_on)
        thread.start()
        until(lambda: len(rounds) > 2, 60 * SLOWNESS, "it is parted again and again")
        thread.join(60 * SLOWNESS if last else chance.uniform(0, 0.04))  # anywhere in it; the last time when it was answered
        array.smirror.kill()
        thread.join()
        writer.close()
        count = writer.count
        records = array.smirror.query("SELECT copy_state = 7, moment FROM synchronizations")
        assert len(set(records)) == 1, "all or none"
        assert records[0][0] or not last, "what was answered is there"
        array.smirror.start()
        if records[0][0]:
            assert consistency(array, path) == (True, 3, 2)
            least = rounds[-1]
        else:
            equal_again(array, path)
            least = count
            modify(array, path, "Split")
        assert prefix_of(array, targets, least) <= count + 1
        modify(array, path, "Resync Replica")
        equal_again(array, path)
    modify(array, path, "Detach")
    array.settle()
    array.assert_no_orphans()
