# SPDX-License-Identifier: Apache-2.0
"""Snapshots and clones as data: what each of many reads, deleting in any order, merging, copies in and out."""

import random
import threading

import pytest

import lun as luns
from hosted import CREATE, DEFAULT, ELEMENT, MODIFY, Hosted, Stamp
from process import MIB, SLOWNESS, until

KIB64 = 64 << 10
OVERHEAD = 256 << 10  # metadata of a layer file


@pytest.fixture(scope="module")
def array(service):
    return Hosted(service)


class History:
    """A volume and what it and each of its snapshots has in every place of 64 KiB."""

    def __init__(self, array, places=64, seed=1):
        self.array = array
        self.random = random.Random(seed)
        self.places = places
        self.volume = array.make(places * KIB64)
        self.now = [None] * places
        self.writer = 0
        self.snapshots = {}  # synchronization: (target, what it has)

    def write(self, session, n=8):
        for place in self.random.sample(range(self.places), n):
            self.writer += 1
            if self.random.random() < 0.2:
                session.discard(place * KIB64, KIB64)
                self.now[place] = None
            else:
                session.fill(place * KIB64, KIB64, self.writer)
                self.now[place] = self.writer

    def snapshot(self, sync_type=7):
        answer = self.array.replica(self.volume, sync_type)
        self.snapshots[answer["Synchronization"]] = (answer["TargetElement"], list(self.now))
        return answer

    def delete(self, synchronization):
        self.array.modify(synchronization, "Return To ResourcePool")
        del self.snapshots[synchronization]

    def check(self, *synchronizations):
        for synchronization in synchronizations or [None, *self.snapshots]:
            volume, has = self.snapshots.get(synchronization, (self.volume, self.now))
            with self.array.host(volume) as session:
                data = session.read(0, self.places * KIB64)
            for place, writer in enumerate(has):
                found = {luns.read_stamp(data[at:at + luns.BLOCK], at)
                         for at in range(place * KIB64, (place + 1) * KIB64, luns.BLOCK)}
                assert found == {writer and (writer, 1)}, (volume, place, found, writer)


def test_every_snapshot_reads_what_was_there_at_its_moment(array):
    history = History(array)
    with array.host(history.volume) as session:
        for _ in range(20):
            history.write(session)
            history.snapshot()
        history.write(session)
        session.flush()
    history.check()
    array.smirror.restart()
    history.check()


@pytest.mark.parametrize("order", ["oldest first", "newest first", "random"])
def test_deleted_in_any_order_the_rest_stays_and_the_layers_are_merged(array, order):
    before = array.used()
    history = History(array, seed=7)
    with array.host(history.volume) as session:
        for _ in range(12):
            history.write(session, 24)
            history.snapshot()
        history.write(session)
        session.flush()
        most = array.used()
        assert array.client.get(history.volume)["Layers"] > 1
        while history.snapshots:
            synchronizations = list(history.snapshots)
            gone = {"oldest first": synchronizations[0], "newest first": synchronizations[-1]}.get(
                order, history.random.choice(synchronizations))
            history.delete(gone)
            history.write(session, 2)
            if len(history.snapshots) % 4 == 0:
                history.check()
        session.flush()
        array.layers_become(history.volume)
        history.check()
    written = sum(place is not None for place in history.now) * KIB64
    until(lambda: array.used() <= before + written + OVERHEAD, 20, "space of what nobody has is given back")
    assert array.used() < most
    array.client.until(history.volume, lambda v: v["SpaceShared"] == 0 and written <= v["SpaceConsumed"] <= written + OVERHEAD, 10 * SLOWNESS)
    array.assert_no_orphans()
    assert array.client.get(DEFAULT)["ReclaimableSpace"] == 0


def test_a_tree_of_clones_of_snapshots_of_clones(array):
    """Each generation writes something of its own; its ancestors are deleted under it."""
    root = array.make(4 * MIB)
    array.fill(root, 1, 0, 4 * MIB)
    leaf, chain = root, [root]
    for generation in range(2, 10):
        answer = array.replica(leaf, 8 if generation % 2 else 7)
        leaf = answer["TargetElement"]
        chain.append(leaf)
        array.fill(leaf, generation, (generation - 1) * KIB64, KIB64)
    for number, volume in enumerate(chain, 1):
        assert [array.writers(volume, at * KIB64, KIB64) for at in range(10)] == \
            [{at + 1} if at < number else {1} for at in range(10)], number
    for volume in random.Random(3).sample(chain[:-1], len(chain) - 1):
        array.delete(volume)
    array.layers_become(leaf)
    assert [array.writers(leaf, at * KIB64, KIB64) for at in range(10)] == [{at + 1} if at < 9 else {1} for at in range(10)]
    assert array.client.get(leaf)["Relationships"] == []
    array.assert_no_orphans()


