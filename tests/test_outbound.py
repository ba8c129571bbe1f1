"""FHIR access when the prefetch is incomplete: the same cards, and a bad server costs time and data, never safety."""

from __future__ import annotations

import copy
import gzip
import io
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from faulty import (
    FaultyServer,
    answer_of,
    bomb,
    certificate,
    drips,
    hangs,
    http,
    resets,
    says,
    serves,
    speaks_no_http,
    stops_halfway,
)
from infants import bundle, condition, library, observation
from infants import request as infant_request
from wire import REFUSED, SAMPLES, sample

from cds_service.app import create_app
from cds_service.errors import DataMissing, WrongPatient
from cds_service.hooks.fetch import path_on
from cds_service.hooks.request import parse_request
from cds_service.hooks.respond import EVALUATION, HookResponse, respond
from cds_service.settings import Settings
from cds_service.trust.addresses import parse_base
from cds_service.trust.breaker import AT_ONCE, FAILURES, PAUSE, WINDOW, Breaker, Entry
from cds_service.trust.clients import Client
from cds_service.trust.deadline import Deadline
from cds_service.trust.fhir_server import FhirAccess, FhirCalls, load_keys
from cds_service.trust.outbound import LARGEST_ON_THE_WIRE, PIECE, Line, Route
from cds_service.trust.trouble import Trouble, Unreachable

TOKEN = "canary-token-8f3a"  # noqa: S105
SOON = 0.5  # the deadline of most tests here, in seconds
GENEROUS = 2.0  # and when its end has to have been noticed
Json = dict[str, Any]


def client(*bases: str, **more: Any) -> Client:
    known = {"id": "c", "name": "C", "issuer": "urn:c", "networks": ("127.0.0.0/8",), **more}
    return Client(fhir_bases=bases, **known)


def asking(request: Json, server: str, without: tuple[str, ...] | None = None, token: str | None = TOKEN) -> Json:
    """The request as a client sends it that leaves these keys (by default all) to us."""
    whole = copy.deepcopy(request)
    whole["fhirServer"] = server
    if token is not None:
        whole["fhirAuthorization"] = {
            "access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": "user/*.read", "subject": "us",
        }  # fmt: skip
    for key in list(whole["prefetch"]) if without is None else without:
        del whole["prefetch"][key]
    return whole


def answered(request: Json, access: FhirAccess | None) -> HookResponse:
    parsed = parse_request(json.dumps(request).encode())
    assert parsed.as_of is not None
    return respond(parsed, library(), parsed.as_of, "https://cds.example", access)


def fetching(server: FaultyServer, request: Json, calls: FhirCalls | None = None, **how: Any) -> HookResponse:
    return answered(asking(request, server.base, **how), FhirAccess(calls or FhirCalls(SOON), client(server.base)))


def inputs(response: HookResponse) -> dict[str, str]:
    found: dict[str, str] = response.body["extension"][EVALUATION]["inputs"]
    return found


def causes(response: HookResponse) -> dict[str, str]:
    found: dict[str, str] = response.body["extension"][EVALUATION].get("notFetched", {})
    return found


SPEAKS = infant_request(condition("seizure", "2026-11-20"), observation("tremor", "2026-11-20"))


def all_threads_end(within: float = 3.0) -> None:
    """The threads that asked are gone though the server goes on as it did: their sockets were cut."""
    deadline = time.monotonic() + within
    while any(thread.name == "fhir" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "a thread still waits for the server"
        threading.Event().wait(0.01)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in REFUSED])
