# SPDX-License-Identifier: Apache-2.0
"""Foreign arrays: portals, CHAP, discovery, LUNs by URL, reachability, and which addresses may be dialled."""

import os
import time

import pytest

import lun as luns
from faults import Proxy
from process import MIB, SLOWNESS, free_port
from tgtd import Tgtd


def add_portal(world, info, **more):
    return world.client.method("AddServiceAccessPoint", {"ServiceAccessPoint": {"AccessInfo": info, **more}}, expect=200)[
        "ServiceAccessPointPath"]


def add_secret(world, access_point, user, secret, protocol=None):
    body = {"SharedSecret": {"RemoteID": user, "Secret": secret}, "ServiceAccessPoint": access_point}
    if protocol:
        body["SharedSecret"]["Protocol"] = protocol
    answer = world.client.method("AddSharedSecret", body, expect=200)
    assert answer["SharedSecretPath"] is None
    return answer


def entity(url, **more):
    return {"ReplicationEntity": {"Type": 8, "EntityID": url, **more}, "Persistent": True}


# ---- AddReplicationEntity

def test_a_url_gives_a_volume_that_is_usable_at_once(shared):
    lun = shared.lun(4 * MIB, "full", thin=True)
    answer = shared.client.method("AddReplicationEntity", entity(lun.url, ElementName="by url"), expect=200)
    volume = shared.client.get(answer["ReplicationEntityPath"])
    assert volume["Url"] == lun.url and volume["ElementName"] == "by url" and volume["Kind"] == "remote"
    assert (volume["Size"], volume["BlockSize"], volume["NumberOfBlocks"], volume["ConsumableBlocks"]) == (4 * MIB, 512, 8192, 8192)
    assert volume["ThinlyProvisioned"] is True and volume["Persistent"] is True and volume["Problem"] is None
    assert 17 in volume["ExtentStatus"] and volume["OperationalStatus"] == [2]
    assert lun.options["scsi_id"] in volume["Name"] or volume["NameFormat"] in (2, 3, 9)
    assert lun.options["scsi_sn"] in volume["OtherIdentifyingInfo"] or volume["VendorIdentification"]
    system = shared.client.get(volume["System"])
    assert system["Kind"] == "peer" and volume["AccessPoint"] in system["AccessPoints"] and system["Reachable"] is True
    target = shared.volume(size=4 * MIB)
    shared.clone(answer["ReplicationEntityPath"], target, wait=True)


def test_a_thick_lun_with_4096_byte_blocks_is_seen_as_such(shared):
    volume = shared.client.get(shared.volume(shared.lun(8 * MIB, block=4096)))
    assert (volume["BlockSize"], volume["NumberOfBlocks"], volume["Size"]) == (4096, 2048, 8 * MIB)
    assert volume["ThinlyProvisioned"] is False


def test_a_lun_that_is_known_gives_its_volume(shared):
    lun = shared.lun(MIB)
    first = shared.volume(lun)
    with shared.unchanged():
        assert shared.volume(lun) == first
        assert shared.client.method("AddReplicationEntity", {"ReplicationEntity": f'{{"Type":"URI","EntityID":"{lun.url}"}}'})[
            "ReplicationEntityPath"] == first


@pytest.mark.parametrize("url", [
    "", "x", "http://127.0.0.1/", "iscsi://", "iscsi://127.0.0.1", "iscsi://127.0.0.1/", "iscsi://127.0.0.1:3260/iqn.2026-11.x:y",
    "iscsi://127.0.0.1:3260/iqn.2026-11.x:y/", "iscsi://127.0.0.1:3260/iqn.2026-11.x:y/x", "iscsi://127.0.0.1:3260/iqn.2026-11.x:y/-1",
    "iscsi://127.0.0.1:99999/iqn.2026-11.x:y/1", "iscsi://127.0.0.1:0/iqn.2026-11.x:y/1", "iscsi://127.0.0.1:3260/notaname/1",
    "iscsi://user%secret@127.0.0.1:3260/iqn.2026-11.x:y/1", "iscsi://127.0.0.1:3260/iqn.2026-11.x:y/1/2",
    "iscsi://127.0.0.1:3260/iqn.2026-11.x:y/1?x=1", "iscsi:// 127.0.0.1:3260/iqn.2026-11.x:y/1",
    "iscsi://127.0.0.1:3260/iqn.2026-11.x:" + "y" * 300 + "/1", "iscsi://127.0.0.1:3260/iqn.2026-11.x:y/99999999999",
    "iscsi://127.0.0.1:3260/iqn.2026-11.x:y%00/1", "iscsi://[::1/iqn.2026-11.x:y/1"])
