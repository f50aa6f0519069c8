# SPDX-License-Identifier: Apache-2.0
"""Rules P of CreateOrModifyReplicationPipe, one test for each, named after it, and A9 and A10 where a pipe is used."""

import itertools
import json
import threading

import pytest

from hosted import Hosted
from pipes import LOCAL, METHOD, children, initiators, pipe, portal
from process import MIB

_addresses = (f"127.77.{i // 200}.{i % 200 + 1}" for i in itertools.count())  # nobody is dialled there


class Peer:
    """A system that is only known: n portals."""

    def __init__(self, client, n=2):
        self.points, self.endpoints, self.system = [], [], None
        for _ in range(n):
            point, endpoint, self.system = portal(client, next(_addresses), self.system)
            self.points.append(point)
            self.endpoints.append(endpoint)


@pytest.fixture
def peer(shared):
    return Peer(shared.client)


def right(peer, n=0, **more):
    body = {"SourceSystem": LOCAL, "TargetSystem": peer.system, **more}
    if n:
        body |= {"SourceEndpoint": initiators(n), "TargetEndpoint": peer.endpoints[:n]}
    return body


def pairs(client, path):
    """The pairs of endpoints that a pipe has."""
    found = client.get(path)
    leaves = [found] if found["Endpoints"] else children(client, path)
    return [tuple(end["Antecedent"] for end in leaf["Endpoints"]) for leaf in leaves]


def replica(client, source, target, way, expect=202):
    return client.method("CreateElementReplica", {"SyncType": 8, "SourceElement": source, "TargetElement": target,
                                                  "ReplicationSettingData": {"ReplicationPipe": way}}, expect=expect)


def refused_use(client, source, target, way, code="bad_value"):
    client.refused("CreateElementReplica", {"SyncType": 8, "SourceElement": source, "TargetElement": target,
                                            "ReplicationSettingData": {"ReplicationPipe": way}}, 5, 400,
                   "ReplicationSettingData.ReplicationPipe", code)


def used(shared):
    """A pipe that a relationship uses: (pipe, system of the LUN, source, target, relationship)"""
    lun = shared.lun(MIB, "full")
    source = shared.volume(lun)
    system = shared.client.get(source)["System"]
    target = Hosted(shared.smirror).make(MIB)
    way = pipe(shared.client, LOCAL, source=system)
    answer = replica(shared.client, source, target, way)
    shared.client.completed(answer["Job"])
    return way, system, source, target, answer["Synchronization"]


def detach(shared, sync):
    shared.client.method("ModifyReplicaSynchronization", {"Operation": "Detach", "Synchronization": sync}, expect=200)


def test_P1_both_systems_are_required(shared, peer):
    with shared.unchanged():
        for name in ("SourceSystem", "TargetSystem"):
            for body in ({k: v for k, v in right(peer).items() if k != name}, {**right(peer), name: None}):
                shared.client.refused(METHOD, body, 5, 400, name, "missing_parameter", wrong=True)


def test_P2_the_systems_are_two_and_known(shared, peer):
    with shared.unchanged():
        for system in (LOCAL, peer.system):
            shared.client.refused(METHOD, {"SourceSystem": system, "TargetSystem": system}, 5, 400, "TargetSystem", "bad_value")
        for name in ("SourceSystem", "TargetSystem"):
            shared.client.refused(METHOD, right(peer, **{name: "/systems/000000000000"}), 5, 400, name, "no_such_object")
            shared.client.refused(METHOD, right(peer, **{name: peer.points[0]}), 5, 400, name, "wrong_class", wrong=True)
    # Two systems of others are peers as well: what is copied from one to the other goes through us.
    other = Peer(shared.client)
    way = pipe(shared.client, other.system, source=peer.system)
    assert pairs(shared.client, way) == [(peer.endpoints[0], other.endpoints[0])]


