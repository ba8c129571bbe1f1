"""Who is registered: files read or refused, whom a base names, key sets, and keys kept fresh ahead of calls."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec
from forge import ec_key, jwk, rsa_key

import cds_service.trust.clients as trust_clients
from cds_service.cli import main
from cds_service.errors import SettingsError
from cds_service.store.database import Database
from cds_service.store.schema_version import upgrade
from cds_service.trust.addresses import may_call, parse_base
from cds_service.trust.clients import Client, ClientFile, ClientRegistry, client_of
from cds_service.trust.key_sets import read_key_set
from cds_service.trust.keys import RENEW_SECONDS, RETRY_SECONDS, KeyRing

KEY, OTHER = ec_key(), ec_key()
SET = {"keys": [jwk(KEY, "k1")]}
GOOD: dict[str, Any] = {"id": "main", "name": "Main", "issuer": "https://ehr.example", "jwks": SET}


def written(folder: Path, content: str, name: str = "clients.yaml") -> ClientFile:
    file = folder / name
    file.write_text(content)
    file.chmod(0o600)
    return ClientFile(file, guarded=True)


def refused(folder: Path, content: str) -> str:
    with pytest.raises(SettingsError) as problem:
        written(folder, content).clients()
    return str(problem.value)


def test_a_file_in_json_and_in_yaml_says_the_same(tmp_path: Path) -> None:
    yaml = """