def test_prefetched_and_fetched_data_give_identical_answers(name: str) -> None:
    request = sample(name)
    request.pop("fhirServer", None)
    with FaultyServer(serves(request)) as server:
        keys = tuple(request["prefetch"])
        prefetched = answered(asking(request, server.base, without=()), None)
        fetched = fetching(server, request, FhirCalls())
        mixed = fetching(server, request, FhirCalls(), without=keys[::2])
    absent = [key for key in inputs(prefetched) if key not in keys]
    if not absent:
        assert fetched.body == prefetched.body == mixed.body
    assert fetched.body["cards"] == prefetched.body["cards"] == mixed.body["cards"]
    assert {key: inputs(fetched)[key] for key in keys} == {key: inputs(prefetched)[key] for key in keys}
    assert all(causes(fetched)[key] == Trouble.STATUS.value for key in absent)
    assert (prefetched.fetched, mixed.fetched) == (frozenset(), frozenset(keys[::2]) | frozenset(absent))


def test_each_missing_key_is_asked_for_once_with_the_token_and_the_others_are_not() -> None:
    with FaultyServer(serves(SPEAKS)) as server:
        fetching(server, SPEAKS, FhirCalls(), without=("conditions", "observations"))
    assert sorted(asked.target.split("?")[0] for asked in server.asked) == ["/fhir/Condition", "/fhir/Observation"]
    assert all("patient=p1" in asked.target for asked in server.asked)
    for asked in server.asked:
        assert asked.headers["authorization"] == f"Bearer {TOKEN}"
        assert asked.headers["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("value", [None, bundle(), {"resourceType": "OperationOutcome", "issue": []}, {}, "x"])
def test_what_the_client_has_asked_itself_is_not_asked_again(value: Any) -> None:
    request = copy.deepcopy(SPEAKS)
    request["prefetch"]["conditions"] = value
    with FaultyServer(serves(SPEAKS)) as server:
        fetching(server, request, without=())
    assert server.asked == []


def test_questions_are_asked_side_by_side() -> None:
    together = threading.Barrier(4, timeout=1.5)

    def behave(server: FaultyServer, connection: socket.socket, asked: Any) -> None:
        together.wait()
        connection.sendall(http(json.dumps(answer_of(SPEAKS, asked.target)).encode()))

    with FaultyServer(behave) as server:
        keys = ("patient", "conditions", "observations", "procedures")
        response = fetching(server, SPEAKS, FhirCalls(), without=keys)
    assert causes(response) == {}
    assert response.body["cards"] == answered(asking(SPEAKS, server.base, without=()), None).body["cards"]


FAULTS: dict[str, tuple[Callable[..., None], Trouble]] = {
    "hang": (hangs, Trouble.TIMEOUT),
    "headers dripped": (drips(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000), Trouble.TIMEOUT),
    "body dripped": (drips(http(b" " * 1000)), Trouble.TIMEOUT),
    "body dripped without an end": (drips(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b" " * 1000),
                                    Trouble.TIMEOUT),
    "chunks dripped": (drips(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                             + b"1\r\n \r\n" * 200), Trouble.TIMEOUT),
    "reset": (resets, Trouble.CONNECTION),
    "half a body": (stops_halfway, Trouble.CONNECTION),
    "half a gzip": (says(bomb(1)[:-20], Content_Encoding="gzip"), Trouble.CONNECTION),
    "no gzip at all": (says(b"{}", Content_Encoding="gzip"), Trouble.CONNECTION),
    "no HTTP": (speaks_no_http, Trouble.CONNECTION),
    "gzip bomb": (says(bomb(100), Content_Encoding="gzip"), Trouble.TOO_LARGE),
    "too many bytes": (says(b" " * (LARGEST_ON_THE_WIRE + 1)), Trouble.TOO_LARGE),
    "a page for people": (says(b"<html>", media="text/html"), Trouble.CONTENT),
    "JSON that says it is a page": (says(b'{"resourceType": "Bundle"}', media="text/html"), Trouble.CONTENT),
    "XML": (says(b"<Bundle/>", media="application/fhir+xml"), Trouble.CONTENT),
    "another encoding": (says(b"{}", Content_Encoding="br"), Trouble.CONTENT),
    "JSON that is none": (says(b'{"resourceType": '), Trouble.CONTENT),
    "duplicate keys": (says(b'{"resourceType": "Bundle", "resourceType": "Bundle"}'), Trouble.CONTENT),
    "nested too deep": (says(b"[" * 100_000), Trouble.CONTENT),
    "204": (says(b"", "204 No Content"), Trouble.STATUS),
    "404": (says(b"{}", "404 Not Found"), Trouble.STATUS),
    "429": (says(b"{}", "429 Too Many Requests"), Trouble.STATUS),
    "500": (says(b"{}", "500 Internal Server Error"), Trouble.STATUS),
    "401": (says(b"{}", "401 Unauthorized"), Trouble.UNAUTHORIZED),
    "403": (says(b"{}", "403 Forbidden"), Trouble.UNAUTHORIZED),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_by_its_cause_in_time_and_stops_nothing_that_is_known(name: str) -> None:
    behave, trouble = FAULTS[name]
    with FaultyServer(behave) as server:
        started = time.monotonic()
        response = fetching(server, SPEAKS, without=("procedures",))
        assert time.monotonic() - started < GENEROUS
        all_threads_end()
    assert causes(response) == {"procedures": trouble.value}
    assert inputs(response)["procedures"] == "failed"
    assert response.body["cards"][0]["indicator"] == "critical"
    assert len(server.asked) == 1  # not tried again within the request


@pytest.mark.parametrize("name", ["hang", "headers dripped", "reset", "500", "gzip bomb", "404"])
def test_required_data_that_cannot_be_had_is_412_with_keys_and_causes_and_no_value(name: str) -> None:
    behave, trouble = FAULTS[name]
    with FaultyServer(behave) as server:
        started = time.monotonic()
        with pytest.raises(DataMissing) as refusal:
            fetching(server, SPEAKS)
        assert time.monotonic() - started < GENEROUS
    text = refusal.value.text
    assert f"prefetch.patient: {trouble.value}" in text
    assert f"prefetch.observations: {trouble.value}" in text
    for value in ("p1", TOKEN, str(server.port), "127.0.0.1", "fhir"):
        assert value not in text.replace("FHIR", "").replace("fhirServer", "")


def test_a_bomb_is_never_whole_in_memory() -> None:
    content = bomb(300)
    with FaultyServer(says(content, Content_Encoding="gzip")) as server:
        tracemalloc.start()
        fetching(server, SPEAKS, FhirCalls(), without=("procedures",))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 40 * 1024 * 1024


def test_gzip_is_read() -> None:
    body = gzip.compress(json.dumps(SPEAKS["prefetch"]["conditions"]).encode())
    with FaultyServer(says(body, Content_Encoding="gzip")) as server:
        response = fetching(server, SPEAKS, without=("conditions",))
    assert inputs(response)["conditions"] == "answered"


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (bundle(), "empty"),
        ({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "x"}]}, "failed"),
        ({"resourceType": "OperationOutcome", "issue": [{"severity": "warning", "code": "x"}]}, "no-results"),
        (bundle(total=3), "incomplete"),
        ({"resourceType": "Questionnaire"}, "malformed"),
        ([], "malformed"),
    ],
)
def test_a_fetched_value_has_the_state_it_would_have_had_as_prefetch(value: Any, state: str) -> None:
    with FaultyServer(says(json.dumps(value).encode())) as server:
        assert inputs(fetching(server, SPEAKS, without=("procedures",)))["procedures"] == state
    request = copy.deepcopy(SPEAKS)
    request["prefetch"]["procedures"] = value
    assert inputs(answered(request, None))["procedures"] == state


