# SPDX-License-Identifier: Apache-2.0
"""What ReplicationServiceCapabilities announces, and that the service keeps to it."""

import pytest

from contract import contract
from process import MIB

MADE = (2, 3, 4, 5, 6, 7, 10, 11, 12, 13)  # mirrors and snapshots of hosted volumes; clones of anything
REMOTE = (4, 5, 12, 13)              # with a LUN of another system at one end at least


def test_the_closed_form_of_replication_types(shared):
    for sync_type in (6, 7, 8):
        for mode in (2, 3):
            for place in (2, 3):
                number = 2 + 4 * (sync_type - 6) + 2 * (place - 2) + (mode - 2)
                answer = shared.client.method("ConvertSyncTypeToReplicationType", {"SyncType": sync_type, "Mode": mode, "LocalOrRemote": place})
                assert answer["SupportedReplicationTypes"] == number
                back = shared.client.method("ConvertReplicationTypeToSyncType", {"ReplicationType": number})
                assert (back["SyncType"], back["Mode"], back["LocalOrRemote"]) == (sync_type, mode, place)


def test_what_is_made_is_announced(shared):
    capabilities = shared.client.get("/services/ReplicationServiceCapabilities")
    assert set(capabilities["SupportedReplicationTypes"]) == set(MADE)
    peer = shared.client.get(shared.volume(size=MIB))["System"]
    for system, types in ((peer, REMOTE), ("/systems/local", MADE)):
        answer = shared.client.method("GetSupportedReplicationTypesForSystem", {"System": system})
        assert set(answer["SupportedReplicationTypes"]) == set(types)


@pytest.mark.parametrize("method,output", [
    ("GetSupportedCopyStates", "SupportedCopyStates"), ("GetSupportedFeatures", "Features"), ("GetSupportedOperations", "SupportedOperations"),
    ("GetSupportedConsistency", "SupportedConsistency"), ("GetSupportedGroupFeatures", "GroupFeatures"),
    ("GetSupportedGroupOperations", "SupportedGroupOperations"), ("GetSupportedGroupCopyStates", "SupportedCopyStates"),
    ("GetSupportedListOperations", "SupportedListOperations"),
    ("GetSupportedThinProvisioningFeatures", "SupportedThinProvisioningFeatures"), ("GetSupportedListFeatures", "GroupFeatures")])
def test_what_is_not_there_is_not_announced(shared, method, output):
    """Remote snapshots: an empty answer, or 1 Not Supported; never a list of what does not work."""
    for number in contract().enums["ReplicationType"]:
        if int(number) in MADE:
            shared.client.method(method, {"ReplicationType": int(number)}, expect=200)
            continue
        answer = shared.client.method(method, {"ReplicationType": int(number)}, expect=(200, 501))
        assert answer.status == 501 or not answer[output] or output == "SupportedThinProvisioningFeatures", (number, answer)


def test_features_that_would_be_lies_are_not_announced(shared):
    features = shared.client.method("GetSupportedFeatures", {"ReplicationType": 12})["Features"]
    assert 18 not in features  # no automatic detach: the association of a clone stays until Detach
    groups = shared.client.method("GetSupportedGroupFeatures", {"ReplicationType": 12})["GroupFeatures"]
    assert 2 in features and 16 not in groups
    assert shared.client.method("GetSupportedConsistency", {"ReplicationType": 12})["SupportedConsistency"] == []
    assert shared.client.method("GetSupportedConsistency", {"ReplicationType": 6})["SupportedConsistency"] == [2]
    assert shared.client.method("GetSupportedListFeatures", {"ReplicationType": 12})["GroupFeatures"] == [2, 4]
    assert shared.client.method("GetSupportedListFeatures", {"ReplicationType": 10})["GroupFeatures"] == [2, 3]
    assert shared.client.method("GetDefaultConsistency", {"ReplicationType": 12})["DefaultConsistency"] == 0
    assert shared.client.method("GetDefaultGroupPersistency", {})["DefaultGroupPersistency"] == 2


def test_synchronization_is_supported_between_two_luns_and_told_in_parallel_arrays(shared):
    source, target = shared.volume(size=MIB), shared.volume(size=MIB)
    answer = shared.client.method("GetSynchronizationSupported", {"LocalElement": source, "OtherElement": target, "MethodName": 2})
    assert len(answer["SyncTypes"]) == len(answer["Modes"]) == len(answer["LocalElementRole"]) > 0
    assert set(zip(answer["SyncTypes"], answer["Modes"])) == {(6, 3), (8, 2), (8, 3)}


