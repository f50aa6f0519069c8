# SPDX-License-Identifier: Apache-2.0
"""Replication groups over HTTP: CreateGroup, DeleteGroup, AddMembers, RemoveMembers, and what becomes of groups by themselves."""

import pytest

from hosted import Hosted

MIB = 1 << 20


@pytest.fixture(scope="module")
def hosted(service):
    return Hosted(service)


def group(client, members=(), expect=200, **more):
    return client.method("CreateGroup", {"Members": list(members), **more}, expect=expect)["ReplicationGroup"]


def gone(client, path):
    assert client.get(path, expect=404)["Code"] == "not_found"


def unchanged(hosted):
    """All rows, but those of layers, which are merged when it suits."""
    return {table: rows for table, rows in hosted.smirror.records().items() if table != "layers"}


def test_a_group_keeps_its_members_in_order_and_its_properties(hosted):
    client = hosted.client
    a, b, c = (hosted.make(MIB) for _ in range(3))
    path = group(client, [c, a, c], GroupName="database", Persistent=False, DeleteOnEmptyElement=True, DeleteOnUnassociated=True,
                 ReservedAs="Source Only")
    shown = client.get(path)
    assert shown["Members"] == [c, a]  # named again: it stays where it is
    assert (shown["ElementName"], shown["Persistent"], shown["DeleteOnEmptyElement"], shown["DeleteOnUnassociated"],
            shown["ReservedAs"]) == ("database", False, True, True, 2)
    client.method("AddMembers", {"ReplicationGroup": path, "Members": [a, b]}, expect=200)
    assert client.get(path)["Members"] == [c, a, b]
    assert [each["self"] for each in client.list("/groups", ElementName="database")] == [path]


def test_a_group_without_a_name_gets_one_of_ours_and_defaults(hosted):
    client = hosted.client
    first, second = group(client), group(client, None or [])
    names = {client.get(each)["ElementName"] for each in (first, second)}
    assert len(names) == 2 and all(names)
    shown = client.get(first)
    assert (shown["Persistent"], shown["DeleteOnEmptyElement"], shown["DeleteOnUnassociated"], shown["ConsistentPointInTime"],
            shown["ReservedAs"], shown["Members"], shown["AsSource"], shown["AsTarget"]) == (True, False, False, False, 4, [], [], [])


@pytest.mark.parametrize("name", ["", "x" * 251])
def test_names_have_a_length(hosted, name):
    hosted.client.refused("CreateGroup", {"GroupName": name}, 5, 400, "GroupName")


def test_a_member_may_be_in_several_groups_and_leaves_them_when_it_is_deleted(hosted):
    client = hosted.client
    volume, other = hosted.make(MIB), hosted.make(MIB)
    stays, goes = group(client, [volume, other]), group(client, [volume], DeleteOnEmptyElement=True)
    hosted.delete(volume)
    assert client.get(stays)["Members"] == [other]
    gone(client, goes)


def test_a_group_with_members_is_deleted_only_when_that_is_said(hosted):
    client = hosted.client
    volume = hosted.make(MIB)
    path = group(client, [volume])
    before = unchanged(hosted)
    client.refused("DeleteGroup", {"ReplicationGroup": path}, 4, 409, "ReplicationGroup", "group_not_empty")
    assert unchanged(hosted) == before
    client.method("DeleteGroup", {"ReplicationGroup": path, "RemoveElements": True}, expect=200)
    gone(client, path)
    assert client.get(volume)["self"] == volume


def test_members_in_a_relationship_stay_and_keep_their_group(hosted):
    client = hosted.client
    volume, other = hosted.make(MIB), hosted.make(MIB)
    snapshot = hosted.replica(volume)
    path = group(client, [volume, other])
    before = unchanged(hosted)
    problem = client.refused("RemoveMembers", {"ReplicationGroup": path, "Members": [other, volume]}, 6, 409, code="in_use")
    assert problem["BlockedOn"] == snapshot["Synchronization"]
    problem = client.refused("DeleteGroup", {"ReplicationGroup": path, "RemoveElements": True}, 7, 409, "ReplicationGroup",
                             "element_in_relationship")
    assert problem["BlockedOn"] == snapshot["Synchronization"]
    assert unchanged(hosted) == before
    hosted.modify(snapshot, 19)
    client.method("RemoveMembers", {"ReplicationGroup": path, "Members": [other, volume]}, expect=200)
    assert client.get(path)["Members"] == []