def test_another_patients_data_from_the_server_refuses_the_whole() -> None:
    foreign = bundle(condition("seizure", subject={"reference": "Patient/other"}))
    with FaultyServer(says(json.dumps(foreign).encode())) as server, pytest.raises(WrongPatient) as refusal:
        fetching(server, SPEAKS, without=("conditions",))
    assert refusal.value.expression == "fetched.conditions"


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_no_redirect_is_followed(status: str) -> None:
    with FaultyServer(says(b"{}")) as evil:
        with FaultyServer(says(b"", status, Location=f"{evil.base}/Procedure")) as server:
            response = fetching(server, SPEAKS, without=("procedures",))
        assert causes(response) == {"procedures": Trouble.REDIRECT.value}
        assert evil.connections == 0


def pages(first: Json, *others: Json, link: Callable[[str, int], str]) -> Callable[..., None]:
    """A server whose answers come in pages; ``link`` makes the URL of page n."""
    whole = [first, *others]

    def behave(server: FaultyServer, connection: socket.socket, asked: Any) -> None:
        number = int(asked.target.rpartition("page=")[2]) if "page=" in asked.target else 0
        page = copy.deepcopy(whole[number])
        if number + 1 < len(whole):
            page["link"] = [{"relation": "next", "url": link(server.base, number + 1)}]
        connection.sendall(http(json.dumps(page).encode()))

    return behave


