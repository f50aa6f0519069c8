# SPDX-License-Identifier: Apache-2.0
"""The call sequences of real clients (smis.md 5.2) on volumes of our own, with the data that their hosts would see. test_clients.py has
those on LUNs of other arrays."""

import time

import pytest

from hosted import CREATE, ELEMENT, MODIFY, Hosted
from initiator import host
from pipes import Ways
from process import MIB, SLOWNESS

GROUP = "CreateGroupReplica"


@pytest.fixture(scope="module")
def hosted(service):
    return Hosted(service)


@pytest.fixture
def source(hosted):
    volume = hosted.make(4 * MIB, name="source")
    hosted.fill(volume, 1)
    return volume


def poll(what, condition, timeout=20):
    end = time.monotonic() + timeout * SLOWNESS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def relationship_of(hosted, source, target):
    found = hosted.client.list("/synchronizations", SystemElement=source, SyncedElement=target)
    assert len(found) == 1
    return found[0]


def gone(hosted, path):
    return hosted.client.call("GET", path, expect=(200, 404)).status == 404


def emc_job(hosted, answer):
    """A driver of EMC: ReturnValue 0 is done, anything else has a job, whose ErrorCode and OperationalStatus count."""
    if answer["ReturnValue"] == 0:
        return answer["TargetElement"]
    assert answer["ReturnValue"] == 4096
    body = hosted.client.completed(answer["Job"], 60 * SLOWNESS)
    assert body["ErrorCode"] == 0 and body["OperationalStatus"]
    return next(a["Element"] for a in body["AffectedElements"] if a["Element"].startswith("/volumes/"))


def still(hosted, volume, writers):
    assert hosted.writers(volume) == writers, volume


# ---- libstoragemgmt

@pytest.mark.parametrize("sync_type", [7, 8])
def test_libstoragemgmt_replicates_and_deletes(hosted, source, sync_type):
    system = hosted.client.get("/systems/local")
    assert "/services/ReplicationService" in system["Services"]
    assert set(hosted.client.get("/services/ReplicationServiceCapabilities")["SupportedReplicationTypes"]) & {10, 11}
    answer = hosted.replica(source, sync_type, ElementName="lsm", WaitForCopyState=4)
    assert answer["ReturnValue"] == 0
    new = hosted.client.get(answer["TargetElement"])
    assert new["ElementName"] == "lsm" and new["OperationalStatus"] == [2]
    hosted.fill(source, 2)
    still(hosted, new["self"], {1})
    # Delete: by what the relationship says.
    relationship = relationship_of(hosted, source, new["self"])
    assert relationship["SyncState"] == 6
    if relationship["CopyType"] == 4:
        hosted.modify(relationship["self"], 19)
    else:
        hosted.modify(relationship["self"], 8)
        hosted.client.method("ReturnToStoragePool", {"TheElement": new["self"]}, expect=200)
    assert gone(hosted, new["self"]) and gone(hosted, relationship["self"])
    still(hosted, source, {2})


@pytest.mark.parametrize("copy_type", [4, 5])
def test_libstoragemgmt_without_the_replication_service(hosted, source, copy_type):
    answer = hosted.client.method("CreateReplica", {"ElementName": "lsm", "CopyType": copy_type, "SourceElement": source}, expect=200)
    hosted.fill(source, 2)
    still(hosted, answer["TargetElement"], {1})
    if copy_type == 4:
        relationship = relationship_of(hosted, source, answer["TargetElement"])
        assert (relationship["SyncState"], relationship["CopyType"]) == (6, 4)
        hosted.modify(relationship["self"], 19)
    else:
        assert hosted.client.list("/synchronizations", SyncedElement=answer["TargetElement"]) == []
        hosted.client.method("ReturnToStoragePool", {"TheElement": answer["TargetElement"]}, expect=200)
    assert gone(hosted, answer["TargetElement"])


# ---- Cinder: EMC