@pytest.mark.parametrize("of_group,of_call,goes", [(False, None, False), (True, None, True), (True, False, False), (False, True, True)])
def test_the_last_member_takes_the_group_with_it_when_that_is_wanted(hosted, of_group, of_call, goes):
    client = hosted.client
    volume = hosted.make(MIB)
    path = group(client, [volume], DeleteOnEmptyElement=of_group)
    client.method("RemoveMembers", {"ReplicationGroup": path, "Members": [volume], "DeleteOnEmptyElement": of_call}, expect=200)
    if goes:
        gone(client, path)
    else:
        assert client.get(path)["Members"] == []


def test_return_values_of_their_own(hosted):
    client = hosted.client
    volume, stranger = hosted.make(MIB), hosted.make(MIB)
    path = group(client, [volume])
    before = unchanged(hosted)
    for name in ("AddMembers", "RemoveMembers"):
        client.refused(name, {"ReplicationGroup": "/groups/000000000000", "Members": [volume]}, 7, 400, "ReplicationGroup", "no_such_group")
    client.refused("DeleteGroup", {"ReplicationGroup": "/groups/000000000000"}, 5, 400, "ReplicationGroup", "no_such_object")
    client.refused("RemoveMembers", {"ReplicationGroup": path, "Members": [volume, stranger]}, 8, 400, "Members[1]", "not_a_member")
    client.refused("RemoveMembers", {"ReplicationGroup": path, "Members": [volume, volume]}, 5, 400, "Members[1]")
    assert unchanged(hosted) == before


def test_groups_outlive_a_restart_and_those_that_are_not_to_do_not(hosted):
    client = hosted.client
    volume = hosted.make(MIB)
    kept, dropped = group(client, [volume]), group(client, [volume], Persistent=False)
    hosted.smirror.stop()
    hosted.smirror.start()
    assert client.get(kept)["Members"] == [volume]
    client.until("/groups", lambda groups: dropped not in [each["self"] for each in groups["Members"]])


# ---- operations on relationships of groups


def create(hosted, n=2, sync_type=7, expect=200, size=MIB, fill=False, **more):
    members = [hosted.make(size) for _ in range(n)]
    for volume in members if fill else ():
        hosted.fill(volume, 3, length=size)
    source = group(hosted.client, members)
    return hosted.client.method("CreateGroupReplica", {"SyncType": sync_type, "SourceGroup": source, **more}, expect=expect)


def pairs_of(hosted, answer):
    path = answer if isinstance(answer, str) else answer["Synchronization"]
    return [hosted.client.get(each) for each in hosted.client.get(path)["Synchronizations"]]


def states(hosted, answer):
    return [pair["CopyState"] for pair in pairs_of(hosted, answer)]


def full_copies(hosted, n=2, **more):
    return create(hosted, n, 8, 202, ReplicationSettingData={"DesiredCopyMethodology": 3, **more.pop("setting", {})}, **more)


def test_G29_a_clone_group_and_a_snapshot_group_as_the_vmax_driver_makes_them(hosted):
    client = hosted.client
    for sync_type, operation in ((8, 8), (7, 9)):
        source, target = ([hosted.make(MIB) for _ in range(2)] for _ in range(2))
        hosted.fill(source[1], writer=7)
        groups = [client.method("CreateGroup", {"GroupName": name}, expect=200)["ReplicationGroup"] for name in ("source", "target")]
        for path, members in zip(groups, (source, target)):
            client.method("AddMembers", {"ReplicationGroup": path, "Members": members}, expect=200)
        answer = client.method("CreateGroupReplica", {
            "RelationshipName": "12de4", "SyncType": sync_type, "SourceGroup": groups[0], "TargetGroup": groups[1], "WaitForCopyState": 4})
        if answer["Job"]:
            client.completed(answer["Job"])
        found = [each for each in client.list("/groupsynchronizations") if each["SyncedElement"] == groups[1]]
        assert [each["self"] for each in found] == [answer["Synchronization"]] and found[0]["CopyState"] == 4
        done = hosted.modify(found[0]["self"], operation, expect=(200, 202))
        assert done["Job"] is None
        client.get(found[0]["self"], expect=404)
        assert 7 in hosted.writers(target[1])
        client.method("DeleteGroup", {"ReplicationGroup": groups[1], "RemoveElements": True}, expect=200)