def own(base: str, number: int) -> str:
    return f"{base}?_getpages=x&page={number}"


def test_pages_on_the_same_server_are_one_answer() -> None:
    three = [bundle(condition("seizure", "2026-11-20")), bundle(), bundle(condition("tremor", "2026-11-20"))]
    together = infant_request(condition("seizure", "2026-11-20"), condition("tremor", "2026-11-20"))
    with FaultyServer(pages(*three, link=own)) as server:
        response = fetching(server, together, without=("conditions",))
    assert inputs(response)["conditions"] == "answered"
    assert len(server.asked) == 3
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {TOKEN}"}
    assert "critical" in {card["indicator"] for card in response.body["cards"]}


def test_the_next_page_of_a_prefetch_is_read_too() -> None:
    request = copy.deepcopy(SPEAKS)
    with FaultyServer(pages(bundle(), bundle(condition("seizure", "2026-11-20")), link=own)) as server:
        request["prefetch"]["conditions"] = bundle(link=[{"relation": "next", "url": own(server.base, 1)}])
        response = fetching(server, request, without=())
        assert inputs(answered(request, None))["conditions"] == "incomplete"
    assert inputs(response)["conditions"] == "answered"
    assert [asked.target for asked in server.asked] == ["/fhir?_getpages=x&page=1"]
    assert response.body["cards"][0]["indicator"] == "critical"


@pytest.mark.parametrize("elsewhere", [
    "{evil}?page=1", "http://127.0.0.1:{port}/other?page=1", "http://127.0.0.1:{port}/fhirx?page=1",
    "https://127.0.0.1:{port}/fhir?page=1", "http://localhost:{port}/fhir?page=1", "//{evil_host}/fhir?page=1",
    "http://127.0.0.1:{port}/fhir/../x?page=1", "http://x@127.0.0.1:{port}/fhir?page=1", "?page=1 HTTP/1.1", "",
])  # fmt: skip
def test_a_next_page_elsewhere_is_not_asked_for_and_the_answer_is_incomplete(elsewhere: str) -> None:
    first = bundle(condition("seizure", "2026-11-20"))
    with FaultyServer(says(json.dumps(bundle()).encode())) as evil:

        def link(base: str, _: int) -> str:
            return elsewhere.format(evil=evil.base, evil_host=evil.base.split("/")[2], port=base.split(":")[2][:-5])

        with FaultyServer(pages(first, bundle(), link=link)) as server:
            response = fetching(server, SPEAKS, without=("conditions",))
        assert inputs(response)["conditions"] == "incomplete"
        assert causes(response) == {"conditions": "not every page could be read"}
        assert (evil.connections, len(server.asked)) == (0, 1)