def test_P3_either_order_is_taken_when_data_may_go_both_ways(shared, peer):
    for source, target in ((LOCAL, peer.system), (peer.system, LOCAL)):
        way = shared.client.get(pipe(shared.client, target, source=source))
        assert (way["SourceSystem"], way["TargetSystem"], way["Directionality"]) == (source, target, 2)
    lun, target = shared.lun(MIB, "full"), Hosted(shared.smirror).make(MIB)
    source = shared.volume(lun)
    system = shared.client.get(source)["System"]
    for way in (pipe(shared.client, system), pipe(shared.client, LOCAL, source=system)):
        answer = replica(shared.client, source, target, way)
        shared.client.completed(answer["Job"])
        detach(shared, answer["Synchronization"])


def test_P4_endpoints_are_given_for_both_systems_or_for_none(shared, peer):
    with shared.unchanged():
        shared.client.refused(METHOD, right(peer, SourceEndpoint=initiators(1)), 5, 400, "TargetEndpoint", "missing_parameter")
        shared.client.refused(METHOD, right(peer, TargetEndpoint=peer.endpoints[:1]), 5, 400, "SourceEndpoint", "missing_parameter")
    assert len(pairs(shared.client, pipe(shared.client, peer.system, SourceEndpoint=None, TargetEndpoint=None))) == 1


def test_P5_as_many_on_one_side_as_on_the_other_paired_by_place(shared, peer):
    with shared.unchanged():
        for one, other in ((1, 2), (2, 1)):
            shared.client.refused(METHOD, right(peer, SourceEndpoint=initiators(one), TargetEndpoint=peer.endpoints[:other]), 5, 400,
                                  "TargetEndpoint", "bad_value")
    swapped = peer.endpoints[::-1]
    way = pipe(shared.client, peer.system, SourceEndpoint=initiators(2), TargetEndpoint=swapped)
    assert pairs(shared.client, way) == list(zip(initiators(2), swapped))


def test_P6_ports_are_managed_by_clients_so_endpoints_are_taken(shared, peer):
    assert pairs(shared.client, pipe(shared.client, peer.system, **{k: v for k, v in right(peer, 1).items() if "Endpoint" in k})) == [
        ("/endpoints/initiator", peer.endpoints[0])]


def test_P7_endpoints_belong_to_their_system_and_none_is_named_twice(shared, peer):
    other = Peer(shared.client, 1)
    with shared.unchanged():
        for name, list_, code in (
                ("SourceEndpoint", [initiators(1)[0], peer.endpoints[0]], "bad_value"),
                ("TargetEndpoint", [peer.endpoints[0], other.endpoints[0]], "bad_value"),
                ("TargetEndpoint", [peer.endpoints[0], "/endpoints/initiator-3"], "bad_value"),
                ("TargetEndpoint", [peer.endpoints[0], "/endpoints/000000000000"], "no_such_object"),
                ("SourceEndpoint", initiators(1) * 2, "bad_value"), ("TargetEndpoint", peer.endpoints[:1] * 2, "bad_value")):
            shared.client.refused(METHOD, {**right(peer, 2), name: list_}, 5, 400, f"{name}[1]", code)
        for list_, code in (([peer.endpoints[0], None], "missing_parameter"), ([peer.endpoints[0], peer.points[1]], "wrong_class")):
            shared.client.refused(METHOD, {**right(peer, 2), "TargetEndpoint": list_}, 5, 400, "TargetEndpoint[1]", code, wrong=True)


def test_P8_empty_lists_are_invalid(shared, peer):
    with shared.unchanged():
        for source, target, name in (([], [], "SourceEndpoint"), (initiators(1), [], "TargetEndpoint")):
            shared.client.refused(METHOD, right(peer, SourceEndpoint=source, TargetEndpoint=target), 5, 400, name, "bad_value")