def test_an_operation_is_done_to_all_pairs_at_once(hosted):
    answer = create(hosted, 3)
    for operation, state in ((7, 8), (4, 4), (14, 4), (15, 4)):
        done = hosted.modify(answer, operation)
        assert done["Job"] is None
        assert states(hosted, answer) == [state] * 3
        assert hosted.client.get(answer["Synchronization"])["CopyState"] == state
    targets = hosted.client.get(answer["TargetGroup"])["Members"]
    hosted.modify(answer, 19)
    for path in (*targets, answer["Synchronization"], answer["TargetGroup"]):
        hosted.client.get(path, expect=404)


def test_one_job_resyncs_all_pairs_and_one_restores_them(hosted):
    client = hosted.client
    answer = full_copies(hosted, 3)
    client.completed(answer["Job"])
    for operation in (14, 15):
        before = client.get("/jobs")["Total"]
        done = hosted.modify(answer, operation, expect=202, WaitForCopyState=4)
        job = client.completed(done["Job"])
        assert client.get("/jobs")["Total"] == before + 1 and len(job["Copies"]) == 3
        assert states(hosted, answer) == [4] * 3
    client.completed(hosted.modify(answer, "Resync Replica", expect=202)["Job"])
    hosted.modify(answer, 8)
    client.get(answer["Synchronization"], expect=404)


def test_what_is_not_legal_for_each_is_done_to_none_and_mixed_is_told(hosted):
    client = hosted.client
    answer = create(hosted, 2)
    first, second = pairs_of(hosted, answer)
    hosted.modify(second["self"], 7)
    shown = client.get(answer["Synchronization"])
    assert shown["CopyState"] == 14 and shown["ProgressStatus"] == 14
    assert 7 not in shown["LegalOperations"] and 8 in shown["LegalOperations"]
    before = unchanged(hosted)
    problem = client.refused("ModifyReplicaSynchronization", {"Operation": 7, "Synchronization": answer["Synchronization"]}, 4, 409, "Operation",
                             "illegal_state")
    assert problem["BlockedOn"] == second["self"]
    client.refused("ModifyReplicaSynchronization", {"Operation": 22, "Synchronization": answer["Synchronization"]}, 1, 501, "Operation")
    assert unchanged(hosted) == before
    hosted.modify(first["self"], 7)
    hosted.modify(answer, 4)
    assert states(hosted, answer) == [4, 4]


def test_copies_that_run_are_suspended_resumed_and_aborted_together(hosted):
    client = hosted.client
    answer = full_copies(hosted, 3, size=4 * MIB, fill=True, setting={"BandwidthLimit": MIB})
    client.until(answer["Synchronization"], lambda shown: shown["CopyState"] == 3)
    hosted.modify(answer, 22)
    assert states(hosted, answer) == [9, 9, 9]
    assert hosted.modify(answer, 16, expect=202)["Job"] == answer["Job"]
    assert set(states(hosted, answer)) == {3}
    hosted.modify(answer, 2)
    assert states(hosted, answer) == [12, 12, 12]
    assert client.wait(answer["Job"])["JobState"] == 10
    before = unchanged(hosted)
    client.refused("ModifyReplicaSynchronization", {"Operation": 2, "Synchronization": answer["Synchronization"]}, 4, 409, "Operation")
    assert unchanged(hosted) == before
    resync = hosted.modify(answer, 14, expect=202, ReplicationSettingData={"BandwidthLimit": MIB})
    client.until(answer["Synchronization"], lambda shown: shown["CopyState"] == 3)
    client.refused("ModifyReplicaSynchronization", {"Operation": 8, "Synchronization": answer["Synchronization"]}, 4, 409, "Operation")
    hosted.modify(answer, 8, Force=True)
    client.get(answer["Synchronization"], expect=404)
    assert client.wait(resync["Job"])["JobState"] == 10


