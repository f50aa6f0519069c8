# SPDX-License-Identifier: Apache-2.0
"""The HTTP face itself: who may call, what is refused, lists, retries, waiting, operations."""

import http.client
import json
import os
import re
import resource
import select
import socket
import stat
import subprocess
import threading
import time
import uuid

import pytest

from client import Client, method_path, next_page
from contract import CONTRACT_FILE, contract
from process import SLOWNESS, SMIRRORD

ADD = "/services/ReplicationService/AddServiceAccessPoint"


def portal(number):
    """Some portal that may be dialled and is not there."""
    return {"ServiceAccessPoint": {"AccessInfo": f"127.9.{number // 250}.{number % 250 + 1}:3260"}}


# ---- start

def test_the_ready_file_says_where_the_service_is_and_goes_with_it(make_service):
    service = make_service()
    assert set(service.ready) == {"http", "iscsi", "auth_header_file"}
    for name in ("http", "iscsi"):
        host, port = service.ready[name].rsplit(":", 1)
        assert host == "127.0.0.1" and 0 < int(port) < 65536
    service.client.get("/readyz")
    service.stop()
    assert not service.ready_file.exists()


def test_token_and_its_header_file_are_for_the_owner_only(service):
    for path in (service.data / "token", service.ready["auth_header_file"]):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(service.data).st_mode) == 0o700
    assert service.database.exists()
    assert stat.S_IMODE(os.stat(service.database).st_mode) & 0o077 == 0


def test_the_header_file_works_with_curl(service):
    done = subprocess.run(["curl", "-sS", "--fail", "-H", f"@{service.ready['auth_header_file']}",
                           f"http://{service.http}/systems/local"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["self"] == "/systems/local"


def test_it_runs_as_an_ordinary_user(service):
    if not service.user:
        pytest.skip("the tests do not run as root, so an ordinary user is all there is")
    uids = re.search(r"^Uid:\s+(.*)$", open(f"/proc/{service.process.pid}/status").read(), re.M).group(1).split()
    assert set(uids) == {str(service.user["user"])}
    capabilities = re.search(r"^CapEff:\s+(\w+)$", open(f"/proc/{service.process.pid}/status").read(), re.M).group(1)
    assert int(capabilities, 16) == 0


def test_its_table_of_open_files_need_not_grow(service):
    """Growing it makes all threads that open something wait, for seconds on a busy machine."""
    room = int(re.search(r"^FDSize:\s+(\d+)$", open(f"/proc/{service.process.pid}/status").read(), re.M).group(1))
    assert room >= min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65536)


def test_a_second_process_on_the_same_data_is_refused(service):
    done = subprocess.run([SMIRRORD, "--data", service.data, "--http", "127.0.0.1:0", "--iscsi", "127.0.0.1:0"],
                          capture_output=True, text=True, timeout=20 * SLOWNESS, **service.user)
    assert done.returncode not in (0, -6, -11)
    assert str(service.process.pid) in done.stderr
    service.client.get("/healthz")


@pytest.mark.parametrize("arguments", [
    ["--nothing"], ["--http", "127.0.0.1"], ["--http", "0.0.0.0:0"], ["--log-level", "loud"], ["--copy-give-up", "soon"],
    ["--config", "/nonexistent/smirror.conf"], ["stray"], ["--tls-cert", "/nonexistent/cert.pem"]])
def test_a_wrong_option_ends_it_with_one_sentence(arguments, directory):
    directory.chmod(0o777)
    done = subprocess.run([SMIRRORD, "--data", directory / "data", "--iscsi", "127.0.0.1:0", "--http", "127.0.0.1:0",
                           *arguments], capture_output=True, text=True, timeout=20 * SLOWNESS)
    assert done.returncode not in (0, -6, -11), done
    assert 0 < len(done.stderr.strip().splitlines()) <= 3, done.stderr
    assert "Sanitizer" not in done.stderr


@pytest.mark.parametrize("way", ["option", "environment", "file"])
def test_an_empty_name_of_the_data_directory_is_refused(directory, way):
    """Else a variable of a script that is not set would mean the directory in the home."""
    (directory / "conf").write_text("data =\n" if way == "file" else "")
    environment = dict(os.environ, HOME=str(directory), SMIRROR_CONFIG=str(directory / "conf"))
    if way == "environment":
        environment["SMIRROR_DATA"] = ""
    done = subprocess.run([SMIRRORD, "--http", "127.0.0.1:0", "--iscsi", "127.0.0.1:0", *(["--data="] if way == "option" else [])],
                          capture_output=True, text=True, timeout=20 * SLOWNESS, env=environment)
    assert done.returncode == 2, done
    assert "data directory is empty" in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (directory / ".local").exists()


def test_help_names_every_option_and_ends_well():
    done = subprocess.run([SMIRRORD, "--help"], capture_output=True, text=True, timeout=20 * SLOWNESS, check=True)
    for option in ("--data", "--http", "--iscsi", "--ready-file", "--config"):
        assert option in done.stdout


def test_options_come_from_environment_and_file_too(make_service, directory):
    config = directory / "smirror.conf"
    config.write_text("# ours\nsystem-name = from-the-file\n")
    config.chmod(0o644)
    service = make_service("--config", str(config))
    assert service.client.get("/systems/local")["ElementName"] == "from-the-file"
    service.stop()
    service.environment["SMIRROR_SYSTEM_NAME"] = "from-the-environment"
    service.start()
    assert service.client.get("/systems/local")["ElementName"] == "from-the-environment"
    service.stop()
    service.start("--system-name", "from-the-command-line")
    assert service.client.get("/systems/local")["ElementName"] == "from-the-command-line"


# ---- who may call

@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer 0", "Bearer " + "0" * 64, "Basic dTpw", "0" * 64])
def test_without_the_right_token_everything_but_health_is_401(service, header):
    for path in ("/volumes", "/volumes/none", "/services", "/metrics", "/nothing"):
        answer = service.client.call("GET", path, headers={"Authorization": header}, expect=401, wrong=True)
        assert answer["Code"] == "unauthorized"
    service.client.call("POST", ADD, body=portal(1), headers={"Authorization": header}, expect=401, wrong=True)
    for path in ("/healthz", "/readyz"):
        service.client.call("GET", path, headers={"Authorization": header}, expect=200, wrong=True)


def test_the_token_is_in_no_answer_and_no_log(service):
    token = service.client.token
    for path in ("/services", "/systems", "/metrics", "/endpoints", "/settings"):
        assert token not in service.client.get(path).text
    assert token not in service.log()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "169.254.169.254", "",
                                  "localhost.evil.example", "127.0.0.1@evil.example", "0.0.0.0"])