def test_a_wrong_url_is_invalid_and_leaves_nothing(shared, url):
    with shared.unchanged():
        shared.client.refused("AddReplicationEntity", entity(url), 5, 400, "ReplicationEntity.EntityID")


# Only calls that dial nothing themselves are made with addresses of others: were the check broken, the tests would still
# send nothing there. That AddReplicationEntity asks the same check is shown with loopback addresses, by counting connections.
@pytest.mark.parametrize("address", [
    "169.254.169.254", "169.254.1.1:3260", "0.0.0.0:3260", "224.0.0.1", "255.255.255.255", "[fe80::1]:3260", "[::]:3260", "[ff02::1]:3260",
    "203.0.113.7:3260", "[::ffff:169.254.169.254]:3260", "[fd00:ec2::254]:80", "198.51.100.1", "[2001:db8::1]"])
def test_addresses_that_may_not_be_dialled_are_refused_before_dialling(shared, address):
    with shared.unchanged():
        shared.client.refused("AddServiceAccessPoint", {"ServiceAccessPoint": {"AccessInfo": address}}, 4, 422,
                              "ServiceAccessPoint.AccessInfo", "address_not_allowed")


def test_the_allow_list_is_the_operators_and_what_is_not_in_it_is_not_dialled(make_world):
    world = make_world("--portal-allow", "127.1.0.0/16")
    lun = world.lun(MIB)
    proxy = Proxy(world.array.port)
    try:
        add_portal(world, "127.1.0.5:3260")
        world.client.refused("AddServiceAccessPoint", {"ServiceAccessPoint": {"AccessInfo": proxy.portal}}, 4, 422,
                             "ServiceAccessPoint.AccessInfo", "address_not_allowed")
        for spelled in (proxy.portal, f"localhost:{proxy.port}", f"[::ffff:127.0.0.1]:{proxy.port}"):
            with world.unchanged():
                world.client.refused("AddReplicationEntity", entity(lun.url_at(spelled)), 4, 422, "ReplicationEntity.EntityID",
                                     "address_not_allowed")
        assert proxy.connections == 0
    finally:
        proxy.close()


def test_our_own_ports_are_never_dialled(shared):
    with shared.unchanged():
        for own in (shared.smirror.ready["http"], shared.smirror.ready["iscsi"]):
            port = own.rsplit(":", 1)[1]
            for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
                shared.client.refused("AddReplicationEntity", entity(f"iscsi://{host}:{port}/iqn.2026-11.x:y/1"), 4, 422,
                                      code="address_not_allowed")


def test_a_discovery_that_names_a_forbidden_address_is_not_followed(make_world):
    """tgtd tells each initiator the address that it was reached at. Reached at 127.2.0.1 it names 127.0.0.1, by the proxy."""
    world = make_world("--portal-allow", "127.2.0.0/16")
    world.lun(MIB)
    proxy = Proxy(world.array.port, host="127.2.0.1")
    try:
        access_point = add_portal(world, proxy.portal)
        world.client.method("ScsiScan", {"Targets": [access_point]}, expect=(200, 422, 502))
        urls = [volume["Url"] for volume in world.client.list("/volumes")]
        # What is reached is reached by the portal that may be dialled.
        assert all(url.startswith("iscsi://127.2.0.1:") for url in urls), urls
        direct = world.array.admin("--op", "show", "--mode", "target").count("IP Address: 127.0.0.1")
        assert direct == 0 or proxy.connections > 0
    finally:
        proxy.close()


def test_an_array_that_does_not_answer_is_a_remote_failure_and_leaves_nothing(shared):
    port = free_port()
    with shared.unchanged():
        problem = shared.client.refused("AddReplicationEntity", entity(f"iscsi://127.0.0.1:{port}/iqn.2026-11.x:y/1"), 4, 502)
        assert problem["Code"] in ("remote_unreachable", "remote_refused") and str(port) in problem["detail"]


