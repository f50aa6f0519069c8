# SPDX-License-Identifier: Apache-2.0
"""Pools of files: where they may be, how large, when they may go; and layer files that are damaged, foreign or missing."""

import os
import shutil

import pytest

from hosted import DEFAULT, ELEMENT, POOL, Hosted
from initiator import ScsiError
from process import MIB, hand_over, until

BLOCK = 4096
MAP_PAGES = 16 * MIB
DATA = 16 << 30


@pytest.fixture(scope="module")
def array(service):
    return Hosted(service)


def at(volume):
    return volume.rsplit("/", 1)[1]


# ---- made, changed, deleted

def test_the_default_pool_is_there_from_the_first_start(array):
    pool = array.client.get(DEFAULT)
    for name, value in (("ElementName", "default"), ("Kind", "file"), ("ThinlyProvisioned", True), ("Capacity", 0),
                        ("System", "/systems/local"), ("Directory", "pools/default"), ("Primordial", False), ("OperationalStatus", [2])):
        assert pool[name] == value, (name, pool[name])
    assert 0 < pool["RemainingManagedSpace"] <= pool["TotalManagedSpace"]
    assert array.directory().stat().st_mode & 0o777 == 0o700


def test_a_pool_of_files_has_a_directory_of_its_own_and_a_capacity(array):
    answer = array.client.method(POOL, {"ElementName": "gold", "Goal": {"Directory": "gold"}, "Size": 64 * MIB}, expect=200)
    assert answer["Size"] == 64 * MIB and answer["Job"] is None
    pool = array.client.get(answer["Pool"])
    assert (pool["Kind"], pool["ElementName"], pool["Capacity"], pool["TotalManagedSpace"]) == ("file", "gold", 64 * MIB, 64 * MIB)
    assert pool["RemainingManagedSpace"] == 64 * MIB and pool["Directory"] == "pools/gold"
    volume = array.make(1 << 40, answer["Pool"])  # thin: larger than the pool
    pool = array.client.get(answer["Pool"])
    assert pool["ProvisionedSpace"] == 1 << 40 and pool["Elements"] == [volume]
    assert array.files(answer["Pool"]) == array.layer_rows(answer["Pool"]) and len(array.files(answer["Pool"])) == 1
    array.fill(volume, 1, 0, 8 * MIB)
    pool = array.client.get(answer["Pool"])
    assert pool["UsedSpace"] >= 8 * MIB and pool["UsedSpace"] + pool["RemainingManagedSpace"] == 64 * MIB
    assert answer["Pool"] in [each["self"] for each in array.client.list("/pools", System="/systems/local")]


def test_the_capacity_may_be_changed_but_not_below_what_is_used(array):
    pool = array.make_pool("changing", 64 * MIB)
    volume = array.make(64 * MIB, pool)
    array.fill(volume, 1, 0, 16 * MIB)
    problem = array.client.refused(POOL, {"Pool": pool, "Size": 8 * MIB}, 4097, 422, "Size")
    assert problem["Size"] >= 16 * MIB
    assert array.client.method(POOL, {"Pool": pool, "Size": problem["Size"]}, expect=200)["Size"] == problem["Size"]
    assert array.client.get(pool)["RemainingManagedSpace"] == 0
    answer = array.client.method(POOL, {"Pool": pool, "Goal": {"SpaceLimit": 128 * MIB}, "ElementName": "larger"}, expect=200)
    assert answer["Size"] == 128 * MIB and array.client.get(pool)["ElementName"] == "larger"
    problem = array.client.refused(POOL, {"Pool": pool, "Size": 1 << 62}, 4097, 422, "Size")
    assert 0 < problem["Size"] < 1 << 62
    array.client.refused(POOL, {"Pool": pool, "Goal": {"Directory": "elsewhere"}}, 1, 501, "Goal.Directory")
    array.client.refused(POOL, {"Pool": pool, "InExtents": [volume]}, 5, 400, "InExtents")
    array.smirror.restart()
    assert array.client.get(pool)["Capacity"] == 128 * MIB