def test_a_page_that_names_itself_ends_after_five() -> None:
    def forever(base: str, _: int) -> str:
        return own(base, 0)

    with FaultyServer(pages(bundle(), bundle(), link=forever)) as server:
        response = fetching(server, SPEAKS, without=("procedures",))
    assert inputs(response)["procedures"] == "incomplete"
    assert len(server.asked) == 6


def test_a_relative_next_link_is_read_against_the_base() -> None:
    base = parse_base("https://ehr.example/fhir")
    assert path_on(base, "Observation?page=2") == "/fhir/Observation?page=2"
    assert path_on(base, "https://ehr.example/fhir?x=1") == "/fhir?x=1"
    assert path_on(base, "/other?x=1") is None


@pytest.mark.parametrize(
    ("registered", "token", "said"),
    [
        ((), TOKEN, "fhirServer is not a base registered"),
        (("https://ehr.example/fhir",), TOKEN, "fhirServer is not a base registered"),
        (("SERVER",), None, "no usable access token"),
        (("SERVER",), "two words", "no usable access token"),
        (("SERVER",), "line\r\nX-Evil: 1", "no usable access token"),
    ],
)
def test_nothing_is_asked_without_registration_or_token(
    registered: tuple[str, ...], token: str | None, said: str
) -> None:
    with FaultyServer(serves(SPEAKS)) as server:
        bases = tuple(server.base if base == "SERVER" else base for base in registered)
        access = FhirAccess(FhirCalls(SOON), client(*bases))
        response = answered(asking(SPEAKS, server.base, ("procedures",), token), access)
        assert said in causes(response)["procedures"]
        assert inputs(response)["procedures"] == "absent"
        with pytest.raises(DataMissing, match=said):
            answered(asking(SPEAKS, server.base, None, token), access)
    assert server.connections == 0


def test_a_client_that_is_registered_so_is_asked_without_token() -> None:
    with FaultyServer(serves(SPEAKS)) as server:
        access = FhirAccess(FhirCalls(), client(server.base, fhir_without_token=True))
        response = answered(asking(SPEAKS, server.base, None, None), access)
    assert response.body["cards"]
    assert all("authorization" not in asked.headers for asked in server.asked)