def test_P9_without_a_pipe_one_is_made_and_with_one_it_is_changed(shared, peer):
    way = pipe(shared.client, peer.system)
    assert pipe(shared.client, peer.system) != way
    n = len(shared.client.list("/pipes"))
    assert pipe(shared.client, peer.system, ReplicationPipe=way, PipeElementName="changed") == way
    assert len(shared.client.list("/pipes")) == n and shared.client.get(way)["ElementName"] == "changed"
    assert [found["self"] for found in shared.client.list("/pipes", ElementName="changed")] == [way]
    with shared.unchanged():
        shared.client.refused(METHOD, right(peer, ReplicationPipe="/pipes/000000000000"), 5, 400, "ReplicationPipe", "no_such_object")
    whole = shared.client.method(METHOD, right(peer, 2))["ReplicationPipe"]
    shared.client.refused(METHOD, right(peer, ReplicationPipe=shared.client.get(whole)["Children"][0]), 5, 400, "ReplicationPipe")


def test_P10_endpoints_replace_those_that_were_there(shared):
    peer = Peer(shared.client, 3)
    way = shared.client.method(METHOD, right(peer, 2))["ReplicationPipe"]
    before = shared.client.get(way)["Children"]
    shared.client.method(METHOD, right(peer, ReplicationPipe=way, PipeElementName="other"))
    assert shared.client.get(way)["Children"] == before
    shared.client.method(METHOD, right(peer, ReplicationPipe=way, SourceEndpoint=initiators(2),
                                       TargetEndpoint=[peer.endpoints[0], peer.endpoints[2]]))
    assert pairs(shared.client, way) == [(initiators(2)[0], peer.endpoints[0]), (initiators(2)[1], peer.endpoints[2])]
    after = shared.client.get(way)["Children"]
    assert after[0] == before[0] and after[1] != before[1]  # what stays is the same, with its counters
    shared.client.get(before[1], expect=404)
    # To one pair, and back to three.
    shared.client.method(METHOD, right(peer, 1, ReplicationPipe=way))
    assert shared.client.get(way)["Children"] == [] and len(pairs(shared.client, way)) == 1
    shared.client.get(after[0], expect=404)
    shared.client.method(METHOD, right(peer, 3, ReplicationPipe=way))
    assert pairs(shared.client, way) == list(zip(initiators(3), peer.endpoints))


def test_P11_systems_stay_a_name_renames_and_a_goal_replaces_the_goal(shared, peer):
    other = Peer(shared.client, 1)
    way = shared.client.method(METHOD, right(peer, 2, PipeElementName="first", Goal={"BandwidthLimit": 7, "SessionsPerPair": 3}))[
        "ReplicationPipe"]
    with shared.unchanged():
        shared.client.refused(METHOD, right(peer, TargetSystem=other.system, ReplicationPipe=way), 5, 400, "TargetSystem")
        shared.client.refused(METHOD, right(peer, SourceSystem=other.system, ReplicationPipe=way), 5, 400, "SourceSystem")
        shared.client.refused(METHOD, {"SourceSystem": peer.system, "TargetSystem": LOCAL, "ReplicationPipe": way}, 5, 400, "SourceSystem")
        shared.client.refused(METHOD, right(peer, ReplicationPipe=way, PipeElementName=""), 5, 400, "PipeElementName")
    shared.client.method(METHOD, right(peer, ReplicationPipe=way))
    found = shared.client.get(way)
    assert (found["ElementName"], found["BandwidthLimit"], found["SessionsPerPair"]) == ("first", 7, 3)
    shared.client.method(METHOD, right(peer, ReplicationPipe=way, PipeElementName="second", Goal={"HeaderDigest": 3}))
    for found in [shared.client.get(way), *children(shared.client, way)]:
        assert (found["BandwidthLimit"], found["SessionsPerPair"], found["HeaderDigestText"]) == (0, 1, "CRC32C")
    assert [child["ElementName"] for child in children(shared.client, way)] == ["second #1", "second #2"]