def test_a_foreign_host_header_is_403(service, host):
    for path in ("/healthz", "/volumes"):
        answer = service.client.call("GET", path, headers={"Host": host}, expect=(400, 403), wrong=True)
        assert answer["Code"] in ("forbidden_host", "bad_request")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}"])
def test_our_own_host_names_are_taken(service, host):
    port = service.http.rsplit(":", 1)[1]
    service.client.call("GET", "/volumes", headers={"Host": host.format(port=port)}, expect=200)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example", "http://169.254.169.254"])
def test_a_foreign_origin_is_403(service, origin):
    before = service.records()
    service.client.call("POST", ADD, body=portal(2), headers={"Origin": origin}, expect=403)
    service.client.call("GET", "/volumes", headers={"Origin": origin}, expect=403)
    assert service.records() == before


def test_our_own_origin_is_taken(service):
    service.client.call("GET", "/volumes", headers={"Origin": f"http://{service.http}"}, expect=200)


# ---- what is refused before a method is called

def plain(service, verb, path, data=None, headers=None):
    """A request that may be as wrong as it likes: status, headers, parsed problem or text."""
    sent = {"Authorization": f"Bearer {service.client.token}", **(headers or {})}
    status, got, text = service.client.raw(verb, path, data, sent)
    if got.get("Content-Type", "").startswith("application/problem+json"):
        return status, got, contract().check_problem(status, got, text)
    return status, got, text


@pytest.mark.parametrize("path", ["/", "/nothing", "/volumes/none", "/volumes/none/Foo", "/jobs/none", "/services/None",
                                  "/services/ReplicationService/None", "/volumes/../systems", "/Volumes", "/volumes/", "//volumes",
                                  "/jobs/none/GetErrors/x", "/pools/" + "a" * 300, "/groups/none",
                                  "/groupsynchronizations/none", "/pipes/none"])