@pytest.mark.parametrize("body,status,return_value,parameter", [
    ({"Size": 0}, 400, 5, "Size"), ({"Size": 1 << 63}, 422, 4097, "Size"), ({"Size": (1 << 64) - 1}, 422, 4097, "Size"),
    ({"Size": MIB, "Goal": {"SpaceLimit": 2 * MIB}}, 400, 5, "Goal.SpaceLimit"),
    ({"Goal": {"Directory": "../out"}}, 400, 5, "Goal.Directory"), ({"Goal": {"Directory": ".."}}, 400, 5, "Goal.Directory"),
    ({"Goal": {"Directory": "a/../../../b"}}, 400, 5, "Goal.Directory"), ({"Goal": {"Directory": "a/.."}}, 400, 5, "Goal.Directory"),
    ({"Goal": {"Directory": "/tmp/x"}}, 400, 5, "Goal.Directory"), ({"Goal": {"Directory": "/"}}, 400, 5, "Goal.Directory"),
    ({"Goal": {"Directory": "default"}}, 409, 6, "Goal.Directory"), ({"Goal": {"Directory": "x" * 300}}, 400, 5, "Goal.Directory"),
    ({"Goal": {"Directory": "a\nb"}}, 400, 5, "Goal.Directory")])
def test_pools_that_cannot_be(array, body, status, return_value, parameter):
    pools = array.client.list("/pools")
    array.client.refused(POOL, body, return_value, status, parameter)
    assert [each["self"] for each in array.client.list("/pools")] == [each["self"] for each in pools]


def test_a_pool_of_files_is_deleted_when_it_is_empty(array):
    pool = array.make_pool("gone")
    directory = array.directory(pool)
    volume = array.make(MIB, pool)
    array.fill(volume, 1)
    snapshot = array.replica(volume)["TargetElement"]
    array.delete(volume)
    problem = array.client.refused("DeleteStoragePool", {"Pool": pool}, 6, 409)
    assert problem["BlockedOn"] == snapshot and array.writers(snapshot) == {1}
    array.delete(snapshot)
    array.client.method("DeleteStoragePool", {"Pool": pool}, expect=200)
    array.client.get(pool, expect=404)
    assert not directory.exists()
    array.client.refused(ELEMENT, {"Size": MIB, "InPool": pool}, 5, 400, "InPool", "no_such_object")
    # And made again in the same place.
    again = array.make_pool("gone")
    assert array.writers(array.make(MIB, again)) == {None}


def test_the_default_pool_may_go_and_stays_away(make_service):
    array = Hosted(make_service())
    array.client.method("DeleteStoragePool", {"Pool": DEFAULT}, expect=200)
    for _ in range(2):
        array.client.refused(ELEMENT, {"Size": MIB}, 5, 400, "InPool")
        assert array.client.list("/pools") == []
        array.smirror.restart()
    assert array.writers(array.make(MIB, array.make_pool("mine"))) == {None}


