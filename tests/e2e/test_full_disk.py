# SPDX-License-Identifier: Apache-2.0
"""A disk that takes nothing more: it is told, nothing is lost, and the service goes on when there is space again."""

import os
import subprocess

import pytest

from client import method_path
from process import SLOWNESS, hand_over, until

PORTAL = method_path("AddServiceAccessPoint")


def portal(number):
    return {"ServiceAccessPoint": {"AccessInfo": f"127.9.{number // 250}.{number % 250 + 1}:3260"}}


class FileSizes:
    """A limit on the size of files, at which the write-ahead log is already: the records meet it as they meet a full disk. The log of
    the service is smaller."""

    def __init__(self, service):
        self.service = service

    def __enter__(self):
        self._set(f"{self.service.database.with_name('smirror.db-wal').stat().st_size}:")

    def __exit__(self, *_):
        self._set("unlimited:")

    def _set(self, soft):
        subprocess.run(["prlimit", "--pid", str(self.service.process.pid), f"--fsize={soft}"], check=True, **self.service.user)


def ready(service):
    """The status of /readyz, and its problem."""
    answer = service.client.call("GET", "/readyz", headers={"Authorization": None}, expect=(200, 503), wrong=True)
    if answer.status == 503:
        assert answer["Code"] == "not_ready" and "full" in answer["detail"], answer.text
    return answer.status


def test_readyz_tells_that_the_records_take_no_commit_and_recovers(make_service):
    service = make_service("--reach-interval", "1h")
    assert ready(service) == 200
    kept = service.client.post(PORTAL, portal(1), expect=200)["ServiceAccessPointPath"]
    with FileSizes(service):
        until(lambda: ready(service) == 503, 10, "it is not ready")
        refused = service.client.post(PORTAL, portal(2), expect=507)
        assert refused["Code"] == "no_space"
        assert ready(service) == 503
        service.client.get("/healthz")
        assert service.client.get(kept)["AccessInfo"] == "127.9.0.2:3260"
    until(lambda: ready(service) == 200, 10, "it is ready again")
    service.client.post(PORTAL, portal(2), expect=200)
    assert service.client.get("/accesspoints")["Total"] == 2
    assert service.log().count("is not ready, its records take no commit") == 1
    assert service.log().count("is ready again") == 1


def test_a_full_disk_does_not_flood_the_log(make_service):
    """Calls fail, readiness is asked for, and the events of portals are tried again all the time."""
    service = make_service("--reach-interval", "1s")
    for i in range(3):
        service.client.post(PORTAL, portal(i), expect=200)
    before = service.log().count("\n")
    with FileSizes(service):
        for i in range(200):
            service.client.post(PORTAL, portal(10 + i), expect=507)
            ready(service)
        until(lambda: "could not be recorded" in service.log(), 10, "an event has met the full disk")
        lines = service.log().splitlines()[before:]
    assert len([line for line in lines if " error " in line or " warning " in line]) <= 8, "\n".join(lines)
    until(lambda: ready(service) == 200, 10, "it is ready again")


@pytest.fixture
def small_disk(make_service):
    """A service whose data directory is a disk of its own, of 2 MiB."""
    service = make_service(start=False)
    service.data.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "none", service.data], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no file system of its own can be mounted here: {done.stderr.strip()}")
    try:
        hand_over(service.data, service.user)
        yield service
        service.close()
    finally:
        if service.process is not None and service.process.poll() is None:
            service.kill()
        subprocess.run(["umount", service.data], check=True)


def fill(service):
    """Until nothing more goes in."""
    with open(service.data / "ballast", "ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    stat = os.statvfs(service.data)
    assert stat.f_bavail == 0, stat


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_it_starts_on_a_full_disk(small_disk, end):
    service = small_disk.start()
    kept = [service.client.post(PORTAL, portal(i), expect=200)["ServiceAccessPointPath"] for i in range(5)]
    if end == "kill":
        fill(service)
    getattr(service, end)()
    fill(service)
    header = (service.data / "auth-header").stat()
    service.start("--reach-interval", "1h")
    assert (service.data / "auth-header").stat().st_ino == header.st_ino, "it was written, though nothing has changed"
    assert [member["self"] for member in service.client.list("/accesspoints")] == kept
    assert ready(service) == 503
    service.client.post(PORTAL, portal(9), expect=507)
    (service.data / "ballast").unlink()
    until(lambda: ready(service) == 200, 10, "it is ready again")
    service.client.post(PORTAL, portal(9), expect=200)
    assert service.stop() < 5 * SLOWNESS


def test_a_first_start_on_a_full_disk_says_so(small_disk):
    fill(small_disk)
    small_disk.spawn()
    assert small_disk.process.wait(20 * SLOWNESS) == 1
    assert "No space left on device" in small_disk.log()
    assert "cannot start" in small_disk.log()
    small_disk.process = None