def test_P12_without_endpoints_one_pair_is_chosen(shared, peer):
    assert pairs(shared.client, pipe(shared.client, peer.system)) == [("/endpoints/initiator", peer.endpoints[0])]
    # One that answers rather than one that was the first.
    volume = shared.client.get(shared.volume(size=MIB))
    assert pairs(shared.client, pipe(shared.client, volume["System"]))[0][1] == volume["AccessPoint"].replace("accesspoints", "endpoints")
    # Those that a pipe needs stay.
    way = pipe(shared.client, peer.system, Goal={"SecretAccessPoint": peer.points[1]})
    for point in peer.points:
        assert shared.client.delete(point, expect=409)["BlockedOn"].startswith("/pipes/")
    for found in shared.client.list("/pipes", TargetSystem=peer.system):
        shared.client.delete(found["self"])
    shared.client.get(way, expect=404)
    for point in peer.points:
        shared.client.delete(point)
    shared.client.get(peer.system, expect=404)
    shared.client.get(peer.endpoints[0], expect=404)


def test_P13_the_goal_is_an_embedded_instance_and_null_is_the_default(shared, peer):
    found = shared.client.get(pipe(shared.client, peer.system, Goal=None))
    assert [found[name] for name in ("BandwidthLimit", "SessionsPerPair", "HeaderDigest", "DataDigest", "SecretAccessPoint")] == [
        0, 1, 2, 2, None]
    goal = {"class": "CIM_ReplicationPipeSetting", "BandwidthLimit": 1 << 40, "SessionsPerPair": 4, "HeaderDigest": "CRC32C Preferred",
            "DataDigest": 4, "SecretAccessPoint": peer.points[1]}
    for given in (goal, json.dumps(goal)):
        found = shared.client.get(pipe(shared.client, peer.system, Goal=given))
        assert [found[name] for name in ("BandwidthLimit", "SessionsPerPair", "HeaderDigest", "DataDigest", "SecretAccessPoint")] == [
            1 << 40, 4, 4, 4, peer.points[1]]
    with shared.unchanged():
        for name, value in (("SessionsPerPair", 0), ("SessionsPerPair", 5), ("HeaderDigest", 1), ("DataDigest", "MD5"),
                            ("Directionality", 4), ("SecretAccessPoint", "/accesspoints/000000000000"), ("BandwidthLimit", 1 << 63)):
            shared.client.refused(METHOD, right(peer, Goal={name: value}), 5, 400, f"Goal.{name}", wrong=True)
        shared.client.refused(METHOD, right(peer, Goal={"DataDigest": "CRC32C"}), 1, 501, "Goal.DataDigest")
        answer = shared.client.method(METHOD, right(peer, Goal={"Frobs": 1}), expect=400, wrong=True)
        assert answer["Parameter"] == "Goal.Frobs"


def test_P14_it_is_done_when_it_is_answered_and_there_is_no_job(shared, peer):
    jobs = len(shared.client.list("/jobs"))
    answer = shared.client.method(METHOD, right(peer, 2), expect=200)
    assert answer["ReturnValue"] == 0 and answer["Job"] is None
    assert shared.client.get(answer["ReplicationPipe"])["self"] == answer["ReplicationPipe"]
    assert len(shared.client.list("/jobs")) == jobs


def test_P15_calls_at_once_follow_one_another_and_4096_is_never_a_job(shared, peer):
    way = pipe(shared.client, peer.system)
    jobs = len(shared.client.list("/jobs"))
    answers = []

    def change(number):
        for _ in range(5):
            answers.append(shared.client.method(METHOD, right(peer, number % 2 + 1, ReplicationPipe=way), expect=(200, 409)))

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20
    for answer in answers:
        assert answer["ReturnValue"] == (0 if answer.status == 200 else 4096) and answer.get("Job") is None
    assert len(pairs(shared.client, way)) in (1, 2) and len(shared.client.list("/jobs")) == jobs
    # Not supported is 1, not 4096.
    shared.client.refused(METHOD, right(peer, Goal={"DataDigest": 3}), 1, 501, "Goal.DataDigest")


