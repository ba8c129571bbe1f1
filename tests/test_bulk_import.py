"""cds-service import: an export comes whole or it is said what is missing, whatever server and network do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import jwt
import pytest
from bulk_server import START, Asked, BulkServer, http_date, outcome, says
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm

from cds_service.bulk import downloads
from cds_service.bulk.backend import read_signing_key
from cds_service.bulk.manifest import read_manifest
from cds_service.bulk.server import pause_after
from cds_service.cli import main
from cds_service.commands import bulk_import
from cds_service.errors import InputError
from cds_service.population.synthetic.content import load_content
from cds_service.population.synthetic.synthetic_infants import infants, write_population
from cds_service.rules.library import load_library
from cds_service.rules.pack import packaged_cards

EC_KEY = ec.generate_private_key(ec.SECP384R1())
LINES = {
    "Patient": [b'{"resourceType":"Patient","id":"p%d"}' % number for number in range(50)],
    "Observation": [
        b'{"resourceType":"Observation","id":"o%d","subject":{"reference":"Patient/p1"}}' % number
        for number in range(9000)
    ],
}


def pem(path: Path, key: Any = EC_KEY) -> Path:
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, without making them."""
    made: list[float] = []
    monkeypatch.setattr(bulk_import, "pause", made.append)
    monkeypatch.setattr(bulk_import, "now", lambda: START)
    return made


@pytest.fixture
def server() -> Iterator[BulkServer]:
    with BulkServer(LINES, EC_KEY.public_key()) as listening:
        yield listening


def fetch(server: BulkServer, out: Path, *more: str, network: str = "127.0.0.0/8") -> Result:
    key = pem(out.with_name("key.pem"))
    who = ["--client-id", "us", "--key", str(key)] if server.public_key is not None else []
    network_ = ["--network", network] if network else []
    return CliRunner().invoke(main, ["import", "--base", server.base, "--out", str(out), *who, *network_, *more])


def lines(out: Path) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for path in sorted(out.glob("*.ndjson*")):
        content = path.read_bytes()
        plain = gzip.decompress(content) if path.suffix == ".gz" else content
        found.setdefault(path.name.split("-")[1].split(".")[0], []).extend(plain.splitlines())
    return found


def state(out: Path) -> Any:
    return json.loads((out / ".import" / "state.json").read_bytes())


# As it should be


@pytest.mark.parametrize("packed", [False, True])
def test_an_export_comes_whole_and_its_job_is_removed(
    server: BulkServer, tmp_path: Path, paused: list[float], packed: bool
) -> None:
    server.packed, server.polls = packed, 3
    done = fetch(server, tmp_path / "out", "--type", "Patient", "--type", "Observation", "--since",
                 "2026-01-01T00:00:00Z")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert lines(tmp_path / "out") == LINES
    kick_off = next(asked for asked in server.asked if asked.path.endswith("$export"))
    assert kick_off.target == (
        "/fhir/Patient/$export?_outputFormat=application%2Ffhir%2Bndjson&_type=Observation%2CPatient"
        "&_since=2026-01-01T00%3A00%3A00Z"
    )
    assert paused == [7.0, 7.0, 7.0]  # as the server says, between four polls
    assert server.scopes == ["system/Observation.read system/Patient.read"]
    assert server.jobs == {} and state(tmp_path / "out")["finished"]
    assert "Observation: 9000" in done.output and "35 %" in done.output and "Smith" not in done.output
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_an_open_server_is_given_no_token_and_a_group_is_asked_for(tmp_path: Path, paused: list[float]) -> None:
    with BulkServer(LINES) as server:
        assert fetch(server, tmp_path / "out", "--group", "nicu", "--type", "all").exit_code == 0
        assert server.count("GET", "/fhir/Group/nicu/$export") == 1
        assert "_type" not in next(asked.target for asked in server.asked if "$export" in asked.target)
    assert lines(tmp_path / "out") == LINES


def test_files_that_want_no_token_get_none(server: BulkServer, tmp_path: Path, paused: list[float]) -> None:
    server.manifest_changes = {"requiresAccessToken": False}
    assert fetch(server, tmp_path / "out").exit_code == 0
    assert not any("authorization" in asked.headers for asked in server.asked if asked.path.startswith("/files/"))