def test_cinder_vnx_snapshot_volume_from_it_and_clean_up(hosted, source):
    snapshot = emc_job(hosted, hosted.replica(source, 7, ElementName="snapshot-1"))
    hosted.fill(source, 2)
    # A volume from the snapshot, and one from the volume: wait for 100 percent, then detach.
    for origin, writers in ((snapshot, {1}), (source, {2})):
        answer = hosted.replica(origin, 8, ElementName="from")
        volume = emc_job(hosted, answer)
        relationship = relationship_of(hosted, origin, volume)
        poll("100 percent", lambda path=relationship["self"]: hosted.client.get(path)["PercentSynced"] == 100)
        hosted.modify(relationship["self"], 8)
        still(hosted, volume, writers)
        hosted.client.method("ReturnToStoragePool", {"TheElement": volume}, expect=200)
    # Delete the snapshot: find its relationship, operation 19, poll until it is not there.
    relationship = relationship_of(hosted, source, snapshot)
    hosted.modify(relationship["self"], 19)
    poll("the relationship is gone", lambda: hosted.client.list("/synchronizations", SyncedElement=snapshot) == [])
    assert gone(hosted, snapshot)


@pytest.mark.parametrize("with_target", [False, True])
def test_cinder_vmax2_clones_with_the_default_setting_data(hosted, source, with_target):
    capabilities = hosted.client.get("/services/ReplicationServiceCapabilities")
    assert 10 in capabilities["SupportedReplicationTypes"]
    setting = hosted.client.method("GetDefaultReplicationSettingData", {"ReplicationType": 10})["DefaultInstance"]
    setting["DesiredCopyMethodology"] = 6
    body = {"SyncType": 8, "SourceElement": source, "ElementName": "clone", "ReplicationSettingData": setting}
    if with_target:
        body["TargetElement"] = hosted.make(4 * MIB, name="clone target")
    answer = hosted.client.method(CREATE, body)
    target = emc_job(hosted, answer)
    poll("CopyState 4", lambda: hosted.client.get(answer["Synchronization"])["CopyState"] == 4)
    hosted.fill(source, 2)
    hosted.modify(answer["Synchronization"], 8, Force=False)
    still(hosted, target, {1})
    # Clean-up of what is no longer there, with Force, is a refusal that can be told from a fault.
    again = hosted.client.method(MODIFY, {"Operation": 8, "Synchronization": answer["Synchronization"], "Force": True}, expect=(400, 404))
    assert again["ReturnValue"] == 5 and again["Code"] == "no_such_object"


def test_cinder_vmax3_snapshot_with_setting_data(hosted, source):
    types = hosted.client.get("/services/ReplicationServiceCapabilities")["SupportedReplicationTypes"]
    assert 6 in types or 7 in types
    setting = hosted.client.method("GetDefaultReplicationSettingData", {"ReplicationType": 6})["DefaultInstance"]
    setting["TargetElementSupplier"] = 2
    storage_group = hosted.client.method("CreateGroup", {"GroupName": "storage group"}, expect=200)["ReplicationGroup"]
    answer = hosted.replica(source, 7, ElementName="snap", ReplicationSettingData=setting, Collections=[storage_group], WaitForCopyState=4)
    snapshot = emc_job(hosted, answer)
    assert hosted.client.get(storage_group)["Members"] == [snapshot]
    hosted.fill(source, 2)
    still(hosted, snapshot, {1})
    # Revert, then terminate.
    hosted.modify(answer["Synchronization"], 15, WaitForCopyState=4)
    still(hosted, source, {1})
    hosted.modify(answer["Synchronization"], 19)
    assert gone(hosted, snapshot) and hosted.client.get(storage_group)["Members"] == []
    for wrong in (["/groups/000000000000"], ["/volumes/000000000000"], [storage_group, "/groups/000000000000"]):
        hosted.client.refused(CREATE, {"SyncType": 7, "SourceElement": source, "Collections": wrong}, 5, 400, "Collections")
    assert hosted.client.get(source)["Relationships"] == []