def test_setting_data_that_is_announced_is_taken_and_the_rest_is_refused_by_name(shared):
    """Every value of every property of enumerations: taken when GetSupportedReplicationSettingData lists it."""
    properties = {name: int(number) for number, name in contract().enums["SettingProperty"].items()}
    source, target = shared.volume(size=MIB), shared.volume(size=MIB)
    for prop in contract().classes["ReplicationSettingData"]:
        if prop["name"] not in properties or "enum" not in prop:
            continue
        answer = shared.client.method("GetSupportedReplicationSettingData",
                                      {"ReplicationType": 12, "PropertyName": properties[prop["name"]]}, expect=(200, 422))
        listed = answer["SupportedValues"] if answer.status == 200 else []
        if answer.status == 422:
            assert answer["ReturnValue"] == 7
        for number in contract().enums[prop["enum"]]:
            # GetAvailableTargetElements takes the setting and changes nothing.
            got = shared.client.method("GetAvailableTargetElements", {
                "SourceElement": source, "SyncType": 8, "ReplicationSettingData": {prop["name"]: int(number)}}, expect=(200, 400, 501))
            if int(number) in listed:
                assert got.status != 501, (prop["name"], number, got)
            elif got.status == 501:
                assert got["Parameter"] == f"ReplicationSettingData.{prop['name']}"
    del target


def test_the_supplier_of_the_target_has_to_fit_the_call(shared):
    source, target = shared.volume(size=MIB), shared.volume(size=MIB)
    shared.pool(shared.volume(size=MIB))
    body = {"SyncType": 8, "SourceElement": source}
    with shared.unchanged():
        for supplier, with_target in ((1, False), (5, False), (2, True)):
            call = {**body, "ReplicationSettingData": {"TargetElementSupplier": supplier}}
            if with_target:
                call["TargetElement"] = target
            problem = shared.client.method("CreateElementReplica", call, expect=400)
            assert problem["ReturnValue"] == 5 and problem["Parameter"] in ("ReplicationSettingData.TargetElementSupplier", "TargetElement")


def test_maxima_and_names(shared):
    for component in contract().enums["MaximumComponent"]:
        answer = shared.client.method("GetSupportedMaximum", {"ReplicationType": 12, "Component": int(component)}, expect=(200, 422))
        if answer.status == 422:
            assert answer["ReturnValue"] == 7 and answer["Code"] == "information_not_available"
    limit = shared.client.method("GetElementNameCapabilities", {"ElementType": "ReplicationEntity"})
    longest = "n" * limit["MaxElementNameLen"]
    lun = shared.lun(MIB)
    volume = shared.client.volume_of(lun.url, ElementName=longest)
    assert shared.client.get(volume)["ElementName"] == longest
    other = shared.lun(MIB)
    shared.client.refused("AddReplicationEntity", {"ReplicationEntity": {"Type": 8, "EntityID": other.url, "ElementName": longest + "n"}}, 5,
                          400, "ReplicationEntity.ElementName")


def test_connection_features_of_portals(shared):
    point = shared.client.get(shared.volume(size=MIB))["AccessPoint"]
    assert isinstance(shared.client.method("GetSupportedConnectionFeatures", {"connection": point})["SupportedConnectionFeatures"], list)


def test_each_kind_of_copy_has_its_capabilities(shared):
    """StorageReplicationCapabilities: what is done by a job is in the asynchronous list too, what never is only in the other (C6)."""
    service = shared.client.get("/services/StorageConfigurationService")
    kinds = {each["SupportedSynchronizationType"]: each for each in service["StorageReplicationCapabilities"]}
    assert set(kinds) == {4, 5, 6}  # UnSyncAssoc-Full, UnSyncAssoc-Delta, UnSyncUnAssoc
    assert kinds[5]["SupportedAsynchronousActions"] == [] and kinds[5]["SupportedSynchronousActions"] == [2, 4, 6]
    assert set(kinds[4]["SupportedAsynchronousActions"]) == {2, 3, 4, 5, 7}
    assert set(kinds[6]["SupportedAsynchronousActions"]) == {2, 3, 4, 5, 6, 7}
    assert kinds[5]["MaximumReplicasPerSource"] == 250
    assert 9 in kinds[4]["SupportedSynchronousActions"] and 9 in kinds[6]["SupportedSynchronousActions"]  # pipes
    for kind in kinds.values():
        assert kind["BidirectionalConnectionsSupported"] is True
        assert (kind["MaximumPortsPerConnection"], kind["MaximumConnectionsPerPort"], kind["MaximumPeerConnections"]) == (8, 64, 16)
    assert kinds[5]["SupportedModifyOperations"] == [2, 4, 5, 12, 13]  # no copy that could be suspended
    assert kinds[6]["SupportedModifyOperations"] == [2, 4, 5, 8, 9, 12, 13]


def test_the_configuration_service_tells_its_side(shared):
    service = shared.client.get("/services/StorageConfigurationService")
    assert service["class"] == "StorageConfigurationService" and service["System"] == "/systems/local"
