# SPDX-License-Identifier: Apache-2.0
"""kill -9 at random while hosts write and snapshots come and go: what was flushed and what was answered is there."""

import http.client
import random
import threading
import time

import pytest

from client import Unexpected
from hosted import Hosted, Lost, Stamp
from process import MIB, SLOWNESS, until

KILLS = max(4, 10 // SLOWNESS)
VOLUME_BYTES = 8 * MIB
SESSIONS, DEPTH = 4, max(16, 64 // SLOWNESS)
KEPT = 4  # snapshots of a volume at a time

AWAY = (ConnectionError, http.client.HTTPException, TimeoutError, OSError)


class Life:
    """Volumes under stamped I/O, their snapshots, and what is done to them over HTTP until the array is killed."""

    def __init__(self, smirror, seed):
        self.array = Hosted(smirror)
        self.random = random.Random(seed)
        self.stamp = Stamp(seed)
        self.volumes = {}    # name of the stamp tool: volume
        self.snapshots = {}  # mark: (answer of CreateElementReplica, name of its source)
        self.numbers = iter(range(1, 1 << 30))
        self.done = {}
        self.running = False
        self.error = None

    def begin(self, n_volumes):
        for number in range(n_volumes):
            name = f"v{number}"
            self.volumes[name] = self.array.make(VOLUME_BYTES, name=name)
            self.stamp("volume", name, self.array.url(self.volumes[name]), SESSIONS, DEPTH)
            self.stamp("run", name)

    def close(self):
        self.stamp.close()

    # ---- what is done meanwhile; each may be cut off anywhere by the kill

    def snapshot(self, name):
        mark = f"m{next(self.numbers)}"
        self.stamp("mark", name, mark)
        answer = self.array.replica(self.volumes[name], ElementName=mark)
        self.stamp("marked", name, mark)
        self.snapshots[mark] = (answer, name)

    def forget(self, mark):
        self.stamp("forget", mark)
        return self.snapshots.pop(mark)

    def delete(self, name):
        mark = self.random.choice([m for m, (_, source) in self.snapshots.items() if source == name])
        answer, _ = self.forget(mark)
        # Its layers and its row may be there afterwards or not; a half of it is what assert_no_orphans() looks for.
        if self.random.random() < 0.5:
            self.array.modify(answer, "Return To ResourcePool")
        else:
            self.array.delete(answer["TargetElement"])

    def resync(self, name):
        mark = self.random.choice([m for m, (_, source) in self.snapshots.items() if source == name])
        answer, _ = self.forget(mark)
        self.stamp("mark", name, mark)
        self.array.modify(answer, "Resync Replica")
        self.stamp("marked", name, mark)
        self.snapshots[mark] = (answer, name)

    def check(self, name):
        mark = self.random.choice([m for m, (_, source) in self.snapshots.items() if source == name])
        self.stamp("check", mark, self.array.url(self.snapshots[mark][0]["TargetElement"]))

    def clone(self, name):
        """A clone that hosts write to as well: it takes part like the others."""
        mark, new = f"m{next(self.numbers)}", f"c{next(self.numbers)}"
        self.stamp("mark", name, mark)
        answer = self.array.replica(self.volumes[name], 8, ElementName=new)
        self.stamp("marked", name, mark)
        self.stamp("clone", new, mark, self.array.url(answer["TargetElement"]), 2, DEPTH)
        self.stamp("run", new)
        self.stamp("forget", mark)
        self.volumes[new] = answer["TargetElement"]

    def end_clone(self, name):
        """Without anybody logged in: its volume goes while others that share its layers are written to."""
        self.stamp("pause", name)
        self.stamp("drop", name)
        volume = self.volumes.pop(name)
        for mark in [m for m, (_, source) in self.snapshots.items() if source == name]:
            self.forget(mark)  # they stay, in no relationship, for the clone is gone; cleaned away after the next kill
        self.array.delete(volume)

    def step(self):
        name = self.random.choice(sorted(self.volumes))
        own = [m for m, (_, source) in self.snapshots.items() if source == name]
        what = self.random.choice(("snapshot", "snapshot", "delete", "delete", "check", "resync", "clone"))
        if what == "clone" and len(self.volumes) >= 5:
            clones = [n for n in self.volumes if n.startswith("c")]
            what, name = "end_clone", self.random.choice(clones)
        elif what in ("delete", "check", "resync") and not own or what == "snapshot" and len(own) >= KEPT:
            what = "delete" if own else "snapshot"
        getattr(self, what)(name)
        self.done[what] = self.done.get(what, 0) + 1

    def go_on(self):
        while self.running:
            try:
                self.step()
            except (Lost, *AWAY):
                return
            except Unexpected as error:
                if error.answer.status not in (409, 503):
                    self.error = error
                    return
            except BaseException as error:  # pylint: disable=broad-exception-caught
                self.error = error
                return

    def live(self, seconds, after_answers):
        """Goes on until the array is killed, after so many seconds: at any moment, or right behind the answers to
        snapshots, before a flush by hosts makes up for what they have left undone."""
        self.running = True
        thread = threading.Thread(target=self.go_on)
        thread.start()
        time.sleep(seconds)
        if after_answers:
            self.running = False
            thread.join(60)
            for name in self.volumes:
                self.snapshot(name)
            self.check(name)
        self.array.smirror.kill()
        self.running = False
        thread.join(60)
        if self.error is not None:
            raise self.error

    # ---- after the restart

    def recover(self):
        array = self.array
        array.assert_all_online()
        array.assert_no_orphans()
        there = array.volumes()
        older = 0
        for name, volume in sorted(self.volumes.items()):
            assert volume in there, f"{name} is gone"
            older += int(self.stamp("reconnect", name, there[volume]["Url"]).split()[1])
        for mark, (answer, _) in self.snapshots.items():
            self.stamp("check", mark, there[answer["TargetElement"]]["Url"])
        # What was asked for and never answered is there or not. If it is, it goes now.
        known = set(self.volumes.values()) | {answer["TargetElement"] for answer, _ in self.snapshots.values()}
        for path in set(there) - known:
            array.delete(path)
        return older


@pytest.mark.parametrize("seed", [20261121])
def test_kill_9_under_load_loses_nothing_that_was_flushed_or_answered(make_service, seed):
    smirror = make_service()
    life = Life(smirror, seed)
    try:
        life.begin(3)
        for kill in range(KILLS):
            life.live(life.random.uniform(0.2, 0.7) * SLOWNESS, after_answers=kill % 2 == 1)
            smirror.start()
            life.recover()
        # In the end all is at rest: the same once more, with nothing lost.
        for name, volume in life.volumes.items():
            life.stamp("pause", name)
            life.stamp("verify", name, life.array.url(volume))
            assert life.stamp.stats(name)["writes"] > 0
        assert {"snapshot", "delete"} <= set(life.done) and (SLOWNESS > 1 or {"resync", "check", "clone"} <= set(life.done)), life.done
        # And what is left of merges is done by itself.
        for answer, _ in life.snapshots.values():
            life.array.modify(answer, "Return To ResourcePool")
        life.array.assert_no_orphans()
        until(lambda: all(volume["Layers"] == 1 for volume in life.array.volumes().values() if not volume["Relationships"]
                          and not volume["SpaceShared"]), 30, "layers are merged")
        print(life.done)
    finally:
        life.close()
