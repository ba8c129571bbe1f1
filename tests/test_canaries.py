"""Marked words in every place of every call: where they are found afterwards, in all that the service wrote or said.

Tokens, names, numbers, ids, free text and comments all begin with ``canary``. The running service is called on each
path, well and badly; then all that came out of it, and every cell of its database, is searched for the word.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import requests
from click.testing import CliRunner
from faulty import Asked, Behaviour, FaultyServer, http, says, serves
from forge import claims, ec_key, jwk, token
from infants import Json, observation
from kill9 import SERVICE, start
from sqlalchemy import MetaData, select
from stubbed_worker import BROKEN, DEFECT, PROGRAM
from wire import REFUSED, sample, walk

from cds_service.cli import main
from cds_service.hooks.request import AS_OF
from cds_service.store.database import Database
from cds_service.store.logged import logged_since
from cds_service.store.schema_version import upgrade
from cds_service.store.sealed_inputs import InputKeys

KEY, FORGER = ec_key(), ec_key()
ISSUER = "https://ehr.example"
INPUTS_KEY = b64encode(bytes(range(32))).decode()
ACCESS, COMMENT, PATIENT, USER, VISIT = (
    "canary-access", "canary-comment", "canary-patient", "canary-user", "canary-visit"
)  # fmt: skip
IDS = {PATIENT, VISIT}  # a card's suggestions are about this patient, at this visit
OUTCOME = json.dumps({"resourceType": "OperationOutcome", "issue": [
    {"severity": "error", "code": "exception", "diagnostics": "canary-said-by-the-server"}]}).encode()  # fmt: skip


def elsewhere(_: FaultyServer, connection: socket.socket, __: Asked) -> None:
    """A Bundle whose next page is on another server."""
    link = [{"relation": "next", "url": "https://canary-evil.example/fhir?page=canary-next"}]
    connection.sendall(http(json.dumps({"resourceType": "Bundle", "type": "searchset", "link": link}).encode()))


SERVERS: Mapping[str, Behaviour] = {
    "500": says(OUTCOME, "500 canary-reason", X_Canary="canary-header"),
    "401": says(OUTCOME, "401 Unauthorized", WWW_Authenticate="Bearer error=canary-header"),
    "outcome": says(OUTCOME),
    "redirect": says(b"", "302 Found", Location="https://canary-evil.example/canary-place"),
    "page": says(b"<html>canary-page", media="text/html"),
    "half JSON": says(b'{"resourceType": "Bundle", "canary-member": "canary-val'),
    "foreign": says(json.dumps({"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": observation(
        "tremor", subject={"reference": "Patient/canary-other"})}]}).encode()),
    "elsewhere": elsewhere,
}  # fmt: skip


def canaries(text: str | bytes) -> set[str]:
    """The marked words in this."""
    found = re.findall(rb"canary[a-z0-9-]*", (text.encode() if isinstance(text, str) else text).lower())
    return {word.decode() for word in found}


def marked(name: str) -> Json:
    """A sample in which all that could name the patient is marked, and that still brings its cards."""
    body: Json = json.loads(json.dumps(sample(name)).replace(sample(name)["context"]["patientId"], PATIENT))
    body["context"] = {"patientId": PATIENT, "userId": f"Practitioner/{USER}", "encounterId": VISIT}
    body["prefetch"]["patient"].update(
        name=[{"family": "canary-family", "given": ["canary-given"], "text": "canary-name"}],
        identifier=[{"system": "https://canary-hospital.example/mrn", "value": "canary-mrn"}],
        telecom=[{"system": "phone", "value": "canary-phone"}], address=[{"text": "canary-address"}],
        text={"status": "generated", "div": "<div xmlns='http://www.w3.org/1999/xhtml'>canary-narrative</div>"},
    )  # fmt: skip
    for part in walk(body["prefetch"]):
        if "subject" in part:
            part["subject"]["display"] = "canary-display"
            part["note"] = [{"text": "canary-note"}]
            part["performer"] = [{"display": "canary-performer"}]
        if isinstance(part.get("code"), dict):
            part["code"]["text"] = "canary-code-text"
    return body


class Said(NamedTuple):
    """One answer: all of it as text, with the headers."""

    status: int
    text: str


class Caller:
    """A registered client; every call carries a new token, and marks wherever a header can take one."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.sent: list[str] = []  # what is secret in the tokens: claims and signature
        self.refused: list[Said] = []

    def authorization(self, url: str, key: Any = KEY, head: Mapping[str, Any] = {}, **changes: Any) -> str:
        made = token(key, claims(**{"aud": url, "jti": f"canary-jti-{len(self.sent)}", **changes}), **head)
        self.sent += made.split(".")[1:]
        return f"Bearer {made}"

    def call(self, method: str, path: str, content: Any = None, **headers: str | None) -> Said:
        url = self.base + path
        sent = {
            "Authorization": self.authorization(url.partition("?")[0]), "Content-Type": "application/json",
            "User-Agent": "canary-agent", "Referer": "https://ehr.example/canary-referer", "Cookie": "canary-cookie=1",
            "Origin": "https://canary-origin.example", "X-Request-Id": "canary name",
            "X-Forwarded-For": "canary-forwarded",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }  # fmt: skip
        body = content if isinstance(content, bytes | None) else json.dumps(content).encode()
        answer = requests.request(method, url, data=body, headers=sent, timeout=20, allow_redirects=False)
        return Said(answer.status_code, f"{answer.headers}\n{answer.text}")

    def refuse(self, status: int, method: str, path: str, content: Any = None, **headers: str | None) -> None:
        """A call that has to be refused so."""
        said = self.call(method, path, content, **headers)
        assert said.status == status, (path, said)
        self.refused.append(said)