clients:
  - id: main
    name: Main
    issuer: https://ehr.example
    jku: https://ehr.example/jwks
    fhir_bases: [https://ehr.example/fhir/R4/]
"""
    record = {"id": "main", "name": "Main", "issuer": "https://ehr.example", "jku": "https://ehr.example/jwks",
              "fhir_bases": ["https://ehr.example/fhir/R4/"]}  # fmt: skip
    found = written(tmp_path, yaml).clients()
    assert found == written(tmp_path, json.dumps({"clients": [record]}), "clients.json").clients()
    assert found[0].algorithms == ("ES384", "RS384")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"algorithms": ["HS256"]}, "clients.0.algorithms.0"),
        ({"algorithms": ["none"]}, "clients.0.algorithms.0"),
        ({"algorithms": []}, "clients.0.algorithms"),
        ({"jwks": None}, "jwks"),
        ({"issuer": ""}, "issuer"),
        ({"issuer": False}, "issuer"),
        ({"id": "../x"}, "clients.0.id"),
        ({"secret": "x"}, "additionalProperties"),
        ({"jku": "file:///etc/passwd"}, "clients.0.jku"),
        ({"jwks": {"keys": []}}, "jwks.keys"),
        ({"disabled": "no"}, "disabled"),
        ({"fhir_bases": ["http://ehr.example/fhir"]}, "only https"),
        ({"fhir_bases": ["https://user@ehr.example/fhir"]}, "user name"),
        ({"fhir_bases": ["https://ehr.example/a/../fhir"]}, "dot segments"),
        ({"fhir_bases": ["https://0x7f000001/fhir"]}, "the host"),
        ({"networks": ["10.0.0.1/8"]}, "CIDR"),
        ({"ca_file": "/nowhere/ca.pem"}, "no such file"),
    ],
)
def test_a_client_that_is_not_as_it_should_be_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    assert said in refused(tmp_path, json.dumps({"clients": [{**GOOD, **change}]}))


def test_keys_are_needed_from_somewhere(tmp_path: Path) -> None:
    record = {name: value for name, value in GOOD.items() if name != "jwks"}
    assert "anyOf" in refused(tmp_path, json.dumps({"clients": [record]}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("clients: [", "neither JSON nor YAML"),
        ("[]", "the whole"),
        ("clients: []\nclients: []", "stands twice"),
        ('{"clients": [], "clients": []}', "stands twice"),
        ("clients: &a []\nother: *a", "aliases"),
        ("clients: !!python/object:os.system []", "neither JSON nor YAML"),
        ("x" * (1024 * 1024 + 1), "larger than"),
    ],
)
def test_a_file_that_two_readers_could_read_differently_is_refused(tmp_path: Path, content: str, said: str) -> None:
    assert said in refused(tmp_path, content)


def test_a_file_that_any_user_may_write_is_refused_where_it_matters(tmp_path: Path) -> None:
    content = json.dumps({"clients": [GOOD]})
    guarded = written(tmp_path, content)
    guarded.path.chmod(0o646)
    with pytest.raises(SettingsError, match="any user may write it"):
        guarded.clients()
    assert len(ClientFile(guarded.path, guarded=False).clients()) == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"CDS_CLIENTS_FILE: .*none\.json"):
        ClientFile(tmp_path / "none.json", guarded=True).clients()


class Listed:
    """A source of these clients."""

    def __init__(self, *records: Mapping[str, Any]) -> None:
        self.records = list(records)

    def clients(self) -> list[Client]:
        return [client_of(record, "test") for record in self.records]


def test_clients_are_found_by_issuer_and_tenant_and_by_nothing_else() -> None:
    registry = ClientRegistry([Listed(GOOD, {**GOOD, "id": "a", "tenant": "a"})])
    assert registry.find("https://ehr.example", None) == registry.get("main")
    assert registry.find("https://ehr.example", "a") == registry.get("a")
    assert registry.find("https://ehr.example", "b") is None
    assert registry.find("https://EHR.example", None) is None
    assert registry.knows("https://ehr.example")
    assert not registry.knows("https://ehr.example/")


@pytest.mark.parametrize("other", [{"id": "main", "tenant": "x"}, {"id": "other"}])
def test_two_clients_that_cannot_be_told_apart_are_refused(other: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        ClientRegistry([Listed(GOOD), Listed({**GOOD, **other})])


def test_a_client_is_taken_out_though_two_others_cannot_be_told_apart() -> None:
    """The mistake of one who registers delays nobody's revocation, and admits nobody new."""
    listed = Listed(GOOD, *({**GOOD, "id": name, "issuer": f"https://{name}.example"} for name in ("gone", "off")))
    registry = ClientRegistry([listed])
    clash = {**GOOD, "id": "clash", "issuer": "https://clash.example"}
    off = {**GOOD, "id": "off", "issuer": "https://off.example", "disabled": True}
    listed.records = [GOOD, off, clash, {**clash, "id": "other"}]
    registry.reload()
    assert registry.problems == ("client other: another client has the same issuer and tenant",)
    assert [(client.id, client.disabled) for client in registry.clients()] == [("main", False), ("off", True)]
    listed.records = [GOOD, clash]
    registry.reload()
    assert registry.problems == ()
    assert [client.id for client in registry.clients()] == ["clash", "main"]


def test_a_file_that_has_not_changed_is_not_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    real = trust_clients._document
    monkeypatch.setattr(trust_clients, "_document", lambda *given: parsed.append(1) or real(*given))
    file = written(tmp_path, json.dumps({"clients": [GOOD]}))
    assert [client.id for client in (*file.clients(), *file.clients())] == ["main", "main"]
    assert len(parsed) == 1
    written(tmp_path, json.dumps({"clients": [{**GOOD, "id": "other"}]}))
    assert [client.id for client in file.clients()] == ["other"]
    written(tmp_path, json.dumps({"clients": [{**GOOD, "fhir_bases": ["http://ehr.example/fhir"]}]}))
    for _ in range(2):
        with pytest.raises(SettingsError, match="fhir_bases"):
            file.clients()


def test_a_registry_that_turns_bad_keeps_what_it_had() -> None:
    source = Listed(GOOD)
    registry = ClientRegistry([source])
    source.records.append(dict(GOOD))
    registry.reload()
    assert registry.problems == ("client main: registered twice",)
    assert [client.id for client in registry.clients()] == ["main"]


BASE = "https://ehr.example/fhir/R4"


@pytest.mark.parametrize("named", [BASE, BASE + "/", "https://EHR.example/fhir/R4", "https://ehr.example:443/fhir/R4"])
def test_the_same_base_in_other_words_is_the_registered_one(named: str) -> None:
    found = client_of({**GOOD, "fhir_bases": [BASE]}, "test").base_for(named)
    assert str(found) == BASE


@pytest.mark.parametrize("named", [
    "https://ehr.example/fhir", "https://ehr.example/fhir/R4/x", "https://ehr.example/fhir/R4B", BASE + "//",
    "https://ehr.example.evil.example/fhir/R4", "https://evil.example/fhir/R4", "http://ehr.example/fhir/R4",
    "https://ehr.example:8443/fhir/R4", "https://ehr.example@evil.example/fhir/R4", "https://a:b@ehr.example/fhir/R4",
    "https://ehr.example/fhir/R4?x=1", "https://ehr.example/fhir/R4#x", "https://ehr.example/x/../fhir/R4",
    "https://ehr.example/fhir/%52%34", "https://ehr.example\\@evil.example/fhir/R4", "https://ehr.example/fhir/R4\n",
    "https://ehr.example:0x1bb/fhir/R4", "https://ｅhr.example/fhir/R4", "ftp://ehr.example/fhir/R4", "//ehr.example",
    "",
])  # fmt: skip
def test_any_other_base_is_not(named: str) -> None:
    assert client_of({**GOOD, "fhir_bases": [BASE]}, "test").base_for(named) is None
    assert client_of(GOOD, "test").base_for(named) is None


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "017700000001", "0x7f.1", "127.0.0.1.", "1.2.3"])
def test_numbers_that_resolvers_take_for_addresses_are_no_hosts(host: str) -> None:
    with pytest.raises(ValueError, match="the host"):
        parse_base(f"https://{host}/fhir")


