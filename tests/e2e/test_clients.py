# SPDX-License-Identifier: Apache-2.0
"""The call sequences of real clients (smis.md 5.2), as far as their methods are there."""

import time

import pytest

import lun as luns
from process import MIB, SLOWNESS


@pytest.fixture
def array(shared):
    source_lun = shared.lun(4 * MIB, "full")
    shared.source_lun, shared.source = source_lun, shared.volume(source_lun)
    shared.replica_pool = shared.pool(*[shared.volume(size=4 * MIB) for _ in range(2)])
    return shared


def path_of(world, volume):
    return world.target.luns[int(world.client.get(volume)["Url"].rsplit("/", 1)[1])].path


def libstoragemgmt_wait(world, job):
    """Polls as it does: 2, 3, 4 run; 7 needs 17 and 2; anything else is a failure. Then the first volume of the job."""
    while True:
        body = world.client.get(job)
        if body["JobState"] not in (2, 3, 4):
            break
        assert body["PercentComplete"] <= 100
        time.sleep(0.05)
    assert body["JobState"] == 7, body["ErrorDescription"]
    assert body["OperationalStatus"] in ([17, 2], [2, 17])
    return next(a["Element"] for a in body["AffectedElements"] if a["Element"].startswith("/volumes/"))


def test_libstoragemgmt_volume_replicate_and_delete(array):
    # The service of the system, its capabilities, then the copy without Mode.
    assert "/services/ReplicationService" in array.client.get("/systems/local")["Services"]
    capabilities = array.client.get("/services/ReplicationServiceCapabilities")
    assert set(capabilities["SupportedReplicationTypes"]) & {10, 11, 12, 13}
    answer = array.client.method("CreateElementReplica", {"ElementName": "lsm copy", "SyncType": 8, "SourceElement": array.source,
                                                          "WaitForCopyState": 4, "TargetPool": array.replica_pool})
    new = libstoragemgmt_wait(array, answer["Job"])
    assert new == answer["TargetElement"] and array.client.get(new)["ElementName"] == "lsm copy"
    luns.assert_equal(array.source_lun.path, path_of(array, new))
    # Delete: SyncState 6 and CopyType not 4: Detach; then ReturnToStoragePool.
    relationship, = [array.client.get(path) for path in array.client.get(new)["Relationships"]]
    assert relationship["SyncState"] == 6 and relationship["CopyType"] != 4
    array.client.method("ModifyReplicaSynchronization", {"Operation": 8, "Synchronization": relationship["self"]}, expect=(200, 202))
    array.client.method("ReturnToStoragePool", {"TheElement": new}, expect=200)
    assert array.client.get(new)["Allocated"] is False


@pytest.mark.parametrize("copy_type", [4, 5])
def test_libstoragemgmt_without_the_replication_service(array, copy_type):
    answer = array.client.method("CreateReplica", {"ElementName": "lsm", "CopyType": copy_type, "SourceElement": array.source,
                                                   "TargetPool": array.replica_pool})
    new = libstoragemgmt_wait(array, answer["Job"])
    luns.assert_equal(array.source_lun.path, path_of(array, new))
    if copy_type == 4:
        # SyncState 6 and CopyType 4: operation 19, and the LUN is free without ReturnToStoragePool.
        relationship = array.synchronization(array.source, new)
        assert relationship["SyncState"] == 6
        array.client.method("ModifyReplicaSynchronization", {"Operation": 19, "Synchronization": relationship["self"]}, expect=(200, 202))
    else:
        array.client.method("ReturnToStoragePool", {"TheElement": new}, expect=200)
    assert array.client.get(new)["Allocated"] is False


