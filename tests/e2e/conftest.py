# SPDX-License-Identifier: Apache-2.0
"""What the tests share: directories in memory, a service, an array, and the coverage of the contract."""

import faulthandler
import itertools
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

import lun as luns
from contract import coverage
from process import MIB, SLOWNESS, SMIRRORD
from smirror import Smirror
from tgtd import Tgtd

_numbers = itertools.count(1)
HANGS_SECONDS = 600

# Files that take longest, beginning with them: workers take files in this order, so that none has a long one left at the end.
LONG = ("crash", "mirror_faults", "async_faults", "mirrors", "hydration", "copy", "concurrency", "hosted_crash", "states", "stop", "snapshots", "jobs", "fresh_reads",
        "testcu", "methods_table", "hosted_restart", "hosted_tools")


def pytest_addoption(parser):
    parser.addoption("--contract-coverage", metavar="DIR", help="write there which operations of the contract were exercised")


def pytest_configure(config):
    config.addinivalue_line("markers", "big: moves a lot of data or takes long; not in ./test fast, not under sanitizers")
    config.addinivalue_line("markers", "release: about time or memory, which sanitizers change; not under sanitizers")


def pytest_collection_modifyitems(config, items):
    if SLOWNESS > 1:
        kept = [item for item in items if not (item.get_closest_marker("big") or item.get_closest_marker("release"))]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
    if getattr(config.option, "numprocesses", None) or hasattr(config, "workerinput"):
        order = {f"test_{name}.py": number for number, name in enumerate(LONG)}
        items.sort(key=lambda item: order.get(item.path.name, len(LONG)))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):  # pylint: disable=unused-argument
    """A test that hangs says where, and ends its worker: the others go on."""
    faulthandler.dump_traceback_later(HANGS_SECONDS, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


def pytest_sessionstart(session):
    if not SMIRRORD.exists():
        pytest.exit(f"{SMIRRORD} is not there: build it first (./test does), or name another one in SMIRRORD", 2)


def pytest_sessionfinish(session):
    directory = session.config.getoption("--contract-coverage")
    if directory and coverage.seen:
        coverage.write(directory)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the log of the service with a test that failed."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            service = getattr(value, "smirror", value)
            if isinstance(service, Smirror):
                report.sections.append((f"log of smirrord ({name})", service.log()[-6000:]))


@pytest.fixture(scope="session")
def room():
    """A directory of this worker's own, in memory where that is possible; gone at the end."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="smirror-e2e-", dir=base))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _directory(room, what):
    path = room / f"{what}{next(_numbers)}"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture
def directory(room):
    path = _directory(room, "test")
    yield path
    shutil.rmtree(path, ignore_errors=True)


class _Unchanged:
    # What the service keeps up to date by itself.
    LIVE = ("access_points.reachable", "access_points.probed", "access_points.last_seen_ms", "access_points.last_tried_ms",
            "access_points.last_error", "volumes.last_seen_ms", "volumes.problem")

    def __init__(self, smirror, but):
        self.smirror = smirror
        self.but = self.LIVE + but

    def __enter__(self):
        self.before = self.smirror.records(but=self.but)

    def __exit__(self, kind, value, traceback):
        if kind is None:
            after = self.smirror.records(but=self.but)
            for table, rows in after.items():
                assert rows == self.before.get(table), f"{table} has changed"


class World:
    """An array with one target, a service, and short words for what nearly every test does."""

    def __init__(self, room, *options):
        self.directory = _directory(room, "world")
        self.array = None
        self.smirror = None
        try:
            self.array = Tgtd(self.directory / "array")
            self.target = self.array.target()
            self.smirror = Smirror(self.directory / "smirror", *options)
        except BaseException:
            self.close(check=False)
            raise
        self.client = self.smirror.client
        self._files = itertools.count(1)

    def file(self, what="lun"):
        return self.directory / f"{what}{next(self._files)}"

    def lun(self, size=4 * MIB, fill=None, **options):
        """A LUN of the first target. fill: None is empty, "full" stamped, "dirty" full of 0xdb."""
        path = self.file()
        if fill == "full":
            luns.full(path, size)
        elif fill == "dirty":
            luns.dirty(path, size)
        else:
            luns.create(path, size)
        return self.target.lun(path, **options)

    def volume(self, lun=None, **options):
        """The path of a volume: of this LUN, or of a new one."""
        return self.client.volume_of((lun or self.lun(**options)).url)

    def pair(self, size=4 * MIB, target_size=None, source_options=None, target_options=None, fill="full", target_fill=None):
        """(source LUN, its volume, target LUN, its volume)"""
        source = self.lun(size, fill, **(source_options or {}))
        target = self.lun(target_size or size, target_fill, **(target_options or {}))
        return source, self.volume(source), target, self.volume(target)

    def pool(self, *lun_or_volumes, name=None):
        volumes = [v if isinstance(v, str) else self.volume(v) for v in lun_or_volumes]
        body = {"InExtents": volumes}
        if name:
            body["ElementName"] = name
        return self.client.method("CreateOrModifyStoragePool", body, expect=200)["Pool"]

    def clone(self, source, target=None, wait=False, **more):
        """CreateElementReplica of a clone; the answer, when wait is true after its job has completed."""
        body = {"SyncType": 8, "SourceElement": source, **more}
        if target:
            body["TargetElement"] = target
        answer = self.client.method("CreateElementReplica", body, expect=202)
        if wait:
            self.client.completed(answer["Job"], 60 * SLOWNESS)
        return answer

    def slow_clone(self, source, target, **more):
        """A clone that goes on for long: 4 MiB at 128 KiB a second. It copies when this returns."""
        answer = self.clone(source, target, ReplicationSettingData={"BandwidthLimit": 128 << 10}, **more)
        self.copying(answer["Synchronization"])
        return answer

    def copying(self, synchronization):
        """The relationship, when its copy has begun."""
        return self.client.until(synchronization, lambda r: r["CopyState"] != 2, 20)

    def terminate(self, *jobs):
        """Terminates jobs and waits for their end."""
        for job in jobs:
            self.client.post(f"{job}/RequestStateChange", {"RequestedState": 4}, expect=(200, 202, 409))
        return [self.client.wait(job, 30 * SLOWNESS) for job in jobs]

    def synchronization(self, source, target):
        """The relationship of two volumes, None where there is none."""
        found = self.client.get("/synchronizations", SystemElement=source, SyncedElement=target)["Members"]
        assert len(found) <= 1
        return found[0] if found else None

    def unchanged(self, *but):
        """A context in which nothing may be created, changed or removed."""
        return _Unchanged(self.smirror, but)

    def settle(self):
        """Waits until no job runs."""
        for job in self.client.list("/jobs"):
            if job["JobState"] not in (7, 8, 9, 10):
                self.client.wait(job["self"], 60 * SLOWNESS)

    def close(self, check=True):
        try:
            if self.smirror is not None:
                if check:
                    self.smirror.close()
                elif self.smirror.process is not None:
                    self.smirror.kill()
        finally:
            if self.array is not None:
                self.array.kill()
            shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture
def world(room):
    """A fresh array and a fresh service for one test."""
    result = World(room)
    yield result
    result.close()


@pytest.fixture(scope="module")
def shared(room):
    """The same for all tests of a file: they must not get into each other's way."""
    result = World(room)
    yield result
    result.close()


@pytest.fixture
def make_world(room):
    """Worlds with options of smirrord."""
    made = []

    def make(*options):
        made.append(World(room, *options))
        return made[-1]

    yield make
    for result in made:
        result.close()


@pytest.fixture
def make_service(room):
    """Services without an array, in directories of their own."""
    made = []

    def make(*options, **kwargs):
        made.append(Smirror(_directory(room, "service"), *options, **kwargs))
        return made[-1]

    yield make
    for service in made:
        service.close()
        shutil.rmtree(service.directory, ignore_errors=True)


@pytest.fixture(scope="module")
def service(room):
    """One service without an array for all tests of a file."""
    result = Smirror(_directory(room, "service"))
    yield result
    result.close()