def test_cinder_vmax3_clone_onto_a_volume_that_was_made_first(hosted, source):
    target = hosted.client.method(ELEMENT, {"ElementName": "first", "Size": 4 * MIB}, expect=200)["TheElement"]
    answer = hosted.replica(source, 8, TargetElement=target, WaitForCopyState=4)
    poll("CopyState 4", lambda: hosted.client.get(answer["Synchronization"])["CopyState"] == 4)
    hosted.modify(answer["Synchronization"], 9)
    hosted.fill(source, 2)
    still(hosted, target, {1})
    assert gone(hosted, answer["Synchronization"]) and hosted.client.get(target)["Relationships"] == []


def test_cinder_vmax3_linked_snapshot_is_dissolved(hosted, source):
    """SyncType 7 onto a volume that was made first, then Dissolve."""
    target = hosted.make(4 * MIB, name="link target")
    answer = hosted.replica(source, 7, TargetElement=target, WaitForCopyState=4)
    poll("CopyState 4", lambda: hosted.client.get(answer["Synchronization"])["CopyState"] == 4)
    hosted.modify(answer["Synchronization"], 9)
    hosted.fill(source, 2)
    still(hosted, target, {1})
    assert gone(hosted, answer["Synchronization"])


def group_of(hosted, name, volumes):
    """CreateGroup, then the members one by one."""
    group = hosted.client.method("CreateGroup", {"GroupName": name}, expect=200)["ReplicationGroup"]
    for volume in volumes:
        hosted.client.method("AddMembers", {"ReplicationGroup": group, "Members": [volume]}, expect=200)
    return group


@pytest.mark.parametrize("operation", [9, 8])
def test_vmax_consistency_groups(hosted, operation):
    sources = [hosted.make(4 * MIB, name=f"cg source {n}") for n in range(3)]
    targets = [hosted.make(4 * MIB, name=f"cg target {n}") for n in range(2)]
    for n, volume in enumerate(sources):
        hosted.fill(volume, n + 1)
    source_group = group_of(hosted, "cg-source", sources)
    hosted.client.method("RemoveMembers", {"ReplicationGroup": source_group, "Members": [sources[2]]}, expect=200)
    target_group = group_of(hosted, "cg-target", targets)
    answer = hosted.client.method(GROUP, {"SyncType": 8, "SourceGroup": source_group, "TargetGroup": target_group,
                                          "RelationshipName": "cg", "WaitForCopyState": 4})
    if answer["ReturnValue"] == 4096:
        hosted.client.completed(answer["Job"], 60 * SLOWNESS)
    # The relationship of the groups, among all of them, by the InstanceID of the target group.
    instance_id = hosted.client.get(target_group)["InstanceID"]
    mine = [each for each in hosted.client.method("GetReplicationRelationshipInstances", {"Type": 3})["Synchronizations"]
            if hosted.client.get(each["SyncedElement"])["InstanceID"] == instance_id]
    assert len(mine) == 1 and mine[0]["self"] == answer["Synchronization"]
    poll("CopyState 4", lambda: hosted.client.get(answer["Synchronization"])["CopyState"] == 4)
    hosted.modify(answer["Synchronization"], operation)
    assert gone(hosted, answer["Synchronization"])
    for volume in sources[:2]:
        hosted.fill(volume, 9)
    for n, volume in enumerate(targets):
        still(hosted, volume, {n + 1})
    hosted.client.method("DeleteGroup", {"ReplicationGroup": target_group, "RemoveElements": True}, expect=200)
    hosted.client.method("DeleteGroup", {"ReplicationGroup": source_group, "RemoveElements": True}, expect=200)
    assert all(not gone(hosted, volume) for volume in sources + targets)


# ---- Cinder: Fujitsu

@pytest.mark.parametrize("old", [False, True])
def test_cinder_fujitsu_snapshot_revert_and_delete(hosted, source, old):
    if old:
        answer = hosted.client.method("CreateReplica", {"ElementName": "fj", "CopyType": 4, "SourceElement": source,
                                                        "TargetPool": "/pools/default"})
    else:
        answer = hosted.replica(source, 7, ElementName="fj", TargetPool="/pools/default")
    snapshot = answer["TargetElement"]
    # It waits for a job whenever the answer has one.
    assert "Job" in answer.body and answer["Job"] is None
    relationship = relationship_of(hosted, source, snapshot)
    assert relationship["CopyType"] == 4
    hosted.fill(source, 2)
    hosted.modify(relationship["self"], 15, WaitForCopyState=8)
    still(hosted, source, {1})
    still(hosted, snapshot, {1})
    hosted.modify(relationship["self"], 19)
    poll("the session is gone", lambda: gone(hosted, relationship["self"]))
    assert gone(hosted, snapshot)