def test_cinder_fujitsu_clone_and_delete_of_the_session(array):
    """Clone onto a volume that exists; poll the relationship; delete it as the driver does for CopyType 5."""
    target = array.volume(size=4 * MIB)
    answer = array.client.method("CreateElementReplica", {"SyncType": 8, "SourceElement": array.source, "TargetElement": target})
    assert "Job" in answer.body
    end = time.monotonic() + 60 * SLOWNESS
    while True:
        relationship = array.client.get(answer["Synchronization"])
        assert relationship["CopyState"] != 5
        if relationship["CopyState"] == 4:
            break
        assert time.monotonic() < end
        time.sleep(0.05)
    array.client.completed(answer["Job"])
    array.client.method("ModifyReplicaSynchronization", {"Operation": 8, "Synchronization": answer["Synchronization"], "Force": True,
                                                         "WaitForCopyState": 15}, expect=(200, 202))
    end = time.monotonic() + 10 * SLOWNESS
    while array.client.call("GET", answer["Synchronization"], expect=(200, 404)).status != 404:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_cinder_fujitsu_polls_an_old_style_copy_until_its_session_is_gone(array):
    answer = array.client.method("CreateReplica", {"CopyType": 5, "SourceElement": array.source, "TargetPool": array.replica_pool})
    target = answer["TargetElement"]
    end = time.monotonic() + 60 * SLOWNESS
    while array.client.get("/synchronizations", SyncedElement=target)["Total"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    luns.assert_equal(array.source_lun.path, path_of(array, target))
    array.client.method("ReturnToStoragePool", {"TheElement": target})


def test_windows_storage_service_clone_with_both_views_in_step(array):
    services = {service["Name"]: service for service in array.client.get("/services")["Members"]}
    assert {"ReplicationService", "StorageConfigurationService"} <= set(services)
    assert all(service["System"] == "/systems/local" for service in services.values() if "System" in service)
    answer = array.client.method("CreateElementReplica", {"ElementName": "scvmm", "SyncType": 8, "SourceElement": array.source,
                                                          "TargetPool": array.replica_pool, "WaitForCopyState": 4})
    assert array.client.get(answer["TargetElement"])["ElementName"] == "scvmm"
    array.client.completed(answer["Job"])
    array.client.method("ModifyReplicaSynchronization", {"Operation": 8, "Synchronization": answer["Synchronization"]}, expect=(200, 202))
    array.client.method("ReturnToStoragePool", {"TheElement": answer["TargetElement"]})


def test_windows_storage_service_gets_a_text_for_a_pool_that_does_not_suit(array):
    small = array.pool(array.volume(size=MIB))
    problem = array.client.method("CreateElementReplica", {"SyncType": 8, "SourceElement": array.source, "TargetPool": small,
                                                           "WaitForCopyState": 4}, expect=(422, 507))
    assert len(problem["detail"]) > 20


def test_cinder_emc_takes_the_default_setting_data_edits_it_and_sends_it_back(array):
    default = array.client.method("GetDefaultReplicationSettingData", {"ReplicationType": 12})["DefaultInstance"]
    target = array.volume(size=4 * MIB)
    default["TargetElementSupplier"] = 1
    answer = array.client.method("CreateElementReplica", {"SyncType": 8, "SourceElement": array.source, "TargetElement": target,
                                                          "ReplicationSettingData": default, "WaitForCopyState": 4})
    # Polled as it does: JobState 2, 3, 4, 32767 run; ErrorCode and a non-empty OperationalStatus decide.
    job = array.client.completed(answer["Job"])
    assert job["ErrorCode"] == 0 and job["OperationalStatus"]
    # Clean-up sends Detach with Force.
    array.client.method("ModifyReplicaSynchronization", {"Operation": 8, "Synchronization": answer["Synchronization"], "Force": True},
                        expect=(200, 202))


def test_hp_3par_style_copies_with_settings_as_text(array):
    """Embedded instances as strings, numbers as names and as text."""
    target = array.volume(size=4 * MIB)
    answer = array.client.method("CreateElementReplica", {
        "SyncType": "clone", "Mode": "asynchronous", "SourceElement": array.source, "TargetElement": target,
        "ReplicationSettingData": '{"class":"CIM_ReplicationSettingData","CopyPriority":"high","BandwidthLimit":"1073741824"}',
        "WaitForCopyState": "SYNCHRONIZED"})
    array.client.completed(answer["Job"])
    relationship = array.client.get(answer["Synchronization"])
    assert relationship["Mode"] == 3 and relationship["CopyPriority"] == 3 and relationship["BandwidthLimit"] == 1 << 30


def test_curl_alone_is_enough(array, tmp_path):
    """Register two LUNs, copy, wait, compare: shell, curl, nothing else."""
    import json
    import subprocess
    source, target = array.lun(4 * MIB, "full"), array.lun(4 * MIB)

    def curl(*arguments):
        done = subprocess.run(["curl", "-sS", "--fail-with-body", "-H", f"@{array.smirror.ready['auth_header_file']}", *arguments],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    base = f"http://{array.smirror.http}"
    volumes = [curl("--json", json.dumps({"ReplicationEntity": {"Type": 8, "EntityID": lun.url}}),
                    f"{base}/services/ReplicationService/AddReplicationEntity")["ReplicationEntityPath"] for lun in (source, target)]
    answer = curl("--json", json.dumps({"SyncType": "Clone", "SourceElement": volumes[0], "TargetElement": volumes[1]}),
                  f"{base}/services/ReplicationService/CreateElementReplica")
    assert curl(f"{base}{answer['Job']}?wait=30s")["JobStateText"] == "Completed"
    luns.assert_equal(source.path, target.path)
