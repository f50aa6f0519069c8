# SPDX-License-Identifier: Apache-2.0
"""Short words for tests of hosted volumes: volumes, snapshots, pools, their files and rows, and stamped I/O."""

import contextlib
import os
import subprocess
import threading

from client import ENDED
from initiator import Initiator, host
from process import MIB, SLOWNESS, SMIRRORD, start_process, until

ELEMENT = "CreateOrModifyElementFromStoragePool"
POOL = "CreateOrModifyStoragePool"
CREATE = "CreateElementReplica"
MODIFY = "ModifyReplicaSynchronization"
DEFAULT = "/pools/default"


class Hosted:
    """A service and its hosted volumes. Volumes are paths."""

    def __init__(self, smirror):
        self.smirror = smirror

    @property
    def client(self):
        return self.smirror.client

    # ---- volumes

    def make(self, size=4 * MIB, pool=None, name=None, **more):
        body = {"Size": size, **({"InPool": pool} if pool else {}), **({"ElementName": name} if name else {}), **more}
        return self.client.method(ELEMENT, body, expect=200)["TheElement"]

    def grow(self, volume, size):
        return self.client.method(ELEMENT, {"TheElement": volume, "Size": size}, expect=200)

    def delete(self, volume, expect=200):
        return self.client.method("ReturnToStoragePool", {"TheElement": volume}, expect=expect)

    def url(self, volume):
        return self.client.get(volume)["Url"]

    def host(self, volume, **options):
        return host(self.url(volume), **options)

    def session(self, volume, **options):
        """One that the caller closes."""
        return Initiator(self.url(volume), **options)

    def fill(self, volume, writer, offset=0, length=MIB):
        with self.host(volume) as session:
            session.fill(offset, length, writer)
            session.flush()

    def writers(self, volume, offset=0, length=MIB):
        with self.host(volume) as session:
            return session.writers(offset, length)

    def content(self, volume):
        with self.host(volume) as session:
            return session.read(0, session.size())

    def volumes(self):
        return {each["self"]: each for each in self.client.list("/volumes") if each["Kind"] == "hosted"}

    def assert_all_online(self):
        for path, volume in self.volumes().items():
            assert volume["Problem"] is None and volume["Online"] and volume["OperationalStatus"] == [2], (path, volume)

    # ---- replicas

    def replica(self, source, sync_type=7, expect=200, **more):
        return self.client.method(CREATE, {"SyncType": sync_type, "SourceElement": source, **more}, expect=expect)

    def modify(self, answer, operation, expect=200, **more):
        synchronization = answer if isinstance(answer, str) else answer["Synchronization"]
        return self.client.method(MODIFY, {"Operation": operation, "Synchronization": synchronization, **more}, expect=expect)

    # ---- pools

    def make_pool(self, directory=None, size=None, name=None, expect=200):
        body = {}
        if directory is not None:
            body["Goal"] = {"Directory": str(directory)}
        if size is not None:
            body["Size"] = size
        if name is not None:
            body["ElementName"] = name
        return self.client.method(POOL, body, expect=expect)["Pool"]

    def used(self, pool=DEFAULT):
        return self.client.get(pool)["UsedSpace"]

    def directory(self, pool=DEFAULT):
        return self.smirror.data / self.client.get(pool)["Directory"]

    def files(self, pool=DEFAULT):
        return {name.removesuffix(".layer") for name in os.listdir(self.directory(pool)) if name.endswith(".layer")}

    def layer_rows(self, pool=DEFAULT):
        return {row[0] for row in self.smirror.query("SELECT id FROM layers WHERE pool_id = ?", pool.rsplit("/", 1)[1])}

    def assert_no_orphans(self, pool=DEFAULT):
        """A file for each row and a row for each file, at the latest when what is under way has ended."""
        until(lambda: self.files(pool) == self.layer_rows(pool), 10, "files are those of the records")

    def layers_become(self, volume, number=1, timeout=30):
        return self.client.until(volume, lambda v: v["Layers"] == number, timeout * SLOWNESS)

    def settle(self):
        for job in self.client.list("/jobs"):
            if job["JobState"] not in ENDED:
                self.client.wait(job["self"], 60 * SLOWNESS)


class Lost(Exception):
    """The array went away meanwhile."""


class Stamp:
    """tests/tools/stamp.c: random I/O that goes on by itself, and knows what every block may hold."""

    def __init__(self, seed=1):
        self.process = start_process([str(SMIRRORD.parent / "tests" / "stamp"), "--seed", str(seed)], text=True,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.lock = threading.Lock()

    def __call__(self, *words):
        with self.lock:
            try:
                self.process.stdin.write(" ".join(map(str, words)) + "\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                pass  # its last words say why
            answer = self.process.stdout.readline().strip()
        if answer.startswith("lost"):
            raise Lost(answer)
        assert answer.startswith("ok"), f"{' '.join(map(str, words))}: {answer or 'stamp has ended'}"
        return answer

    def stats(self, volume):
        return dict(zip(("writes", "reads", "flushes", "discards"), map(int, self("stats", volume).split()[1::2])))

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise


@contextlib.contextmanager
def busy(array, volumes):
    """Somebody writes to these volumes, each 16 at a time, and hears of no error."""
    stamp = Stamp(3)
    try:
        for number, volume in enumerate(volumes):
            stamp("volume", f"v{number}", array.url(volume), 2, 16)
            stamp("run", f"v{number}")
        yield
        for number in range(len(volumes)):
            stamp("pause", f"v{number}")
    finally:
        stamp.close()
