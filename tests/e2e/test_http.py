# SPDX-License-Identifier: Apache-2.0
"""HTTP by hand: what a client of the usual kind never sends. Each answer is one answer, at once, and a problem where it is ours."""

import http.client
import json
import re
import socket
import time

import pytest

from client import method_path
from contract import contract, parse_json
from process import SLOWNESS

PEERS = method_path("GetPeerSystems")
PORTAL = method_path("AddServiceAccessPoint")
QUICK = 5 * SLOWNESS  # far from the 60 s after which an idle connection is cut


class Exchange:
    """Sends bytes as they are; reads one answer and looks whether the connection is closed behind it."""

    def __init__(self, service, data):
        host, port = service.http.rsplit(":", 1)
        began = time.monotonic()
        with socket.create_connection((host, int(port)), QUICK) as sock:
            sock.sendall(data)
            response = http.client.HTTPResponse(sock)
            response.begin()
            self.status = response.status
            self.headers = response.headers
            self.text = response.read().decode()
            self.seconds = time.monotonic() - began
            self.will_close = response.will_close
            response.close()
            if self.will_close:
                assert sock.recv(1) == b"", "something behind the answer"

    def problem(self, status, code):
        assert self.status == status, self.text
        body = contract().check_problem(self.status, self.headers, self.text)
        assert body["Code"] == code, body
        return body


def request(service, line, *headers, host="localhost", token=True, body=b""):
    lines = [line] + ([f"Host: {host}"] if host is not None else [])
    lines += [f"Authorization: Bearer {service.client.token}"] if token else []
    return Exchange(service, "\r\n".join([*lines, *headers, "", ""]).encode() + body)


# ---- Host

def test_http_1_1_without_host_is_a_400_problem(service):
    for line in ("GET /healthz HTTP/1.1", "GET /volumes HTTP/1.1"):
        problem = request(service, line, host=None).problem(400, "bad_request")
        assert "Host" in problem["detail"]
    answer = request(service, f"POST {PEERS} HTTP/1.1", "Content-Type: application/json", "Content-Length: 2", host=None, body=b"{}")
    answer.problem(400, "bad_request")


def test_http_1_0_needs_no_host_on_a_loopback_address(service):
    answer = request(service, "GET /healthz HTTP/1.0", host=None, token=False)
    assert answer.status == 200 and answer.will_close
    assert request(service, "GET /volumes HTTP/1.0", host=None).status == 200
    request(service, "GET /volumes HTTP/1.0", host=None, token=False).problem(401, "unauthorized")
    request(service, "GET /volumes HTTP/1.0", "Origin: http://localhost", host=None).problem(400, "bad_request")
    request(service, "GET /volumes HTTP/1.0", host="evil.example").problem(403, "forbidden_host")


# ---- where the body ends

@pytest.mark.parametrize("coding", ["foo", "gzip, chunked", "identity", "chunked, gzip", "chunked ", ""])
def test_an_unknown_transfer_encoding_is_answered_at_once_and_closed(service, coding):
    answer = request(service, f"POST {PEERS} HTTP/1.1", "Content-Type: application/json", f"Transfer-Encoding: {coding}", body=b"2\r\n{}\r\n0\r\n\r\n")
    answer.problem(501, "unsupported_transfer_encoding")
    assert answer.will_close and answer.seconds < QUICK


def test_chunked_is_taken(service):
    for word in ("chunked", "Chunked"):
        answer = request(service, f"POST {PEERS} HTTP/1.1", "Content-Type: application/json", f"Transfer-Encoding: {word}",
                         body=b"1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n")
        assert answer.status == 200, answer.text


@pytest.mark.parametrize("headers", [
    ["Transfer-Encoding: chunked", "Content-Length: 2"], ["Content-Length: 2", "Content-Length: 2"], ["Content-Length : 2"],
    ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], ["Host: localhost"]])
def test_two_ways_to_read_a_request_are_none(service, headers):
    """The connection ends with it: what follows could be a body or a request."""
    answer = request(service, f"POST {PEERS} HTTP/1.1", "Content-Type: application/json", *headers, body=b"{}")
    answer.problem(400, "bad_request")
    assert answer.will_close


@pytest.mark.parametrize("coding,status", [("gzip", 415), ("br", 415), ("gzip, identity", 415), ("identity", 200), ("Identity ", 200)])
def test_a_content_encoding_other_than_identity_is_415(service, coding, status):
    answer = request(service, f"POST {PEERS} HTTP/1.1", "Content-Type: application/json", f"Content-Encoding: {coding}", "Content-Length: 2", body=b"{}")
    assert answer.status == status, answer.text
    if status == 415:
        assert "Content-Encoding" in answer.problem(415, "unsupported_media_type")["detail"]
        assert answer.headers["Accept-Encoding"] == "identity"


# ---- blanks behind values