def test_an_unknown_path_is_404(service, path):
    status, _, problem = plain(service, "GET", path)
    assert status == 404, problem
    assert problem["Code"] == "not_found" and "ReturnValue" not in problem


@pytest.mark.parametrize("verb,path,allowed", [
    ("POST", "/volumes", {"GET", "HEAD"}), ("DELETE", "/systems/local", {"GET", "HEAD"}), ("PUT", "/volumes", {"GET", "HEAD"}),
    ("GET", ADD, {"POST"}), ("DELETE", ADD, {"POST"}), ("PATCH", "/healthz", {"GET", "HEAD"}), ("OPTIONS", "/volumes", {"GET", "HEAD"}),
    ("GET", "/jobs/none/GetErrors", {"POST"}), ("POST", "/jobs/none", {"GET", "HEAD", "DELETE"}),
    ("TRACE", "/volumes", {"GET", "HEAD"})])
def test_a_wrong_verb_is_405_with_allow(service, verb, path, allowed):
    status, headers, problem = plain(service, verb, path)
    assert status == 405, problem
    assert {word.strip() for word in headers["Allow"].split(",")} == allowed
    assert problem["Code"] == "method_not_allowed"


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp",
                                          "multipart/form-data; boundary=x", "application/json-patch+json"])
def test_another_content_type_is_415(service, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    status, _, problem = plain(service, "POST", ADD, json.dumps(portal(3)), headers)
    assert status == 415, problem
    assert problem["Code"] == "unsupported_media_type"


def test_content_type_with_charset_is_taken(service):
    status, _, problem = plain(service, "POST", method_path("GetPeerSystems"), "{}", {"Content-Type": "application/json; charset=utf-8"})
    assert status == 200, problem


@pytest.mark.parametrize("body", [
    "", "{", "[]", "null", "1", '"x"', "{} {}", "{,}", '{"a":}', "{'a':1}", '{"Options":2,"Options":2}', '{"a":01}', '{"a":1e}',
    '{"a":NaN}', '{"a":"\x01"}', '{"a":"\\ud800"}', '{"a":"\\u0000"}', "\ufeff{}", '{"a":' + "[" * 2000 + "]" * 2000 + "}",
    "{}garbage", '{"a":tru}'])
def test_a_body_that_is_no_json_object_is_400(service, body):
    status, _, problem = plain(service, "POST", method_path("GetPeerSystems"), body.encode(), {"Content-Type": "application/json"})
    if body == "":
        # No body is no parameters where none is required.
        assert status in (200, 400), problem
        return
    assert status == 400, problem
    assert "ReturnValue" not in problem and problem["Code"] in ("bad_json", "unknown_member"), problem


def test_a_body_that_is_not_utf8_is_400(service):
    status, _, problem = plain(service, "POST", method_path("CreateOrModifyStoragePool"), b'{"ElementName":"\xff\xfe"}',
                               {"Content-Type": "application/json"})
    assert status == 400, problem
    assert "ReturnValue" not in problem


def test_a_body_over_one_mebibyte_is_413(service):
    before = service.records()
    for size in ((1 << 20) + 1, 3 << 20):
        body = b'{"InstanceNamespace":"' + b"x" * size + b'"}'
        status, _, problem = plain(service, "POST", ADD, body, {"Content-Type": "application/json"})
        assert status == 413, problem
    assert service.records() == before
    service.client.get("/healthz")


def test_an_endless_body_is_cut_off(service):
    host, port = service.http.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 20) as sock:
        sock.sendall(f"POST {ADD} HTTP/1.1\r\nHost: {service.http}\r\nAuthorization: Bearer {service.client.token}\r\n"
                     "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        sent, got = 0, b""
        try:
            while sent < 256 << 20 and not select.select([sock], [], [], 0)[0]:
                sock.sendall(chunk)
                sent += len(chunk)
            got = sock.recv(65536)
        except ConnectionError:
            pass
    assert sent < 128 << 20, "a body of 128 MiB was taken"
    assert got == b"" or b" 413 " in got.split(b"\r\n", 1)[0], got[:200]
    service.client.get("/healthz")


@pytest.mark.parametrize("query", ["nothing=1", "limit=0", "limit=1001", "limit=x", "limit=-1", "limit=", "limit=1&limit=2", "cursor=x",
                                   "Kind=other", "Kind=remote&Kind=remote", "Allocated=maybe", "limit=99999999999999999999", "%zz=1",
                                   "ElementName=%ff", "=x", "cursor=" + "9" * 200])
def test_a_wrong_query_is_400_and_names_it(service, query):
    status, _, problem = plain(service, "GET", f"/volumes?{query}")
    assert status == 400, problem
    assert problem["Code"] in ("bad_query", "bad_request") and "ReturnValue" not in problem


def test_a_query_on_a_post_is_400(service):
    status, _, problem = plain(service, "POST", method_path("GetPeerSystems") + "?x=1", "{}", {"Content-Type": "application/json"})
    assert status == 400, problem


def test_an_address_too_long_is_414(service):
    status, _, problem = plain(service, "GET", "/volumes?ElementName=" + "x" * 20000)
    assert status == 414, problem


def test_methods_of_later_versions_are_501_and_say_not_supported(service):
    before = service.records()
    for owner, names in contract().document["x-unsupported-methods"].items():
        for name in names:
            answer = service.client.post(f"/services/{owner}/{name}", {}, expect=501)
            assert answer["ReturnValue"] == 1 and answer["Code"] == "not_supported"
    assert service.records() == before


def test_head_answers_as_get_without_a_body(service):
    for path in ("/volumes", "/systems/local", "/healthz"):
        host, port = service.http.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        connection.request("HEAD", path, headers={"Authorization": f"Bearer {service.client.token}"})
        response = connection.getresponse()
        assert response.status == 200 and response.read() == b""
        connection.close()


def test_garbage_on_the_port_harms_nothing(service):
    host, port = service.http.rsplit(":", 1)
    for garbage in (b"\0" * 4096, b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET " + b"x" * 100000,
                    b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                    b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"):
        with socket.create_connection((host, int(port)), 5) as sock:
            try:
                sock.sendall(garbage)
                sock.settimeout(0.2)
                sock.recv(4096)
            except OSError:
                pass
    service.client.get("/healthz")
    service.client.get("/volumes")


def test_clients_that_send_nothing_keep_nobody_out(service):
    host, port = service.http.rsplit(":", 1)
    idle = []
    try:
        for _ in range(300):
            sock = socket.create_connection((host, int(port)), 5)
            sock.sendall(b"POST /x HTTP/1.1\r\nHost: l")
            idle.append(sock)
        for _ in range(20):
            service.client.close()
            service.client.get("/volumes")
    finally:
        for sock in idle:
            sock.close()


# ---- lists

@pytest.fixture(scope="module")
def many(room):
    """A service that knows 25 portals, and so 25 systems."""
    from conftest import Smirror, _directory
    service = Smirror(_directory(room, "many"), "--reach-interval", "1h")
    try:
        service.portals = []
        for i in range(25):
            body = portal(i)
            body["ServiceAccessPoint"]["ElementName"] = f"portal {i % 5}"
            service.portals.append(service.client.post(ADD, body, expect=200)["ServiceAccessPointPath"])
        yield service
    finally:
        service.close()


@pytest.mark.parametrize("limit", [1, 2, 7, 24, 25, 26, 1000])
def test_pages_give_each_object_once_in_order_of_creation(many, limit):
    found = [member["self"] for member in many.client.list("/accesspoints", limit=limit)]
    assert found == many.portals


def test_a_page_has_at_most_limit_objects_and_the_total_of_all(many):
    answer = many.client.get("/accesspoints", limit=10)
    assert len(answer["Members"]) == 10 and answer["Total"] == 25
    link = next_page(answer)
    following = many.client.call("GET", link, expect=200)
    assert len(following["Members"]) == 10 and following["Total"] == 25
    last = many.client.call("GET", next_page(following), expect=200)
    assert len(last["Members"]) == 5 and next_page(last) is None


def test_paging_goes_on_while_objects_come_and_go(make_service):
    service = make_service("--reach-interval", "1h")
    made = [service.client.post(ADD, portal(i), expect=200)["ServiceAccessPointPath"] for i in range(10)]
    first = service.client.get("/accesspoints", limit=4)
    service.client.delete(made[1])
    service.client.delete(made[3])
    service.client.delete(made[5])
    new = service.client.post(ADD, portal(100), expect=200)["ServiceAccessPointPath"]
    rest = []
    link = next_page(first)
    while link:
        answer = service.client.call("GET", link, expect=200)
        rest += [member["self"] for member in answer["Members"]]
        link = next_page(answer)
    assert rest == [made[4], *made[6:], new]


def test_filters_give_what_equals_and_count_it(many):
    answer = many.client.get("/accesspoints", ElementName="portal 3", limit=2)
    assert answer["Total"] == 5 and len(answer["Members"]) == 2
    found = [member["self"] for member in many.client.list("/accesspoints", ElementName="portal 3", limit=2)]
    assert found == many.portals[3::5]
    system = many.client.get(many.portals[7])["System"]
    assert [m["self"] for m in many.client.list("/accesspoints", System=system)] == [many.portals[7]]
    assert many.client.list("/accesspoints", System=system, ElementName="portal 2")[0]["self"] == many.portals[7]
    assert many.client.list("/accesspoints", System=system, ElementName="portal 3") == []
    assert many.client.list("/accesspoints", ElementName="portal") == []
    assert many.client.list("/accesspoints", System="/systems/none") == []
    assert len(many.client.list("/systems", Kind="peer")) == 25
    assert [m["self"] for m in many.client.list("/systems", Kind="local")] == ["/systems/local"]


def test_enumerations_filter_by_number_and_by_name(many):
    for value in (7, "Completed", "completed"):
        assert many.client.get("/jobs", JobState=value)["Total"] == 0
    many.client.call("GET", "/jobs", query={"JobState": "Nonsense"}, expect=400)
    many.client.call("GET", "/synchronizations", query={"CopyState": "99"}, expect=400, wrong=True)


def test_every_object_is_found_by_its_own_path_and_is_the_same_there(many):
    moves = ("Reach", "Last", "Health", "OperationalStatus")  # with what a probe has just found
    for collection in ("/systems", "/accesspoints", "/endpoints", "/settings"):
        members = many.client.list(collection)
        assert members
        for member in members[:5]:
            again = many.client.get(member["self"]).body
            assert {k: v for k, v in again.items() if not k.startswith(moves)} == \
                {k: v for k, v in member.items() if not k.startswith(moves)}


@pytest.mark.parametrize("collection", ["/volumes", "/exports", "/synchronizations", "/jobs", "/groups", "/groupsynchronizations", "/pipes"])
def test_an_empty_list_is_an_empty_list(service, collection):
    answer = service.client.get(collection)
    assert answer["Members"] == [] and answer["Total"] == 0 and next_page(answer) is None


# ---- Idempotency-Key

def key(text=None):
    return {"Idempotency-Key": text or str(uuid.uuid4())}


def test_the_same_key_gives_the_first_answer_again(service):
    headers = key()
    body = {"ServiceAccessPoint": {"AccessInfo": "127.20.0.1:3260", "ElementName": "idempotent"}}
    first = service.client.post(ADD, body, expect=200, headers=headers)
    before = service.records()
    for _ in range(3):
        again = service.client.post(ADD, body, expect=200, headers=headers)
        assert again.text == first.text and again.headers.get("Location") == first.headers.get("Location")
    assert service.records() == before


def test_a_failure_is_kept_under_its_key_too(service):
    headers = key()
    wrong = {"ServiceAccessPoint": {"AccessInfo": "169.254.169.254:80"}}
    first = service.client.post(ADD, wrong, expect=422, headers=headers)
    assert service.client.post(ADD, wrong, expect=422, headers=headers).text == first.text


def test_the_same_key_with_another_request_is_422(service):
    headers = key()
    service.client.post(ADD, portal(40), expect=200, headers=headers)
    before = service.records()
    problem = service.client.post(ADD, portal(41), expect=422, headers=headers)
    assert problem["Code"] == "idempotency_key_reused"
    problem = service.client.method("GetPeerSystems", {}, expect=422, headers=headers)
    assert problem["Code"] == "idempotency_key_reused"
    assert service.records() == before


@pytest.mark.parametrize("text", ["", "with blank", "x" * 256, "tab\there", "caf\u00e9"])
def test_a_key_that_is_no_key_is_400(service, text):
    status, _, problem = plain(service, "POST", ADD, json.dumps(portal(42)),
                               {"Content-Type": "application/json", "Idempotency-Key": text})
    assert status == 400, problem


def test_a_key_is_good_across_kill_9_and_restart(make_service):
    service = make_service("--reach-interval", "1h")
    headers = key()
    first = service.client.post(ADD, portal(50), expect=200, headers=headers)
    service.restart()
    again = service.client.post(ADD, portal(50), expect=200, headers=headers)
    assert again.text == first.text
    assert service.client.post(ADD, portal(51), expect=422, headers=headers)["Code"] == "idempotency_key_reused"
    assert service.client.get("/accesspoints")["Total"] == 1


def test_calls_with_one_key_at_once_do_one_thing(make_service):
    service = make_service("--reach-interval", "1h")
    headers = key()
    answers, errors = [], []
    barrier = threading.Barrier(16)

    def one():
        client = Client(service.http, service.client.token)
        try:
            barrier.wait()
            answers.append(client.post(ADD, portal(60), headers=headers, expect=200).text)
        except Exception as error:  # pylint: disable=broad-except
            errors.append(error)
        finally:
            client.close()

    threads = [threading.Thread(target=one) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    assert len(answers) == 16 and len(set(answers)) == 1
    assert service.client.get("/accesspoints")["Total"] == 1


def test_delete_takes_a_key(service):
    path = service.client.post(ADD, portal(70), expect=200)["ServiceAccessPointPath"]
    headers = key()
    service.client.delete(path, headers=headers)
    service.client.delete(path, headers=headers)
    service.client.delete(path, expect=404)


# ---- operation

def test_health_and_readiness(service):
    assert service.client.get("/healthz").body == {"Status": "ok"}
    assert service.client.get("/readyz").body == {"Status": "ready"}


def test_the_contract_is_served_as_it_is(service):
    answer = service.client.get("/openapi.yaml")
    assert answer.text == CONTRACT_FILE.read_text()


METRIC = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{([a-zA-Z_][a-zA-Z0-9_]*=\"(\\.|[^\"\\])*\",?)*\})? (-?\d+(\.\d+)?([eE][-+]?\d+)?|NaN|[+-]Inf)( \d+)?$")


def test_metrics_are_prometheus_text(service):
    answer = service.client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text.endswith("\n")
    typed, seen = {}, set()
    for line in answer.text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in typed, f"two TYPE lines for {name}"
            typed[name] = kind
        elif line.startswith("# HELP ") or not line:
            continue
        else:
            match = METRIC.match(line)
            assert match, line
            base = re.sub(r"_(bucket|sum|count)$", "", match.group(1)) if match.group(1) not in typed else match.group(1)
            assert base in typed, f"no TYPE for {line}"
            series = line.rsplit(" ", 1)[0]
            assert series not in seen, f"twice: {series}"
            seen.add(series)
    assert all(name.startswith(("smirror_", "process_")) for name in typed), typed


def test_metrics_count_requests(service):
    def total():
        return sum(float(line.rsplit(" ", 1)[1]) for line in service.client.get("/metrics").text.splitlines()
                   if re.match(r"smirror_http_requests_total[ {]", line))
    before = total()
    for _ in range(5):
        service.client.get("/volumes")
    assert total() >= before + 5


def test_services_tell_the_methods_of_the_contract(service):
    answer = service.client.get("/services")
    assert {member["Name"] for member in answer["Members"]} == set(contract().document["x-unsupported-methods"])
    for member in answer["Members"]:
        told = {method["Name"]: method for method in member["Methods"]}
        documented = {}
        prefix = f"/services/{member['Name']}/"
        for path, item in contract().document["paths"].items():
            if path.startswith(prefix):
                documented[path[len(prefix):]] = item["post"]
        missing = contract().document["x-unsupported-methods"][member["Name"]]
        assert set(told) == set(documented) | set(missing)
        for name in missing:
            assert told[name]["Supported"] is False
        for name, spec in documented.items():
            assert told[name]["Supported"] is True, name
            assert told[name]["Path"] == prefix + name
            assert told[name]["ReturnValues"] == spec["x-return-values"], name
            as_contract = [{"name": p["Name"], "type": p["Type"], "direction": p["Direction"], "required": p["Required"],
                            "array": p["Array"], **({"enum": p["Enum"]} if p["Enum"] else {})} for p in told[name]["Parameters"]]
            assert as_contract == spec["x-parameters"], name
            for parameter in told[name]["Parameters"]:
                if parameter["Enum"]:
                    wanted = {str(k): v for k, v in contract().enums[parameter["Enum"]].items()}
                    assert parameter["Values"] == wanted, (name, parameter["Name"])


def test_endpoints_show_our_initiator(service):
    endpoint = service.client.get("/endpoints/initiator")
    assert endpoint["Identifier"].startswith("iqn.") and endpoint["System"] == "/systems/local"
    found = service.client.method("GetServiceAccessPoints", {"System": "/systems/local"})
    assert "/endpoints/initiator" in found["ServiceAccessPoints"]


def test_the_default_setting_stays(service):
    assert service.client.get("/settings/default")["InstanceID"]
    service.client.delete("/settings/default", expect=409)


def test_what_was_answered_is_there_after_kill_9(make_service):
    service = make_service("--reach-interval", "1h")
    kept = []
    for i in range(30):
        kept.append(service.client.post(ADD, portal(i), expect=200)["ServiceAccessPointPath"])
        if i % 10 == 9:
            service.restart()
    assert [member["self"] for member in service.client.list("/accesspoints")] == kept


def test_start_is_quick(make_service):
    began = time.monotonic()
    make_service()
    assert time.monotonic() - began < 2 * SLOWNESS


def test_an_in_use_http_port_is_told(service):
    done = subprocess.run([SMIRRORD, "--data", str(service.directory / "other"), "--http", service.http, "--iscsi", "127.0.0.1:0"],
                          capture_output=True, text=True, timeout=20 * SLOWNESS, **service.user)
    assert done.returncode not in (0, -6, -11)
    assert service.http in done.stderr


def test_a_broken_database_is_told_and_not_overwritten(make_service):
    service = make_service()
    service.client.post(ADD, portal(1), expect=200)
    service.stop()
    database = service.database
    for suffix in ("-wal", "-shm"):
        extra = database.with_name(database.name + suffix)
        if extra.exists():
            extra.unlink()
    garbage = b"this is no database" * 1000
    database.write_bytes(garbage)
    service.spawn()
    code = service.process.wait(20 * SLOWNESS)
    assert code not in (0, -6, -11), code
    assert database.read_bytes() == garbage
    assert "smirror.db" in service.log()
    service.process = None


@pytest.mark.parametrize("harm", ["gone", "empty"])
def test_without_records_the_volumes_are_not_taken_for_rubbish(make_service, harm):
    service = make_service()
    made = service.client.method("CreateOrModifyElementFromStoragePool", {"Size": 1 << 20})["TheElement"]
    service.kill()
    kept = [path for path in service.data.iterdir() if path.name.startswith("smirror.db")]
    for path in kept:
        path.rename(service.directory / path.name)
    if harm == "empty":
        (service.data / "smirror.db").touch()
    layers = sorted((service.data / "pools" / "default").glob("*.layer"))
    for _ in range(2):  # the first leaves nothing behind that would let the second one do it
        service.spawn()
        assert service.process.wait(20 * SLOWNESS) == 1
    assert "smirror.db, are gone" in service.log()
    assert layers and sorted((service.data / "pools" / "default").glob("*.layer")) == layers
    for path in kept:
        (service.directory / path.name).rename(path)
    service.start()
    assert service.client.get(made)["Problem"] is None


def test_what_is_not_there_is_not_found(service):
    for path in ("/groups/000000000000", "/groupsynchronizations/000000000000", "/pipes/000000000000"):
        assert service.client.get(path, expect=404)["Code"] == "not_found"