def test_P16_pairs_of_a_pipe_that_is_used_cannot_be_taken_away(shared):
    way, system, source, target, sync = used(shared)
    more, endpoint, _ = portal(shared.client, next(_addresses), system)
    own = pairs(shared.client, way)[0]
    body = {"SourceSystem": system, "TargetSystem": LOCAL, "ReplicationPipe": way}
    with shared.unchanged():
        problem = shared.client.refused(METHOD, {**body, "SourceEndpoint": [endpoint], "TargetEndpoint": ["/endpoints/initiator"]}, 4, 409,
                                        "SourceEndpoint", "illegal_state")
        assert problem["BlockedOn"] == sync
        assert shared.client.delete(way, expect=409)["BlockedOn"] == sync
    # One more is fine, and can be taken away once nobody uses the pipe.
    shared.client.method(METHOD, {**body, "SourceEndpoint": [own[0], endpoint], "TargetEndpoint": initiators(2)}, expect=200)
    assert shared.client.delete(shared.client.get(way)["Children"][1], expect=409)["BlockedOn"] == way
    detach(shared, sync)
    shared.client.method(METHOD, {**body, "SourceEndpoint": [own[0]], "TargetEndpoint": initiators(1)}, expect=200)
    shared.client.delete(way)
    shared.client.delete(way, expect=404)
    shared.client.delete(more)


