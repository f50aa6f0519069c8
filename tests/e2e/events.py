# SPDX-License-Identifier: Apache-2.0
"""A reader of GET /events, made from RFC text alone: every event is held against the contract."""

import socket
import threading
import time

import jsonschema

from contract import ContractError, contract, coverage, parse_json
from process import SLOWNESS

_SCHEMAS = {"StorageVolume": "StorageVolume", "ConcreteJob": "ConcreteJob", "StorageSynchronized": "StorageSynchronized",
            "StoragePool": "StoragePool", "ComputerSystem": "ComputerSystem", "StorageSetting": "StorageSetting",
            "GroupSynchronized": "GroupSynchronized", "RemoteServiceAccessPoint": "RemoteServiceAccessPoint", "SCSIProtocolController": "SCSIProtocolController",
            "ReplicationGroup": "ReplicationGroup", "NetworkPipe": "NetworkPipe"}
_validators = {}
_validators_lock = threading.Lock()


def check_schema(name, value):
    with _validators_lock:
        if name not in _validators:
            _validators[name] = contract().validator({"$ref": f"#/components/schemas/{name}"})
    error = jsonschema.exceptions.best_match(_validators[name].iter_errors(value))
    if error is not None:
        raise ContractError(f"an event: {name}: {error.message[:400]} in {str(value)[:800]}")


class Event:
    def __init__(self, name, event_id, data):
        self.name = name
        self.id = event_id
        self.path = data.get("Path")
        self.object = data.get("Object")
        self.data = data

    @property
    def number(self):
        return int(self.id.rsplit("-", 1)[1])

    def __repr__(self):
        return f"<{self.id} {self.name} {self.path}>"


class Refused(AssertionError):
    def __init__(self, status, text):
        super().__init__(f"{status}: {text}")
        self.status = status
        self.body = parse_json(text)


class Stream:
    """One stream. Reads when it is asked to, so a test decides how slow it is."""

    def __init__(self, smirror, query="", last=None, receive_buffer=None, timeout=20, check=True):
        host, port = smirror.http.rsplit(":", 1)
        self.last_id = last
        self.comments = 0
        self.ended = False
        self.check = check
        self._bytes = b""
        self._text = b""
        self._timeout = timeout * SLOWNESS
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(self._timeout)
        self.socket.connect((host, int(port)))
        more = f"Last-Event-ID: {last}\r\n" if last is not None else ""
        self.socket.sendall(f"GET /events{query} HTTP/1.1\r\nHost: {smirror.http}\r\nAuthorization: Bearer {smirror.client.token}\r\n"
                            f"Accept: text/event-stream\r\n{more}\r\n".encode())
        head = self._until(b"\r\n\r\n").decode()
        status = int(head.split(" ", 2)[1])
        coverage.add("getEvents", status)
        if status != 200:
            length = int(next(line for line in head.split("\r\n") if line.lower().startswith("content-length:")).split(":")[1])
            raise Refused(status, self._take(length).decode())
        assert "Content-Type: text/event-stream\r\n" in head and "Transfer-Encoding: chunked" in head, head
        # The first block has no event: the time to reconnect, and the id of the present.
        self.retry = None
        assert self._block() is None and self.retry is not None

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _more(self):
        part = self.socket.recv(65536)
        if not part:
            raise EOFError("the connection was cut inside a stream")
        self._bytes += part

    def _until(self, mark):
        while mark not in self._bytes:
            self._more()
        head, self._bytes = self._bytes.split(mark, 1)
        return head + mark

    def _take(self, n):
        while len(self._bytes) < n:
            self._more()
        part, self._bytes = self._bytes[:n], self._bytes[n:]
        return part

    def _chunk(self):
        size = int(self._until(b"\r\n"), 16)
        data = self._take(size)
        assert self._take(2) == b"\r\n"
        if size == 0:
            self.ended = True
            raise EOFError("the stream has ended")
        return data

    def _block(self):
        """The next block up to its empty line: an Event, or None when it has no data."""
        while b"\n\n" not in self._text:
            self._text += self._chunk()
        block, self._text = self._text.split(b"\n\n", 1)
        name, data = "message", []
        for line in block.decode().split("\n"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "":
                self.comments += 1
            elif field == "id":
                self.last_id = value
            elif field == "event":
                name = value
            elif field == "data":
                data.append(value)
            elif field == "retry":
                self.retry = int(value)
            else:
                raise ContractError(f"a line of an event: {line!r}")
        if not data:
            return None
        event = Event(name, self.last_id, parse_json("\n".join(data)))
        if self.check:
            self._check(event)
        return event

    @staticmethod
    def _check(event):
        if event.name == "reset":
            assert event.data == {}, event.data
            return
        assert event.name in ("created", "changed", "deleted"), event.name
        check_schema("Event", event.data)
        if event.name == "deleted":
            assert event.object is None
        if event.object is not None:
            assert event.object["self"] == event.path and event.object["class"] == event.data["Class"], event.data
            check_schema(_SCHEMAS[event.data["Class"]], event.object)

    def next(self):
        """The next event; EOFError at the end of the stream."""
        while True:
            event = self._block()
            if event is not None:
                return event

    def until(self, condition, timeout=20):
        """All events up to the first that fits, with it."""
        end = time.monotonic() + timeout * SLOWNESS
        seen = []
        while not seen or not condition(seen[-1]):
            assert time.monotonic() < end, f"not after {timeout * SLOWNESS} s: {seen[-20:]}"
            seen.append(self.next())
        return seen