def test_cinder_fujitsu_clone_onto_a_volume(hosted, source):
    target = hosted.make(4 * MIB, name="fj target")
    answer = hosted.replica(source, 8, TargetElement=target)
    relationship = hosted.client.get(answer["Synchronization"])
    assert relationship["CopyState"] == 4 and relationship["CopyType"] == 5
    hosted.modify(answer["Synchronization"], 8, Force=True, WaitForCopyState=15, expect=(200, 202))
    poll("the session is gone", lambda: gone(hosted, answer["Synchronization"]))
    hosted.fill(source, 2)
    still(hosted, target, {1})


# ---- Windows Storage Service, SCVMM

@pytest.mark.parametrize("sync_type", [7, 8])
def test_windows_storage_service_with_both_views_in_step(hosted, source, sync_type):
    services = {each["Name"]: each for each in hosted.client.get("/services")["Members"]}
    assert {"ReplicationService", "StorageConfigurationService"} <= set(services)
    answer = hosted.replica(source, sync_type, ElementName="scvmm", TargetPool="/pools/default", WaitForCopyState=4)
    target = hosted.client.get(answer["TargetElement"])
    assert target["ElementName"] == "scvmm" and target["Pool"] == "/pools/default"
    hosted.fill(source, 2)
    still(hosted, target["self"], {1})
    if sync_type == 8:
        hosted.modify(answer["Synchronization"], 8)
        hosted.client.method("ReturnToStoragePool", {"TheElement": target["self"]}, expect=200)
    else:
        # The older service sees the same relationship and ends it.
        hosted.modify(answer["Synchronization"], 19)
    assert gone(hosted, target["self"])


def test_windows_storage_service_gets_a_text_for_a_pool_that_does_not_suit(hosted, source):
    problem = hosted.client.method(CREATE, {"SyncType": 7, "SourceElement": source, "TargetPool": "/pools/000000000000", "WaitForCopyState": 4},
                                   expect=400)
    assert problem["Parameter"] == "TargetPool" and len(problem["detail"]) > 20


# ---- mirrors

def state_of(hosted, relationship, *states, timeout=30):
    poll(f"CopyState {states}", lambda: hosted.client.get(relationship)["CopyState"] in states, timeout)
    return hosted.client.get(relationship)


def operate(hosted, relationship, operation, **more):
    """An operation and the end of its job."""
    answer = hosted.modify(relationship, operation, expect=(200, 202), **more)
    if answer["ReturnValue"] == 4096:
        hosted.client.completed(answer["Job"], 60 * SLOWNESS)
    return answer


def moves(hosted, relationship, operation, state):
    """An operation, and the state that it leads to."""
    operate(hosted, relationship, operation)
    state_of(hosted, relationship, state)


@pytest.mark.parametrize("copy_type", [3, 2])
def test_the_generic_sequence_of_a_mirror(hosted, source, copy_type):
    """Pair, split, resync, fail over, fail back, detach: what management suites do, whatever the array. An asynchronous target has what
    its source had a while before, until a Split."""
    systems = hosted.client.method("GetPeerSystems", {})["Systems"]
    for system in systems:
        hosted.client.method("GetServiceAccessPoints", {"System": system})
    target = hosted.make(4 * MIB, name="mirror")
    answer = hosted.client.method("AttachOrModifyReplica", {"SourceElement": source, "TargetElement": target, "CopyType": copy_type})
    relationship = relationship_of(hosted, source, target)["self"]
    if answer["ReturnValue"] == 4096:
        hosted.client.completed(answer["Job"], 60 * SLOWNESS)
    assert state_of(hosted, relationship, 4)["SyncMaintained"] is True
    hosted.fill(source, 2)
    if copy_type == 3:
        still(hosted, target, {2})
    # Split: the target keeps that moment; Resync brings what came since.
    moves(hosted, relationship, 21, 7)
    hosted.fill(source, 3)
    still(hosted, target, {2})
    moves(hosted, relationship, 14, 4)
    still(hosted, target, {3})
    # Failover: hosts write to the target; Failback brings that to the source.
    moves(hosted, relationship, 10, 10)
    hosted.fill(target, 4)
    moves(hosted, relationship, 11, 4)
    still(hosted, source, {4})
    hosted.fill(source, 5)
    if copy_type == 3:
        still(hosted, target, {5})
    operate(hosted, relationship, 8)
    assert gone(hosted, relationship)
    hosted.fill(source, 6)
    hosted.fill(target, 7)
    still(hosted, source, {6})
    still(hosted, target, {7})


