# SPDX-License-Identifier: Apache-2.0
"""TLS on the HTTP face: with a certificate any address may be listened on, and clients may have to show one of their own."""

import http.client
import ssl
import subprocess

import pytest

from process import SLOWNESS, SMIRRORD


@pytest.fixture(scope="module")
def certificates(room):
    """An authority, and a certificate of the service and one of a client that it has signed."""
    directory = room / "tls"
    directory.mkdir(mode=0o755)

    def openssl(*arguments):
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, cwd=directory)
        assert done.returncode == 0, done.stderr

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2, "-subj", "/CN=test authority",
            "-keyout", "ca.key", "-out", "ca.pem")
    (directory / "names").write_text("subjectAltName=DNS:smirror.test,DNS:localhost,IP:127.0.0.1\n")
    for name in ("service", "client"):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", 2, "-extfile", "names",
                "-out", f"{name}.pem")
    for path in directory.iterdir():
        path.chmod(0o644)
    return directory


def get(service, path, certificates, client=False, headers=None, host="localhost"):
    context = ssl.create_default_context(cafile=certificates / "ca.pem")
    if client:
        context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
    port = int(service.http.rsplit(":", 1)[1])
    connection = http.client.HTTPSConnection("127.0.0.1" if host == "localhost" else host, port, context=context, timeout=20)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {service.client.token}", **(headers or {})})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_https_with_a_certificate(make_service, certificates):
    service = make_service("--tls-cert", str(certificates / "service.pem"), "--tls-key", str(certificates / "service.key"))
    assert get(service, "/systems/local", certificates)[0] == 200
    assert get(service, "/systems/local", certificates, headers={"Authorization": "Bearer 0"})[0] == 401
    assert get(service, "/systems/local", certificates, headers={"Host": "evil.example"})[0] == 403
    with pytest.raises((http.client.HTTPException, OSError)):
        service.client.raw("GET", "/healthz")


def test_every_address_may_be_listened_on_with_a_certificate_and_only_then(make_service, certificates, directory):
    directory.chmod(0o777)
    done = subprocess.run([SMIRRORD, "--data", directory / "data", "--iscsi", "127.0.0.1:0", "--http", "0.0.0.0:0"], capture_output=True,
                          text=True, timeout=20 * SLOWNESS)
    assert done.returncode == 1 or done.returncode == 2
    assert "tls" in done.stderr.lower()
    service = make_service("--http", "0.0.0.0:0", "--http-hosts", "smirror.test", "--tls-cert", str(certificates / "service.pem"),
                           "--tls-key", str(certificates / "service.key"))
    assert get(service, "/healthz", certificates)[0] == 200
    assert get(service, "/volumes", certificates, headers={"Host": "smirror.test"})[0] == 200
    assert get(service, "/volumes", certificates, headers={"Host": "other.test"})[0] == 403


def test_clients_can_be_made_to_show_a_certificate(make_service, certificates):
    service = make_service("--tls-cert", str(certificates / "service.pem"), "--tls-key", str(certificates / "service.key"),
                           "--tls-client-ca", str(certificates / "ca.pem"))
    assert get(service, "/volumes", certificates, client=True)[0] == 200
    try:
        status, _ = get(service, "/volumes", certificates)
        assert status == 401
    except (ssl.SSLError, OSError):
        pass
    assert get(service, "/volumes", certificates, client=True, headers={"Authorization": "Bearer 0"})[0] == 401


@pytest.mark.parametrize("arguments", [["--tls-cert", "service.pem"], ["--tls-key", "service.key"], ["--tls-client-ca", "ca.pem"],
                                       ["--tls-cert", "service.pem", "--tls-key", "client.key"],
                                       ["--tls-cert", "service.key", "--tls-key", "service.key"],
                                       ["--tls-cert", "names", "--tls-key", "names"]])
def test_half_a_certificate_or_a_wrong_one_is_told_at_the_start(certificates, directory, arguments):
    directory.chmod(0o777)
    named = [argument if argument.startswith("--") else str(certificates / argument) for argument in arguments]
    done = subprocess.run([SMIRRORD, "--data", directory / "data", "--iscsi", "127.0.0.1:0", "--http", "127.0.0.1:0", *named],
                          capture_output=True, text=True, timeout=20 * SLOWNESS)
    assert done.returncode in (1, 2) and done.stderr.strip(), done