def test_a_target_or_lun_that_is_not_there_is_told_and_leaves_nothing(shared):
    lun = shared.lun(MIB)
    with shared.unchanged():
        for url in (f"iscsi://{shared.array.portal}/iqn.2026-11.test.none:0/1", lun.url.rsplit("/", 1)[0] + "/99"):
            shared.client.refused("AddReplicationEntity", entity(url), 5, 400, "ReplicationEntity.EntityID", "no_such_object")
        # LUN 0 of tgtd is its controller: no disk.
        problem = shared.client.method("AddReplicationEntity", entity(lun.url.rsplit("/", 1)[0] + "/0"), expect=(400, 422, 502))
        assert problem["ReturnValue"] in (4, 5)


def test_an_array_that_hangs_is_a_timeout(make_world):
    world = make_world("--probe-timeout", "1s")
    lun = world.lun(MIB)
    world.array.freeze()
    try:
        began = time.monotonic()
        problem = world.client.method("AddReplicationEntity", entity(lun.url), expect=(502, 504))
        assert time.monotonic() - began < 5 * SLOWNESS
        assert problem["ReturnValue"] in (3, 4)
        # Others are served meanwhile: nothing waits for the array.
        world.client.get("/volumes")
    finally:
        world.array.thaw()
    world.volume(lun)


def test_an_entity_that_is_not_persistent_goes_when_nothing_uses_it(shared):
    source_lun, target = shared.lun(MIB, "full"), shared.volume(size=MIB)
    body = {**entity(source_lun.url), "Persistent": False}
    source = shared.client.method("AddReplicationEntity", body)["ReplicationEntityPath"]
    assert shared.client.get(source)["Persistent"] is False
    answer = shared.client.method("AttachReplica", {"SourceElement": source, "TargetElement": target, "CopyType": 5}, expect=202)
    shared.client.completed(answer["Job"])
    end = time.monotonic() + 10 * SLOWNESS
    while shared.client.call("GET", source, expect=(200, 404)).status != 404:
        assert time.monotonic() < end, "the volume is still there"
        time.sleep(0.05)


# ---- portals, systems

def test_a_portal_makes_a_system_and_a_second_portal_may_belong_to_it(shared):
    first = add_portal(shared, "127.3.0.1", ElementName="left")
    system = shared.client.get(first)["System"]
    second = add_portal(shared, "127.3.0.2:3261", SystemName=system)
    point = shared.client.get(second)
    assert point["System"] == system and point["Portal"] == "127.3.0.2:3261" and point["Authentication"] == "None"
    assert shared.client.get(first)["ElementName"] == "left" and shared.client.get(first)["Portal"] == "127.3.0.1:3260"
    assert shared.client.get(system)["AccessPoints"] == [first, second]
    assert shared.client.method("GetServiceAccessPoints", {"System": system})["ServiceAccessPoints"] == [first, second]
    shared.client.refused("AddServiceAccessPoint", {"ServiceAccessPoint": {"AccessInfo": "127.3.0.3", "SystemName": "/systems/000000000000"}},
                          5, 400, "ServiceAccessPoint.SystemName")


def test_a_portal_that_is_known_is_given_again(shared):
    first = add_portal(shared, "127.4.0.1:3260")
    with shared.unchanged():
        for spelled in ("127.4.0.1", "iscsi://127.4.0.1:3260", "127.4.0.1:3260"):
            assert add_portal(shared, spelled) == first


@pytest.mark.parametrize("info", ["", ":", ":3260", "127.5.0.1:x", "127.5.0.1:0", "127.5.0.1:65536", "[::1", "::1:3260:x", "ho st", "a" * 300,
                                  "http://127.5.0.1", "127.5.0.1/x", "user@127.5.0.1", "127.5.0.1:3260,1"])
def test_a_wrong_portal_is_invalid(shared, info):
    with shared.unchanged():
        shared.client.refused("AddServiceAccessPoint", {"ServiceAccessPoint": {"AccessInfo": info}}, 5, 400, "ServiceAccessPoint.AccessInfo")


def test_the_form_of_a_portal_is_checked(shared):
    point = shared.client.get(add_portal(shared, "127.6.0.1", InfoFormat="IPv4 Address"))
    assert point["InfoFormat"] == 3
    assert shared.client.get(add_portal(shared, "[::1]:1"))["InfoFormatText"] == "IPv6 Address"
    with shared.unchanged():
        shared.client.refused("AddServiceAccessPoint", {"ServiceAccessPoint": {"AccessInfo": "127.6.0.2", "InfoFormat": "IPv6 Address"}}, 5,
                              400, "ServiceAccessPoint.InfoFormat")


