# SPDX-License-Identifier: Apache-2.0
"""What initiators see of volumes of our own: own targets, several LUNs, initiator lists, CHAP, sessions, reservations."""

import json
import re
import shutil
import socket
import subprocess
import threading
import time

import pytest

from initiator import Initiator, ScsiError
from process import MIB, SLOWNESS

HOST, OTHER = "iqn.2026-11.test:host", "iqn.2026-11.test:other"
SECRET, MUTUAL = "initiator-secret", "target-secret-16"


def volume(service, name=None, size=8 * MIB):
    body = {"ElementType": 2, "Size": size, "InPool": "/pools/default"}
    if name:
        body["ElementName"] = name
    return service.client.method("CreateOrModifyElementFromStoragePool", body, expect=200)["TheElement"]


def own(service, path):
    return service.client.get(path.replace("/volumes/", "/exports/"))


def url(service, path):
    return own(service, path)["LogicalUnits"][0]["Url"]


def expose(service, **body):
    return service.client.method("ExposePaths", body, expect=200)["ProtocolControllers"]


def hide(service, **body):
    return service.client.method("HidePaths", body, expect=200)["ProtocolControllers"]


def secret(service, export, text, protocol="CHAP", user="user", expect=200):
    return service.client.method("AddSharedSecret", {
        "SharedSecret": {"RemoteID": user, "Secret": text, "Protocol": protocol}, "ServiceAccessPoint": export}, expect=expect)


def login(address, *args, **kwargs):
    session = Initiator(address, *args, **kwargs)
    session.read(0, 512)
    return session


def refused(address, *args, **kwargs):
    with pytest.raises(ConnectionError):
        Initiator(address, *args, **kwargs)


def sessions(service, export, wanted):
    """Waits until these initiators are logged in."""
    return service.client.until(export, lambda o: sorted(o["Sessions"]) == sorted(wanted), 20 * SLOWNESS)


def gone(session):
    """The session has been ended by the target."""
    with pytest.raises((ConnectionError, ScsiError)):
        for _ in range(200):
            session.read(0, 512)
            time.sleep(0.05)


def test_a_volume_has_a_target_of_its_own_from_its_creation(service):
    path = volume(service, "plain")
    export = own(service, path)
    assert export["OwnedBy"] == path and export["Served"] and export["AllInitiators"]
    assert export["Name"] == "iqn.2026-11.io.smirror:" + path.rsplit("/", 1)[1]
    assert export["LogicalUnits"] == [{"LogicalUnit": path, "DeviceNumber": "0", "DeviceAccess": 2,
                                       "DeviceAccessText": "Read Write", "Url": export["LogicalUnits"][0]["Url"]}]
    assert service.client.get(path)["Url"] == export["LogicalUnits"][0]["Url"]
    session = login(export["LogicalUnits"][0]["Url"])
    session.fill(0, MIB)
    assert session.writers(0, MIB) == {1} and session.size() == 8 * MIB
    sessions(service, export["self"], [HOST])
    session.close()
    sessions(service, export["self"], [])
    assert service.client.list("/exports", OwnedBy=path)[0]["self"] == export["self"]
    assert service.client.list("/exports", Name=export["Name"])[0]["self"] == export["self"]


