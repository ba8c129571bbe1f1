"""A FHIR server on this machine that answers as it is told to, well or badly, and remembers who asked what."""

from __future__ import annotations

import datetime
import gzip
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cds_service.record.sources import SOURCES

DRIP = 0.05


class Asked(NamedTuple):
    """One request as it arrived: its target, and its headers with names in small letters."""

    target: str
    headers: Mapping[str, str]


Behaviour = Callable[["FaultyServer", socket.socket, Asked], None]


class FaultyServer:
    """Listens while the block runs. ``behave`` is called for each request, on a thread of its connection."""

    def __init__(self, behave: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.behave = behave
        self.asked: list[Asked] = []
        self.connections = 0
        self.released = threading.Event()
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.base = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/fhir"

    def __enter__(self) -> FaultyServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
                 ) -> None:  # fmt: skip
        self.released.set()
        self._socket.close()

    def _accept(self) -> None:
        while not self.released.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                served = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
                with served:
                    while (asked := read_request(served)) is not None:
                        self.asked.append(asked)
                        self.behave(self, served, asked)
        except OSError:
            pass


def read_request(connection: socket.socket) -> Asked | None:
    """The next request without body; None when the other side has hung up."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            return None
        head += piece
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if line)
    return Asked(first.split(" ")[1], {name.lower(): value for name, value in headers.items()})


def http(body: bytes, status: str = "200 OK", media: str = "application/fhir+json", **headers: str) -> bytes:
    """An answer in full."""
    lines = {"Content-Type": media, "Content-Length": str(len(body)), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def says(body: bytes, status: str = "200 OK", media: str = "application/fhir+json", **headers: str) -> Behaviour:
    """Answers everything with this."""
    return lambda _, connection, __: connection.sendall(http(body, status, media, **headers))


def serves(request: Mapping[str, Any]) -> Behaviour:
    """Answers each of our queries with what the request's prefetch would have brought; 404 for any other."""

    def behave(_: FaultyServer, connection: socket.socket, asked: Asked) -> None:
        found = answer_of(request, asked.target)
        connection.sendall(http(b"{}", "404 Not Found") if found is None else http(json.dumps(found).encode()))

    return behave


def answer_of(request: Mapping[str, Any], target: str) -> Any:
    """What a FHIR server that holds this request's prefetch says to a read of the patient or a search."""
    kind = urlsplit(target).path.removeprefix("/fhir/").split("/")[0]
    key = "patient" if kind == "Patient" else SOURCES.get(kind, "")
    return request["prefetch"].get(key)


def hangs(server: FaultyServer, connection: socket.socket, _: Asked) -> None:
    """Reads the request and says nothing."""
    server.released.wait(30)


def drips(content: bytes) -> Behaviour:
    """Sends this, a byte now and then."""

    def behave(server: FaultyServer, connection: socket.socket, _: Asked) -> None:
        for place in range(len(content)):
            if server.released.wait(DRIP):
                return
            connection.sendall(content[place : place + 1])

    return behave


def resets(_: FaultyServer, connection: socket.socket, __: Asked) -> None:
    """Breaks the connection off without a farewell."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def speaks_no_http(_: FaultyServer, connection: socket.socket, __: Asked) -> None:
    """Greets as another protocol would, and hangs up."""
    connection.sendall(b"SSH-2.0-x\r\n\r\n")
    connection.shutdown(socket.SHUT_RDWR)


def stops_halfway(_: FaultyServer, connection: socket.socket, __: Asked) -> None:
    """Promises more than it sends."""
    connection.sendall(http(b" " * 10_000)[:-5000])
    connection.shutdown(socket.SHUT_RDWR)


def bomb(megabytes: int) -> bytes:
    """So many megabytes of blanks, as gzip."""
    return gzip.compress(b" " * (megabytes * 1024 * 1024), 9)


def certificate(folder: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context with a certificate of its own for these names, and the file that vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "made up")])
    now = datetime.datetime.now(datetime.UTC)
    shown = [x509.IPAddress(ip_address(text)) if text[0].isdigit() else x509.DNSName(text) for text in names]
    signed = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1)).add_extension(x509.SubjectAlternativeName(shown), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True).sign(key, hashes.SHA256())
    )  # fmt: skip
    stem = "-".join(names).replace(".", "_")
    authority, private = folder / f"{stem}.pem", folder / f"{stem}.key"
    authority.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, private)
    return context, authority