@pytest.mark.parametrize("expired", [{"expires_in": 0}, {"token_type": "MAC"}, {"expires_in": "x"}, {"token_type": 1}])
def test_a_token_that_says_it_is_of_no_use_is_not_sent(expired: Json) -> None:
    with FaultyServer(serves(SPEAKS)) as server:
        request = asking(SPEAKS, server.base, ("procedures",))
        request["fhirAuthorization"].update(expired)
        response = answered(request, FhirAccess(FhirCalls(SOON), client(server.base)))
    assert "no usable access token" in causes(response)["procedures"]
    assert server.connections == 0


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every address that a connection was tried to."""
    tried: list[tuple[str, int]] = []
    connect = socket.create_connection

    def note(address: tuple[str, int], *arguments: Any, **how: Any) -> socket.socket:
        tried.append(address)
        return connect(address, *arguments, **how)

    monkeypatch.setattr(socket, "create_connection", note)
    return tried


def named(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let names lead to these addresses, another answer for every look; the names that were looked up."""
    looked: list[str] = []

    def look(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        looked.append(host)
        found = answers[min(len(looked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr("cds_service.trust.outbound.socket.getaddrinfo", look)
    return looked


@pytest.mark.parametrize("hidden", ["127.0.0.1", "10.0.0.7", "169.254.169.254", "168.63.129.16", "64:ff9b::7f00:1"])
def test_one_bad_address_behind_a_good_one_refuses_the_server(
    monkeypatch: pytest.MonkeyPatch, connected: list[tuple[str, int]], hidden: str
) -> None:
    named(monkeypatch, ["93.184.216.34", hidden])
    access = FhirAccess(FhirCalls(SOON), client("https://ehr.example/fhir", networks=()))
    response = answered(asking(SPEAKS, "https://ehr.example/fhir", ("procedures",)), access)
    assert causes(response) == {"procedures": Trouble.ADDRESS.value}
    assert connected == []


def test_a_name_is_looked_up_once_and_a_second_answer_is_never_used(
    monkeypatch: pytest.MonkeyPatch, connected: list[tuple[str, int]]
) -> None:
    with FaultyServer(serves(SPEAKS)) as server:
        base = f"http://localhost:{server.port}/fhir"
        # create_connection looks up the address it was given; that is let through
        real = socket.getaddrinfo
        looked: list[str] = []

        def look(host: str, *arguments: Any, **how: Any) -> Any:
            if host != "localhost":
                return real(host, *arguments, **how)
            looked.append(host)
            return real("127.0.0.1" if len(looked) == 1 else "127.0.0.2", *arguments, **how)

        monkeypatch.setattr(socket, "getaddrinfo", look)
        response = answered(asking(SPEAKS, base), FhirAccess(FhirCalls(), client(base)))
    assert response.body["cards"]
    assert looked == ["localhost"]
    assert {address for address, _ in connected} == {"127.0.0.1"}
    assert {asked.headers["host"] for asked in server.asked} == {f"localhost:{server.port}"}


def test_a_name_lookup_that_hangs_is_given_up_and_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*_: Any, **__: Any) -> list[Any]:
        released.wait(30)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    calls = FhirCalls(0.2)
    access = FhirAccess(calls, client("https://ehr.example/fhir"))
    request = asking(SPEAKS, "https://ehr.example/fhir", ("procedures",))
    try:
        started = time.monotonic()
        assert causes(answered(request, access)) == {"procedures": Trouble.TIMEOUT.value}
        assert time.monotonic() - started < GENEROUS
        assert calls._breakers["c"]._inside == 1
    finally:
        released.set()


def test_credentials_and_proxies_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login evil password evil\n")
    with FaultyServer(says(b"{}")) as proxy, FaultyServer(serves(SPEAKS)) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.base)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        assert fetching(server, SPEAKS, FhirCalls()).body["cards"]
    assert proxy.connections == 0
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {TOKEN}"}


def test_tls_with_an_authority_registered_for_the_client(tmp_path: Path) -> None:
    tls, authority = certificate(tmp_path, "127.0.0.1")
    with FaultyServer(serves(SPEAKS), tls) as server:
        access = FhirAccess(FhirCalls(), client(server.base, ca_file=str(authority)))
        assert answered(asking(SPEAKS, server.base), access).body["cards"]


@pytest.mark.parametrize("names", [("127.0.0.1",), ("127.0.0.2",), ("other.example",)])
def test_a_certificate_of_nobody_we_know_or_of_another_name_gets_no_token(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    tls, authority = certificate(tmp_path, *names)
    trusted = None if names == ("127.0.0.1",) else str(authority)
    with FaultyServer(serves(SPEAKS), tls) as server:
        access = FhirAccess(FhirCalls(), client(server.base, ca_file=trusted))
        response = answered(asking(SPEAKS, server.base, ("procedures",)), access)
    assert causes(response) == {"procedures": Trouble.TLS.value}
    assert server.asked == []


def test_a_stalled_tls_handshake_ends_at_the_deadline() -> None:
    with FaultyServer(hangs) as server:
        base = server.base.replace("http", "https", 1)
        started = time.monotonic()
        access = FhirAccess(FhirCalls(SOON), client(base))
        response = answered(asking(SPEAKS, base, ("procedures",)), access)
        assert time.monotonic() - started < GENEROUS
        all_threads_end()
    assert causes(response) == {"procedures": Trouble.TIMEOUT.value}


@pytest.mark.parametrize("length", [30, PIECE, PIECE + 30])
def test_a_body_that_was_cut_off_is_not_taken_for_a_whole_one(length: int) -> None:
    body = b'{"resourceType": "Bundle"}'.ljust(length)

    def behave(server: FaultyServer, connection: socket.socket, _: Any) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + body)
        server.released.set()
        cut.wait(30)

    said: list[Trouble] = []
    cut = threading.Event()

    def ask() -> None:
        with pytest.raises(Unreachable) as problem, Line(route, deadline, {}) as line:
            line.get("/fhir/Procedure")
        said.append(problem.value.trouble)

    with FaultyServer(behave) as server:
        route, deadline = Route(parse_base(server.base), ("127.0.0.0/8",)), Deadline(20.0)
        thread = threading.Thread(target=ask)
        thread.start()
        assert server.released.wait(5)
        threading.Event().wait(0.1)  # so that what was sent has been read, as far as it is read before its end
        deadline.cut()
        thread.join(5)
        cut.set()
    assert said == [Trouble.TIMEOUT]


def test_the_deadline_is_for_all_questions_together_and_what_came_in_time_counts() -> None:
    def behave(server: FaultyServer, connection: socket.socket, asked: Any) -> None:
        if "Procedure" in asked.target:
            server.released.wait(30)
        connection.sendall(http(json.dumps(answer_of(SPEAKS, asked.target)).encode()))

    with FaultyServer(behave) as server:
        started = time.monotonic()
        response = fetching(server, SPEAKS, FhirCalls())
        assert time.monotonic() - started < 2.5
    assert causes(response) == {"procedures": Trouble.TIMEOUT.value}
    assert response.body["cards"][0]["indicator"] == "critical"


def test_a_dead_server_takes_so_many_calls_of_its_client_and_none_of_another() -> None:
    calls = FhirCalls(2.0)
    with FaultyServer(hangs) as dead, FaultyServer(serves(SPEAKS)) as alive, ThreadPoolExecutor(AT_ONCE) as pool:
        one = client(dead.base)
        request = asking(SPEAKS, dead.base, ("procedures",))
        waiting = [pool.submit(answered, request, FhirAccess(calls, one)) for _ in range(AT_ONCE)]
        while len(dead.asked) < AT_ONCE:
            threading.Event().wait(0.01)
        started = time.monotonic()
        assert causes(answered(request, FhirAccess(calls, one))) == {"procedures": Trouble.BUSY.value}
        other = FhirAccess(calls, client(alive.base, id="other"))
        assert causes(answered(asking(SPEAKS, alive.base), other)) == {}
        assert time.monotonic() - started < 1.5
        assert len(dead.asked) == AT_ONCE
        assert {causes(one.result())["procedures"] for one in waiting} == {Trouble.TIMEOUT.value}


def test_many_clients_with_dead_servers_leave_places_for_those_who_need_none() -> None:
    calls = FhirCalls(SOON, most_at_once=3)
    with FaultyServer(hangs) as dead, FaultyServer(serves(SPEAKS)) as alive, ThreadPoolExecutor(3) as pool:
        request = asking(SPEAKS, dead.base, ("procedures",))
        waiting = [
            pool.submit(answered, request, FhirAccess(calls, client(dead.base, id=f"c{number}"))) for number in range(3)
        ]
        while len(dead.asked) < 3:
            threading.Event().wait(0.01)
        other = FhirAccess(calls, client(alive.base, id="other"))
        refused = answered(asking(SPEAKS, alive.base, ("procedures",)), other)
        assert causes(refused) == {"procedures": Trouble.BUSY.value}
        assert alive.connections == 0
        assert {causes(one.result())["procedures"] for one in waiting} == {Trouble.TIMEOUT.value}
        for thread in threading.enumerate():
            if thread.name == "fhir":  # the place is free when it has ended
                thread.join(5)
        assert causes(answered(asking(SPEAKS, alive.base), other)) == {}


def test_after_five_failures_a_server_is_left_alone() -> None:
    calls = FhirCalls(SOON)
    with FaultyServer(resets) as server:
        said = [causes(fetching(server, SPEAKS, calls, without=("procedures",))) for _ in range(FAILURES + 3)]
    assert [cause["procedures"] for cause in said] == [Trouble.CONNECTION.value] * FAILURES + [Trouble.OPEN.value] * 3
    assert server.connections == FAILURES


def test_a_badly_asked_question_is_no_outage() -> None:
    calls = FhirCalls(SOON)
    with FaultyServer(says(b"{}", "404 Not Found")) as server:
        for _ in range(FAILURES + 3):
            fetching(server, SPEAKS, calls, without=("procedures",))
    assert len(server.asked) == FAILURES + 3


def test_the_breaker_opens_tries_once_and_closes() -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0])

    def fail(reached: bool = False) -> Entry:
        entry = breaker.enter()
        if entry is Entry.FREE:
            breaker.report(reached=reached)
            breaker.leave()
        return entry

    for _ in range(FAILURES - 1):
        assert fail() is Entry.FREE
    now[0] = WINDOW + 1
    assert fail() is Entry.FREE  # five, but not within the window
    for _ in range(FAILURES - 1):
        assert fail() is Entry.FREE
    assert fail() is Entry.OPEN
    now[0] += PAUSE
    assert breaker.enter() is Entry.FREE
    assert breaker.enter() is Entry.OPEN  # one tries for all
    breaker.report(reached=False)
    breaker.leave()
    assert fail() is Entry.OPEN
    now[0] += PAUSE
    assert fail(reached=True) is Entry.FREE
    assert [fail(), fail()] == [Entry.FREE] * 2