def asking(server: FaultyServer, *without: str) -> Json:
    """A request that leaves these keys to us, or all."""
    body = marked("clustered-awake-jerks")
    body["fhirServer"] = server.base
    body["fhirAuthorization"] = {"access_token": ACCESS, "token_type": "Bearer", "expires_in": 300, "scope": "canary",
                                 "subject": "canary-subject", "patient": PATIENT}  # fmt: skip
    body["prefetch"] = {key: value for key, value in body["prefetch"].items() if without and key not in without}
    return body


def call_well(caller: Caller, good: FaultyServer, bad: Mapping[str, FaultyServer]) -> list[Said]:
    """Calls that are answered with cards: prefetched, fetched, half fetched, with a rule that raises."""
    clonus = marked("clonus-both-sides")
    bodies = [marked("clustered-awake-jerks"), marked("low-glucose-mg"), clonus, asking(good)]
    partly = [good, *(server for name, server in bad.items() if name != "foreign")]
    bodies += [asking(server, "specimens") for server in partly]
    said = [caller.call("POST", SERVICE, body) for body in bodies]
    assert {answer.status for answer in said} == {200}
    assert all('"cards":[{' in answer.text for answer in said)
    assert f'"{BROKEN}"' in said[2].text
    assert "internal-error" in said[2].text
    return said