def test_a_portal_with_volumes_stays_and_one_without_goes_with_its_system(shared):
    volume = shared.client.get(shared.volume(size=MIB))
    problem = shared.client.delete(volume["AccessPoint"], expect=409)
    assert problem["BlockedOn"].startswith("/volumes/")
    point = add_portal(shared, "127.7.0.1")
    system = shared.client.get(point)["System"]
    shared.client.delete(point)
    shared.client.get(point, expect=404)
    shared.client.get(system, expect=404)


def test_peer_systems_and_their_reachability(make_world):
    world = make_world("--reach-interval", "1s")
    volume = world.client.get(world.volume(size=MIB))
    there = volume["System"]
    # Nobody listens on this port: it is known, but not reachable.
    gone = world.client.get(add_portal(world, f"127.0.0.1:{free_port()}"))["System"]
    assert set(world.client.method("GetPeerSystems", {})["Systems"]) == {there, gone}
    world.client.until(gone, lambda system: system["Reachable"] is False, 15 * SLOWNESS)
    assert world.client.method("GetPeerSystems", {"Options": 2})["Systems"] == [there]
    answer = world.client.method("GetPeerSystems", {"Options": 3})
    assert answer["Systems"] == [there] and answer["LocalAccessPoints"] == ["/endpoints/initiator"]
    assert answer["RemoteAccessPoints"] == [volume["AccessPoint"]]
    world.array.kill()
    system = world.client.until(there, lambda s: s["Reachable"] is False, 20 * SLOWNESS)
    assert system["LastSeen"] and system["Reachability"] and system["OperationalStatus"] != [2]
    point = world.client.get(volume["AccessPoint"])
    assert point["LastError"] and point["LastTried"] >= point["LastSeen"]
    world.array.start()
    world.client.until(there, lambda s: s["Reachable"] is True and s["OperationalStatus"] == [2], 20 * SLOWNESS)


# ---- ScsiScan

def scan(world, expect=200, **body):
    return world.client.method("ScsiScan", body, expect=expect)


def test_a_scan_finds_every_lun_of_every_target_and_answers_without_a_job(world):
    second = world.array.target()
    found = [world.lun(MIB), world.lun(2 * MIB, thin=True), second.lun(luns.create(world.file(), 3 * MIB))]
    add_portal(world, world.array.portal)
    answer = scan(world, ConnectionType=7)
    assert answer["ReturnValue"] == 0 and answer["Job"] is None
    volumes = {volume["Url"]: volume for volume in world.client.list("/volumes")}
    assert set(volumes) == {lun.url for lun in found}
    for lun in found:
        assert volumes[lun.url]["Size"] == lun.size and volumes[lun.url]["ThinlyProvisioned"] is lun.options["thin"]
    before = {volume["self"] for volume in volumes.values()}
    scan(world)
    assert {volume["self"] for volume in world.client.list("/volumes")} == before


def test_a_scan_can_be_narrowed_to_targets_and_luns(world):
    second = world.array.target()
    world.lun(MIB)
    two = [second.lun(luns.create(world.file(), MIB)) for _ in range(3)]
    point = add_portal(world, world.array.portal)
    scan(world, Targets=[second.name], LogicalUnits=["2"])
    assert [volume["Url"] for volume in world.client.list("/volumes")] == [two[1].url]
    scan(world, Targets=[point], LogicalUnits=["1", "3"])
    assert len(world.client.list("/volumes")) == 4
    assert scan(world, 422, Targets=["iqn.2026-11.test.none:0"])["ReturnValue"] == 4098
    assert scan(world, 422, Targets=[second.name], LogicalUnits=["77"])["ReturnValue"] == 4099


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 8, 9])
def test_a_scan_of_another_connection_type_is_4096_which_is_no_job(shared, number):
    with shared.unchanged():
        problem = scan(shared, 400, ConnectionType=number)
        assert problem["ReturnValue"] == 4096 and problem["Code"] == "invalid_connection_type"


def test_a_scan_with_a_foreign_initiator_is_4097_and_ours_is_taken(world):
    world.lun(MIB)
    add_portal(world, world.array.portal)
    problem = world.client.call("POST", "/services/StorageConfigurationService/ScsiScan", body={"Initiators": ["/endpoints/none"]}, expect=400)
    assert problem["ReturnValue"] == 4097
    scan(world, Initiators=["/endpoints/initiator"])
    assert len(world.client.list("/volumes")) == 1


