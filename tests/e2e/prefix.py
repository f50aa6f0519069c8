# SPDX-License-Identifier: Apache-2.0
"""A host that writes one page after the other, each with its number: every moment of its volume is a prefix of the numbers."""

import threading

import lun as luns
from initiator import host

PAGE = luns.BLOCK
FLUSH_EVERY = 64


class Prefix:
    """Goes round a volume by itself. What its array told is known: how many writes were answered, and how many of them flushed."""

    def __init__(self, size, writer=1):
        self.pages = size // PAGE
        self.writer = writer
        self.written = 0
        self.flushed = 0
        self.error = None
        self._thread = None
        self._ended = threading.Event()

    def run(self, url):
        assert self._thread is None
        self.error = None
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, args=(url,), daemon=True)
        self._thread.start()

    def _run(self, url):
        try:
            with host(url) as session:
                while not self._ended.is_set():
                    offset = self._place(self.written + 1) * PAGE
                    session.write(offset, luns.stamp(offset, self.writer, self.written + 1))
                    self.written += 1
                    if self.written % FLUSH_EVERY == 0:
                        session.flush()
                        self.flushed = self.written
                session.flush()
                self.flushed = self.written
        except Exception as error:  # the array may be killed, or refuse it
            self.error = error

    def ends(self):
        """It writes no more, whatever the reason; how many writes were answered."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return self.written

    def running(self):
        return self._thread is not None

    def rest(self):
        """It writes no more, and has come to no harm."""
        written = self.ends()
        if self.error is not None:
            raise self.error
        return written

    def is_lost(self):
        """The array was killed. Was it running? Then it goes on from what is on stable storage."""
        was = self.running()
        self.ends()
        self.written = self.flushed
        return was

    def goes_on_from(self, number):
        """The volume is this moment of it now."""
        assert self._thread is None
        self.written = self.flushed = number

    def _place(self, number):
        return (number - 1) * 7 % self.pages

    def moment(self, content):
        """How many writes are in there; fails when it is no prefix of them."""
        numbers = {}
        for page in range(self.pages):
            found = luns.read_stamp(content[page * PAGE:(page + 1) * PAGE], page * PAGE)
            assert found is None or found[0] == self.writer, (page, found)
            numbers[page] = found[1] if found else 0
        last = max(numbers.values())
        wanted = {self._place(number): number for number in range(max(1, last - self.pages + 1), last + 1)}
        for page, number in numbers.items():
            assert number == wanted.get(page, 0), f"page {page} has {number} and not {wanted.get(page, 0)}, and {last} is there"
        return last