def test_absolute_directories_are_those_that_the_configuration_allows(make_service, directory):
    allowed, other = directory / "allowed", directory / "other"
    for each in (allowed, other, directory / "allowedtoo"):
        each.mkdir()
    array = Hosted(make_service("--pool-directories", f"{directory}/nothing:{allowed}/"))
    for each in (allowed, other, directory / "allowedtoo"):
        hand_over(each, array.smirror.user)
    for refused in (other, directory / "allowedtoo", directory, f"{allowed}/../other", f"{allowed}/x/../../other", "/"):
        array.client.refused(POOL, {"Goal": {"Directory": str(refused)}}, 5, 400, "Goal.Directory")
    # A link that leads out is refused, one that stays is a way like another.
    (allowed / "out").symlink_to(other)
    (allowed / "within").symlink_to(allowed / "deep")
    (allowed / "deep").mkdir()
    hand_over(allowed / "deep", array.smirror.user)
    for refused in (allowed / "out", allowed / "out" / "x"):
        array.client.refused(POOL, {"Goal": {"Directory": str(refused)}}, 5, 400, "Goal.Directory")
    array.make_pool(allowed / "within" / "x")
    assert (allowed / "deep" / "x").is_dir()
    assert os.listdir(other) == os.listdir(directory / "allowedtoo") == []
    pool = array.make_pool(allowed / "a" / "b")
    volume = array.make(MIB, pool)
    array.fill(volume, 1)
    assert os.listdir(allowed / "a" / "b") and array.client.get(pool)["Directory"] == str(allowed / "a" / "b")
    # Not into what is another pool's, full or empty, nor where something else is.
    array.client.refused(POOL, {"Goal": {"Directory": str(allowed / "a" / "b")}}, 5, 400, "Goal.Directory")
    array.make_pool(allowed / "empty")
    (allowed / "alias").symlink_to(allowed / "empty")
    array.client.refused(POOL, {"Goal": {"Directory": str(allowed / "alias" / "x")}}, 6, 409, "Goal.Directory")
    array.client.refused(POOL, {"Goal": {"Directory": str(allowed / "empty")}}, 6, 409, "Goal.Directory")
    (allowed / "full").mkdir()
    (allowed / "full" / "file").write_text("precious")
    array.client.refused(POOL, {"Goal": {"Directory": str(allowed / "full")}}, 5, 400, "Goal.Directory")
    assert (allowed / "full" / "file").read_text() == "precious"
    array.smirror.restart()
    assert array.writers(volume) == {1}


# ---- files that are not what they were

def damage_header(path):
    with open(path, "r+b") as file:
        file.write(bytes(2 * BLOCK))


def damage_version(path):
    with open(path, "r+b") as file:
        for slot in (0, BLOCK):
            file.seek(slot + 8)
            file.write((99).to_bytes(4, "little"))


def foreign(path):
    with open(path, "r+b") as file:
        file.write(b"QFI\xfb" + os.urandom(2 * BLOCK - 4))


def empty(path):
    os.truncate(path, 0)


def cut_short(path):
    os.truncate(path, 5000)


def gone(path):
    os.unlink(path)


def directory_instead(path):
    os.unlink(path)
    os.mkdir(path)


def unreadable(path):
    os.unlink(path)
    os.symlink("/nonexistent/layer", path)


@pytest.mark.parametrize("harm", [damage_header, damage_version, foreign, empty, cut_short, gone, directory_instead, unreadable])
def test_a_volume_whose_file_is_not_a_layer_has_a_problem_and_others_are_served(make_service, harm):
    array = Hosted(make_service())
    harmed, whole = array.make(4 * MIB, name="harmed"), array.make(4 * MIB, name="whole")
    array.fill(harmed, 1)
    array.fill(whole, 2)
    other = array.replica(whole)
    array.smirror.stop()
    layer, = array.smirror.query("SELECT top_layer_id FROM volumes WHERE id = ?", at(harmed))[0]
    path = array.smirror.data / "pools" / "default" / f"{layer}.layer"
    harm(path)
    array.smirror.start()
    volume = array.client.get(harmed)
    assert volume["Problem"] and not volume["Online"] and volume["OperationalStatus"] == [6] and volume["HealthState"] >= 20
    with pytest.raises(ConnectionError):
        array.writers(harmed)
    assert array.writers(whole) == {2} and array.writers(other["TargetElement"]) == {2}
    array.fill(whole, 3, MIB)
    array.replica(whole)
    # It can be used for nothing, and is not made worse by trying.
    before = array.smirror.records(but=("volumes.problem",))
    for method, body in (("CreateElementReplica", {"SyncType": 7, "SourceElement": harmed}),
                         ("CreateElementReplica", {"SyncType": 8, "SourceElement": harmed}),
                         ("CreateReplica", {"SourceElement": harmed, "CopyType": 5}),
                         (ELEMENT, {"TheElement": harmed, "Size": 8 * MIB})):
        answer = array.client.method(method, body, expect=(409, 422, 500, 503, 507))
        assert answer["ReturnValue"] in (2, 4, 6), (method, answer.text)
    assert array.smirror.records(but=("volumes.problem",)) == before
    array.smirror.restart()
    assert array.client.get(harmed)["Problem"] and array.writers(whole, 0, 2 * MIB) == {2, 3}
    # But it can be deleted.
    array.delete(harmed)
    if not path.is_dir():
        array.assert_no_orphans()
    array.smirror.restart()
    assert array.writers(whole, 0, 2 * MIB) == {2, 3}
    array.assert_all_online()