def test_pairs_are_added_and_taken_out(hosted):
    client = hosted.client
    answer = create(hosted, 2)
    relationship, kind = answer["Synchronization"], "ModifyReplicaSynchronization"
    shown = client.get(relationship)
    snapshot, clone = hosted.replica(hosted.make(MIB)), hosted.replica(hosted.make(MIB), 8)
    other = create(hosted, 1)
    before = unchanged(hosted)
    for pairs, value, status, parameter in (([clone["Synchronization"]], 5, 400, "SyncPair[0]"), (None, 5, 400, "SyncPair"),
                                            ([snapshot["Synchronization"]] * 2, 5, 400, "SyncPair[1]"),
                                            ([pairs_of(hosted, other)[0]["self"]], 6, 409, None)):
        client.refused(kind, {"Operation": 5, "Synchronization": relationship, "SyncPair": pairs}, value, status, parameter)
    for pairs, value, status, parameter in (([snapshot["Synchronization"]], 5, 400, "SyncPair[0]"), (shown["Synchronizations"], 4, 409, "SyncPair")):
        client.refused(kind, {"Operation": 13, "Synchronization": relationship, "SyncPair": pairs}, value, status, parameter)
    client.refused(kind, {"Operation": 14, "Synchronization": relationship, "SyncPair": shown["Synchronizations"]}, 5, 400, "SyncPair")
    client.refused(kind, {"Operation": 5, "Synchronization": snapshot["Synchronization"]}, 1, 501, "Operation")
    assert unchanged(hosted) == before
    for _ in range(2):  # again changes nothing
        hosted.modify(relationship, 5, SyncPair=[snapshot["Synchronization"]])
        pair = client.get(snapshot["Synchronization"])
        assert client.get(relationship)["Synchronizations"] == shown["Synchronizations"] + [snapshot["Synchronization"]]
        assert client.get(shown["SystemElement"])["Members"][-1] == pair["SystemElement"]
        assert client.get(shown["SyncedElement"])["Members"][-1] == pair["SyncedElement"]
    hosted.modify(relationship, 13, SyncPair=[snapshot["Synchronization"]])
    assert client.get(relationship)["Synchronizations"] == shown["Synchronizations"]
    assert pair["SystemElement"] not in client.get(shown["SystemElement"])["Members"]
    assert client.get(snapshot["Synchronization"])["GroupSynchronized"] is None


def test_elements_are_added_to_a_relationship(hosted):
    client, method = hosted.client, "AddElementsToGroupSynchronized"
    answer = create(hosted, 1, RelationshipName="added", Consistency=2)
    path = answer["Synchronization"]
    shown = client.get(path)
    sources, targets = [hosted.make(MIB) for _ in range(2)], [hosted.make(MIB) for _ in range(2)]
    one_source = client.method("CreateGroupReplica", {"SyncType": 7, "SourceElement": sources[0], "TargetElementCount": 1}, expect=200)
    before = unchanged(hosted)
    for wrong, parameter in (({"SourceElements": []}, "SourceElements"), ({"SourceElements": sources[:1] * 2}, "SourceElements[1]"),
                             ({"TargetElements": targets[:1]}, "TargetElements"), ({"Consistency": 3}, "Consistency"),
                             ({"WaitForCopyState": 9}, "WaitForCopyState"),
                             ({"Synchronized": one_source["Synchronization"]}, "SourceElements[1]")):
        client.refused(method, {"Synchronized": path, "SourceElements": sources, **wrong}, 5, 400, parameter)
    assert unchanged(hosted) == before
    added = client.method(method, {"Synchronized": path, "SourceElements": sources, "TargetElements": targets}, expect=200)["Synchronizations"]
    made = client.method(method, {"Synchronized": path, "SourceElements": [hosted.make(MIB)]}, expect=200)["Synchronizations"]
    assert client.get(path)["Synchronizations"] == shown["Synchronizations"] + added + made
    assert client.get(shown["SystemElement"])["Members"][1:3] == sources
    assert client.get(shown["SyncedElement"])["Members"][1:3] == targets
    assert client.get(client.get(made[0])["SyncedElement"])["ElementName"] == "added_4"
    more = client.method(method, {"Synchronized": one_source["Synchronization"], "SourceElements": [sources[0]] * 2}, expect=200)
    assert len(more["Synchronizations"]) == 2 and len(pairs_of(hosted, one_source)) == 3