def test_blanks_behind_values_do_not_count(service):
    token = service.client.token
    answer = request(service, "GET /volumes HTTP/1.1", f"Authorization: Bearer {token} \t ", host="localhost \t", token=False)
    assert answer.status == 200, answer.text
    body = json.dumps({"ServiceAccessPoint": {"AccessInfo": "127.9.77.1:3260"}}).encode()
    answers = [request(service, f"POST {PORTAL} HTTP/1.1", "Content-Type: application/json  ", f"Content-Length: {len(body)}",
                       f"Idempotency-Key: blanks-behind{blanks}", body=body) for blanks in ("", " ", "\t \t")]
    assert [answer.status for answer in answers] == [200] * 3, answers[-1].text
    assert len({parse_json(answer.text)["ServiceAccessPointPath"] for answer in answers}) == 1, "one key, one portal"


# ---- the request target

def test_the_absolute_form_is_taken_and_its_host_counts(service):
    port = service.http.rsplit(":", 1)[1]
    for target in (f"http://localhost:{port}/volumes?limit=1", "HTTP://127.0.0.1/volumes", "https://localhost/volumes"):
        assert request(service, f"GET {target} HTTP/1.1").status == 200
    assert request(service, "GET http://localhost/volumes HTTP/1.1", host="evil.example").status == 200
    request(service, "GET http://evil.example/volumes HTTP/1.1").problem(403, "forbidden_host")
    request(service, "GET http://localhost@evil.example/volumes HTTP/1.1").problem(403, "forbidden_host")
    request(service, "GET http:///volumes HTTP/1.1").problem(403, "forbidden_host")
    request(service, "GET http://localhost/volumes HTTP/1.1", host=None).problem(400, "bad_request")
    request(service, "GET http://localhost HTTP/1.1").problem(404, "not_found")
    request(service, "GET http://localhost?x=1 HTTP/1.1").problem(404, "not_found")
    answer = request(service, f"POST http://localhost{PEERS} HTTP/1.1", "Content-Type: application/json", "Content-Length: 2", body=b"{}")
    assert answer.status == 200, answer.text


@pytest.mark.parametrize("target", ["/volumes?ElementName=a b", "/vol umes", "volumes", "*", "ftp://localhost/volumes"])
def test_another_request_target_is_a_400_problem(service, target):
    request(service, f"GET {target} HTTP/1.1").problem(400, "bad_request")


# ---- what the library answers itself (api/README.md)

@pytest.mark.parametrize("data,status", [
    (b"GET /volumes HTTP/9.9\r\n\r\n", 505), (b"GET /volumes\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
    (b"GET /" + b"x" * 40000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    (b"GET /volumes HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40000 + b"\r\n\r\n", 431)])
def test_what_the_library_refuses_has_the_right_status_and_ends_the_connection(service, data, status):
    answer = Exchange(service, data)
    assert answer.status == status, answer.text
    assert answer.will_close and answer.seconds < QUICK
    service.client.get("/healthz")


@pytest.mark.parametrize("token", [True, False])
def test_a_query_of_a_thousand_parts_is_answered_and_leaves_nothing_behind(service, token):
    """The library's memory for a connection is too small for that many; it must not come to know them."""
    for query in ("&" * 3000, "a=b&" * 900, "limit=1" + "&" * 2000):
        answer = request(service, f"GET /volumes?{query} HTTP/1.1", "Connection: close", token=token)
        assert answer.status in ((200, 400) if token else (401,)), answer.text
        assert answer.seconds < QUICK
    text = service.client.get("/metrics").text
    assert re.search(r"^smirror_http_requests_in_flight 1$", text, re.M), text


# ---- the wrong verb

@pytest.mark.parametrize("verb,path,names", [
    ("POST", "/pools", "CreateOrModifyStoragePool"), ("DELETE", "/pools/x", "DeleteStoragePool"),
    ("DELETE", "/synchronizations/x", "ModifyReplicaSynchronization"), ("POST", "/synchronizations", "CreateElementReplica"),
    ("POST", "/volumes", "AddReplicationEntity"), ("PATCH", "/jobs/x", "RequestStateChange"), ("POST", "/accesspoints", "AddServiceAccessPoint"),
    ("DELETE", "/systems/local", "AddServiceAccessPoint"), ("PUT", "/services/ReplicationService", "/services/{service}/{Method}"),
    ("GET", PEERS, "POST"), ("PUT", "/healthz", "GET")])
def test_a_405_says_what_to_use_instead(service, verb, path, names):
    answer = request(service, f"{verb} {path} HTTP/1.1")
    problem = answer.problem(405, "method_not_allowed")
    assert names in problem["detail"]
    for word in answer.headers["Allow"].split(", "):
        assert word in problem["detail"]
    for wanted, named in re.findall(r"(POST|DELETE) (/[\w/{}]+)", problem["detail"]):
        assert named == "/services/{service}/{Method}" or contract().find(wanted, re.sub(r"\{\w+\}", "x", named)), f"{wanted} {named}"
