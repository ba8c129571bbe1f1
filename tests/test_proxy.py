"""docs/deploy/nginx-cds.conf in a real nginx with TLS, before a stub that writes down what reaches it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from databases import free_port
from lacking import lacking

from cds_service.app import create_app
from cds_service.settings import Settings
from cds_service.web.hooks_api import LARGEST_BODY

DOCS = Path(__file__).parents[1] / "docs"
CONFIG = (DOCS / "deploy/nginx-cds.conf").read_text(encoding="utf-8")
(UPSTREAM,) = re.findall(r"echo '(upstream cds_service .*)' >", (DOCS / "deploy.md").read_text(encoding="utf-8"))
NAME = "cds.example"
SERVICE = "/cds-services/infant-motor-workup"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
MISSING = "nginx is not installed: apt-get install -y nginx-light"


@dataclass
class Stub:
    """In place of the service."""

    port: int = 0
    seen: list[tuple[str, str, dict[str, str], int]] = field(default_factory=list)
    callers: set[int] = field(default_factory=set)  # by the port of their connection


@dataclass
class Proxy:
    """nginx in a folder of its own; ``service`` is the stub behind it."""

    port: int
    authority: Path
    service: Stub

    def connect(self, name: str = NAME) -> ssl.SSLSocket:
        """A TLS connection to this name, its certificate checked."""
        context = ssl.create_default_context(cafile=str(self.authority))
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        return context.wrap_socket(plain, server_hostname=name)

    def ask(self, method: str, path: str, body: bytes = b"", *headers: str) -> tuple[int, str]:
        """Status and the whole answer."""
        head = [f"{method} {path} HTTP/1.1", f"Host: {NAME}", "Connection: close", f"Content-Length: {len(body)}"]
        with self.connect() as connection:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused by its length, before it was sent in full
                connection.sendall("\r\n".join([*head, *headers, "", ""]).encode() + body)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        return int(answer.split()[1]), answer.decode()


def certificate(folder: Path) -> None:
    """fullchain.pem and key.pem for NAME, signed by themselves."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(1))
        .not_valid_after(now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "fullchain.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.fixture
def service() -> Iterator[Stub]:
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            size = len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            stub.callers.add(self.client_address[1])
            stub.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, size))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield stub
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy(tmp_path: Path, service: Stub) -> Iterator[Proxy]:
    with nginx(tmp_path, service, UPSTREAM.replace("127.0.0.1:8080", f"127.0.0.1:{service.port}")) as running:
        yield running