def test_a_directory_that_goes_away_is_no_fault_of_the_caller(make_service):
    """What is not there is ours, so the same call may succeed when it is back, with the same key."""
    array = Hosted(make_service())
    volume = array.make(4 * MIB)
    directory = array.smirror.data / "pools" / "default"
    directory.rename(directory.with_name("elsewhere"))
    body, key = {"Size": 4 * MIB}, {"Idempotency-Key": "again"}
    for method, wanted in ((ELEMENT, body), ("CreateElementReplica", {"SyncType": 7, "SourceElement": volume})):
        answer = array.client.method(method, wanted, expect=500, headers=key if wanted is body else {})
        assert answer["ReturnValue"] == 4 and str(directory) in answer["detail"], answer.text
    directory.with_name("elsewhere").rename(directory)
    made = array.client.method(ELEMENT, body, headers=key)["TheElement"]
    array.fill(made, 1)
    array.replica(volume)


def test_a_damaged_layer_below_takes_only_those_that_need_it(make_service):
    array = Hosted(make_service())
    a, b = array.make(4 * MIB), array.make(4 * MIB)
    for writer, volume in ((1, a), (2, b)):
        array.fill(volume, writer)
    snapshots = [array.replica(volume)["TargetElement"] for volume in (a, b)]
    array.smirror.stop()
    shared, = array.smirror.query("SELECT parent_id FROM layers l JOIN volumes v ON v.top_layer_id = l.id WHERE v.id = ?", at(a))[0]
    damage_header(array.smirror.data / "pools" / "default" / f"{shared}.layer")
    array.smirror.start()
    for volume in (a, snapshots[0]):
        assert array.client.get(volume)["Problem"] and not array.client.get(volume)["Online"]
    for volume in (b, snapshots[1]):
        assert array.client.get(volume)["Problem"] is None and array.writers(volume) == {2}


def test_a_volume_is_back_when_its_file_is(make_service):
    array = Hosted(make_service())
    volume = array.make(4 * MIB)
    array.fill(volume, 1)
    array.smirror.stop()
    path, = (array.smirror.data / "pools" / "default").iterdir()
    path.rename(array.smirror.data / "aside")
    array.smirror.start()
    assert array.client.get(volume)["Problem"]
    array.smirror.stop()
    (array.smirror.data / "aside").rename(path)
    array.smirror.start()
    array.assert_all_online()
    assert array.writers(volume) == {1}


def test_damage_inside_is_an_error_to_who_reads_it_and_never_wrong_data(make_service):
    """The first record of the log has rotted: what follows it must not be taken for the whole."""
    array = Hosted(make_service())
    volume, other = array.make(256 * MIB), array.make(4 * MIB)
    for writer, offset in ((1, 0), (2, 64 * MIB), (3, 200 * MIB)):
        array.fill(volume, writer, offset)
    array.fill(other, 4)
    array.smirror.kill()
    layer, = array.smirror.query("SELECT top_layer_id FROM volumes WHERE id = ?", at(volume))[0]
    with open(array.smirror.data / "pools" / "default" / f"{layer}.layer", "r+b") as file:
        for half in range(64 << 10, 4 * MIB, BLOCK):
            file.seek(half)
            record = file.read(BLOCK)
            if record[:4] == b"SLOG" and record[16:24] == bytes(8):
                file.seek(half + 70)
                file.write(bytes([record[70] ^ 0x10]))
                break
        else:
            raise AssertionError("no record in the log")
    array.smirror.start()
    assert array.writers(other) == {4}
    for writer, offset in ((1, 0), (2, 64 * MIB), (3, 200 * MIB)):
        with pytest.raises((ScsiError, ConnectionError)):
            print(writer, array.writers(volume, offset))
    assert array.writers(other) == {4}