PRIVATE = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "168.63.129.16",
    "192.0.0.192", "100.100.100.200", "0.0.0.0", "224.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1",
    "fe80::1%eth0", "fd00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b:1::1", "2002:7f00:1::", "2001:0:7f00:1::", "::7f00:1", "not an address",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_nobody_outside_has_are_not_called(address: str) -> None:
    assert not may_call(address, ())


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1", "::ffff:8.8.8.8"])
def test_public_addresses_are_called(address: str) -> None:
    assert may_call(address, ())


def test_a_registered_network_is_called_but_metadata_never() -> None:
    assert may_call("10.20.1.2", ["10.20.0.0/16"])
    assert not may_call("10.21.1.2", ["10.20.0.0/16"])
    assert may_call("::ffff:10.20.1.2", ["10.20.0.0/16"])
    for address in ("169.254.169.254", "168.63.129.16", "0.0.0.0", "fe80::1", "fd00:ec2::254"):
        assert not may_call(address, ["0.0.0.0/0", "::/0"])


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ({}, "no kid"),
        ({**jwk(KEY, "k"), "kid": 1}, "no kid"),
        ({**jwk(KEY, "k"), "kty": "oct"}, "neither RSA nor EC"),
        ({**jwk(KEY, "k"), "d": "AAAA"}, "private key"),
        (jwk(KEY, "k", use="enc"), "use"),
        (jwk(KEY, "k", alg="ES256"), "no algorithm"),
        (jwk(KEY, "k", alg="HS256"), "no algorithm"),
        (jwk(KEY, "k", alg=["ES384"]), "no algorithm"),
        (jwk(ec_key(ec.SECP256K1), "k"), "no algorithm"),
        (jwk(ec_key(ec.SECP256R1), "k"), "no algorithm"),
        (jwk(rsa_key(1024), "k"), "2048"),
        ({**jwk(KEY, "k"), "x": "AAAA"}, "cannot be read"),
        ({"kty": "EC", "kid": "k"}, "cannot be read"),
        ("text", "no kid"),
    ],
)
def test_a_key_that_cannot_be_used_is_left_out_and_the_others_stay(key: Any, said: str) -> None:
    read = read_key_set({"keys": [key, jwk(OTHER, "good")]}, ["ES384", "RS384"])
    assert list(read.keys) == ["good"]
    assert said in read.problems[0]