def test_cinder_vmax3_remote_mirror(hosted, source):
    target = hosted.make(4 * MIB, name="srdf")
    answer = hosted.client.method(CREATE, {"SyncType": 6, "Mode": 2, "SourceElement": source, "TargetElement": target, "WaitForCopyState": 4})
    if answer["ReturnValue"] == 4096:
        hosted.client.completed(answer["Job"], 60 * SLOWNESS)
    relationship = answer["Synchronization"]
    state_of(hosted, relationship, 4)
    still(hosted, target, {1})
    # Suspend (then the driver resumes by Resync, which 4.1 has not from 9: it is Resume).
    moves(hosted, relationship, 22, 9)
    hosted.fill(source, 2)
    moves(hosted, relationship, 16, 4)
    still(hosted, target, {2})
    moves(hosted, relationship, 10, 10)
    hosted.fill(target, 3)
    moves(hosted, relationship, 11, 4)
    still(hosted, source, {3})
    operate(hosted, relationship, 8)
    assert gone(hosted, relationship)


def test_the_generic_sequence_of_a_remote_mirror_over_a_pipe(shared):
    """GetPeerSystems, GetServiceAccessPoints, a pipe, AttachOrModifyReplica with it, and all operations to Detach; the target is a LUN of
    another array, reached by two ways."""
    hosted = Hosted(shared.smirror)
    client = hosted.client
    lun = shared.lun(4 * MIB, "dirty")
    ways = Ways(client, shared.array.port)
    try:
        target = client.volume_of(ways.url(lun))
        source = hosted.make(4 * MIB, name="mirrored")
        hosted.fill(source, 1)

        def remote(write=None):
            with host(lun.url) as session:
                if write is not None:
                    session.fill(0, MIB, write)
                    session.flush()
                return session.writers(0, MIB)

        system = client.get(target)["System"]
        assert system in client.method("GetPeerSystems", {})["Systems"]
        points = client.method("GetServiceAccessPoints", {"System": system})["ServiceAccessPoints"]
        assert set(ways.points) <= set(points)
        pipe = ways.pipe(PipeElementName="to the other side")
        answer = client.method("AttachOrModifyReplica", {"SourceElement": source, "TargetElement": target, "CopyType": 3, "ReplicationPipe": pipe})
        relationship = relationship_of(hosted, source, target)["self"]
        if answer["ReturnValue"] == 4096:
            client.completed(answer["Job"], 60 * SLOWNESS)
        assert state_of(hosted, relationship, 4)["ReplicationPipe"] == pipe
        hosted.fill(source, 2)
        assert remote() == {2} and client.get(pipe)["BytesWritten"] >= 2 * MIB
        moves(hosted, relationship, 12, 6)  # Fracture
        hosted.fill(source, 3)
        assert remote() == {2}
        moves(hosted, relationship, 14, 4)
        assert remote() == {3}
        moves(hosted, relationship, 10, 10)
        assert remote(write=4) == {4}
        moves(hosted, relationship, 11, 4)
        still(hosted, source, {4})
        operate(hosted, relationship, 8)
        assert gone(hosted, relationship)
        hosted.fill(source, 5)
        assert remote() == {4}
    finally:
        ways.close()
