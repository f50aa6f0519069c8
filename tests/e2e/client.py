# SPDX-License-Identifier: Apache-2.0
"""A client of the HTTP face that holds every request and every answer against the contract."""

import http.client
import json
import select
import threading
import time
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from contract import ContractError, contract, coverage

ENDED = (7, 8, 9, 10)  # JobState: Completed, Terminated, Killed, Exception


class Answer:
    def __init__(self, status, headers, text, body):
        self.status = status
        self.headers = headers
        self.text = text
        self.body = body

    def __getitem__(self, name):
        return self.body[name]

    def get(self, name, default=None):
        return self.body.get(name, default)

    @property
    def location(self):
        return self.headers.get("Location")

    def __repr__(self):
        return f"<{self.status} {self.text[:300]}>"


class Unexpected(AssertionError):
    def __init__(self, verb, target, sent, answer, wanted):
        super().__init__(f"{verb} {target} {json.dumps(sent)[:400] if sent is not None else ''}\n"
                         f"gave {answer.status}, not {wanted}: {answer.text[:800]}")
        self.answer = answer


class Client:
    """One connection a thread, kept alive. `where` gives host:port, again at each new connection."""

    def __init__(self, where, token, timeout=60):
        self._where = where if callable(where) else lambda: where
        self.token = token
        self.timeout = timeout
        self._local = threading.local()

    # ---- one request

    def close(self):
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _connection(self, timeout):
        where = self._where()
        connection = getattr(self._local, "connection", None)
        # Readable before anything was asked: the other side has closed it, for it was idle or has ended.
        closed = connection is not None and connection.sock is not None and select.select([connection.sock], [], [], 0)[0]
        if connection is None or closed or self._local.where != where:
            if connection is not None:
                connection.close()
            host, port = where.rsplit(":", 1)
            connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=timeout)
            self._local.connection = connection
            self._local.where = where
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        return connection

    def raw(self, verb, target, data=None, headers=None, timeout=None):
        """Sends what it is told; returns status, headers, text. A dead kept-alive connection is opened again for
        what may be sent twice."""
        headers = dict(headers or {})
        for attempt in (0, 1):
            connection = self._connection(timeout or self.timeout)
            fresh = connection.sock is None
            try:
                connection.request(verb, target, body=data, headers=headers)
                response = connection.getresponse()
                text = response.read().decode()
                if response.will_close:
                    self.close()
                return response.status, response.headers, text
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self.close()
                if fresh or attempt or (verb != "GET" and "Idempotency-Key" not in headers):
                    raise
            except Exception:
                self.close()
                raise

    def call(self, verb, path, query=None, body=None, headers=None, expect=None, wrong=False, timeout=None):
        """One request and its answer, both held against the contract. wrong: the request is not as the contract wants
        it, on purpose. expect: a status, or several."""
        target = path
        if query:
            target += "?" + urlencode(query, quote_via=quote, safe="/")
        sent = {"Authorization": f"Bearer {self.token}"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        for name, value in (headers or {}).items():
            if value is None:
                sent.pop(name, None)
            else:
                sent[name] = value
        operation = contract().find(verb, urlsplit(path).path)
        if not wrong:
            if operation is None:
                raise ContractError(f"{verb} {path} is not in the contract; is it meant to be wrong?")
            contract().check_request(operation, target, sent, body)
        status, got, text = self.raw(verb, target, data, sent, timeout)
        if operation is None:
            parsed = contract().check_problem(status, got, text)
        else:
            coverage.add(operation.name, status)
            parsed = contract().check_answer(operation, status, got, text)
        answer = Answer(status, got, text, parsed)
        if expect is not None and status not in (expect if isinstance(expect, (tuple, list, set)) else (expect,)):
            raise Unexpected(verb, target, body, answer, expect)
        return answer

    def get(self, path, expect=200, **query):
        return self.call("GET", path, query=query or None, expect=expect)

    def delete(self, path, expect=204, **kwargs):
        return self.call("DELETE", path, expect=expect, **kwargs)

    def post(self, path, body=None, expect=None, **kwargs):
        return self.call("POST", path, body={} if body is None else body, expect=expect, **kwargs)

    # ---- methods

    def method(self, name, body=None, expect=(200, 202), **kwargs):
        """Calls a method of a service by its name alone."""
        return self.post(method_path(name), body, expect=expect, **kwargs)

    def refused(self, name, body, return_value, status, parameter=None, code=None, wrong=False, **kwargs):
        """A call that must fail like that. Returns the problem."""
        answer = self.method(name, body, expect=status, wrong=wrong, **kwargs)
        assert answer.get("ReturnValue") == return_value, f"{name} {json.dumps(body)}: {answer.text}"
        if parameter is not None:
            assert answer.get("Parameter") == parameter, f"{name} {json.dumps(body)}: {answer.text}"
        if code is not None:
            assert answer["Code"] == code, f"{name} {json.dumps(body)}: {answer.text}"
        assert answer["detail"].strip(), answer.text
        return answer

    def list(self, path, **filters):
        """All members, page by page."""
        members = []
        query = dict(filters)
        while True:
            answer = self.call("GET", path, query=query or None, expect=200)
            members += answer["Members"]
            following = next_page(answer)
            if following is None:
                assert "cursor" in query or len(members) == answer["Total"], (len(members), answer["Total"])
                return members
            split = urlsplit(following)
            assert split.path == path, following
            query = dict(parse_qsl(split.query, keep_blank_values=True, strict_parsing=True))

    def volume_of(self, url, **more):
        """The volume of a LUN by its URL, registered if need be."""
        answer = self.method("AddReplicationEntity", {"ReplicationEntity": {"Type": 8, "EntityID": url, **more},
                                                      "Persistent": True}, expect=200)
        return answer["ReplicationEntityPath"]

    def wait(self, job, timeout=60, state=ENDED):
        """The job when it has ended."""
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            body = self.call("GET", job, query={"wait": f"{max(1, min(20000, int(left * 1000)))}ms"}, expect=200,
                             timeout=40).body
            if body["JobState"] in state:
                return body
            if left <= 0:
                raise AssertionError(f"job not ended after {timeout} s: {json.dumps(body, indent=1)}")

    def completed(self, job, timeout=60):
        body = self.wait(job, timeout)
        assert body["JobState"] == 7, json.dumps(body, indent=1)
        assert body["OperationalStatus"] == [17, 2], json.dumps(body, indent=1)
        return body

    def until(self, path, condition, timeout=30, interval=0.02):
        """The object at path when condition(object) holds."""
        end = time.monotonic() + timeout
        while True:
            body = self.get(path).body
            if condition(body):
                return body
            if time.monotonic() > end:
                raise AssertionError(f"not so after {timeout} s: {json.dumps(body, indent=1)}")
            time.sleep(interval)


def method_path(name):
    """The path of a method: the service that has it."""
    for operation in contract().operations:
        if operation.verb == "POST" and operation.template.startswith("/services/") and \
                operation.template.endswith("/" + name):
            return operation.template
    for service, names in contract().document["x-unsupported-methods"].items():
        if name in names:
            return f"/services/{service}/{name}"
    raise KeyError(name)


def next_page(answer):
    link = answer.headers.get("Link")
    if link is None:
        return None
    assert link.startswith("<") and link.endswith('>; rel="next"'), link
    return link[1:link.index(">")]