@pytest.mark.parametrize(
    "document", [None, [], {}, {"keys": {}}, {"keys": []}, {"keys": [jwk(KEY, f"k{n}") for n in range(21)]}]
)
def test_what_is_no_key_set_gives_no_key(document: object) -> None:
    assert read_key_set(document, ["ES384"]).keys == {}


def test_a_key_id_that_stands_twice_or_thrice_belongs_to_no_key() -> None:
    for count in (2, 3):
        keys = [jwk(KEY, "same") for _ in range(count)]
        assert list(read_key_set({"keys": [*keys, jwk(OTHER, "good")]}, ["ES384"]).keys) == ["good"]


def test_a_key_is_for_the_algorithm_of_its_curve_and_for_no_other() -> None:
    found = read_key_set({"keys": [jwk(KEY, "e"), jwk(rsa_key(), "r")]}, ["ES256", "ES384", "RS256", "RS384"])
    assert found.keys["e"].algorithms == {"ES384"}
    assert found.keys["r"].algorithms == {"RS256", "RS384"}


class Publisher:
    """The far side of a jku: counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: bytes | OSError = json.dumps(SET).encode()

    def __call__(self, _: Client) -> bytes:
        self.asked += 1
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


class Ring:
    """A key ring of one client with a clock of the test's and no thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.publisher = Publisher()
        remote = {name: value for name, value in GOOD.items() if name != "jwks"}
        self.source = Listed({**remote, "jku": "https://ehr.example/jwks"})
        registry = ClientRegistry([self.source])
        monkeypatch.setattr(KeyRing, "start", lambda _: None)
        self.ring = KeyRing(registry, self.publisher, lambda: self.now)
        self.registry = registry

    def find(self, kid: str) -> bool:
        client = self.registry.get("main")
        assert client is not None
        return self.ring.find(client, kid) is not None


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Ring:
    return Ring(monkeypatch)


def test_keys_are_loaded_ahead_and_renewed_every_ten_minutes(ring: Ring) -> None:
    assert not ring.find("k1")
    ring.ring.refresh()
    assert ring.find("k1")
    for ring.now in (1.0, 60.0, RENEW_SECONDS - 1):
        ring.ring.refresh()
    assert ring.publisher.asked == 1
    ring.publisher.answer = json.dumps({"keys": [jwk(OTHER, "k2")]}).encode()
    ring.now = RENEW_SECONDS
    ring.ring.refresh()
    assert ring.find("k2")
    assert not ring.find("k1")  # what its owner withdrew is not believed any longer


def test_a_thousand_unknown_key_ids_ask_once_a_minute_and_never_during_the_call(ring: Ring) -> None:
    ring.ring.refresh()
    ring.now = RETRY_SECONDS + 1
    for number in range(1000):
        assert not ring.find(f"random-{number}")
    assert ring.publisher.asked == 1
    for _ in range(5):
        ring.ring.refresh()
        assert not ring.find("random")
    assert ring.publisher.asked == 2
    ring.now += RETRY_SECONDS
    ring.find("random")
    ring.ring.refresh()
    assert ring.publisher.asked == 3


def test_an_unknown_key_id_does_not_wake_the_background_again_and_again(ring: Ring) -> None:
    ring.ring.refresh()
    ring.now = RETRY_SECONDS - 1
    ring.find("random")
    assert not ring.ring._wake.is_set()
    ring.now = RETRY_SECONDS
    ring.find("random")
    assert ring.ring._wake.is_set()


def test_a_publisher_that_is_down_is_asked_once_a_minute(ring: Ring) -> None:
    ring.publisher.answer = OSError("no answer in time")
    for ring.now in (0.0, 15.0, 30.0, 59.0):
        ring.ring.refresh()
    assert ring.publisher.asked == 1
    ring.now = RETRY_SECONDS
    ring.ring.refresh()
    assert ring.publisher.asked == 2