def call_badly(caller: Caller, bad: Mapping[str, FaultyServer]) -> None:
    """Calls that are refused, one at each stage."""
    body, url = marked("clustered-awake-jerks"), caller.base + SERVICE
    for authorization in (
        None, "Basic canary-password", "Bearer canary-token", caller.authorization(url, FORGER),
        caller.authorization(url, iss="https://canary-issuer.example"),
        caller.authorization(url, tenant="canary-tenant"), caller.authorization(url, aud="https://canary.example"),
        caller.authorization(url, head={"kid": "canary-kid"}), caller.authorization(url, head={"jku": "canary-jku"}),
        caller.authorization(url, head={"canary-header": "canary"}), caller.authorization(url, jti="canary" * 100),
    ):  # fmt: skip
        if authorization is not None:
            caller.refuse(401, "POST", SERVICE, body, Authorization=authorization)
    used = caller.authorization(url)
    assert caller.call("POST", SERVICE, body, Authorization=used).status == 200
    caller.refuse(401, "POST", SERVICE, body, Authorization=used)
    for path in ("/cds-services/canary-service", "/cds-services/canary-service/feedback"):
        caller.refuse(404, "POST", path, body)
    for path in ("/canary-path?canary=canary-query", "/rules/canary-rule", "/static/canary-file", "/%63anary%2fcanary"):
        caller.refuse(404, "GET", path)
    caller.refuse(405, "PUT", SERVICE, body)
    caller.refuse(415, "POST", SERVICE, body, Content_Type="text/canary-type")
    caller.refuse(415, "POST", SERVICE, body, Content_Encoding="canary-encoding")
    caller.refuse(413, "POST", SERVICE, b" " * 3_000_000 + b"canary-large")
    whole = json.dumps(body).encode()
    for content in (
        whole[:-3], b'{"canary-member": 1, "canary-member": 2}', b"[" * 5000 + b'"canary-deep"', b'"canary-text"',
        whole + b"canary-after", whole.replace(b"canary-note", b"canary-\xff"),
    ):  # fmt: skip
        caller.refuse(400, "POST", SERVICE, content)
    for member, wrong in [
        ("hook", "canary-hook"), ("hookInstance", ["canary-instance"]), ("fhirServer", "canary-server"),
        ("context", "canary-context"), ("context", {**body["context"], "userId": "Canary/canary-user"}),
        ("context", {**body["context"], "patientId": "canary patient"}), ("prefetch", ["canary-prefetch"]),
        ("context", {**body["context"], "patientId": "canary-other"}),
        ("fhirAuthorization", {"access_token": ACCESS}), ("extension", {AS_OF: "canary-date"}),
    ]:  # fmt: skip
        caller.refuse(400, "POST", SERVICE, body | {member: wrong})
    caller.refuse(412, "POST", SERVICE, body | {"prefetch": {"canary-key": "canary-value"}})
    caller.refuse(412, "POST", SERVICE, marked(REFUSED[1]))
    caller.refuse(412, "POST", SERVICE, body | {"prefetch": {}, "fhirServer": "https://canary-server.example/fhir"})
    for name, server in bad.items():
        caller.refuse(400 if name == "foreign" else 412, "POST", SERVICE, asking(server, "observations", "conditions"))
    caller.refuse(500, "POST", SERVICE, body | {"context": {**body["context"], "encounterId": DEFECT}})


def give_feedback(caller: Caller, card: str) -> None:
    """Feedback that is taken, in part not understood, and refused."""
    at = "2026-11-26T10:00:00Z"
    reason = {"reason": {"code": "seen", "system": "https://ehr.example/reasons"}, "userComment": COMMENT}
    entry = {"card": card, "outcome": "overridden", "outcomeTimestamp": at, "overrideReason": reason}
    taken = caller.call("POST", f"{SERVICE}/feedback", {"feedback": [entry, entry | {"outcome": "canary-outcome"},
                        entry | {"outcomeTimestamp": "canary-time"}], "canary-more": 1})  # fmt: skip
    assert (taken.status, '"accepted":1,"rejected":2' in taken.text) == (200, True)
    caller.refused.append(taken)
    caller.refuse(400, "POST", f"{SERVICE}/feedback", {"feedback": "canary-list"})
    caller.refuse(400, "POST", f"{SERVICE}/feedback", b'{"feedback": [{"userComment": "canary-com')
    caller.refuse(413, "POST", f"{SERVICE}/feedback", {"feedback": [entry] * 101})
    caller.refuse(405, "DELETE", f"{SERVICE}/feedback")
    caller.refuse(401, "POST", f"{SERVICE}/feedback", {"feedback": [entry]}, Authorization="Bearer canary-token")


def break_off(base: str) -> None:
    """HTTP that is none, and a caller who goes away in the middle of the body."""
    address = ("127.0.0.1", int(base.rpartition(":")[2]))
    head = f"POST {SERVICE}?canary=1 HTTP/1.1\r\nHost: canary.example\r\nContent-Type: application/json\r\n"
    for text in (f"{head}Content-Length: 5000\r\n\r\n{{'canary-half", "GET /canary-path HTTP/9.9\r\n\r\n",
                 f"{head}Transfer-Encoding: chunked\r\n\r\ncanary-chunk\r\n", f"{head}X: {'canary' * 20_000}\r\n\r\n",
                 "canary-words\r\n\r\n"):  # fmt: skip
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(text.encode())


class Found(NamedTuple):
    """What was there when all was done. ``secrets``: claims and signatures of the tokens; ``heard``: by FHIR."""

    good: list[Said]
    refused: list[Said]
    shown: list[Said]
    written: str
    replayed: str
    secrets: list[str]
    heard: set[str]