def test_an_audit_reads_what_was_imported(tmp_path: Path, paused: list[float]) -> None:
    content = load_content(packaged_cards(), load_library().reading)
    write_population(infants(content, 20, 3, date(2026, 11, 22)), tmp_path / "in")
    (tmp_path / "in" / "truth.ndjson").unlink()
    files = {path.stem: path.read_bytes().splitlines() for path in sorted((tmp_path / "in").iterdir())}
    with BulkServer(files) as server:
        server.packed = True
        assert fetch(server, tmp_path / "out").exit_code == 0
    for name in ("in", "out"):
        arguments = ["--as-of", "2026-11-22", "--workers", "1", "--no-parquet", "--out", str(tmp_path / f"a-{name}")]
        assert CliRunner().invoke(main, ["audit", str(tmp_path / name), *arguments]).exit_code == 0
    assert (tmp_path / "a-in" / "cards.ndjson").read_bytes() == (tmp_path / "a-out" / "cards.ndjson").read_bytes()
    assert (tmp_path / "a-in" / "cards.ndjson").stat().st_size > 1000


# Waiting


@pytest.mark.parametrize(
    ("headers", "tries", "seconds"),
    [
        ({"retry-after": "120"}, 0, 120),
        ({"retry-after": "0"}, 0, 1),
        ({"retry-after": "99999999"}, 0, 3600),
        ({"retry-after": http_date(START + 90)}, 0, 90),
        ({"retry-after": http_date(START + 90), "date": http_date(START + 60)}, 0, 30),
        ({"retry-after": http_date(START - 90)}, 0, 1),
        ({"retry-after": "soon"}, 2, 8),
        ({"retry-after": "-5"}, 0, 2),
        ({}, 0, 2),
        ({}, 99, 300),
    ],
)
def test_a_pause_is_what_the_server_says_within_bounds(headers: dict[str, str], tries: int, seconds: float) -> None:
    assert pause_after(headers, tries, START) == seconds


def test_429_and_a_date_are_obeyed_and_a_gateway_that_fails_is_asked_again(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    server.fault("/fhir/Patient/$export", says(429, "throttled", Retry_After="20"), says(503))
    server.fault("/jobs/", says(429, Retry_After=http_date(START + 33)), says(500), says(502, "transient"))
    server.fault("/files/", says(429, Retry_After="11"), says(503))
    assert fetch(server, tmp_path / "out", "--at-once", "1").exit_code == 0
    assert paused == [20.0, 4.0, 33.0, 4.0, 8.0, 7.0, 11.0, 4.0]
    assert lines(tmp_path / "out") == LINES


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_server_that_refuses_the_export_is_believed(
    server: BulkServer, tmp_path: Path, paused: list[float], status: int
) -> None:
    server.fault("/fhir/Patient/$export", says(status, "not-supported"))
    refused = fetch(server, tmp_path / "out")
    assert refused.exit_code == 1
    assert f"does not begin the export: status {status} (not-supported)" in refused.output
    assert "Smith" not in refused.output
    assert paused == [] and server.count("GET", "/fhir/Patient/$export") == 1


def test_a_server_that_fails_for_ever_is_left(server: BulkServer, tmp_path: Path, paused: list[float]) -> None:
    server.fault("/jobs/", *[says(503)] * 8)
    failed = fetch(server, tmp_path / "out")
    assert failed.exit_code == 1 and "the export failed: status 503" in failed.output
    assert paused == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]