def test_groups_are_made_around_pairs_that_are_there(hosted):
    client, method = hosted.client, "CreateGroupReplicaFromElementSynchronizations"
    snapshots = [hosted.replica(hosted.make(MIB)) for _ in range(2)]
    pairs, volume = [each["Synchronization"] for each in snapshots], hosted.make(MIB)
    clone, twice = hosted.replica(volume, 8)["Synchronization"], [hosted.replica(volume)["Synchronization"] for _ in range(2)]
    full = group(client, [volume])
    before = unchanged(hosted)
    for wrong, parameter in (({"ElementSynchronizations": []}, "ElementSynchronizations"),
                             ({"ElementSynchronizations": [*pairs, clone]}, "ElementSynchronizations[2]"),
                             ({"ElementSynchronizations": twice}, "ElementSynchronizations[1]"), ({"SourceGroup": full}, "SourceGroup")):
        client.refused(method, {"ElementSynchronizations": pairs, **wrong}, 5, 400, parameter)
    client.refused(method, {"ElementSynchronizations": pairs, "WaitForCopyState": 9}, 1, 501, "WaitForCopyState")
    assert unchanged(hosted) == before
    made = client.method(method, {"ElementSynchronizations": pairs, "RelationshipName": "around", "SourceGroupName": "from",
                                  "WaitForCopyState": 4}, expect=200)
    path = made["GroupSynchronization"]
    assert client.get(path)["Synchronizations"] == pairs and client.get(path)["RelationshipName"] == "around"
    assert made["SourceGroupName"] == "from" and made["TargetGroupName"] == "around"
    assert client.get(made["TargetGroup"])["Members"] == [each["TargetElement"] for each in snapshots]
    assert consistency(hosted, path) == (True, 2, 4, 5)  # each was made by itself
    hosted.modify(path, 14)
    assert consistency(hosted, path) == (True, 2, 3, 2)
    assert client.refused(method, {"ElementSynchronizations": pairs}, 6, 409)["BlockedOn"] == path


def test_a_deleted_member_takes_its_pair_with_it_and_the_last_the_relationship(hosted):
    client = hosted.client
    answer = create(hosted, 2)
    first, second = pairs_of(hosted, answer)
    hosted.delete(first["SyncedElement"])
    assert client.get(answer["Synchronization"])["Synchronizations"] == [second["self"]]
    hosted.delete(second["SystemElement"])
    client.get(answer["Synchronization"], expect=404)
    assert client.get(answer["TargetGroup"])["Members"] == [second["SyncedElement"]]


# ---- consistency


def consistency(hosted, path):
    shown = hosted.client.get(path)
    return tuple(shown[name] for name in ("ConsistencyEnabled", "ConsistencyType", "ConsistencyState", "ConsistencyStatus"))


def test_consistency_is_switched_and_made_by_the_next_cut(hosted):
    answer = create(hosted, 2, Consistency=2)
    path = answer["Synchronization"]
    for _ in range(2):  # again changes nothing
        hosted.modify(path, "Activate Consistency")
        assert consistency(hosted, path) == (True, 2, 4, 5)  # each has a moment of its own
    done = hosted.modify(path, 14)
    assert done["BarrierMicroseconds"] is not None and consistency(hosted, path) == (True, 2, 3, 2)
    assert len({pair["WhenSynced"] for pair in pairs_of(hosted, path)}) == 1
    hosted.modify(pairs_of(hosted, path)[0]["self"], 14)
    assert consistency(hosted, path) == (True, 2, 4, 5)
    assert hosted.modify(path, 15)["BarrierMicroseconds"] is not None
    assert consistency(hosted, path) == (True, 2, 3, 2)
    for _ in range(2):
        hosted.modify(path, 6)
        assert consistency(hosted, path) == (False, None, 2, 4)
    assert hosted.modify(path, 14)["BarrierMicroseconds"] is None
    assert hosted.modify(path, 14, ReplicationSettingData={"ConsistentPointInTime": True})["BarrierMicroseconds"] is not None


def test_a_consistent_group_that_is_activated_later_is_cut_then(hosted):
    answer = create(hosted, 3, Consistency=3, WaitForCopyState=8)
    path = answer["Synchronization"]
    assert answer["BarrierMicroseconds"] is None and consistency(hosted, path) == (True, 2, 4, 3)
    assert hosted.client.get(path)["BarrierMicroseconds"] is None
    assert hosted.modify(path, 4)["BarrierMicroseconds"] is not None
    assert consistency(hosted, path) == (True, 2, 3, 2)