def go_every_path(url: str, folder: Path) -> Found:
    """Call the service on every path, stop it, and replay what it has decided."""
    written = folder / "written"
    with ExitStack() as stack, written.open("wb") as sink:
        good = stack.enter_context(FaultyServer(serves(marked("clustered-awake-jerks"))))
        bad = {name: stack.enter_context(FaultyServer(behave)) for name, behave in SERVERS.items()}
        known = {
            "id": "main", "name": "Main", "issuer": ISSUER, "jwks": {"keys": [jwk(KEY, "ec")]},
            "networks": ["127.0.0.0/8"], "fhir_bases": [server.base for server in (good, *bad.values())],
        }  # fmt: skip
        (folder / "clients.json").write_text(json.dumps({"clients": [known]}))
        settings = {"CDS_CLIENTS_FILE": str(folder / "clients.json"), "CDS_KEEP_INPUTS": "true",
                    "CDS_INPUTS_KEY": INPUTS_KEY}  # fmt: skip
        process, base = start(url, folder, PROGRAM, sink, **settings)
        try:
            caller = Caller(base)
            answers = call_well(caller, good, bad)
            call_badly(caller, bad)
            give_feedback(caller, re.findall(r'"uuid":"([^"]+)"', answers[0].text)[0])
            break_off(base)
            pages = ["/", "/rules", f"/rules/{BROKEN}", "/metrics", "/readyz", "/healthz", "/cds-services"]
            shown = [caller.call("GET", path, Authorization=None) for path in pages * 4]  # of both workers
        finally:
            stop(process)
        heard = {asked.headers.get("authorization", "") for server in (good, *bad.values()) for asked in server.asked}
    replayed = CliRunner().invoke(main, ["replay"], env={**settings, "CDS_DATABASE_URL": url}).output
    return Found(answers, caller.refused, shown, written.read_text(), replayed, caller.sent, heard)


def stop(process: subprocess.Popen[bytes]) -> None:
    """As an operator stops it, so that the decisions that wait are written; at any rate it ends."""
    process.terminate()
    try:
        assert process.wait(20) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def cells(database: Database) -> Iterator[tuple[str, str, str | bytes]]:
    """Every cell of every table, whoever made it."""
    there = MetaData()
    with database.reading() as connection:
        there.reflect(connection)
        for table in there.sorted_tables:
            for row in connection.execute(select(table)).mappings():
                for column, value in row.items():
                    yield table.name, str(column), bytes(value) if isinstance(value, bytes) else str(value)


def test_marked_words_are_found_in_the_allowed_tables_only(url: str, tmp_path: Path, request: Any) -> None:
    database = Database(url)
    upgrade(database)
    found = go_every_path(url, tmp_path)

    assert set().union(*(canaries(said.text) for said in found.good)) <= IDS
    for said in (*found.refused, *found.shown):
        assert canaries(said.text) == set(), said
    assert canaries(found.written) == canaries(found.replayed) == set()
    for event in ("answered", "token-refused", "defect", "feedback"):
        assert f'"event": "{event}"' in found.written
    assert "Traceback" not in found.written
    assert "with their input" in found.replayed

    kept: dict[tuple[str, str], set[str]] = {}
    for table, column, value in cells(database):
        kept.setdefault((table, column), set()).update(canaries(value))
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        assert not [secret for secret in found.secrets if secret in text], (table, column)
    assert {place: words for place, words in kept.items() if words} == {
        ("feedback", "comment"): {COMMENT},
        ("seen_tokens", "jti"): kept["seen_tokens", "jti"],
    }
    assert all(word.startswith("canary-jti-") for word in kept["seen_tokens", "jti"])

    opened = [logged.kept for logged in logged_since(database, "", InputKeys(INPUTS_KEY))]
    assert len(opened) == len(found.good) + 1  # and the one whose token was then used again
    for content in opened:
        assert content is not None
        assert {"canary-family", "canary-mrn", "canary-note", PATIENT} <= canaries(content)
        assert ACCESS not in canaries(content)
    database.close()

    everywhere = [text for said in (*found.good, *found.refused, *found.shown) for text in said]
    for text in (*map(str, everywhere), found.written, found.replayed):
        assert not [secret for secret in found.secrets if secret in text]
    assert found.heard == {f"Bearer {ACCESS}"}

    files = [path for path in tmp_path.iterdir() if path.name not in ("clients.json", "written")]
    if "postgresql" in url:
        files.append(request.getfixturevalue("postgresql").log)
    assert files
    for file in files:
        words = {word for word in canaries(file.read_bytes()) if not word.startswith("canary-jti-")}
        assert words <= {COMMENT}, file