def test_an_export_that_is_never_ready_is_waited_for_no_longer_than_told(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    server.polls = 10_000
    late = fetch(server, tmp_path / "out", "--patience", "1")
    assert late.exit_code == 1 and "not ready after 3598 s" in late.output
    assert len(paused) == 3600 // 7 and server.jobs
    server.jobs["/jobs/1"] = 0
    assert fetch(server, tmp_path / "out").exit_code == 0
    assert server.count("GET", "/fhir/Patient/$export") == 1


def test_a_cancelled_job_is_said_and_the_same_command_asks_for_another(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    def cancelled(server: BulkServer, _: Asked) -> Any:
        server.jobs.clear()
        return outcome(404, "not-found")

    server.fault("/jobs/", lambda *_: None, cancelled)
    gone = fetch(server, tmp_path / "out")
    assert gone.exit_code == 1 and "cancelled or expired" in gone.output
    assert not lines(tmp_path / "out")
    assert fetch(server, tmp_path / "out").exit_code == 0
    assert server.count("GET", "/fhir/Patient/$export") == 2
    assert lines(tmp_path / "out") == LINES


# Tokens


def test_a_token_that_ends_in_the_middle_is_renewed(server: BulkServer, tmp_path: Path, paused: list[float]) -> None:
    def ends(server: BulkServer, _: Asked) -> None:
        server.tokens.clear()

    server.fault("/jobs/", ends)
    server.fault("/files/", ends, lambda *_: None, ends)
    assert fetch(server, tmp_path / "out", "--at-once", "1").exit_code == 0
    assert lines(tmp_path / "out") == LINES
    assert len(server.seen) == 4  # each with an assertion of its own


def test_each_try_of_the_token_endpoint_has_its_own_assertion(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    taken = []

    def loses_its_answer(server: BulkServer, asked: Asked) -> None:
        taken.append(asked)

    server.fault("/token", says(503))
    first = server._token
    bodies = []

    def remembered(asked: Asked, body: bytes) -> Any:
        bodies.append(body)
        return first(asked, body) if len(bodies) > 1 else (503, {}, first(asked, body)[2])

    server._token = remembered  # type: ignore[method-assign]
    assert fetch(server, tmp_path / "out").exit_code == 0
    assert len(bodies) == 2 and bodies[0] != bodies[1]


def test_a_client_that_is_not_known_is_told_so(server: BulkServer, tmp_path: Path, paused: list[float]) -> None:
    server.public_key = ec.generate_private_key(ec.SECP384R1()).public_key()
    refused = fetch(server, tmp_path / "out")
    assert refused.exit_code == 1
    assert "gave no access token (status 400, invalid_client)" in refused.output
    assert server.count("GET", "/fhir/Patient/$export") == 0


def test_a_server_that_refuses_every_token_is_asked_twice(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    server.fault("/fhir/Patient/$export", says(401, "login"), says(401, "login"))
    refused = fetch(server, tmp_path / "out")
    assert refused.exit_code == 1 and "status 401 (login)" in refused.output
    assert server.count("GET", "/fhir/Patient/$export") == 2


def test_a_file_for_which_every_token_is_refused_is_said_to_be_missing(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    server.fault("/files/Patient-0", *[says(401, "login")] * 8)
    refused = fetch(server, tmp_path / "out", "--at-once", "1")
    assert refused.exit_code == 1 and "Patient.0000: status 401; 8 attempts" in refused.output
    assert len(server.seen) == 2  # the token is renewed once
    assert not state(tmp_path / "out")["finished"] and server.jobs
    assert fetch(server, tmp_path / "out").exit_code == 0
    assert lines(tmp_path / "out") == LINES


def test_keys_of_every_usual_form_are_read(tmp_path: Path) -> None:
    jwk = json.loads(ECAlgorithm.to_jwk(EC_KEY))
    other = json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()))) | {"kid": "old"}
    (tmp_path / "jwk").write_text(json.dumps(jwk | {"kid": "ours"}))
    (tmp_path / "set").write_text(json.dumps({"keys": [other, jwk | {"kid": "ours"}]}))
    thumbprint = read_signing_key(pem(tmp_path / "pem")).kid
    assert len(thumbprint) == 43
    assert read_signing_key(tmp_path / "jwk").kid == read_signing_key(tmp_path / "set", "ours").kid == "ours"
    rsa_key = read_signing_key(pem(tmp_path / "rsa", rsa.generate_private_key(65537, 2048)))
    assert rsa_key.algorithm == "RS384"
    for key in (read_signing_key(tmp_path / "jwk"), read_signing_key(tmp_path / "set", "ours")):
        jwt.decode(jwt.encode({}, key.private, key.algorithm), EC_KEY.public_key(), ["ES384"])


@pytest.mark.parametrize(
    "content", [b"", b"secret-canary", b"{", b'{"kty":"EC"}', b'{"keys":[]}', b'{"d":"x","kty":"EC"}']
)
def test_a_file_that_is_no_key_is_refused_without_its_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_signing_key(tmp_path / "key")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 1024)])  # noqa: S505
def test_a_key_that_smart_does_not_take_is_refused(tmp_path: Path, key: Any) -> None:
    with pytest.raises(InputError, match="P-384"):
        read_signing_key(pem(tmp_path / "key", key))


