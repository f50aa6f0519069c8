# SPDX-License-Identifier: Apache-2.0
"""Answers are kept between changes, on connections that are kept alive; none of them is ever older than the last change."""

import collections
import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from client import Client
from process import MIB, SLOWNESS

CONNECTIONS = 16
LISTS = ("/volumes", "/systems", "/pools", "/accesspoints", "/synchronizations", "/settings", "/jobs", "/services", "/endpoints")


def steady(body):
    """A list without what the file system says: the space of a pool of files changes when anybody writes a file there."""
    for member in body["Members"]:
        if member["class"] == "StoragePool" and member["Kind"] == "file":
            del member["TotalManagedSpace"], member["RemainingManagedSpace"]
    return body


class Readers:
    """Connections that stay open, each in a thread of its own, and that ask all at once."""

    def __init__(self, world):
        self.world = world
        self.clients = [Client(world.smirror.http, world.client.token) for _ in range(CONNECTIONS)]
        self.threads = [ThreadPoolExecutor(1) for _ in self.clients]
        self.limits = collections.defaultdict(lambda: itertools.count(101))

    def all(self, work):
        """What work(client) gives on every connection; all begin at the same time."""
        barrier = threading.Barrier(CONNECTIONS)

        def one(client):
            barrier.wait(60)
            return work(client)

        futures = [thread.submit(one, client) for thread, client in zip(self.threads, self.clients)]
        return [future.result(120) for future in futures]

    def read(self, *targets):
        """For each target the different texts that all connections got, each twice: the second may come out of what is kept."""
        def work(client):
            # raw: the contract is looked at in other tests, and costs more than the answer
            answers = [(target, client.raw("GET", target, headers={"Authorization": f"Bearer {client.token}"}))
                       for _ in range(2) for target in targets]
            assert all(status == 200 for _, (status, _, _) in answers), answers
            return [(target, text) for target, (_, _, text) in answers]

        texts = {target: set() for target in targets}
        for answers in self.all(work):
            for target, text in answers:
                texts[target].add(text)
        return texts

    def made_anew(self, target):
        """The same list under a limit that nobody has asked for before: it cannot have been kept."""
        return steady(self.world.client.get(target, limit=next(self.limits[target])).body)

    def check(self, *lists):
        """All connections see what a list is now, and that is returned. Again when the service has found out something itself
        meanwhile, such as whether a new portal answers."""
        for _ in range(10):
            fresh = {target: self.made_anew(target) for target in lists}
            seen = self.read(*lists)
            if fresh == {target: self.made_anew(target) for target in lists}:
                break
        for target in lists:
            for text in seen[target]:
                assert steady(json.loads(text)) == fresh[target], target
        return fresh

    def close(self):
        for thread, client in zip(self.threads, self.clients):
            thread.submit(client.close).result(10)
            thread.shutdown()


@pytest.fixture
def quiet(make_world):
    """A world in which nothing changes by itself, once its jobs have ended; its readers have read everything."""
    world = make_world("--reach-interval", "1h", "--job-keep", "1h")
    world.readers = Readers(world)
    yield world
    world.readers.close()


def changes(world):
    """(what it is, how to make it, lists that show it): the calls in an order in which each of them is possible."""
    client = world.client
    state = {}

    def keep(name, value):
        state[name] = value

    source, free = world.lun(MIB, "full"), [world.lun(MIB) for _ in range(3)]

    def clone():
        answer = world.clone(state["source"], state["v0"], wait=True)
        keep("job", answer["Job"])
        keep("sync", answer["Synchronization"])

    def modify(operation):
        return lambda: client.method("ModifyReplicaSynchronization", {"Operation": operation, "Synchronization": state["sync"]})

    def resync():
        answer = modify(14)()
        if answer["Job"]:
            client.completed(answer["Job"])

    def pool(body):
        return client.method("CreateOrModifyStoragePool", body, expect=200)["Pool"]

    yield "a LUN becomes a volume", lambda: keep("source", client.volume_of(source.url)), ("/volumes", "/systems")
    for i in range(3):
        yield "another one", lambda i=i: keep(f"v{i}", client.volume_of(free[i].url)), ("/volumes",)
    yield "a portal", lambda: keep("point", client.method("AddServiceAccessPoint", {
        "ServiceAccessPoint": {"AccessInfo": "127.1.2.3:3260"}})["ServiceAccessPointPath"]), ("/accesspoints", "/systems")
    yield "a secret", lambda: client.method("AddSharedSecret", {
        "SharedSecret": {"RemoteID": "user", "Secret": "secretsecret1"}, "ServiceAccessPoint": state["point"]}), ("/accesspoints",)
    yield "the portal goes", lambda: client.delete(state["point"]), ("/accesspoints",)
    yield "a pool", lambda: keep("pool", pool({"InExtents": [state["v1"]], "ElementName": "fresh"})), ("/pools", "/volumes")
    yield "a pool grows", lambda: pool({"Pool": state["pool"], "InExtents": [state["v1"], state["v2"]]}), ("/pools", "/volumes")
    yield "a pool gets a name", lambda: pool({"Pool": state["pool"], "ElementName": "other"}), ("/pools",)
    yield "a copy", clone, ("/volumes", "/synchronizations", "/jobs")
    yield "a copy again", resync, ("/synchronizations", "/jobs")
    yield "a job is deleted", lambda: client.delete(state["job"]), ("/jobs",)
    yield "a relationship ends", modify(8), ("/synchronizations", "/volumes")
    yield "a replica from the pool", lambda: client.completed(client.method("CreateReplica", {
        "SourceElement": state["source"], "TargetPool": state["pool"], "CopyType": 4})["Job"]), ("/pools", "/volumes", "/jobs")
    yield "a goal", lambda: client.completed(client.method("AttachOrModifyReplica", {
        "SourceElement": state["source"], "TargetElement": state["v0"], "CopyType": 5,
        "Goal": {"BandwidthLimit": 12345678}})["Job"]), ("/settings", "/volumes")
    yield "a volume is forgotten", lambda: client.delete(state["v0"]), ("/volumes",)