def test_the_token_is_shown_nowhere(log_lines: io.StringIO, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with FaultyServer(serves(SPEAKS)) as server, FaultyServer(says(b"{}", "500 Oops")) as broken:
        settings = Settings(
            database_url=f"sqlite:///{tmp_path}/x.sqlite3", sandbox_fhir_bases=f"{server.base},{broken.base}"
        )
        app = create_app(settings, library())
        good = app.test_client().post("/cds-services/infant-motor-workup", json=asking(SPEAKS, server.base))
        bad = app.test_client().post("/cds-services/infant-motor-workup", json=asking(SPEAKS, broken.base))
        app.extensions["decision_log"].close()
    assert (good.status_code, bad.status_code) == (200, 412)
    parsed = parse_request(json.dumps(asking(SPEAKS, server.base)).encode())
    written = capfd.readouterr()
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    logged = log_lines.getvalue()
    assert logged.count('"event": "answered"') == 2
    for text in (good.text, bad.text, logged, written.out, written.err, repr(parsed), kept.decode("latin-1")):
        assert TOKEN not in text
    assert server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_where_waiting_would_hold_others_nothing_is_asked(tmp_path: Path) -> None:
    with FaultyServer(serves(SPEAKS)) as server:
        app = create_app(
            Settings(database_url=f"sqlite:///{tmp_path}/x.sqlite3", sandbox_fhir_bases=server.base), library()
        )
        answer = app.test_client().post(
            "/cds-services/infant-motor-workup", json=asking(SPEAKS, server.base),
            environ_overrides={"cds.may_wait": False},
        )  # fmt: skip
        app.extensions["decision_log"].close()
    assert answer.status_code == 412
    assert server.connections == 0


def test_key_sets_are_fetched_by_the_same_rules() -> None:
    with FaultyServer(says(b'{"keys": []}', media="application/json")) as server:
        assert load_keys(client(jku=f"{server.base}/jwks")) == b'{"keys": []}'
        with pytest.raises(OSError, match=Trouble.ADDRESS.value):
            load_keys(client(jku=f"{server.base}/jwks", networks=()))
    assert [asked.target for asked in server.asked] == ["/fhir/jwks"]
    assert "authorization" not in server.asked[0].headers