# Where it goes


def test_a_file_at_another_server_is_not_fetched_unless_registered(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    with BulkServer({}) as store:
        store.files = server.files
        url = f"{store.origin}/files/Patient-0"
        server.manifest_changes = {"output": [{"type": "Patient", "url": url}], "requiresAccessToken": False}
        refused = fetch(server, tmp_path / "out")
        assert refused.exit_code == 1
        assert f"is at {store.origin}, which is not registered: give --also {store.origin}" in refused.output
        assert store.asked == [] and not lines(tmp_path / "out")
        assert fetch(server, tmp_path / "out", "--also", store.origin).exit_code == 0
        assert "authorization" not in store.asked[0].headers
    assert lines(tmp_path / "out") == {"Patient": LINES["Patient"]}


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://evil.example/f", "not registered"),
        ("http://127.0.0.1@evil.example/f", "user name"),
        ("{origin}/files/../secret", "dot segments"),
        ("{origin}/files/%2e%2e/secret", "dot segments"),
        ("{origin}/files/a\\b", "no place in a URL"),
        ("file:///etc/passwd", "not called"),
        ("ftp://127.0.0.1/f", "not called"),
        ("http://[127.0.0.1/f", "not called"),
    ],
)
def test_odd_urls_in_the_manifest_are_not_called(
    server: BulkServer, tmp_path: Path, paused: list[float], url: str, why: str
) -> None:
    odd = url.format(origin=server.origin)
    server.manifest_changes = {"output": [{"type": "Patient", "url": odd}], "requiresAccessToken": False}
    refused = fetch(server, tmp_path / "out")
    assert refused.exit_code == 1 and why in refused.output
    assert server.count("GET", "/files/") == 0