def test_copies_are_not_made_consistent_later(hosted):
    client = hosted.client
    answer = full_copies(hosted, 2)
    client.completed(answer["Job"])
    before = unchanged(hosted)
    client.refused("ModifyReplicaSynchronization", {"Operation": 3, "Synchronization": answer["Synchronization"]}, 1, 501, "Operation")
    assert unchanged(hosted) == before
    snapshots = create(hosted, 1, 8)
    client.refused("ModifyReplicaSynchronization", {"Operation": 5, "Synchronization": snapshots["Synchronization"],
                                                    "SyncPair": [pairs_of(hosted, answer)[0]["self"]]}, 6, 409)
    pair = pairs_of(hosted, answer)[0]["self"]
    hosted.modify(answer, 13, SyncPair=[pair])
    client.refused("ModifyReplicaSynchronization", {"Operation": 5, "Synchronization": snapshots["Synchronization"], "SyncPair": [pair]}, 5, 400,
                   "SyncPair[0]")


def test_the_capabilities_tell_what_a_group_takes_now(hosted):
    client = hosted.client
    answer = create(hosted, 2)
    shown = client.get(answer["Synchronization"])
    told = client.method("GetSupportedOperationsForSynchronization", {"Synchronization": answer["Synchronization"]})
    assert [o for o, force in zip(told["SupportedOperations"], told["RequiresForce"]) if not force] == shown["LegalOperations"]
    announced = client.method("GetSupportedGroupOperations", {"ReplicationType": 6, "CopyState": 4})
    assert announced["SupportedGroupOperations"] == shown["LegalOperations"]
    actions = client.get("/services/ReplicationServiceCapabilities")
    assert {3, 6, 20} <= set(actions["SupportedAsynchronousActions"])
    assert {3, 6, 12, 13, 14, 15, 20} <= set(actions["SupportedSynchronousActions"])
    assert not {12, 13, 14, 15} & set(actions["SupportedAsynchronousActions"])
    for kind in (2, 4):
        told = client.method("GetElementNameCapabilities", {"ElementType": kind})
        assert told["SupportedFeatures"] == [2] and told["MaxElementNameLen"] == 250


# ---- groups of mirrors


def mirrors(hosted, n=2, mode=2, **more):
    sources, targets = ([hosted.make(MIB) for _ in range(n)] for _ in range(2))
    for i, volume in enumerate(sources):
        hosted.fill(volume, 20 + i)
    groups = [group(hosted.client, members) for members in (sources, targets)]
    answer = hosted.client.method("CreateGroupReplica", {"SyncType": 6, "Mode": mode, "SourceGroup": groups[0], "TargetGroup": groups[1],
                                                         "WaitForCopyState": 4, **more}, expect=202)
    job = hosted.client.completed(answer["Job"])
    assert len(job["Copies"]) == n
    return answer, sources, targets


@pytest.mark.parametrize("mode", [2, 3])
def test_a_group_of_mirrors_is_made_and_operated_on_as_one(hosted, mode):
    client = hosted.client
    answer, sources, targets = mirrors(hosted, mode=mode)
    path = answer["Synchronization"]
    shown = client.get(path)
    assert shown["CopyState"] == 4 and shown["Mode"] == mode and shown["SyncMaintained"] and shown["ConsistencyEnabled"] is False
    for operation, state in (("Fracture", 6), ("Resync Replica", 4), ("Split", 7), ("Resync Replica", 4), ("Suspend", 9), ("Resume", 4),
                             ("Failover", 10), ("Failback", 4), ("Reverse Roles", 4), ("Reverse Roles", 4)):
        before = client.get("/jobs")["Total"]
        done = hosted.modify(path, operation, expect=(200, 202))
        if done["Job"]:
            assert client.get("/jobs")["Total"] <= before + 1
            assert len(client.completed(done["Job"])["Copies"]) == 2
        assert states(hosted, path) == [state, state], operation
        now = client.get(path)
        assert now["CopyState"] == state
        if operation == "Reverse Roles":
            assert done["UpdatedSynchronization"] == path
            assert (now["SystemElement"], now["SyncedElement"]) == (shown["SyncedElement"], shown["SystemElement"])
            assert client.get(now["SystemElement"])["AsSource"] == [path] and client.get(now["SyncedElement"])["AsTarget"] == [path]
            shown = now
    for i, target in enumerate(targets):
        assert 20 + i in hosted.writers(target)
    hosted.modify(path, "Fracture")
    hosted.modify(path, 8)
    client.get(path, expect=404)