@pytest.mark.skipif(not shutil.which("iscsi-ls"), reason="libiscsi-bin is not installed")
def test_libiscsi_tools_discover_and_ask_for_names(service):
    path = volume(service, "named")
    address = url(service, path)
    portal, target, number = address.removeprefix("iscsi://").rsplit("/", 2)
    listed = subprocess.run(["iscsi-ls", "-s", f"iscsi://{portal}"], capture_output=True, text=True, timeout=30)
    assert listed.returncode == 0, listed.stderr
    assert f"Target:{target}" in listed.stdout
    assert re.search(rf"Target:{re.escape(target)} Portal:\S+\n(Lun:0|.*Lun:\s*0)", listed.stdout), listed.stdout
    serial = subprocess.run(["iscsi-inq", "-e", "1", "-c", "128", address], capture_output=True, text=True, timeout=30)
    assert path.rsplit("/", 1)[1] in serial.stdout, serial.stdout
    name = service.client.get(path)["Name"]
    assert name.lower().startswith("3") and name.lower().endswith(path.rsplit("/", 1)[1])


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-utils is not installed")
def test_qemu_writes_a_volume_with_chap_and_reads_it_back_equal(service, directory):
    path = volume(service, "for qemu")
    export = own(service, path)["self"]
    secret(service, export, SECRET)
    address = url(service, path).replace("iscsi://", f"iscsi://user%{SECRET}@")
    image = directory / "image"
    image.write_bytes(bytes(range(256)) * (8 * MIB // 256))
    for command in (["convert", "-n", "-f", "raw", "-O", "raw", str(image), address],
                    ["compare", "-f", "raw", "-F", "raw", str(image), address]):
        done = subprocess.run(["qemu-img", *command], capture_output=True, text=True, timeout=60 * SLOWNESS)
        assert done.returncode == 0, done.stderr + done.stdout


def test_initiators_named_for_a_volume_are_the_only_ones_let_in(service):
    path = volume(service)
    address = url(service, path)
    assert expose(service, LogicalUnits=[path], InitiatorPortIDs=[HOST.upper().replace("IQN", "iqn")]) == [own(service, path)["self"]]
    assert own(service, path)["Initiators"] == [HOST] and not own(service, path)["AllInitiators"]
    refused(address, OTHER)
    session = login(address, HOST)
    service.client.refused("ExposePaths", {"LogicalUnits": [path], "InitiatorPortIDs": [HOST]}, 4101, 409, code="already_exposed")
    expose(service, LogicalUnits=[path], InitiatorPortIDs=[HOST, OTHER])
    second = login(address, OTHER)
    sessions(service, own(service, path)["self"], [HOST, OTHER])
    hide(service, LogicalUnits=[path], InitiatorPortIDs=[HOST])
    gone(session)
    refused(address, HOST)
    second.read(0, 512)
    sessions(service, own(service, path)["self"], [OTHER])
    second.close()
    session.close()
    hide(service, LogicalUnits=[path], InitiatorPortIDs=[OTHER])
    assert not own(service, path)["Served"]
    refused(address, OTHER)
    expose(service, LogicalUnits=[path], InitiatorPortIDs=[""])
    login(address, OTHER).close()


def test_several_volumes_become_luns_of_one_target(service):
    a, b, c = volume(service), volume(service), volume(service)
    (export,) = expose(service, LogicalUnits=[a, b], DeviceNumbers=["3", "0x1f"], DeviceAccesses=[2, "Read-Only"],
                       TargetPortIDs=["iqn.2026-11.test:together"])
    shown = service.client.get(export)
    assert [(u["LogicalUnit"], u["DeviceNumber"], u["DeviceAccess"]) for u in shown["LogicalUnits"]] == [(a, "3", 2), (b, "31", 3)]
    assert shown["OwnedBy"] is None and shown["Name"] == "iqn.2026-11.test:together"
    expose(service, LogicalUnits=[c], ProtocolControllers=[export])
    where = {u["LogicalUnit"]: u["Url"] for u in service.client.get(export)["LogicalUnits"]}
    assert where[c].endswith("/0")
    # What one target writes the volume's own shows.
    together = login(where[a])
    together.fill(0, MIB, writer=5)
    alone = login(url(service, a))
    assert alone.writers(0, MIB) == {5}
    with pytest.raises(ScsiError) as error:
        login(where[b]).write(0, bytes(512))
    assert error.value.key == 7  # data protect
    login(where[c]).fill(0, MIB, writer=6)
    # By the target's name, and by the volume's: the LUN becomes writable, then it goes.
    naa = "naa." + service.client.get(b)["Name"]
    expose(service, LogicalUnits=[naa], TargetPortIDs=["iqn.2026-11.test:together"], DeviceAccesses=[2])
    login(where[b]).write(0, bytes(512))
    hide(service, LogicalUnits=[a], ProtocolControllers=[export])
    with pytest.raises((ScsiError, ConnectionError)):
        together.read(0, 512)
    assert alone.writers(0, MIB) == {5}
    assert hide(service, ProtocolControllers=[export]) == []
    service.client.get(export, expect=404)
    refused(where[c])
    alone.close()
    together.close()


def test_a_hidden_volume_is_not_served_until_it_is_exposed_again(service):
    path = volume(service)
    address = url(service, path)
    session = login(address)
    hide(service, LogicalUnits=[path])
    gone(session)
    refused(address)
    assert own(service, path)["LogicalUnits"] == []
    service.client.refused("HidePaths", {"LogicalUnits": [path]}, 4100, 409, code="not_exposed")
    expose(service, LogicalUnits=[path])
    login(address).close()
    session.close()


@pytest.mark.parametrize("mutual", [False, True])
def test_chap_decides_who_comes_in(service, mutual):
    path = volume(service)
    address, export = url(service, path), own(service, path)["self"]
    login(address).close()
    secret(service, export, SECRET)
    assert service.client.get(export)["Authentication"] == "CHAP"
    refused(address)
    refused(address, chap=("user", "wrong-secret-16b"))
    refused(address, chap=("nobody", SECRET))
    login(address, chap=("user", SECRET)).close()
    if not mutual:
        return
    refused(address, chap=("user", SECRET), mutual=("smirror", MUTUAL))
    secret(service, export, SECRET, "CHAP-Mutual", user="smirror", expect=400)  # the same as the other direction's
    secret(service, export, MUTUAL, "CHAP-Mutual", user="smirror")
    assert service.client.get(export)["Authentication"] == "CHAP-Mutual"
    refused(address, chap=("user", SECRET), mutual=("smirror", "not-the-secret-16"))
    login(address, chap=("user", SECRET), mutual=("smirror", MUTUAL)).close()
    login(address, chap=("user", SECRET)).close()


def test_secrets_of_a_target_go_in_and_never_come_out(service):
    path = volume(service)
    export = own(service, path)["self"]
    service.client.refused("AddSharedSecret", {"SharedSecret": {"RemoteID": "u", "Secret": "short"}, "ServiceAccessPoint": export},
                           5, 400, "SharedSecret.Secret")
    service.client.refused("AddSharedSecret", {"SharedSecret": {"RemoteID": "u", "Secret": SECRET, "Algorithm": "MD5"},
                                               "ServiceAccessPoint": export}, 5, 400, "SharedSecret.Algorithm")
    unusual = "never-to-be-seen-again"
    secret(service, export, unusual, user="somebody")
    refused(url(service, path), chap=("somebody", "never-to-be-seen-x"))
    for shown in (service.client.get(export).text, service.client.get("/exports").text, service.log()):
        assert unusual not in shown


def test_a_volume_that_is_in_use_is_not_deleted(service):
    path = volume(service)
    export = own(service, path)["self"]
    session = login(url(service, path))
    sessions(service, export, [HOST])
    problem = service.client.refused("ReturnToStoragePool", {"TheElement": path}, 6, 409, code="in_use")
    assert problem["BlockedOn"] == export and HOST in problem["detail"]
    session.fill(0, MIB)
    session.close()
    sessions(service, export, [])
    service.client.method("ReturnToStoragePool", {"TheElement": path}, expect=200)
    service.client.get(export, expect=404)
    service.client.get(path, expect=404)


def test_growing_is_seen_by_the_initiator(service):
    path = volume(service)
    session = login(url(service, path))
    service.client.method("CreateOrModifyElementFromStoragePool", {"TheElement": path, "Size": 16 * MIB}, expect=200)
    assert session.size() == 16 * MIB and 0x2a09 in session.attentions
    session.fill(15 * MIB, MIB)
    session.close()


def test_wrong_calls_are_told_and_change_nothing(service):
    a, b = volume(service), volume(service)
    client, export = service.client, own(service, a)["self"]
    for body, value, status, parameter in (
            ({}, 5, 400, "LogicalUnits"),
            ({"LogicalUnits": ["/volumes/none"]}, 4097, 400, "LogicalUnits[0]"),
            ({"LogicalUnits": ["naa.0123456789abcdef"]}, 4097, 400, "LogicalUnits[0]"),
            ({"LogicalUnits": [a, a]}, 4097, 400, "LogicalUnits[1]"),
            ({"LogicalUnits": [a], "InitiatorPortIDs": ["host"]}, 4098, 400, "InitiatorPortIDs[0]"),
            ({"LogicalUnits": [a], "TargetPortIDs": ["target"]}, 4099, 400, "TargetPortIDs[0]"),
            ({"LogicalUnits": [a], "TargetPortIDs": ["iqn.2026-11.test:x", "iqn.2026-11.test:y"]}, 4099, 400, "TargetPortIDs"),
            ({"LogicalUnits": [a], "DeviceAccesses": [0]}, 4100, 400, "DeviceAccesses[0]"),
            ({"LogicalUnits": [a], "DeviceAccesses": [2, 3]}, 5, 400, "DeviceAccesses"),
            ({"LogicalUnits": [a]}, 4101, 409, None),
            ({"LogicalUnits": [b], "ProtocolControllers": [export], "DeviceNumbers": ["0"]}, 4102, 409, "DeviceNumbers[0]"),
            ({"LogicalUnits": [b], "ProtocolControllers": [export], "DeviceNumbers": ["256"]}, 5, 400, "DeviceNumbers[0]"),
            ({"LogicalUnits": [b], "ProtocolControllers": [export], "DeviceNumbers": ["-1"]}, 5, 400, "DeviceNumbers[0]"),
            ({"LogicalUnits": [b], "ProtocolControllers": [export], "DeviceNumbers": ["0x"]}, 5, 400, "DeviceNumbers[0]"),
            ({"LogicalUnits": [b], "ProtocolControllers": ["/exports/none"]}, 5, 400, "ProtocolControllers[0]"),
            ({"LogicalUnits": [b], "ProtocolControllers": [export, export]}, 5, 400, "ProtocolControllers"),
            ({"LogicalUnits": [a] * 257}, 4103, 422, "LogicalUnits")):
        client.refused("ExposePaths", body, value, status, parameter)
    for body, value, status, parameter in (
            ({}, 5, 400, "ProtocolControllers"),
            ({"LogicalUnits": [b], "ProtocolControllers": [export]}, 4100, 409, "LogicalUnits[0]"),
            ({"LogicalUnits": [a], "InitiatorPortIDs": [HOST]}, 4098, 400, "InitiatorPortIDs[0]"),
            ({"TargetPortIDs": ["iqn.2026-11.test:none"]}, 4099, 400, "TargetPortIDs[0]")):
        client.refused("HidePaths", body, value, status, parameter)
    assert [u["LogicalUnit"] for u in client.get(export)["LogicalUnits"]] == [a]
    login(url(service, a)).close()


def test_reservations_and_lists_survive_a_kill(make_service):
    service = make_service()
    path = volume(service)
    a, b = volume(service), volume(service)
    expose(service, LogicalUnits=[path], InitiatorPortIDs=[HOST, OTHER])
    (together,) = expose(service, LogicalUnits=[a, b])
    secret(service, together, SECRET)
    session = login(url(service, path))
    session.register(0x1234)
    session.reserve(0x1234)
    session.fill(0, MIB)
    session.flush()
    with pytest.raises(ScsiError) as conflict:
        login(url(service, path), OTHER).write(0, bytes(512))
    assert conflict.value.status == 0x18
    shown = {export["self"]: {k: v for k, v in export.items() if k not in ("Sessions", "SessionAliases", "Portal", "LogicalUnits")}
             for export in service.client.list("/exports")}
    service.restart()
    again = {export["self"]: {k: v for k, v in export.items() if k not in ("Sessions", "SessionAliases", "Portal", "LogicalUnits")}
             for export in service.client.list("/exports")}
    assert again == shown
    other = login(url(service, path), OTHER)
    assert other.keys() == {0x1234}
    with pytest.raises(ScsiError) as conflict:
        other.write(0, bytes(512))
    assert conflict.value.status == 0x18
    other.close()
    session = login(url(service, path))
    assert session.writers(0, MIB) == {1}
    session.register(0x99)  # a session after a restart is another port
    session.clear(0x99)
    session.close()
    refused(service.client.get(together)["LogicalUnits"][1]["Url"])
    login(service.client.get(together)["LogicalUnits"][1]["Url"], chap=("user", SECRET)).close()
    service.restart()
    other = login(url(service, path), OTHER)
    assert other.keys() == set()
    other.write(0, bytes(512))
    other.close()


def test_volumes_can_be_logged_in_to_as_soon_as_the_service_is_ready(make_service):
    service = make_service()
    paths = [volume(service) for _ in range(40)]
    for _ in range(2):
        service.restart()
        for path in paths:
            login(url(service, path)).close()


def test_a_stop_logs_sessions_out_in_time(make_service):
    service = make_service()
    session = login(url(service, volume(service)))
    session.fill(0, MIB)
    service.stop()
    gone(session)
    session.close()


def test_a_busy_port_is_said_at_start(make_service):
    taken = make_service()
    service = make_service("--iscsi", taken.ready["iscsi"], start=False)
    service.spawn()
    assert service.process.wait(20) == 1
    assert re.search(rf"cannot start: iSCSI: .*{re.escape(taken.ready['iscsi'])}.* Another program serves there", service.log())
    service.process.returncode = 0


@pytest.mark.skipif(not shutil.which("iscsi-ls"), reason="libiscsi-bin is not installed")
def test_chap_without_md5_is_a_policy(make_service):
    service = make_service("--iscsi-chap", "sha256,sha1")
    path = volume(service)
    secret(service, own(service, path)["self"], SECRET)
    refused(url(service, path), chap=("user", SECRET))  # libiscsi speaks MD5 only


def test_more_connections_than_allowed_are_refused_and_others_stay(make_service):
    service = make_service("--iscsi-connections", "2")
    path = volume(service)
    first, second = login(url(service, path)), login(url(service, path), OTHER)
    refused(url(service, path), "iqn.2026-11.test:third", timeout=3)
    first.read(0, 512)
    second.close()
    first.close()
    metrics = service.client.raw("GET", "/metrics", headers={"Authorization": f"Bearer {service.client.token}"})[2]
    values = dict(re.findall(r"^smirror_iscsi_(\w+) (\d+)$", metrics, re.M))
    assert int(values["refused_total"]) >= 1 and int(values["logins_total"]) == 2 and int(values["targets"]) == 1


def test_lists_change_while_hosts_read_and_write(service):
    """Twenty rounds of exposing and hiding beside I/O of a session that is let in all the time."""
    path, extra = volume(service), [volume(service) for _ in range(3)]
    export = own(service, path)["self"]
    session = login(url(service, path))
    failed = []
    stop = threading.Event()

    def work():
        try:
            sequence = 0
            while not stop.is_set():
                sequence += 1
                session.fill(0, 256 << 10, sequence=sequence)
                assert session.writers(0, 256 << 10) == {1}
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    for round_ in range(20):
        expose(service, LogicalUnits=extra, ProtocolControllers=[export])
        expose(service, InitiatorPortIDs=[f"iqn.2026-11.test:guest{round_}", HOST], ProtocolControllers=[export])
        assert len(own(service, path)["LogicalUnits"]) == 4
        hide(service, LogicalUnits=extra, ProtocolControllers=[export])
        expose(service, InitiatorPortIDs=[""], ProtocolControllers=[export])
    stop.set()
    worker.join()
    session.close()
    assert not failed, failed
    assert json.loads(own(service, path).text)["LogicalUnits"][0]["DeviceNumber"] == "0"


def test_the_portal_speaks_to_nobody_who_is_no_initiator(service):
    host, port = service.ready["iscsi"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(64))
        peer.settimeout(20)
        try:
            while peer.recv(4096):
                pass
        except ConnectionResetError:
            pass


def test_clients_are_told_the_address_that_is_advertised(make_service):
    service = make_service("--iscsi-advertise", "127.0.0.9:0")
    port = service.ready["iscsi"].rsplit(":", 1)[1]
    path = volume(service)
    assert url(service, path).startswith(f"iscsi://127.0.0.9:{port}/iqn.")
    mine = own(service, path)
    assert mine["Portal"] == f"127.0.0.9:{port}" and mine["LogicalUnits"][0]["Url"] == url(service, path)