def test_a_job_or_a_token_endpoint_elsewhere_is_not_called(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    with BulkServer({}) as other:
        server.fault("/fhir/Patient/$export", lambda *_: (202, {"Content-Location": f"{other.origin}/jobs/1"}, b""))
        assert "the export's status is at" in fetch(server, tmp_path / "a").output
        said = json.dumps({"token_endpoint": f"{other.origin}/token"}).encode()
        server.fault("/fhir/.well-known", lambda *_: (200, {}, said))
        assert "the token endpoint is at" in fetch(server, tmp_path / "b").output
        assert other.asked == []


def test_no_redirect_is_followed(server: BulkServer, tmp_path: Path, paused: list[float]) -> None:
    server.fault("/files/", lambda server, _: (302, {"Location": f"{server.origin}/elsewhere"}, b""))
    refused = fetch(server, tmp_path / "out", "--at-once", "1")
    assert refused.exit_code == 1 and "it redirects" in refused.output
    assert server.count("GET", "/elsewhere") == 0


def test_an_address_within_is_not_called_unless_its_network_is_registered(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    refused = fetch(server, tmp_path / "out", network="")
    assert refused.exit_code == 1 and "its address may not be called" in refused.output
    assert server.asked == []


def test_only_https_outside_this_machine(tmp_path: Path, paused: list[float]) -> None:
    refused = CliRunner().invoke(main, ["import", "--base", "http://ehr.example/fhir", "--out", str(tmp_path / "out")])
    assert refused.exit_code == 1 and "only https" in refused.output
    assert not (tmp_path / "out").exists()


# Files


@pytest.mark.parametrize("packed", [False, True])
def test_a_download_that_breaks_off_goes_on_where_it_stopped(
    server: BulkServer, tmp_path: Path, paused: list[float], packed: bool
) -> None:
    server.packed = packed
    server.cut = {"/files/Observation-1": 5000}
    assert fetch(server, tmp_path / "out").exit_code == 0
    assert lines(tmp_path / "out") == LINES
    ranges = [asked.headers.get("range") for asked in server.asked if asked.path == "/files/Observation-1"]
    assert ranges == [None, "bytes=5000-"]


def test_another_version_of_the_file_is_had_from_its_beginning(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    server.cut = {"/files/Observation-1": 5000}

    def changes(server: BulkServer, asked: Asked) -> None:
        if "range" in asked.headers:
            server.files["Observation-1"] = server.files["Observation-1"][::-1]
            server.time += "2"

    server.fault("/files/Observation-1", changes, changes)
    assert fetch(server, tmp_path / "out").exit_code == 0
    assert lines(tmp_path / "out")["Observation"] == LINES["Observation"][::-1]


def test_a_server_without_etag_is_asked_for_the_whole_again(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    server.cut = {"/files/Patient-0": 100}

    def without_etag(server: BulkServer, asked: Asked) -> Any:
        assert "range" not in asked.headers
        return 200, {}, server.content("Patient-0")

    server.fault("/files/Patient-0", without_etag, without_etag)
    assert fetch(server, tmp_path / "out").exit_code == 0
    assert lines(tmp_path / "out") == LINES


def test_a_file_that_is_short_of_what_the_manifest_counts_is_had_again_then_said(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    url = f"{server.origin}/files/Patient-0"
    server.manifest_changes = {"output": [{"type": "Patient", "url": url, "count": 51}]}
    short = fetch(server, tmp_path / "out")
    assert short.exit_code == 3
    assert "001-Patient.0000.ndjson: the manifest says 51 resources, 50 came" in short.output
    assert server.count("GET", "/files/") == 2


def test_a_packed_file_that_ends_early_is_never_taken_for_whole(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    server.packed = True
    whole = gzip.compress(b"".join(line + b"\n" for line in LINES["Patient"]))
    server.fault("/files/Patient-0", lambda *_: (200, {"Content-Encoding": "gzip"}, whole[:-40]))
    assert fetch(server, tmp_path / "out").exit_code == 0
    assert lines(tmp_path / "out") == LINES
    assert server.count("GET", "/files/Patient-0") == 2


def test_a_huge_line_is_streamed_and_a_file_over_the_limit_refused(
    server: BulkServer, tmp_path: Path, paused: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["Patient-0"] = [*LINES["Patient"], b'{"x":"' + b"y" * (17 << 20) + b'"}']
    assert fetch(server, tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / "001-Patient.0000.ndjson").stat().st_size > 17 << 20
    monkeypatch.setattr(bulk_import, "GIGABYTE", 1 << 20)
    refused = fetch(server, tmp_path / "small", "--largest", "16")
    assert refused.exit_code == 1 and "larger than" in refused.output
    assert not (tmp_path / "small" / "001-Patient.0000.ndjson").exists()


def test_a_full_disk_is_said_and_not_taken_for_the_network(
    server: BulkServer, tmp_path: Path, paused: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def full(path: Path, *how: Any, **more: Any) -> Any:
        if path.suffix == ".part" and "w" in how[0]:
            raise OSError(28, "No space left on device")
        return opened(path, *how, **more)

    monkeypatch.setattr(Path, "open", full)
    refused = fetch(server, tmp_path / "out", "--at-once", "1")
    assert refused.exit_code == 1 and "No space left on device" in refused.output
    assert server.count("GET", "/files/Patient-0") == 1


def test_what_the_server_could_not_export_is_reported_without_its_words(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    server.errors = [outcome(200, "not-found")[2], b"no json", outcome(200, "not-found")[2]]
    told = fetch(server, tmp_path / "out")
    assert told.exit_code == 3
    assert "not exported, says the server: not-found 2" in told.output and "unreadable 1" in told.output
    assert "Smith" not in told.output
    assert lines(tmp_path / "out") == LINES


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>", "not JSON"),
        (b'{"transactionTime":"t","output":[]}', "requiresAccessToken"),
        (
            b'{"transactionTime":"t","requiresAccessToken":false,"output":[{"type":"../x","url":"u"}]}',
            "no resource type",
        ),
        (b'{"transactionTime":"t","requiresAccessToken":false,"output":[],"link":[{"relation":"next"}]}', "a part"),
    ],
)
def test_a_manifest_that_is_none_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(InputError, match=why):
        read_manifest(body)


# Interrupted, and again


def test_an_interrupted_import_goes_on(
    server: BulkServer, tmp_path: Path, paused: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(seconds: float) -> None:
        if seconds == 2.0:
            raise KeyboardInterrupt

    server.cut = {"/files/Observation-1": 70_000}
    with monkeypatch.context() as stopping:
        stopping.setattr(bulk_import, "pause", stops)
        assert fetch(server, tmp_path / "out", "--at-once", "1").exit_code != 0
    assert lines(tmp_path / "out") == {"Patient": LINES["Patient"]}
    assert (tmp_path / "out" / ".import" / "Observation.0001.part").stat().st_size == 70_000
    before = len(server.asked)
    assert fetch(server, tmp_path / "out").exit_code == 0
    later = server.asked[before:]
    assert not any(asked.path.endswith(("$export", "Patient-0")) for asked in later)
    assert [asked.headers.get("range") for asked in later if asked.path == "/files/Observation-1"] == ["bytes=70000-"]
    assert lines(tmp_path / "out") == LINES and server.jobs == {}


def test_an_import_interrupted_when_all_of_a_file_was_there_goes_on(
    server: BulkServer, tmp_path: Path, paused: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(path: Path, count: int | None) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopping:
        stopping.setattr(downloads, "check_whole", stops)
        assert fetch(server, tmp_path / "out", "--at-once", "1").exit_code != 0
    assert (tmp_path / "out" / ".import" / "Patient.0000.part").read_bytes() == server.content("Patient-0")
    assert fetch(server, tmp_path / "out").exit_code == 0
    assert lines(tmp_path / "out") == LINES


def test_nothing_of_another_export_is_mixed_in(server: BulkServer, tmp_path: Path, paused: list[float]) -> None:
    server.fault("/files/Observation-1", *[says(404, "not-found")] * 2)
    assert fetch(server, tmp_path / "out", "--at-once", "1").exit_code == 1
    assert set(lines(tmp_path / "out")) == {"Patient"}
    refused = fetch(server, tmp_path / "out", "--type", "Patient")
    assert refused.exit_code == 1 and "unfinished import of something else" in refused.output
    server.time = "2026-11-23T10:00:00Z"
    server.files["Patient-0"] = LINES["Patient"][:3]
    server.faults.clear()
    assert fetch(server, tmp_path / "out").exit_code == 0
    assert lines(tmp_path / "out")["Patient"] == LINES["Patient"][:3]


def test_a_folder_with_something_else_is_left_alone(server: BulkServer, tmp_path: Path, paused: list[float]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    refused = fetch(server, tmp_path / "out")
    assert refused.exit_code == 1 and "choose another" in refused.output
    assert server.asked == [] and [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_an_update_leaves_each_resource_once_as_the_server_has_it(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    assert fetch(server, tmp_path / "out").exit_code == 0
    assert "finished import" in fetch(server, tmp_path / "out").output
    server.time = "2026-11-23T10:00:00Z"
    changed = b'{"resourceType":"Observation","id":"o7","status":"amended"}'
    server.files = {"Observation-0": [changed]}
    entries = [{"request": {"method": "DELETE", "url": "Observation/o8"}}]
    server.deleted = [json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}).encode()]
    for _ in range(2):
        told = fetch(server, tmp_path / "out", "--since", "last")
        assert told.exit_code == 0, told.output
    kicked = [asked.target for asked in server.asked if "$export" in asked.target]
    assert kicked[1].endswith("_since=2026-11-22T10%3A00%3A00Z") and kicked[2].endswith(
        "_since=2026-11-23T10%3A00%3A00Z"
    )
    gone = (LINES["Observation"][7], LINES["Observation"][8])
    wanted = [line for line in LINES["Observation"] if line not in gone] + [changed]
    assert sorted(lines(tmp_path / "out")["Observation"]) == sorted(wanted)
    assert lines(tmp_path / "out")["Patient"] == LINES["Patient"]


def test_an_update_does_not_make_a_file_that_ends_early_look_whole(
    server: BulkServer, tmp_path: Path, paused: list[float]
) -> None:
    server.packed = True
    short = server.content("Observation-1")[:-40]
    server.fault("/files/Observation-1", *[lambda *_: (200, {"Content-Encoding": "gzip"}, short)] * 2)
    assert fetch(server, tmp_path / "out").exit_code == 3
    server.time = "2026-11-23T10:00:00Z"
    server.files = {"Observation-0": [b'{"resourceType":"Observation","id":"o7","status":"amended"}']}
    told = fetch(server, tmp_path / "out", "--since", "last")
    assert told.exit_code == 3
    assert "001-Observation.0001.ndjson.gz: its gzip is cut short; it is left as it is" in told.output
    assert (tmp_path / "out" / "001-Observation.0001.ndjson.gz").read_bytes() == short
    assert not list((tmp_path / "out").glob(".*.new"))