def test_merging_under_load_disturbs_nobody(array):
    """Stamped I/O on the source and on a clone while snapshots come and go, without any crash."""
    stamp = Stamp(11)
    try:
        volume = array.make(16 * MIB)
        stamp("volume", "source", array.url(volume), 4, 64)
        stamp("run", "source")
        kept = []
        for number in range(24):
            stamp("mark", "source", f"m{number}")
            answer = array.replica(volume)
            stamp("marked", "source", f"m{number}")
            kept.append((answer, f"m{number}"))
            if number == 8:
                stamp("mark", "source", "c")
                clone = array.replica(volume, 8)["TargetElement"]
                stamp("marked", "source", "c")
                stamp("clone", "clone", "c", array.url(clone), 2, 64)
                stamp("run", "clone")
            if len(kept) > 5:
                answer, mark = kept.pop(number % 5)
                stamp("check", mark, array.url(answer["TargetElement"]))
                array.modify(answer, "Return To ResourcePool")
        for answer, mark in kept:
            stamp("check", mark, array.url(answer["TargetElement"]))
            array.modify(answer, "Return To ResourcePool")
        for name, path in (("source", volume), ("clone", clone)):
            stamp("pause", name)
            stamp("verify", name, array.url(path))
            assert stamp.stats(name)["writes"] > 100 and stamp.stats(name)["flushes"] > 0
            stamp("run", name)
        stamp("pause", "clone")
        stamp("drop", "clone")
        until(lambda: array.client.get(clone)["Layers"] <= 2, 30, "all but what is shared is merged")
        array.delete(clone)
        array.layers_become(volume)
        stamp("pause", "source")
        stamp("verify", "source", array.url(volume))
    finally:
        stamp.close()


def test_merging_goes_on_after_a_restart_of_either_kind(make_service):
    array = Hosted(make_service())
    history = History(array, places=256, seed=5)
    with array.host(history.volume) as session:
        for _ in range(16):
            history.write(session, 64)
            history.snapshot()
    for number, synchronization in enumerate(list(history.snapshots)):
        history.delete(synchronization)
        if number == 7:
            array.smirror.restart()
        elif number == 11:
            array.smirror.stop()
            array.smirror.start()
    array.layers_become(history.volume)
    history.check()
    array.assert_no_orphans()


@pytest.mark.big
def test_reads_through_250_snapshots_are_right_and_the_253rd_layer_is_refused(make_service):
    """250 snapshots, and clones that are in no relationship: a volume has 252 layers at most."""
    array = Hosted(make_service())
    history = History(array, places=64)
    with array.host(history.volume) as session:
        for _ in range(250):
            history.write(session, 1)
            history.snapshot()
        array.client.refused(CREATE, {"SyncType": 7, "SourceElement": history.volume}, 4, 422, "SourceElement", "limit_reached")
        array.client.method("CreateReplica", {"SourceElement": history.volume, "CopyType": 5}, expect=200)
        assert array.client.get(history.volume)["Layers"] == 252
        array.client.refused("CreateReplica", {"SourceElement": history.volume, "CopyType": 5}, 4, 422, code="limit_reached")
        array.assert_no_orphans()
        history.check(None, *list(history.snapshots)[::25])
        array.smirror.restart()
    history.check()
    # Every other one goes, at once and then by merging.
    for synchronization in list(history.snapshots)[::2]:
        history.delete(synchronization)
    array.layers_become(history.volume, 127, 60)
    history.check(None, *list(history.snapshots)[::10])
    history.snapshot()
    history.check(list(history.snapshots)[-1])
    array.assert_no_orphans()


def test_resync_restore_deactivate_in_a_row_and_their_data(array):
    history = History(array, seed=9)
    with array.host(history.volume) as session:
        history.write(session, 32)
        first, second = history.snapshot(), history.snapshot()
        history.write(session, 32)
        array.modify(first, "Resync Replica")
        history.snapshots[first["Synchronization"]] = (first["TargetElement"], list(history.now))
        history.check()
        # The source goes back to the second one; what it had is a volume, and the first one stays.
        last = list(history.now)
        array.modify(second, "Restore from Replica")
        history.now = list(history.snapshots[second["Synchronization"]][1])
        name = array.client.get(history.volume)["ElementName"]
        kept, = array.client.list("/volumes", ElementName=f"{name}-before-restore-1")
        history.snapshots["kept"] = (kept["self"], last)
        history.check()
        array.modify(first, "Deactivate")
        del history.snapshots[first["Synchronization"]]
        history.write(session, 16)
        array.modify(first, "Activate")
        history.snapshots[first["Synchronization"]] = (first["TargetElement"], list(history.now))
        history.write(session, 16)
        session.flush()
        history.check()
    array.smirror.restart()
    history.check()


