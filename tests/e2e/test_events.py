# SPDX-License-Identifier: Apache-2.0
"""GET /events: what is told, to whom, in which order, and what happens when it cannot be told."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from events import Refused, Stream
from pipes import pipe, portal
from process import MIB, SLOWNESS, until

CREATE = "CreateOrModifyElementFromStoragePool"


def create(client, name, size=MIB):
    return client.method(CREATE, {"ElementName": name, "Size": size}, expect=200)["TheElement"]


def rename(client, volume, name):
    client.method(CREATE, {"ElementName": name, "TheElement": volume}, expect=200)


def names(events, path):
    return [event.name for event in events if event.path == path]


def the_end(client, stream):
    """Everything up to now: a volume is made and its event waited for."""
    marker = create(client, "marker")
    return stream.until(lambda event: event.path == marker)[:-1]


def test_the_life_of_a_volume_is_told_in_the_order_of_the_commits(service):
    client = service.client
    with Stream(service) as stream:
        volume = create(client, "told")
        created = stream.until(lambda e: e.path == volume)[-1]
        assert created.name == "created" and created.object["ElementName"] == "told"
        rename(client, volume, "told otherwise")
        assert stream.until(lambda e: e.path == volume)[-1].object["ElementName"] == "told otherwise"
        answer = client.method("CreateElementReplica", {"SyncType": 7, "SourceElement": volume}, expect=200)
        seen = stream.until(lambda e: e.path == answer["Synchronization"])
        assert seen[-1].name == "created" and seen[-1].object["SystemElement"] == volume and seen[-1].object["CopyState"] == 4
        seen += the_end(client, stream)
        assert names(seen, answer["TargetElement"])[0] == "created"
        assert [e.object["Relationships"] for e in seen if e.path == volume][-1] == [answer["Synchronization"]]
        client.method("ModifyReplicaSynchronization", {"Operation": 19, "Synchronization": answer["Synchronization"]}, expect=200)
        client.method("ReturnToStoragePool", {"TheElement": volume}, expect=200)
        seen = stream.until(lambda e: e.name == "deleted" and e.path == volume)
        assert names(seen, answer["Synchronization"]) == ["deleted"] and names(seen, answer["TargetElement"])[-1] == "deleted"
        # What a pool has in it is told, too: a moment later.
        pool = stream.until(lambda e: e.path == "/pools/default")[-1]
        assert pool.name == "changed" and volume not in pool.object["Elements"]


def test_what_has_failed_is_not_told(service):
    client = service.client
    with Stream(service) as stream:
        create_body = {"ElementName": "none", "Size": 1 << 62}
        client.method(CREATE, create_body, expect=(400, 409, 422, 507))
        client.method("CreateElementReplica", {"SyncType": 7, "SourceElement": "/volumes/000000000000"}, expect=(400, 404, 422))
        volume = create(client, "first")
        rename(client, volume, "first")  # nothing changes
        assert [(e.name, e.path) for e in the_end(client, stream) if e.path != "/pools/default"] == \
            [("created", volume), ("created", volume.replace("volumes", "exports"))]


def test_groups_and_their_relationships_are_told(service):
    client = service.client
    volumes = [create(client, f"member{n}") for n in range(2)]
    with Stream(service, "?class=ReplicationGroup,GroupSynchronized,StorageSynchronized") as stream:
        group = client.method("CreateGroup", {"GroupName": "told"}, expect=200)["ReplicationGroup"]
        assert stream.next().path == group
        client.method("AddMembers", {"ReplicationGroup": group, "Members": volumes}, expect=200)
        assert stream.next().object["Members"] == volumes
        answer = client.method("CreateGroupReplica", {"SyncType": 7, "SourceGroup": group}, expect=200)
        marker = client.method("CreateGroup", {"GroupName": "marker"}, expect=200)["ReplicationGroup"]
        seen = stream.until(lambda e: e.path == marker)
        assert [e for e in seen if e.path == group][-1].object["AsSource"] == [answer["Synchronization"]]
        assert names(seen, answer["TargetGroup"])[0] == names(seen, answer["Synchronization"])[0] == "created"
        assert len([e for e in seen if e.data["Class"] == "StorageSynchronized" and e.name == "created"]) == 2


def test_pipes_and_access_points_are_told(service):
    client = service.client
    with Stream(service, "?path=/pipes,/accesspoints,/systems") as stream:
        point, endpoint, system = portal(client, "127.77.250.1:3260")
        made = pipe(client, system, SourceEndpoint=["/endpoints/initiator"], TargetEndpoint=[endpoint])
        seen = stream.until(lambda e: e.path == made)
        assert {point, system, made} <= {e.path for e in seen if e.name == "created"}
        client.delete(made, expect=204)
        stream.until(lambda e: e.path == made and e.name == "deleted")


def test_a_copy_is_told_from_its_job_to_its_end(world):
    source, target = world.volume(world.lun(4 * MIB, "full")), world.volume(size=4 * MIB)
    with Stream(world.smirror, "?class=ConcreteJob,StorageSynchronized") as stream:
        answer = world.clone(source, target, ReplicationSettingData={"BandwidthLimit": 3 << 19})
        seen, open_ends = [], {answer["Job"], answer["Synchronization"]}
        while open_ends:
            seen += stream.until(lambda e: e.object.get("JobState") == 7 or e.object.get("CopyState") == 4, 40)
            open_ends.discard(seen[-1].path)
    jobs = [e for e in seen if e.path == answer["Job"]]
    relationship = [e for e in seen if e.path == answer["Synchronization"]]
    assert jobs[0].name == relationship[0].name == "created"
    assert {e.name for e in jobs[1:] + relationship[1:]} == {"changed"}
    # 4 MiB at 1.5 MiB a second: the numbers move, once a second and with the checkpoints, never back.
    done = [e.object["BytesDone"] for e in jobs]
    assert done == sorted(done) and done[-1] == 4 * MIB
    if SLOWNESS == 1:
        assert 3 <= len(set(done)) and len(jobs) < 30, jobs
    assert relationship[-1].object["CopyState"] == 4 and jobs[-1].object["PercentComplete"] == 100


def test_a_stream_goes_on_where_it_was_cut(service):
    client = service.client
    # Of pools is told once a second, whenever that is.
    only = "?path=/volumes,/exports"
    with Stream(service, only) as whole:
        with Stream(service, only) as first:
            volumes = [create(client, f"cut{n}") for n in range(4)]
            seen = first.until(lambda e: e.path == volumes[1])
        rename(client, volumes[0], "meanwhile")
        client.method("ReturnToStoragePool", {"TheElement": volumes[3]}, expect=200)
        with Stream(service, only, last=seen[-1].id) as second:
            seen += second.until(lambda e: e.path == volumes[3] and e.name == "deleted")
        expected = whole.until(lambda e: e.path == volumes[3] and e.name == "deleted")
    assert [(e.id, e.name, e.path) for e in seen] == [(e.id, e.name, e.path) for e in expected]
    assert [e.data for e in seen] == [e.data for e in expected]
    # The id of the present, without any event.
    with Stream(service) as stream:
        present = stream.last_id
    volume = create(client, "after")
    with Stream(service, last=present) as stream:
        assert stream.until(lambda e: e.path == volume)[-1].name == "created"


def test_nothing_is_lost_or_doubled_while_many_clients_post(make_service):
    service = make_service()
    each = max(2, 12 // SLOWNESS)

    def client_of(number):
        made = []
        for n in range(each):
            made.append(create(service.client, f"v{number}-{n}"))
            rename(service.client, made[-1], f"w{number}-{n}")
            if n % 3 == 0:
                service.client.method("ReturnToStoragePool", {"TheElement": made[-1]}, expect=200)
        return made

    def cut_again_and_again(last):
        """A reader that reconnects after every five events. It may meet the last one before who made that has its answer."""
        seen = []
        while True:
            with Stream(service, "?class=StorageVolume", last=last) as stream:
                for _ in range(5):
                    seen.append(stream.next())
                    last = seen[-1].id
                    if (seen[-1].object or {}).get("ElementName") == "the last":
                        return seen

    with Stream(service, "?class=StorageVolume") as stream, ThreadPoolExecutor(18) as pool:
        cut = pool.submit(cut_again_and_again, stream.last_id)
        made = [volume for future in [pool.submit(client_of, n) for n in range(16)] for volume in future.result()]
        end = create(service.client, "the last")
        whole = stream.until(lambda e: e.path == end, 60)
        again = cut.result()
    assert [e.id for e in again] == [e.id for e in whole]
    assert all(a.number < b.number for a, b in zip(whole, whole[1:]))
    by_path = {}
    for event in whole[:-1]:
        by_path.setdefault(event.path, []).append(event)
    assert set(by_path) == set(made)
    there = {volume["self"]: volume for volume in service.client.list("/volumes")}
    for path, events in by_path.items():
        kinds = [event.name for event in events]
        assert kinds.count("created") == 1 and kinds[0] == "created", events
        assert kinds.count("deleted") == (path not in there), events
        if path in there:
            assert events[-1].object["ElementName"] == there[path]["ElementName"]
        else:
            assert kinds[-1] == "deleted"


def test_ids_from_before_a_restart_are_reset(make_service):
    service = make_service()
    with Stream(service) as stream:
        volume = create(service.client, "before")
        last = stream.until(lambda e: e.path == volume)[-1].id
    service.restart()
    with Stream(service, last=last) as stream:
        after = create(service.client, "after")
        assert stream.next().name == "reset"
        assert stream.until(lambda e: e.path == after)[-1].name == "created"
    epoch, number = stream.last_id.rsplit("-", 1)
    assert epoch != last.rsplit("-", 1)[0]
    for wrong in (f"{epoch}-{int(number) + 1000}", f"{epoch}-", f"{epoch}-x", "5", "-", "é".encode().decode("latin-1"), "a" * 3000):
        with Stream(service, last=wrong) as stream:
            assert stream.next().name == "reset", wrong
            # What it was told with leads on.
            assert stream.last_id.startswith(epoch)


def test_filters_let_through_what_they_name(service):
    client = service.client
    watched = create(client, "watched")
    with Stream(service, "?class=StorageVolume") as volumes, Stream(service, f"?path={watched}") as one, \
            Stream(service, "?path=/exports,/settings") as lists, Stream(service, f"?class=StorageVolume&path=/exports,{watched}") as both:
        other = create(client, "other")
        rename(client, watched, "watched again")
        last = create(client, "last")
        export = last.replace("volumes", "exports")
        assert [(e.name, e.path) for e in volumes.until(lambda e: e.path == last)] == \
            [("created", other), ("changed", watched), ("created", last)]
        assert one.next().object["ElementName"] == "watched again"
        assert [e.path for e in lists.until(lambda e: e.path == export)] == \
            [v.replace("volumes", "exports") for v in (other, watched, last)]
        assert both.next().path == watched
    for query, parameter in (("class=Volume", "class"), ("class=", "class"), ("class=StorageVolume,,ConcreteJob", "class"),
                             ("path=/nowhere", "path"), ("path=volumes", "path"), ("path=/volumes/", "path"),
                             ("path=/volumes/a/b", "path"), ("path=" + ",".join(["/jobs"] * 17), "path"), ("path=/jobs&path=/pools", "path"),
                             ("since=5", "since")):
        with pytest.raises(Refused) as refused:
            Stream(service, "?" + query)
        assert refused.value.status == 400 and refused.value.body["Parameter"] == parameter, query


def test_the_stream_asks_for_what_every_get_asks_for(service):
    target = "/events"
    status, _, _ = service.client.raw("GET", target, headers={})
    assert status == 401
    service.client.call("GET", target, headers={"Authorization": None}, expect=401)
    assert service.client.call("POST", target, body={}, wrong=True).status == 405
    status, headers, text = service.client.raw("HEAD", target, headers={"Authorization": f"Bearer {service.client.token}"})
    assert (status, headers["Content-Type"], text) == (200, "text/event-stream", "")


def test_streams_leave_connections_to_others_and_give_their_places_back(make_service):
    service = make_service("--http-connections", "16")
    streams = [Stream(service) for _ in range(2)]
    with pytest.raises(Refused) as refused:
        Stream(service)
    assert refused.value.status == 503 and refused.value.body["Code"] == "overloaded"
    create(service.client, "others work")
    streams.pop().close()

    def again():
        try:
            return Stream(service)
        except Refused:
            return None

    streams.append(until(again, 5, "the place of a client that has gone is free"))
    for stream in streams:
        stream.close()


def test_a_reader_that_does_not_read_disturbs_nobody(make_service):
    service = make_service()
    client = service.client
    volumes = [create(client, f"busy{n}") for n in range(8)]
    rounds = max(4, 60 // SLOWNESS)
    with Stream(service, "?path=/volumes", receive_buffer=4096) as stuck, Stream(service, "?path=/volumes") as reader:
        def busy(volume):
            for n in range(rounds):
                rename(client, volume, f"{n} " + "x" * 200)

        threads = [threading.Thread(target=busy, args=(volume,)) for volume in volumes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        last = create(client, "the last")
        seen = reader.until(lambda e: e.path == last)
        # It gets the same when it reads at last, unless it was too late.
        late = stuck.until(lambda e: e.path == last)
    if late[0].name != "reset" and not any(e.name == "reset" for e in late):
        assert [e.id for e in late] == [e.id for e in seen]
    for volume in volumes:
        assert [e.object["ElementName"] for e in seen if e.path == volume][-1].startswith(f"{rounds - 1} ")


def test_two_hundred_readers_and_the_end_of_the_service(make_service):
    service = make_service()
    client = service.client
    streams = [Stream(service, check=False) for _ in range(200)]
    made = []
    began = time.monotonic()
    for n in range(10):
        made.append(create(client, f"for all {n}"))
    assert time.monotonic() - began < 5 * SLOWNESS
    for stream in streams:
        seen = stream.until(lambda e: e.path == made[-1])
        assert [e.path for e in seen if e.name == "created" and e.path.startswith("/volumes/")] == made
    metrics = client.raw("GET", "/metrics", headers={"Authorization": f"Bearer {client.token}"})[2]
    assert "\nsmirror_event_streams 200\n" in metrics
    service.stop()
    for stream in streams:
        with pytest.raises(EOFError):
            while True:
                stream.next()
        assert stream.ended, "the stream was cut, not ended"
        stream.close()


def test_curl_alone_is_enough(service):
    import subprocess
    command = ["curl", "-sSN", "--max-time", str(20 * SLOWNESS), "-H", f"@{service.ready['auth_header_file']}",
               f"http://{service.http}/events?path=/volumes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        try:
            assert curl.stdout.readline() == "retry: 1000\n"
            volume = create(service.client, "by curl")
            # Between them: where the stream is, and what else happens to volumes.
            lines = []
            while not lines or f'"Path":"{volume}"' not in lines[-1]:
                lines.append(curl.stdout.readline())
                assert lines[-1], f"the stream has ended: {lines}"
            assert lines[-2] == "event: created\n" and lines[-1].startswith("data: {") and lines[-3].startswith("id: ")
            assert curl.stdout.readline() == "\n"
        finally:
            curl.kill()