def test_a_scan_notices_what_has_changed(world):
    stays, grows, vanishes = world.lun(MIB), world.lun(MIB), world.lun(MIB)
    add_portal(world, world.array.portal)
    scan(world)
    volumes = {volume["Url"]: volume["self"] for volume in world.client.list("/volumes")}
    urls = {lun: lun.url for lun in (stays, grows, vanishes)}
    world.array.kill()
    os.truncate(grows.path, 3 * MIB)
    del world.target.luns[vanishes.number]
    world.array.start()
    scan(world, expect=(200, 422))
    assert world.client.get(volumes[urls[stays]])["Problem"] is None
    assert world.client.get(volumes[urls[grows]])["Size"] == 3 * MIB
    gone = world.client.get(volumes[urls[vanishes]])
    assert gone["Problem"] and gone["OperationalStatus"] != [2]


def test_a_scan_with_an_array_that_is_away_says_so_and_takes_what_is_there(make_world):
    world = make_world("--probe-timeout", "2s")
    lun = world.lun(MIB)
    add_portal(world, world.array.portal)
    dead = add_portal(world, f"127.0.0.1:{free_port()}")
    answer = scan(world, expect=(200, 502))
    assert [volume["Url"] for volume in world.client.list("/volumes")] == [lun.url]
    assert world.client.get(dead)["Reachable"] is False
    assert scan(world, expect=502, Targets=[dead])["ReturnValue"] == 4
    del answer


def test_two_scans_at_once_register_each_lun_once(world):
    import threading
    from client import Client
    for _ in range(4):
        world.lun(MIB)
    add_portal(world, world.array.portal)

    def one():
        client = Client(world.smirror.http, world.client.token)
        client.method("ScsiScan", {}, expect=200)
        client.close()

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(world.client.list("/volumes")) == 4


# ---- CHAP

USER, SECRET = ("initiator-user", "initiator-secret")
OUT_USER, OUT_SECRET = ("target-user", "target-secret-1")


@pytest.fixture
def chap_world(world):
    world.chap_target = world.array.target(chap=(USER, SECRET))
    world.chap_lun = world.chap_target.lun(luns.full(world.file(), MIB))
    world.point = add_portal(world, world.array.portal)
    return world


def test_chap_without_a_secret_is_refused_by_the_array(chap_world):
    with chap_world.unchanged():
        problem = chap_world.client.refused("AddReplicationEntity", entity(chap_world.chap_lun.url), 4, 502)
        assert problem["Code"] in ("remote_refused", "remote_error")


def test_chap_with_a_wrong_secret_is_refused_by_the_array(chap_world):
    add_secret(chap_world, chap_world.point, USER, "not-the-secret-1")
    problem = chap_world.client.refused("AddReplicationEntity", entity(chap_world.chap_lun.url), 4, 502)
    assert "not-the-secret-1" not in problem.text
    assert SECRET not in problem.text


def test_chap_with_the_right_secret_opens_and_copies(chap_world):
    add_secret(chap_world, chap_world.point, USER, SECRET)
    assert chap_world.client.get(chap_world.point)["Authentication"] == "CHAP"
    source = chap_world.volume(chap_world.chap_lun)
    target_lun = chap_world.lun(MIB)
    chap_world.clone(source, chap_world.volume(target_lun), wait=True)
    luns.assert_equal(chap_world.chap_lun.path, target_lun.path)


def test_a_second_secret_replaces_the_first(chap_world):
    add_secret(chap_world, chap_world.point, USER, "not-the-secret-1")
    add_secret(chap_world, chap_world.point, USER, SECRET)
    chap_world.volume(chap_world.chap_lun)


def test_mutual_chap_makes_the_array_prove_itself(world):
    target = world.array.target(chap=(USER, SECRET), mutual=(OUT_USER, OUT_SECRET))
    lun = target.lun(luns.full(world.file(), MIB))
    point = add_portal(world, world.array.portal)
    add_secret(world, point, USER, SECRET)
    add_secret(world, point, OUT_USER, "not-what-it-knows", "CHAP-Mutual")
    assert world.client.get(point)["Authentication"] == "CHAP-Mutual"
    with world.unchanged():
        world.client.refused("AddReplicationEntity", entity(lun.url), 4, 502)
    add_secret(world, point, OUT_USER, OUT_SECRET, "CHAP-Mutual")
    source, copy = world.volume(lun), world.lun(MIB)
    answer = world.client.method("CreateElementReplica", {"SyncType": 8, "SourceElement": source,
                                                          "TargetElement": source}, expect=400)
    assert answer["ReturnValue"] == 5
    del copy