def test_keys_of_an_old_record_are_not_used_for_the_new_one(ring: Ring) -> None:
    ring.ring.refresh()
    ring.source.records[0]["algorithms"] = ["RS384"]
    ring.registry.reload()
    assert not ring.find("k1")


@pytest.mark.parametrize("answer", [OSError("no answer in time"), b"", b"<html>", b"{}", b'{"keys": []}', b"[1"])
def test_known_keys_outlive_a_day_without_their_publisher(ring: Ring, answer: bytes | OSError) -> None:
    ring.ring.refresh()
    ring.publisher.answer = answer
    for ring.now in (RENEW_SECONDS, 23 * 3600.0):
        ring.ring.refresh()
        assert ring.find("k1")
    ring.now = 25 * 3600.0
    ring.ring.refresh()
    assert not ring.find("k1")
    assert "client main: no usable key" in ring.ring.problems()[0]


def test_a_client_whose_record_changed_loses_the_keys_of_the_old_record(ring: Ring) -> None:
    ring.ring.refresh()
    ring.source.records[0]["jku"] = "https://ehr.example/other"
    ring.publisher.answer = json.dumps({"keys": [jwk(OTHER, "k2")]}).encode()
    ring.now = 61.0
    ring.ring.refresh()
    assert ring.find("k2")
    assert not ring.find("k1")
    ring.source.records.clear()
    ring.now = 200.0
    ring.ring.refresh()
    assert ring.registry.get("main") is None


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"CDS_DATABASE_URL": f"sqlite:///{tmp_path}/cds.sqlite3", "CDS_CLIENTS_FILE": str(tmp_path / "file.json")}


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Any:
    (tmp_path / "file.json").write_text(json.dumps({"clients": [{**GOOD, "id": "filed", "issuer": "urn:file"}]}))
    (tmp_path / "jwks.json").write_text(json.dumps(SET))
    upgrade(Database(environment["CDS_DATABASE_URL"]))

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["client", *arguments], env={**os.environ, **environment})

    return command


def test_a_client_is_added_listed_and_tested(run: Any, tmp_path: Path) -> None:
    added = run("add", "demo", "--name", "Demo", "--issuer", "urn:demo", "--jwks", str(tmp_path / "jwks.json"),
                "--fhir-base", "https://ehr.example/fhir")  # fmt: skip
    assert added.exit_code == 0, added.output
    assert run("list").output.count("urn:") == 2
    tested = run("test", "demo")
    assert (tested.exit_code, "key k1: ES384" in tested.output) == (0, True)
    assert "urn:demo" in tested.output
    again = run("add", "demo", "--name", "Demo", "--issuer", "urn:demo", "--jwks", str(tmp_path / "jwks.json"))
    assert (again.exit_code, "--replace" in again.output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("demo", "--name", "D", "--issuer", "urn:file", "--jwks", "JWKS"), "client filed has the same issuer"),
        (("filed", "--name", "D", "--issuer", "urn:x", "--jwks", "JWKS"), "registered already"),
        (("demo", "--name", "D", "--issuer", "urn:x"), "anyOf"),
        (("demo", "--name", "D", "--issuer", "urn:x", "--jwks", "JWKS", "--algorithm", "HS256"), "algorithms"),
        (("demo", "--name", "D", "--issuer", "urn:x", "--jwks", "JWKS", "--algorithm", "RS384"), "no key of the JWK"),
    ],
)
def test_a_client_that_could_not_be_told_apart_or_checked_is_not_added(
    run: Any, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = run("add", *(str(tmp_path / "jwks.json") if part == "JWKS" else part for part in arguments))
    assert (done.exit_code, said in done.output) == (1, True), done.output
    assert run("list").output.startswith("1 clients")


def test_testing_an_unknown_client_names_those_there_are(run: Any) -> None:
    done = run("test", "nobody")
    assert (done.exit_code, "Registered: filed" in done.output) == (1, True)