def test_restore_and_resync_of_stamped_volumes(array):
    """There and back between two moments, with sessions that stay; a snapshot of a snapshot keeps its own."""
    stamp = Stamp(23)
    try:
        volume = array.make(8 * MIB)
        stamp("volume", "v", array.url(volume), 4, 64)
        stamp("run", "v")
        answers = {}
        for turn in range(max(2, 6 // SLOWNESS)):
            mark = f"m{turn}"
            stamp("mark", "v", mark)
            answers[mark] = array.replica(volume)
            stamp("marked", "v", mark)
            stamp("check", mark, array.url(answers[mark]["TargetElement"]))
            until(lambda before=stamp.stats("v")["writes"]: stamp.stats("v")["writes"] > before + 500 // SLOWNESS, 20, "writes")
            # What was last is kept under load, too, and the source is what one of the moments was.
            back = f"m{turn // 2}"
            stamp("pause", "v")
            stamp("mark", "v", "last")
            array.modify(answers[back], "Restore from Replica")
            stamp("restored", "v", back, array.url(volume))
            name = array.client.get(volume)["ElementName"]
            kept, = array.client.list("/volumes", ElementName=f"{name}-before-restore-{turn + 1}")
            stamp("check", "last", kept["Url"])
            stamp("run", "v")
            for known, answer in answers.items():
                stamp("check", known, array.url(answer["TargetElement"]))
        stamp("pause", "v")
        stamp("verify", "v", array.url(volume))
        for kept in [each for each in array.volumes() if each != volume]:
            array.delete(kept)
        array.layers_become(volume)
        stamp("verify", "v", array.url(volume))
    finally:
        stamp.close()
    array.assert_no_orphans()


# ---- copies by job

def random_pattern(array, volume, seed):
    """Stamps in seeded places, holes between them."""
    size = array.client.get(volume)["Size"]
    with array.host(volume) as session:
        for offset, length in luns.scattered(size, 0.3, KIB64, seed):
            session.fill(offset, length, seed)
        session.flush()
    return array.content(volume)


def test_a_physical_copy_shares_nothing_and_is_equal(array):
    volume = array.make(16 * MIB)
    content = random_pattern(array, volume, 3)
    answer = array.replica(volume, 8, 202, ReplicationSettingData={"DesiredCopyMethodology": 3})
    array.client.completed(answer["Job"])
    array.fill(volume, 9, 0, 16 * MIB)
    assert array.content(answer["TargetElement"]) == content
    target = array.client.until(answer["TargetElement"], lambda v: v["SpaceConsumed"] > 0, 10 * SLOWNESS)
    assert target["Layers"] == 1 and target["SpaceShared"] == 0
    assert target["SpaceConsumed"] <= 16 * MIB * 0.3 + OVERHEAD, "holes are not copied"


def test_a_clone_across_pools_is_a_job_and_its_holes_take_no_space(array):
    other = array.make_pool("across")
    volume = array.make(16 * MIB)
    content = random_pattern(array, volume, 4)
    used = array.used(other)
    answer = array.replica(volume, 8, 202, TargetPool=other)
    job = array.client.completed(answer["Job"])
    assert job["PercentComplete"] == 100 and array.content(answer["TargetElement"]) == content
    assert array.client.get(answer["TargetElement"])["Pool"] == other
    assert array.used(other) - used <= 16 * MIB * 0.3 + OVERHEAD
    # Again and back: Resync copies what has changed, Restore brings the copy.
    array.fill(volume, 8, 0, MIB)
    content = array.content(volume)
    again = array.modify(answer, "Resync Replica", expect=(200, 202))
    if again["Job"]:
        array.client.completed(again["Job"])
    assert array.content(answer["TargetElement"]) == content
    array.fill(volume, 7, 0, 16 * MIB)
    back = array.modify(answer, "Restore from Replica", expect=(200, 202))
    if back["Job"]:
        array.client.completed(back["Job"])
    assert array.content(volume) == content


def test_out_to_a_lun_of_another_system_and_back_all_is_equal(world):
    array = Hosted(world.smirror)
    volume = array.make(16 * MIB)
    content = random_pattern(array, volume, 5)
    lun = world.lun(16 * MIB, "dirty")
    out = array.replica(volume, 8, 202, TargetElement=world.volume(lun))
    world.client.completed(out["Job"])
    with open(lun.path, "rb") as file:
        assert file.read() == content
    back = world.client.method("CreateReplica", {"SourceElement": world.volume(lun), "CopyType": 5, "TargetPool": DEFAULT}, expect=202)
    world.client.completed(back["Job"])
    assert array.content(back["TargetElement"]) == content
    # Into a volume that is there already, with something else in it.
    onto = array.make(16 * MIB)
    array.fill(onto, 9, 0, 16 * MIB)
    again = array.replica(world.volume(lun), 8, 202, TargetElement=onto)
    world.client.completed(again["Job"])
    assert array.content(onto) == content
    array.assert_no_orphans()


def test_a_copy_of_a_snapshot_is_of_its_moment_whatever_the_source_does(world):
    """The way to a consistent copy elsewhere while hosts write."""
    array = Hosted(world.smirror)
    volume = array.make(8 * MIB)
    array.fill(volume, 1, 0, 8 * MIB)
    snapshot = array.replica(volume)["TargetElement"]
    lun = world.lun(8 * MIB, "dirty")
    stop = threading.Event()

    def write():
        with array.host(volume) as session:
            writer = 2
            while not stop.is_set():
                session.fill(writer * 37 % 128 * KIB64, KIB64, writer)
                writer += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        answer = array.replica(snapshot, 8, 202, TargetElement=world.volume(lun))
        world.client.completed(answer["Job"])
    finally:
        stop.set()
        thread.join()
    with open(lun.path, "rb") as file:
        data = file.read()
    assert {luns.read_stamp(data[at:at + luns.BLOCK], at) for at in range(0, 8 * MIB, luns.BLOCK)} == {(1, 1)}


# ---- two at once

def test_sixteen_clients_snapshot_one_volume_while_hosts_write(make_service):
    array = Hosted(make_service())
    volume = array.make(8 * MIB)
    stamp, errors, answers = Stamp(16), [], {}
    each = max(1, 4 // SLOWNESS)
    try:
        stamp("volume", "v", array.url(volume), 4, 64)
        stamp("run", "v")

        def client(number):
            try:
                for turn in range(each):
                    mark = f"m{number}.{turn}"
                    stamp("mark", "v", mark)
                    answer = array.replica(volume)
                    stamp("marked", "v", mark)
                    answers[mark] = answer
            except BaseException as error:  # pylint: disable=broad-exception-caught
                errors.append(error)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors[0]
        assert len({answer["TargetElement"] for answer in answers.values()}) == 16 * each
        assert array.client.get(volume)["Layers"] == 16 * each + 1
        for mark, answer in answers.items():
            stamp("check", mark, array.url(answer["TargetElement"]))
        stamp("pause", "v")
        stamp("verify", "v", array.url(volume))
        array.assert_no_orphans()
    finally:
        stamp.close()


def at_once(*functions):
    """Calls them at the same time; what they return or raise, in order."""
    results = [None] * len(functions)
    barrier = threading.Barrier(len(functions))

    def run(number, function):
        barrier.wait()
        try:
            results[number] = function()
        except BaseException as error:  # pylint: disable=broad-exception-caught
            results[number] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def test_deleting_and_snapshotting_at_once_leaves_whole_volumes_only(array):
    """Whoever comes first; the other is told so, or works with what is left."""
    for turn in range(max(3, 12 // SLOWNESS)):
        volume = array.make(MIB)
        array.fill(volume, 1)
        old = array.replica(volume)
        calls = (
            lambda v=volume: array.client.method("ReturnToStoragePool", {"TheElement": v}, expect=(200, 400, 409)),
            lambda v=volume: array.client.method(CREATE, {"SyncType": 7, "SourceElement": v}, expect=(200, 400, 409)),
            lambda o=old: array.client.method(MODIFY, {"Operation": 19, "Synchronization": o["Synchronization"]}, expect=(200, 400, 409)),
            lambda o=old: array.client.method(CREATE, {"SyncType": 8, "SourceElement": o["TargetElement"]}, expect=(200, 400, 409)),
            lambda v=volume: array.client.method(ELEMENT, {"TheElement": v, "Size": 2 * MIB}, expect=(200, 400, 409)),
            lambda o=old: array.client.method("ReturnToStoragePool", {"TheElement": o["TargetElement"]}, expect=(200, 400, 409)))
        answers = at_once(*(calls[(turn + number) % len(calls)] for number in range(len(calls))))
        assert any(answer.status == 200 for answer in answers)
        for path in (answer.get("TargetElement") for answer in answers if answer.status == 200):
            if path and array.client.get(path, expect=(200, 404)).status == 200:
                assert array.writers(path) == {1}
    array.assert_all_online()
    array.assert_no_orphans()
    array.smirror.restart()
    array.assert_all_online()
    array.assert_no_orphans()


def test_the_same_volume_is_deleted_once(array):
    for _ in range(5):
        volume = array.make(MIB)
        snapshot = array.replica(volume)
        answers = at_once(*[lambda v=volume: array.client.method("ReturnToStoragePool", {"TheElement": v}, expect=(200, 400, 409))
                            for _ in range(8)])
        assert sorted(answer.status for answer in answers)[:2] != [200, 200] and answers
        assert sum(answer.status == 200 for answer in answers) == 1
        assert array.writers(snapshot["TargetElement"]) == {None}
        array.delete(snapshot["TargetElement"])
    array.assert_no_orphans()
