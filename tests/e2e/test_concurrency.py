# SPDX-License-Identifier: Apache-2.0
"""Many clients at once: exactly the right number of jobs, and no answer that is not true."""

import collections
import threading
import uuid

import pytest

from client import Client
from process import MIB, SLOWNESS

CLIENTS = 200 if SLOWNESS == 1 else 60


def at_once(world, count, work):
    """Runs work(client, i) in count threads with connections of their own that begin together; their results."""
    results, errors = [None] * count, []
    barrier = threading.Barrier(count)

    def one(i):
        client = Client(world.smirror.http, world.client.token, timeout=120)
        try:
            client.get("/healthz")
            barrier.wait()
            results[i] = work(client, i)
        except Exception as error:  # pylint: disable=broad-except
            errors.append(error)
            barrier.abort()
        finally:
            client.close()

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise [e for e in errors if not isinstance(e, threading.BrokenBarrierError)][0]
    return results


@pytest.fixture
def many(make_world):
    world = make_world("--job-keep", "1h")
    world.sources = [world.volume(size=MIB) for _ in range(10)]
    return world


def test_200_clients_with_keys_of_their_own_get_a_job_each(many):
    """Each client sends its request twice, the second time as if the first answer had been lost."""
    targets = [many.volume(size=MIB) for _ in range(CLIENTS)]

    def work(client, i):
        body = {"SyncType": 8, "SourceElement": many.sources[i % 10], "TargetElement": targets[i]}
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        first = client.method("CreateElementReplica", body, headers=headers, expect=202)
        second = client.method("CreateElementReplica", body, headers=headers, expect=202)
        assert first.text == second.text and first.location == second.location
        return first["Job"]

    jobs = at_once(many, CLIENTS, work)
    assert len(set(jobs)) == CLIENTS
    assert {job["self"] for job in many.client.list("/jobs", limit=1000)} == set(jobs)
    assert many.client.get("/synchronizations")["Total"] == CLIENTS
    for job in jobs:
        many.client.completed(job, 120 * SLOWNESS)


def test_200_clients_that_share_20_keys_get_20_jobs(many):
    targets = [many.volume(size=MIB) for _ in range(20)]
    keys = [str(uuid.uuid4()) for _ in range(20)]

    def work(client, i):
        return client.method("CreateElementReplica", {"SyncType": 8, "SourceElement": many.sources[i % 10], "TargetElement": targets[i % 20]},
                             headers={"Idempotency-Key": keys[i % 20]}, expect=202)

    answers = at_once(many, CLIENTS, work)
    assert len({answer["Job"] for answer in answers}) == 20
    assert len({answer.text for answer in answers}) == 20
    assert many.client.get("/jobs")["Total"] == 20 == many.client.get("/synchronizations")["Total"]
    many.settle()


def test_200_clients_without_keys_that_want_20_targets_get_20_jobs_and_the_others_are_told(many):
    targets = [many.volume(size=4 * MIB) for _ in range(20)]

    def work(client, i):
        return client.method("CreateElementReplica", {
            "SyncType": 8, "SourceElement": many.sources[i % 10], "TargetElement": targets[i % 20],
            "ReplicationSettingData": {"BandwidthLimit": 64 << 10}}, expect=(202, 409))

    answers = at_once(many, CLIENTS, work)
    statuses = collections.Counter(answer.status for answer in answers)
    assert statuses == {202: 20, 409: CLIENTS - 20}
    assert all(answer["ReturnValue"] == 6 and answer["BlockedOn"] for answer in answers if answer.status == 409)
    jobs = {answer["Job"] for answer in answers if answer.status == 202}
    assert {job["self"] for job in many.client.list("/jobs")} == jobs
    many.terminate(*jobs)


def test_200_clients_without_keys_that_take_luns_from_a_pool_of_50_get_50(many):
    pool = many.pool(*[many.volume(size=MIB) for _ in range(50)])

    def work(client, i):
        return client.method("CreateReplica", {"SourceElement": many.sources[i % 10], "TargetPool": pool, "CopyType": 4}, expect=(202, 507))

    answers = at_once(many, CLIENTS, work)
    made = [answer for answer in answers if answer.status == 202]
    assert len(made) == 50
    assert len({answer["TargetElement"] for answer in made}) == len({answer["Job"] for answer in made}) == 50
    assert all(answer["Code"] == "no_space" for answer in answers if answer.status == 507)
    many.settle()


def test_readers_see_whole_states_while_writers_write(many):
    """What one answer says fits together: a job that a relationship names exists, a target has its relationship."""
    targets = [many.volume(size=MIB) for _ in range(40)]

    def work(client, i):
        if i < 20:
            for target in targets[2 * i:2 * i + 2]:
                client.method("CreateElementReplica", {"SyncType": 8, "SourceElement": many.sources[i % 10], "TargetElement": target}, expect=202)
            return None
        for _ in range(15):
            for relationship in client.get("/synchronizations", limit=1000)["Members"]:
                if relationship["Job"]:
                    job = client.get(relationship["Job"])
                    assert relationship["self"] in [copy["Synchronization"] for copy in job["Copies"]]
                else:
                    assert relationship["CopyState"] == 4
        return None

    at_once(many, 28, work)
    many.settle()
    assert many.client.get("/synchronizations")["Total"] == 40
    assert all(r["CopyState"] == 4 for r in many.client.list("/synchronizations"))