@pytest.mark.parametrize("source,target", [("Source Only", "Source or Target"), ("Source or Target", "Target Only"), ("Source Only", "Target Only")])
def test_groups_that_are_reserved_for_a_role_keep_it(hosted, source, target):
    client = hosted.client
    sources, targets = ([hosted.make(MIB) for _ in range(2)] for _ in range(2))
    groups = [group(client, sources, ReservedAs=source), group(client, targets, ReservedAs=target)]
    answer = client.method("CreateGroupReplica", {"SyncType": 6, "Mode": 2, "SourceGroup": groups[0], "TargetGroup": groups[1],
                                                  "WaitForCopyState": 4}, expect=202)
    client.completed(answer["Job"])
    path = answer["Synchronization"]
    before = unchanged(hosted)
    for dry_run in ("true", "false"):
        problem = client.refused("ModifyReplicaSynchronization", {"Operation": "Reverse Roles", "Synchronization": path}, 4, 409,
                                 code="illegal_state", query={"dryRun": dry_run})
        assert problem["BlockedOn"] == groups[0 if source == "Source Only" else 1] and "reserved" in problem["detail"]
    client.refused("ModifyListSynchronization", {"Operation": "Reverse Roles", "Synchronization": [path]}, 4, 409, code="illegal_state")
    assert unchanged(hosted) == before and states(hosted, path) == [4, 4]
    hosted.modify(path, "Failover")  # a role for a while is no reversal
    client.completed(hosted.modify(path, "Failback", expect=202)["Job"])
    hosted.modify(path, 8)


def test_a_group_of_mirrors_is_failed_over_only_when_all_can_be(hosted):
    client = hosted.client
    answer, sources, targets = mirrors(hosted)
    first, second = pairs_of(hosted, answer)
    hosted.modify(second["self"], "Suspend")
    before = unchanged(hosted)
    problem = client.refused("ModifyReplicaSynchronization", {"Operation": "Failover", "Synchronization": answer["Synchronization"]}, 4, 409,
                             "Operation", "illegal_state")
    assert problem["BlockedOn"] == second["self"]
    assert unchanged(hosted) == before and client.get(first["self"])["CopyState"] == 4
    hosted.modify(answer, 8, expect=200, Force=True)


# ---- what would be done


def dry(hosted, method, synchronization, operation, **more):
    return hosted.client.method(method, {"Operation": operation, "Synchronization": synchronization, **more}, query={"dryRun": "true"}, expect=200)


def summed(pairs, name):
    values = [pair[name] for pair in pairs]
    return None if None in values else sum(values)


@pytest.mark.parametrize("mode", [2, 3])
def test_a_dry_run_sums_up_what_the_pairs_would_move(hosted, mode):
    client, one, several = hosted.client, "ModifyReplicaSynchronization", "ModifyListSynchronization"
    answer, sources, targets = mirrors(hosted, mode=mode)
    path = answer["Synchronization"]
    pairs = [pair["self"] for pair in pairs_of(hosted, answer)]
    assert dry(hosted, one, path, "Fracture")["DryRun"]["CopyState"] == 6
    hosted.modify(path, "Fracture")
    hosted.fill(sources[0], 31, length=128 << 10)
    hosted.fill(sources[1], 32, length=256 << 10)
    hosted.fill(targets[1], 33, offset=512 << 10, length=64 << 10)
    before = unchanged(hosted)
    told = dry(hosted, one, path, "Resync Replica")
    assert told["Job"] is None and [pair["Synchronization"] for pair in told["DryRuns"]] == pairs
    first, second = told["DryRuns"]
    assert first["CopyState"] == second["CopyState"] == 4 and first["Overwritten"] == 3 and first["Reason"] == "Map"
    assert 128 << 10 <= first["BytesToCopy"] < second["BytesToCopy"] <= MIB and first["BytesDiscarded"] == 0 < second["BytesDiscarded"]
    together = told["DryRun"]
    assert (together["Synchronization"], together["CopyState"], together["Overwritten"], together["Reason"]) == (path, 4, 3, "Map")
    assert all(together[name] == summed(told["DryRuns"], name) for name in ("BytesToCopy", "BytesDiscarded"))
    listed = dry(hosted, several, pairs[::-1], "Resync Replica")
    assert listed["DryRuns"] == told["DryRuns"][::-1] and listed["UpdatedSynchronizations"] == []
    assert listed["DryRun"] == {**together, "Synchronization": None}
    assert dry(hosted, several, [path], "Resync Replica")["DryRun"] == together
    back = dry(hosted, one, path, "Restore from Replica")["DryRun"]
    least = together["BytesToCopy"] if mode == 2 else together["BytesDiscarded"]  # both sides are put back to their point first
    assert back["Overwritten"] == 2 and back["BytesToCopy"] >= least - 65536 and back["BytesDiscarded"] >= 384 << 10
    gone = dry(hosted, one, path, 8)["DryRun"]
    assert (gone["CopyState"], gone["Overwritten"], gone["Reason"], gone["BytesToCopy"]) == (15, None, None, 0)
    problem = client.refused(one, {"Operation": "Resume", "Synchronization": path}, 4, 409, "Operation", "illegal_state", query={"dryRun": "true"})
    assert problem["BlockedOn"] in pairs
    client.refused(several, {"Operation": "Resume", "Synchronization": pairs}, 4, 409, "Operation", "illegal_state", query={"dryRun": "true"})
    for operation, more in (("AddSyncPair", {"SyncPair": pairs}), (3, {})):
        client.refused(one, {"Operation": operation, "Synchronization": path, **more}, 1, 501, query={"dryRun": "true"})
    assert unchanged(hosted) == before and states(hosted, path) == [6, 6]
    done = client.completed(hosted.modify(path, "Resync Replica", expect=202)["Job"])
    moved = client.get(done["self"])["BytesTotal" if mode == 2 else "BytesWritten"]
    assert moved <= together["BytesToCopy"], "a dry run told less than was moved"
    hosted.modify(path, "Fracture")
    hosted.modify(path, 8)