def test_a_target_that_does_not_prove_itself_is_refused(chap_world):
    """It asks us for a secret, and has none of its own: with a mutual secret that is not enough."""
    add_secret(chap_world, chap_world.point, USER, SECRET)
    add_secret(chap_world, chap_world.point, OUT_USER, OUT_SECRET, "CHAP-Mutual")
    with chap_world.unchanged():
        chap_world.client.refused("AddReplicationEntity", entity(chap_world.chap_lun.url), 4, 502)


def test_secrets_go_in_and_never_come_out(chap_world):
    secret = "very-secret-secret"
    add_secret(chap_world, chap_world.point, "some-user", secret)
    add_secret(chap_world, chap_world.point, "other-user", secret + "2", "CHAP-Mutual")
    chap_world.client.method("AddReplicationEntity", entity(chap_world.chap_lun.url), expect=502)
    for path in ("/systems", "/accesspoints", "/volumes", "/endpoints", "/settings", "/services", "/metrics", "/jobs", chap_world.point):
        assert secret not in chap_world.client.get(path).text
    assert secret not in chap_world.smirror.log()
    cmdline = open(f"/proc/{chap_world.smirror.process.pid}/cmdline", "rb").read()
    assert secret.encode() not in cmdline
    for path in chap_world.smirror.data.iterdir():
        assert os.stat(path).st_mode & 0o077 == 0 or path.is_dir(), path


@pytest.mark.parametrize("name,value", [("RemoteID", ""), ("Secret", ""), ("Protocol", "Kerberos"), ("Algorithm", "ROT13"), ("RemoteID", "x" * 1000),
                                        ("Secret", "x" * 1000)])
def test_a_wrong_secret_is_invalid_and_not_repeated(shared, name, value):
    body = {"SharedSecret": {"RemoteID": "user", "Secret": "do-not-repeat-me", name: value}}
    with shared.unchanged():
        problem = shared.client.method("AddSharedSecret", body, expect=400)
        assert problem["ReturnValue"] == 5 and problem["Parameter"] == f"SharedSecret.{name}"
        assert "do-not-repeat-me" not in problem.text and "x" * 100 not in problem.text


def test_a_secret_of_no_portal_is_kept_and_used_by_no_session(chap_world):
    chap_world.client.method("AddSharedSecret", {"SharedSecret": {"RemoteID": USER, "Secret": SECRET}}, expect=200)
    chap_world.client.refused("AddReplicationEntity", entity(chap_world.chap_lun.url), 4, 502)


# ---- the array under our feet

def test_a_volume_can_be_forgotten_and_its_data_stays(shared):
    lun = shared.lun(MIB, "full")
    volume = shared.volume(lun)
    shared.client.delete(volume)
    shared.client.get(volume, expect=404)
    luns.assert_equal(lun.path, luns.full(shared.file(), MIB))
    assert shared.volume(lun) != volume


def test_tgtadm_shows_our_initiator_name(shared):
    endpoint = shared.client.get("/endpoints/initiator")["Identifier"]
    _, source, _, target = shared.pair(4 * MIB)
    answer = shared.slow_clone(source, target)
    shared.client.until(answer["Job"], lambda job: job["BytesDone"] > 0, 20 * SLOWNESS)
    assert f"Initiator: {endpoint}" in shared.array.admin("--op", "show", "--mode", "target")
    shared.terminate(answer["Job"])


def test_no_session_stays_when_no_copy_runs(shared):
    shared.settle()
    end = time.monotonic() + 10 * SLOWNESS
    while shared.array.connections():
        assert time.monotonic() < end, shared.array.admin("--op", "show", "--mode", "target")
        time.sleep(0.05)


def test_two_arrays_with_the_same_identities_are_told_apart(world, directory):
    """tgtd's own default gives the LUNs of two arrays the same names."""
    other = Tgtd(directory / "other")
    try:
        one = world.lun(MIB, scsi_id="IET     00010001", scsi_sn="beaf11")
        two = other.target().lun(luns.create(directory / "lun", MIB), scsi_id="IET     00010001", scsi_sn="beaf11")
        assert world.volume(one) != world.volume(two)
        world.clone(world.volume(one), world.volume(two), wait=True)
    finally:
        other.kill()
