# SPDX-License-Identifier: Apache-2.0
"""Replication pipes at work: copies over several ways at once, ways that are lost and come back, limits, a second smirrord."""

import itertools
import time

import pytest

import lun as luns
from hosted import Hosted
from pipes import LOCAL, METHOD, Ways, children, initiators, pipe, portal
from process import MIB, SLOWNESS, until
from smirror import Smirror


@pytest.fixture
def ways(shared):
    made = Ways(shared.client, shared.array.port)
    yield made
    made.close()


def registered(client, url):
    return client.method("AddReplicationEntity", {"ReplicationEntity": {"Type": 8, "EntityID": url}, "Persistent": True},
                         expect=200)["ReplicationEntityPath"]


def through(client, source, target, way, expect=202, **more):
    return client.method("CreateElementReplica", {"SyncType": 8, "SourceElement": source, "TargetElement": target,
                                                  "ReplicationSettingData": {"ReplicationPipe": way, **more}}, expect=expect)


def written(client, way):
    return [child["BytesWritten"] for child in children(client, way)]


def test_a_copy_goes_over_both_ways_at_once(shared, ways):
    size = 16 * MIB
    source_lun, lun = shared.lun(size, "full"), shared.lun(size, "dirty")
    source, target = registered(shared.client, ways.url(source_lun)), registered(shared.client, ways.url(lun))
    hosted = Hosted(shared.smirror).make(size)
    limit = int(16 * MIB / SLOWNESS)  # it takes long enough for both to be up
    way = ways.pipe(Goal={"BandwidthLimit": limit})
    # From the other system, and to it.
    first = through(shared.client, source, hosted, way)
    shared.client.completed(first["Job"])
    shared.client.completed(through(shared.client, hosted, target, way)["Job"])
    luns.assert_equal(source_lun.path, lun.path)
    pair = children(shared.client, way)
    for child in pair:
        assert child["BytesWritten"] > size // 8 and child["BytesRead"] > size // 8, (child["BytesRead"], child["BytesWritten"])
        assert (child["SessionsWanted"], child["Sessions"], child["BytesInFlight"]) == (0, 0, 0)
    whole = shared.client.get(way)
    assert whole["BytesWritten"] == sum(child["BytesWritten"] for child in pair) >= size
    assert all(proxy.sent > size // 8 for proxy in ways.proxies)
    sync = shared.client.get(first["Synchronization"])
    assert sync["ReplicationPipe"] == way and sync["PipeBandwidthLimit"] == limit
    assert set(whole["Synchronizations"]) == {found["self"] for found in shared.client.list("/synchronizations", ReplicationPipe=way)}
    assert len(whole["Synchronizations"]) == 2


def test_a_way_that_is_cut_is_left_and_used_again_when_it_is_back(shared, ways):
    size = 48 * MIB
    lun = shared.lun(size, "dirty")
    target = registered(shared.client, ways.url(lun))
    source_lun = shared.lun(size, "full")
    hosted = Hosted(shared.smirror).make(size)
    shared.clone(shared.volume(source_lun), hosted, wait=True)
    way = ways.pipe(Goal={"BandwidthLimit": 12 * MIB})
    answer = through(shared.client, hosted, target, way)
    shared.client.until(way, lambda seen: seen["Sessions"] == 2 and seen["BytesWritten"] > 2 * MIB, 20)
    ways.proxies[1].refuse = True
    ways.proxies[1].cut()
    lost = shared.client.until(way, lambda seen: seen["Sessions"] == 1 and seen["SessionLosses"] >= 1, 20)
    assert lost["OperationalStatus"] == [3] and lost["LastError"]
    before = written(shared.client, way)
    # It goes on over the other one ...
    shared.client.until(way, lambda seen: seen["BytesWritten"] > sum(before) + 2 * MIB, 30)
    alone = written(shared.client, way)
    assert alone[1] == before[1]
    # ... and the job has not noticed anything: its checkpoint was not gone back to.
    assert shared.client.get(answer["Job"])["Phase"] == "Copying"
    ways.proxies[1].refuse = False
    shared.client.until(way, lambda seen: seen["Sessions"] == 2, 30)
    until(lambda: written(shared.client, way)[1] > alone[1] + MIB, 20, "the way that is back is used")
    assert shared.client.get(way)["OperationalStatus"] == [2]
    shared.client.method(METHOD, {"SourceSystem": LOCAL, "TargetSystem": ways.system, "ReplicationPipe": way, "Goal": {}})
    shared.client.completed(answer["Job"])
    luns.assert_equal(source_lun.path, lun.path)


def test_with_all_ways_cut_the_copy_waits_and_goes_on(shared, ways):
    size = 24 * MIB
    source_lun, lun = shared.lun(size, "full"), shared.lun(size, "dirty")
    hosted = Hosted(shared.smirror).make(size)
    shared.clone(shared.volume(source_lun), hosted, wait=True)
    way = ways.pipe(Goal={"BandwidthLimit": 8 * MIB})
    answer = through(shared.client, hosted, registered(shared.client, ways.url(lun)), way)
    shared.client.until(way, lambda seen: seen["BytesWritten"] > 2 * MIB, 20)
    for proxy in ways.proxies:
        proxy.refuse = True
        proxy.cut()
    shared.client.until(answer["Job"], lambda job: job["Phase"] == "Retry", 20)
    assert shared.client.get(way)["OperationalStatus"] == [12]
    shared.client.method(METHOD, {"SourceSystem": LOCAL, "TargetSystem": ways.system, "ReplicationPipe": way, "Goal": {}})
    for proxy in ways.proxies:
        proxy.refuse = False
    shared.client.completed(answer["Job"])
    luns.assert_equal(source_lun.path, lun.path)


def test_all_that_uses_a_pipe_shares_its_limit(shared, ways):
    size, limit = 8 * MIB, 6 * MIB
    way = ways.pipe(Goal={"BandwidthLimit": limit})
    sources = [registered(shared.client, ways.url(shared.lun(size, "full"))) for _ in range(2)]
    targets = [Hosted(shared.smirror).make(size) for _ in range(2)]
    began = time.monotonic()
    answers = [through(shared.client, source, target, way) for source, target in zip(sources, targets)]
    assert shared.client.get(answers[0]["Synchronization"])["PipeBandwidthLimit"] == limit
    for answer in answers:
        shared.client.completed(answer["Job"])
    took = time.monotonic() - began
    assert took > 0.85 * 2 * size / limit, f"{2 * size} bytes in {took:.2f} s"


def test_a_dry_run_with_another_pipe_leaves_the_relationship_as_it_is(shared, ways):
    source, lun = Hosted(shared.smirror).make(MIB), shared.lun(MIB)
    target = registered(shared.client, ways.url(lun))
    answer = shared.client.method("CreateElementReplica", {"SyncType": 6, "Mode": 2, "SourceElement": source, "TargetElement": target,
                                                           "WaitForCopyState": 4}, expect=202)
    synchronization = answer["Synchronization"]
    shared.client.completed(answer["Job"])
    body = {"Synchronization": synchronization, "Operation": "Suspend", "ReplicationSettingData": {"ReplicationPipe": ways.pipe()}}
    with shared.unchanged():
        told = shared.client.method("ModifyReplicaSynchronization", body, query={"dryRun": "true"}, expect=200)["DryRun"]
        assert told["CopyState"] == 9 and told["Synchronization"] == synchronization
    assert shared.client.get(synchronization)["ReplicationPipe"] is None
    shared.client.method("ModifyReplicaSynchronization", {"Synchronization": synchronization, "Operation": 8, "Force": True}, expect=200)


def test_a_pipe_to_a_second_smirrord(shared, directory):
    """Its volumes are found by scan and are targets; it says who is logged in."""
    peer = Smirror(directory / "peer")
    try:
        client = shared.client
        size = 8 * MIB
        there = Hosted(peer).make(size)
        ways = Ways(client, int(peer.ready["iscsi"].rsplit(":", 1)[1]))
        try:
            client.method("ScsiScan", {"Targets": [ways.points[0]]}, expect=200)
            target = client.volume_of(peer.client.get(there)["Url"].replace(peer.ready["iscsi"], ways.proxies[0].portal))
            source_lun = shared.lun(size, "full")
            source = shared.volume(source_lun)
            hosted = Hosted(shared.smirror).make(size)
            shared.clone(source, hosted, wait=True)
            way = ways.pipe(Goal={"SessionsPerPair": 2, "HeaderDigest": "CRC32C Preferred", "BandwidthLimit": 4 * MIB})
            answer = through(client, hosted, target, way)
            seen = client.until(way, lambda seen: seen["Sessions"] == 4, 20)
            assert seen["SessionsWanted"] == 4
            name = client.get("/endpoints/initiator")["Identifier"]
            export = peer.client.get(there.replace("volumes", "exports"))
            assert export["Sessions"] == [name] * 4
            client.completed(answer["Job"])
            assert all(count > size // 4 for count in written(client, way))
            back = shared.lun(size, "dirty")
            client.completed(through(client, target, Hosted(shared.smirror).make(size), way)["Job"])
            shared.clone(hosted, shared.volume(back), wait=True)
            luns.assert_equal(source_lun.path, back.path)
            assert Hosted(peer).writers(there, 0, MIB) == Hosted(shared.smirror).writers(hosted, 0, MIB)
        finally:
            ways.close()
    finally:
        peer.close()


def test_a_mirror_through_a_pipe_does_not_notice_a_way_that_is_cut(shared, ways):
    """In the middle of a write: that is on the target once, and the relationship stays Synchronized."""
    client, size = shared.client, 8 * MIB
    hosted = Hosted(shared.smirror)
    source, lun = hosted.make(size), shared.lun(size, "dirty")
    hosted.fill(source, 1, 0, size)
    target = registered(client, ways.url(lun))
    way = ways.pipe()
    body = {"SourceElement": source, "TargetElement": target, "CopyType": 3, "ReplicationPipe": way}
    elsewhere = pipe(client, portal(client, "127.88.0.1")[2])
    with shared.unchanged():
        client.refused("AttachOrModifyReplica", {**body, "ReplicationPipe": elsewhere}, 5, 400, "ReplicationPipe", "bad_value")
    client.completed(client.method("AttachOrModifyReplica", body, expect=202)["Job"])
    sync = client.list("/synchronizations", SyncedElement=target)[0]["self"]
    client.until(sync, lambda seen: seen["CopyState"] == 4, 20)
    assert client.get(sync)["ReplicationPipe"] == way
    client.until(way, lambda seen: seen["Sessions"] == 2, 20)
    number = itertools.count(2)

    def write_until(condition, seconds):
        end = time.monotonic() + seconds * SLOWNESS
        while not condition():
            assert time.monotonic() < end, client.get(way).text
            hosted.fill(source, next(number), 0, size)
            assert client.get(sync)["CopyState"] == 4

    start = written(client, way)
    write_until(lambda: all(now > before for now, before in zip(written(client, way), start)), 20)
    lost = ways.proxies[0]
    lost.refuse = True
    lost.cut_after = lost.sent + MIB
    write_until(lambda: client.get(way)["Sessions"] == 1 and lost.cut_after is None, 30)
    assert client.get(way)["SessionLosses"] == 1
    lost.refuse = False
    first = written(client, way)[0]
    write_until(lambda: written(client, way)[0] > first, 40)
    # The same pipe changes nothing (A12), another one of the same systems may be named.
    assert client.method("AttachOrModifyReplica", body, expect=200)["Job"] is None
    another = pipe(client, ways.system)
    client.method("AttachOrModifyReplica", {**body, "ReplicationPipe": another}, expect=(200, 202))
    assert client.get(sync)["ReplicationPipe"] == another
    client.method("ModifyReplicaSynchronization", {"Operation": "Detach", "Synchronization": sync, "Force": True}, expect=(200, 202))
    assert lun.path.read_bytes() == hosted.content(source)


def test_the_cycles_of_an_asynchronous_mirror_go_through_its_pipe(shared, ways):
    client, size = shared.client, 8 * MIB
    hosted = Hosted(shared.smirror)
    source, lun = hosted.make(size), shared.lun(size, "dirty")
    hosted.fill(source, 1, 0, size)
    target = registered(client, ways.url(lun))
    way = ways.pipe()
    answer = client.method("CreateElementReplica", {
        "SyncType": 6, "Mode": 3, "SourceElement": source, "TargetElement": target,
        "ReplicationSettingData": {"ReplicationPipe": way, "DeltaUpdateInterval": "PT1S"}}, expect=202)
    sync = answer["Synchronization"]
    client.until(sync, lambda seen: seen["CopyState"] == 4, 30)
    assert sum(written(client, way)) >= size
    before = written(client, way)
    hosted.fill(source, 2, 0, size)
    client.until(way, lambda seen: seen["BytesWritten"] >= sum(before) + size, 20)
    client.until(sync, lambda seen: seen["CycleBytes"] >= 2 * size and seen["LagBytes"] == 0, 20)
    client.method("ModifyReplicaSynchronization", {"Operation": "Detach", "Synchronization": sync, "Force": True}, expect=(200, 202))
    assert lun.path.read_bytes() == hosted.content(source)


def test_sessions_come_from_the_address_that_their_pair_has(make_world):
    world = make_world("--initiator-addresses", "127.0.0.8, 127.0.0.9")
    client = world.client
    ours = {endpoint["Address"]: endpoint["self"] for endpoint in client.list("/endpoints", System=LOCAL) if endpoint["Address"]}
    assert set(ours) == {"127.0.0.8", "127.0.0.9"}
    source, target = world.volume(world.lun(4 * MIB, "full")), Hosted(world.smirror).make(4 * MIB)
    volume = client.get(source)
    there = volume["AccessPoint"].replace("accesspoints", "endpoints")
    way = pipe(client, volume["System"], SourceEndpoint=[ours["127.0.0.9"]], TargetEndpoint=[there], Goal={"BandwidthLimit": MIB})
    answer = through(client, source, target, way)
    client.until(way, lambda seen: seen["Sessions"] == 1, 20)
    assert "127.0.0.9" in world.array.admin("--op", "show", "--mode", "target")
    pipe(client, volume["System"], ReplicationPipe=way)
    client.method(METHOD, {"SourceSystem": LOCAL, "TargetSystem": volume["System"], "ReplicationPipe": way, "Goal": {}}, expect=200)
    client.completed(answer["Job"])
    # What is not given any more goes at the next start, but for what a pipe needs.
    world.smirror.options = ["--initiator-addresses", "127.0.0.10"]
    world.smirror.restart()
    until(lambda: {endpoint["Address"] for endpoint in client.list("/endpoints", System=LOCAL) if endpoint["Address"]}
          == {"127.0.0.9", "127.0.0.10"}, 10, "endpoints are as the option says")
    assert client.get(way)["Endpoints"][0]["Antecedent"] == ours["127.0.0.9"]