def test_a_pool_whose_directory_is_away_takes_its_volumes_with_it_and_nothing_else(make_service, directory):
    allowed = directory / "mount"
    allowed.mkdir()
    array = Hosted(make_service("--pool-directories", str(allowed)))
    hand_over(allowed, array.smirror.user)
    pool = array.make_pool(allowed / "pool")
    volume, doomed, whole = array.make(4 * MIB, pool), array.make(4 * MIB, pool), array.make(4 * MIB)
    array.fill(volume, 1)
    array.fill(whole, 2)
    snapshot = array.replica(volume)
    array.smirror.stop()
    shutil.move(allowed / "pool", directory / "aside")
    (allowed / "pool").write_text("not a directory")
    array.smirror.start()
    for each in (volume, doomed, snapshot["TargetElement"]):
        assert array.client.get(each)["Problem"] and not array.client.get(each)["Online"], array.client.get(each).text
    assert array.writers(whole) == {2}
    assert array.client.get(pool)["OperationalStatus"] != [2]
    for method, body in ((ELEMENT, {"Size": MIB, "InPool": pool}), ("CreateElementReplica", {"SyncType": 7, "SourceElement": volume}),
                         (ELEMENT, {"TheElement": volume, "Size": 8 * MIB}),
                         ("CreateElementReplica", {"SyncType": 8, "SourceElement": whole, "TargetPool": pool}),
                         (POOL, {"Pool": pool, "Size": 64 * MIB})):
        answer = array.client.method(method, body, expect=(400, 409, 422, 500, 503, 507))
        assert answer["ReturnValue"] in (2, 4, 5, 6, 4097), (method, answer.text)
    # Deleting either is refused until the directory is back, or forgets the volume.
    array.client.method("ReturnToStoragePool", {"TheElement": doomed}, expect=(200, 409, 422, 500, 503))
    array.fill(whole, 3)
    array.smirror.stop()
    (allowed / "pool").unlink()
    shutil.move(directory / "aside", allowed / "pool")
    array.smirror.start()
    assert array.writers(volume) == array.writers(snapshot["TargetElement"]) == {1} and array.writers(whole) == {3}
    array.assert_all_online()


def test_files_that_are_nobodys_are_removed_and_foreign_names_left_alone(make_service):
    array = Hosted(make_service())
    volume = array.make(MIB)
    array.fill(volume, 1)
    array.smirror.stop()
    pool = array.smirror.data / "pools" / "default"
    (pool / "0123456789ab.layer").write_bytes(next(pool.glob("*.layer")).open("rb").read(BLOCK))
    for name in ("notes.txt", "a-name-that-is-too-long-for-an-id.layer", ".layer"):
        (pool / name).write_text("mine")
    array.smirror.start()
    assert not (pool / "0123456789ab.layer").exists()
    for name in ("notes.txt", "a-name-that-is-too-long-for-an-id.layer", ".layer"):
        assert (pool / name).read_text() == "mine"
    assert array.writers(volume) == {1}


@pytest.mark.parametrize("directory, code", [
    ("default/inside", "in_use"), ("default", "in_use"), ("default//inside", "invalid_parameter"), ("default/./inside", "invalid_parameter"),
    (".", "invalid_parameter"), ("inside/", "invalid_parameter"), ("a/../../b", "invalid_parameter")])
def test_pools_do_not_lie_in_each_other(service, directory, code):
    before = service.client.get("/pools")["Total"]
    answer = service.client.method("CreateOrModifyStoragePool", {"Goal": {"Directory": directory}}, expect=409 if code == "in_use" else 400)
    assert answer["Code"] == code, answer
    assert service.client.get("/pools")["Total"] == before