@contextmanager
def nginx(tmp_path: Path, service: Stub, upstream: str) -> Iterator[Proxy]:
    """The file as it stands, but for its port, its folder of certificates, and who is slow is cut off after one second.

    Its log of errors has warnings too.
    """
    if NGINX is None:
        lacking(MISSING)
    certificate(tmp_path)
    port = free_port()
    config = CONFIG.replace("listen 443", f"listen 127.0.0.1:{port}").replace("/etc/cds-service/tls", str(tmp_path))
    config, changed = re.subn(r"(client_(?:header|body)_timeout|proxy_read_timeout) 5s", r"\1 1s", config)
    assert changed == 4
    config = config.replace("/dev/stdout", f"{tmp_path}/access.log")
    config = config.replace("/dev/stderr error", f"{tmp_path}/error.log warn")
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"{'user root;' if os.geteuid() == 0 else ''}\ndaemon off; master_process on; worker_processes 1;\n"
        f"pid {tmp_path}/pid; error_log {tmp_path}/start.log;\nevents {{ worker_connections 2048; }}\n"
        f"http {{\n{temporary}{upstream}\n{config}\n}}\n"
    )
    command = [NGINX, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", f"{tmp_path}/start.log"]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert tested.returncode == 0, tested.stderr
    assert "[warn]" not in tested.stderr
    started = subprocess.Popen(command)
    running = Proxy(port, tmp_path / "fullchain.pem", service)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (tmp_path / "start.log").read_text()
        yield running
    finally:
        started.terminate()
        started.wait(15)


def test_a_call_reaches_the_service_and_its_caller_is_named_by_the_proxy_alone(proxy: Proxy) -> None:
    forged = ("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Host: evil", "Forwarded: for=6.6.6.6", "X-Real-IP: 6.6.6.6",
              "X-Forwarded-Prefix: /evil", "Authorization: Bearer t")  # fmt: skip
    status, answer = proxy.ask("POST", SERVICE, b"{}", "Content-Type: application/json", *forged)
    assert status == 200
    assert "Strict-Transport-Security: max-age=63072000" in answer
    ((method, path, headers, size),) = proxy.service.seen
    assert (method, path, size) == ("POST", SERVICE, 2)
    assert headers["host"] == NAME
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["authorization"] == "Bearer t"
    assert not {"x-forwarded-host", "forwarded", "x-real-ip", "x-forwarded-prefix"} & set(headers)
    assert "6.6.6.6" not in json.dumps(headers)


def test_every_route_is_passed_but_those_of_operation(proxy: Proxy, tmp_path: Path) -> None:
    """A new route needs a location here, or a blueprint of operation."""
    app = create_app(Settings(database_url=f"sqlite:///{tmp_path}/routes.sqlite3"))
    app.extensions["decision_log"].close()
    rows = yaml.safe_load((Path(__file__).parent / "desk_routes.yaml").read_text(encoding="utf-8"))
    fixed = {"service_id": "infant-motor-workup", "filename": "page.css"}
    passed, kept = set(), set()
    with app.test_request_context():
        for rule in app.url_map.iter_rules():
            method = "POST" if "POST" in (rule.methods or ()) else "GET"
            sample = {**fixed, **rows.get(f"{method} {rule.rule}", {}).get("values", {})}
            path = re.sub(r"<(?:\w+:)?(\w+)>", lambda found, sample=sample: str(sample[found[1]]), rule.rule)
            status, _ = proxy.ask(method, path)
            operation = rule.endpoint.startswith("operations.")
            assert status == (404 if operation else 200), path
            (kept if operation else passed).add(path)
    assert {"/healthz", "/readyz", "/metrics"} <= kept
    assert {SERVICE, f"{SERVICE}/feedback", "/cds-services", "/"} <= passed
    assert {path for _, path, _, _ in proxy.service.seen} == passed


@pytest.mark.parametrize(
    "path", ["/metrics/", "//metrics", "/cds-services/../metrics", "/%6detrics", "/console", "/.env"]
)
def test_no_other_way_of_writing_reaches_operation(path: str, proxy: Proxy) -> None:
    assert proxy.ask("GET", path)[0] == 404
    assert proxy.service.seen == []


def test_a_body_of_the_largest_size_passes_and_one_byte_more_does_not(proxy: Proxy) -> None:
    assert proxy.ask("POST", SERVICE, b"x" * (LARGEST_BODY + 1))[0] == 413
    assert proxy.service.seen == []
    assert proxy.ask("POST", SERVICE, b"x" * LARGEST_BODY)[0] == 200
    assert [size for *_, size in proxy.service.seen] == [LARGEST_BODY]


def test_no_chart_goes_through_a_file(proxy: Proxy, tmp_path: Path) -> None:
    assert proxy.ask("POST", SERVICE, b"x" * LARGEST_BODY)[0] == 200
    assert "temporary file" not in (tmp_path / "error.log").read_text()


def test_each_call_has_a_connection_of_its_own(proxy: Proxy) -> None:
    """One that a stopping worker closes under a call loses it: what was sent cannot be sent again."""
    for _ in range(3):
        assert proxy.ask("POST", SERVICE, b"{}")[0] == 200
    assert {headers["connection"] for _, _, headers, _ in proxy.service.seen} == {"close"}
    assert len(proxy.service.callers) == 3


CALLS = 6  # nginx leaves out a server for ten seconds once it failed, so one call at least met it


def test_a_call_that_nobody_heard_goes_to_another_server(tmp_path: Path, service: Stub) -> None:
    upstream = f"upstream cds_service {{ server 127.0.0.1:{free_port()}; server 127.0.0.1:{service.port}; }}"
    with nginx(tmp_path, service, upstream) as running:
        assert {running.ask("POST", SERVICE, b"{}")[0] for _ in range(CALLS)} == {200}
    assert len(service.seen) == CALLS
    assert "Connection refused" in (tmp_path / "error.log").read_text()


@pytest.mark.parametrize("ending", ["closed", "silent"])
def test_a_call_that_was_sent_is_never_sent_again(ending: str, tmp_path: Path, service: Stub) -> None:
    """Whoever heard it may have decided, logged and used up the token."""
    heard: list[bytes] = []
    kept: list[socket.socket] = []
    dying = socket.create_server(("127.0.0.1", 0))

    def hear() -> None:
        with suppress(OSError):
            while True:
                connection, _ = dying.accept()
                heard.append(connection.recv(65536))
                kept.append(connection)
                if ending == "closed":
                    connection.close()

    threading.Thread(target=hear, daemon=True).start()
    port = dying.getsockname()[1]
    upstream = f"upstream cds_service {{ server 127.0.0.1:{port} max_fails=0; server 127.0.0.1:{service.port}; }}"
    with dying, nginx(tmp_path, service, upstream) as running:
        answers = [running.ask("POST", SERVICE, b"{}")[0] for _ in range(2)]
        dying.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()
    assert sorted(answers) == [200, 502 if ending == "closed" else 504]
    assert (len(heard), len(service.seen)) == (1, 1)


def test_under_another_name_there_is_no_certificate(proxy: Proxy) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        proxy.connect("evil.example")
    assert proxy.service.seen == []


def test_a_foreign_host_header_does_not_reach_the_service(proxy: Proxy) -> None:
    with proxy.connect() as connection:
        connection.sendall(b"GET /cds-services HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        answer = connection.recv(65536)
    assert answer == b""
    assert proxy.service.seen == []


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(b"GET /cds-services HTTP/1.1\r\nX", id="header"),
        pytest.param(f"POST {SERVICE} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 100\r\n\r\n{{".encode(), id="body"),
    ],
)
def test_a_half_sent_call_is_cut_off_and_holds_nobody(beginning: bytes, proxy: Proxy) -> None:
    waiting = [proxy.connect() for _ in range(50)]
    try:
        for connection in waiting:
            connection.sendall(beginning)
        started = time.monotonic()
        assert proxy.ask("GET", "/cds-services")[0] == 200
        assert time.monotonic() - started < 1
        for connection in waiting:  # ended by nginx: an answer, then the end
            while connection.recv(65536):
                pass
        assert time.monotonic() - started < 8
    finally:
        for connection in waiting:
            connection.close()
    assert [path for _, path, _, _ in proxy.service.seen] == ["/cds-services"]


def test_two_lengths_are_refused(proxy: Proxy) -> None:
    """What one server takes for a body, the next might take for a call (request smuggling)."""
    for second in ("Transfer-Encoding: chunked", "Content-Length: 7"):
        assert proxy.ask("POST", SERVICE, b"0\r\n\r\n", second)[0] == 400
    assert proxy.service.seen == []


def test_its_log_holds_neither_query_nor_token(proxy: Proxy, tmp_path: Path) -> None:
    proxy.ask("GET", "/rules?patient=CANARY-1", b"", "Authorization: Bearer CANARY-2", "X-Request-Id: CANARY-3")
    proxy.ask("POST", SERVICE, b"CANARY-4" * 300_000)
    logs = (tmp_path / "access.log").read_text() + (tmp_path / "error.log").read_text()
    assert '"GET /rules" 200' in logs
    assert "CANARY" not in logs