def test_a_dry_run_of_snapshots_in_a_group_is_not_there(hosted):
    answer = create(hosted, 2)
    path = answer["Synchronization"]
    before = unchanged(hosted)
    for method, named in (("ModifyReplicaSynchronization", path), ("ModifyListSynchronization", [path])):
        hosted.client.refused(method, {"Operation": "Resync Replica", "Synchronization": named}, 1, 501, "Synchronization", query={"dryRun": "true"})
    assert unchanged(hosted) == before


# ---- lists


def test_a_list_of_relationships_is_operated_on_with_one_job(hosted):
    client, method = hosted.client, "ModifyListSynchronization"
    clones = [full_copies(hosted, 1) for _ in range(2)]
    for each in clones:
        client.completed(each["Job"])
    pairs = [pairs_of(hosted, each)[0]["self"] for each in clones]
    for listed in (pairs, [each["Synchronization"] for each in clones]):
        answer = client.method(method, {"Operation": "Resync Replica", "Synchronization": listed, "WaitForCopyState": 4}, expect=202)
        assert len(client.completed(answer["Job"])["Copies"]) == 2
    client.method(method, {"Operation": 8, "Synchronization": pairs}, expect=200)
    for path in (*pairs, *[each["Synchronization"] for each in clones]):
        client.get(path, expect=404)


def test_a_list_is_of_one_kind_and_checked_before_anything_is_done(hosted):
    client, method = hosted.client, "ModifyListSynchronization"
    volume = hosted.make(MIB)
    snapshots = [hosted.replica(volume)["Synchronization"] for _ in range(2)]
    clone, asynchronous = hosted.replica(volume, 8)["Synchronization"], hosted.replica(volume, 7, Mode=3)["Synchronization"]
    of_groups = create(hosted, 1)["Synchronization"]
    hosted.modify(snapshots[1], 7)
    before = unchanged(hosted)
    for operation in (3, 5, 6, 13):
        client.refused(method, {"Operation": operation, "Synchronization": snapshots}, 5, 400, "Operation", wrong=True)
    for listed, parameter in ((snapshots + [clone], "Synchronization[2]"), ([snapshots[0], asynchronous], "Synchronization[1]"),
                              ([of_groups, snapshots[0]], "Synchronization[1]"), ([snapshots[0], of_groups], "Synchronization[1]"),
                              ([snapshots[0]] * 2, "Synchronization[1]"), ([], "Synchronization")):
        client.refused(method, {"Operation": 14, "Synchronization": listed}, 5, 400, parameter)
    problem = client.refused(method, {"Operation": 7, "Synchronization": snapshots}, 4, 409, "Operation", "illegal_state")
    assert problem["BlockedOn"] == snapshots[1]
    assert unchanged(hosted) == before
    client.method(method, {"Operation": 19, "Synchronization": snapshots}, expect=200)
    for path in snapshots:
        client.get(path, expect=404)