def test_every_change_is_seen_at_once_on_every_connection(quiet):
    readers = quiet.readers
    now = readers.check(*LISTS)
    for what, change, shows in changes(quiet):
        change()
        quiet.settle()
        before, now = now, readers.check(*LISTS)
        for target in shows:
            assert now[target] != before[target], f"{what} does not show in {target}"


def test_who_posts_reads_it_on_any_connection_while_others_post(quiet):
    """Every connection makes changes of its own and reads after each, on itself and on another one."""
    readers = quiet.readers
    rounds = 12 if SLOWNESS == 1 else 5
    source = quiet.volume(size=MIB)
    targets = [quiet.volume(size=MIB) for _ in range(CONNECTIONS)]
    numbers = {client: i for i, client in enumerate(readers.clients)}

    def work(client):
        i = numbers[client]
        other = Client(quiet.smirror.http, quiet.client.token)
        for _ in range(rounds):
            made = client.method("CreateElementReplica", {"SyncType": 8, "SourceElement": source, "TargetElement": targets[i],
                                                          "WaitForCopyState": 8})["Synchronization"]
            for reader in (client, other):
                assert made in [member["self"] for member in reader.get("/synchronizations")["Members"]]
                shown = {member["self"]: member for member in reader.get("/volumes")["Members"]}
                assert shown[targets[i]]["Relationships"] == [made]
                assert made in shown[source]["Relationships"]
                assert reader.get(targets[i])["Relationships"] == [made]
            client.method("ModifyReplicaSynchronization", {"Operation": 8, "Synchronization": made})
            for reader in (other, client):
                reader.get(made, expect=404)
                assert made not in [member["self"] for member in reader.get("/synchronizations")["Members"]]
                assert reader.get(targets[i])["Relationships"] == []
        other.close()

    readers.all(work)
    readers.check("/volumes", "/synchronizations")


def test_a_running_copy_moves_in_lists_while_nothing_is_committed(quiet):
    """Live counters and the time are in no record (checkpoints are committed every two seconds): a list that shows them is made
    anew each time."""
    _, source, _, target = quiet.pair(4 * MIB)
    answer = quiet.slow_clone(source, target)
    seen = {"job": set(), "elapsed": set()}

    def moved(jobs):
        job, = [member for member in jobs["Members"] if member["self"] == answer["Job"]]
        seen["job"].add(job["BytesDone"])
        seen["elapsed"].add(job["ElapsedTime"])
        return len(seen["job"]) >= 4 and len(seen["elapsed"]) >= 60

    quiet.client.until("/jobs", moved, 30 * SLOWNESS)
    quiet.terminate(answer["Job"])
    quiet.readers.check("/jobs", "/synchronizations", "/volumes")


def test_what_was_kept_does_not_outlive_a_restart(quiet):
    """The records may be changed while the service is down; readers are new after it."""
    volume = quiet.volume(size=MIB)
    assert quiet.client.get(volume)["Relationships"] == []
    quiet.readers.check(*LISTS)
    target = quiet.volume(size=MIB)
    quiet.clone(volume, target, wait=True)
    before = quiet.client.get(volume).body
    quiet.smirror.restart()
    for client in quiet.readers.clients:
        client._where = lambda: quiet.smirror.http  # pylint: disable=protected-access
    text, = quiet.readers.read(volume)[volume]
    assert json.loads(text) == before