def test_P17_limits(shared):
    peer = Peer(shared.client, 9)
    eight = right(peer, 8)
    way = shared.client.method(METHOD, eight)["ReplicationPipe"]
    assert len(pairs(shared.client, way)) == 8
    addresses = [endpoint["self"] for endpoint in shared.client.list("/endpoints", System=peer.system)]
    assert sorted(addresses) == sorted(peer.endpoints)
    others = Peer(shared.client, 9)
    with shared.unchanged():
        # Nine pairs between two systems of others, which have as many endpoints.
        shared.client.refused(METHOD, {"SourceSystem": peer.system, "TargetSystem": others.system, "SourceEndpoint": peer.endpoints,
                                       "TargetEndpoint": others.endpoints}, 4, 422, "SourceEndpoint", "limit_reached")
    for _ in range(15):
        pipe(shared.client, peer.system)
    with shared.unchanged():
        shared.client.refused(METHOD, right(peer), 4, 422, "TargetSystem", "limit_reached")
    shared.client.method(METHOD, right(peer, 2, ReplicationPipe=way))
    for found in shared.client.list("/pipes", TargetSystem=peer.system):
        if found["Parent"] is None:
            shared.client.delete(found["self"])
    assert shared.client.list("/pipes", TargetSystem=peer.system) == []
    # 64 pairs with one endpoint.
    busy = Peer(shared.client, 1)
    sources = [Peer(shared.client, 1) for _ in range(5)]
    for i in range(64):
        pipe(shared.client, busy.system, source=sources[i // 16].system)
    with shared.unchanged():
        shared.client.refused(METHOD, {"SourceSystem": sources[4].system, "TargetSystem": busy.system}, 4, 422, "TargetEndpoint[0]",
                              "limit_reached")


def test_P18_one_pair_is_one_pipe_and_several_are_a_parent_with_children(shared, peer):
    one = shared.client.get(shared.client.method(METHOD, right(peer, 1))["ReplicationPipe"])
    assert (one["AggregationBehavior"], one["Children"], one["Parent"], len(one["Endpoints"])) == (2, [], None, 2)
    whole = shared.client.get(shared.client.method(METHOD, right(peer, 2))["ReplicationPipe"])
    assert (whole["AggregationBehavior"], whole["Parent"], whole["Endpoints"], len(whole["Children"])) == (3, None, [], 2)
    for child in children(shared.client, whole["self"]):
        assert (child["AggregationBehavior"], child["AggregationSequence"], child["Parent"]) == (2, 0, whole["self"])
        assert len(child["Endpoints"]) == 2 and child["Children"] == []
    assert [found["self"] for found in shared.client.list("/pipes", Parent=whole["self"])] == whole["Children"]


def test_P19_directionality_and_the_roles_of_endpoints(shared, peer):
    for goal, number, roles in ((None, 2, [4, 4]), ({"Directionality": 2}, 2, [4, 4]), ({"Directionality": "Unidirectional"}, 3, [2, 3])):
        way = shared.client.method(METHOD, right(peer, 2, Goal=goal))["ReplicationPipe"]
        assert shared.client.get(way)["Directionality"] == number
        for child in children(shared.client, way):
            assert child["Directionality"] == number and [end["SourceOrSink"] for end in child["Endpoints"]] == roles


def test_a_replica_goes_through_a_pipe_of_its_two_systems_only(shared):
    way, system, source, target, sync = used(shared)
    elsewhere = pipe(shared.client, Peer(shared.client, 1).system)
    other = Hosted(shared.smirror).make(MIB)
    with shared.unchanged():
        refused_use(shared.client, source, other, elsewhere)
        refused_use(shared.client, target, other, way)
        refused_use(shared.client, source, other, "/pipes/000000000000", "no_such_object")
        shared.client.refused("AttachOrModifyReplica", {"SourceElement": source, "TargetElement": other, "CopyType": 4,
                                                        "ReplicationPipe": way}, 5, 400, "CopyType")
    found = shared.client.get(sync)
    assert found["ReplicationPipe"] == way and shared.client.get(way)["Synchronizations"] == [sync]
    # Another one, with an operation.
    another = pipe(shared.client, system)
    resync = {"Operation": "Resync Replica", "Synchronization": sync}
    with shared.unchanged():
        shared.client.refused("ModifyReplicaSynchronization", {**resync, "ReplicationSettingData": {"ReplicationPipe": elsewhere}}, 5, 400,
                              "ReplicationSettingData.ReplicationPipe", "bad_value")
    shared.client.completed(shared.client.method("ModifyReplicaSynchronization", {
        **resync, "ReplicationSettingData": {"ReplicationPipe": another}}, expect=202)["Job"])
    assert shared.client.get(sync)["ReplicationPipe"] == another and shared.client.get(another)["BytesRead"] >= MIB
    assert shared.client.get(way)["Synchronizations"] == []
    detach(shared, sync)
    assert shared.client.get(way)["Synchronizations"] == []


def test_A10_through_a_unidirectional_pipe_the_source_is_on_its_source_side(shared):
    lun = shared.lun(MIB, "full")
    remote, local = shared.volume(lun), Hosted(shared.smirror).make(MIB)
    system = shared.client.get(remote)["System"]
    away = pipe(shared.client, system, Goal={"Directionality": 3})
    here = pipe(shared.client, LOCAL, source=system, Goal={"Directionality": 3})
    with shared.unchanged():
        refused_use(shared.client, remote, local, away)
    answer = replica(shared.client, remote, local, here)
    shared.client.completed(answer["Job"])
    # And so it stays: nothing is copied back against it, ...
    with shared.unchanged():
        shared.client.refused("ModifyReplicaSynchronization", {"Operation": "Restore from Replica",
                                                               "Synchronization": answer["Synchronization"]}, 4, 409, code="illegal_state")
    # ... unless it is made to go both ways; and then not back to one way that would be the wrong one.
    body = {"SourceSystem": system, "TargetSystem": LOCAL, "ReplicationPipe": here}
    shared.client.method(METHOD, {**body, "Goal": {"Directionality": 2}})
    restore = shared.client.method("ModifyReplicaSynchronization", {"Operation": "Restore from Replica",
                                                                    "Synchronization": answer["Synchronization"]}, expect=202)
    shared.client.completed(restore["Job"])
    both = pipe(shared.client, system)
    detach(shared, answer["Synchronization"])
    back = replica(shared.client, remote, local, both)
    shared.client.completed(back["Job"])
    with shared.unchanged():
        shared.client.refused(METHOD, {"SourceSystem": LOCAL, "TargetSystem": system, "ReplicationPipe": both,
                                       "Goal": {"Directionality": 3}}, 4, 409, "Goal.Directionality")
