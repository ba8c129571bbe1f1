"""Several questions to one client's FHIR server at once, all answered or given up before one deadline.

The one who waits never waits longer than the deadline, whatever hangs: name lookup, TLS, headers or body. A
thread that cannot be ended (a name lookup) keeps its request's place in the bulkhead until it ends.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from cds_service.trust.access_token import AccessToken
from cds_service.trust.addresses import Base, parse_base
from cds_service.trust.breaker import Breaker, Entry
from cds_service.trust.clients import Client
from cds_service.trust.deadline import Deadline
from cds_service.trust.outbound import Line, Route
from cds_service.trust.trouble import Hindrance, Trouble, Unreachable

LINES = 8  # connections of one request
MOST_AT_ONCE = 64  # requests that fetch in this worker, whoever sent them: half of web/front.py's threads
FHIR_SECONDS = 2.0
KEYS_SECONDS = 5.0

T = TypeVar("T")
Get = Callable[[str], bytes]


NOT_REGISTERED = Hindrance("not fetched: fhirServer is not a base registered for this client")
NO_TOKEN = Hindrance("not fetched: no usable access token came along")


class FhirServer:
    """A registered FHIR server, with the token of one request."""

    def __init__(self, calls: FhirCalls, client: Client, base: Base, token: AccessToken | None) -> None:
        self.base = base
        self._calls = calls
        self._client = client
        self._token = token

    def ask(self, questions: Mapping[str, Callable[[Get], T]]) -> dict[str, T | Trouble]:
        """The answer to each question, or why there is none. Never takes longer than the deadline."""
        return self._calls.ask(self._client, self.base, self._token, questions)


class FhirAccess(NamedTuple):
    """Whom a caller may have us ask."""

    calls: FhirCalls
    client: Client

    def server(self, fhir_server: str, token: AccessToken | None) -> FhirServer | Hindrance:
        """The server that a request names, or why it is not asked."""
        base = self.client.base_for(fhir_server)
        if base is None:
            return NOT_REGISTERED
        if token is None and not self.client.fhir_without_token:
            return NO_TOKEN
        return FhirServer(self.calls, self.client, base, token)


class FhirCalls:
    """All calls of this worker to FHIR servers: in never more than ``most_at_once`` times LINES threads."""

    def __init__(self, seconds: float = FHIR_SECONDS, most_at_once: int = MOST_AT_ONCE) -> None:
        """``most_at_once``: so many clients with dead servers leave room for the callers who bring their data."""
        self._seconds = seconds
        self._places = threading.BoundedSemaphore(most_at_once)
        self._breakers: dict[str, Breaker] = {}

    def ask(
        self, client: Client, base: Base, token: AccessToken | None, questions: Mapping[str, Callable[[Get], T]]
    ) -> dict[str, T | Trouble]:
        """See FhirServer.ask."""
        if not questions:
            return {}
        if not self._places.acquire(blocking=False):
            return dict.fromkeys(questions, Trouble.BUSY)
        breaker = self._breakers.setdefault(client.id, Breaker())
        entry = breaker.enter()
        if entry is not Entry.FREE:
            self._places.release()
            trouble = Trouble.BUSY if entry is Entry.BUSY else Trouble.OPEN
            return dict.fromkeys(questions, trouble)

        def leave() -> None:
            breaker.leave()
            self._places.release()

        headers = {"Accept": "application/fhir+json, application/json", **(token.header() if token else {})}
        route = Route(base, client.networks, client.ca_file)
        answers = in_parallel(route, headers, questions, self._seconds, leave)
        outages = [isinstance(answer, Trouble) and answer.is_outage for answer in answers.values()]
        breaker.report(reached=not all(outages))
        return answers


def in_parallel(
    route: Route, headers: Mapping[str, str], questions: Mapping[str, Callable[[Get], T]], seconds: float,
    when_ended: Callable[[], None],
) -> dict[str, T | Trouble]:  # fmt: skip
    """Every question asked on up to LINES connections. ``when_ended`` is called when the last thread has ended."""
    deadline = Deadline(seconds)
    waiting = deque(questions.items())
    answers: dict[str, T | Trouble] = {}
    running = min(LINES, len(questions))
    lock = threading.Lock()
    ended = threading.Event()

    def work() -> None:
        try:
            with Line(route, deadline, headers) as line:
                while (taken := take()) is not None:
                    key, question = taken
                    try:
                        answers[key] = question(line.get)
                    except Unreachable as problem:
                        answers[key] = problem.trouble
                    except Exception:  # whatever an answer does to its reader: nothing of it is said
                        answers[key] = Trouble.UNUSABLE
        finally:
            one_less()

    def take() -> tuple[str, Callable[[Get], T]] | None:
        with lock:
            return waiting.popleft() if waiting and not deadline.passed else None

    def one_less() -> None:
        nonlocal running
        with lock:
            running -= 1
            last = running == 0
        if last:
            when_ended()
            ended.set()

    for _ in range(running):
        try:
            threading.Thread(target=work, name="fhir", daemon=True).start()
        except RuntimeError:  # no thread to be had: the others take its share
            one_less()
    ended.wait(deadline.left)
    deadline.cut()
    return {key: answers.get(key, Trouble.TIMEOUT) for key in questions}


def load_keys(client: Client) -> bytes:
    """The bytes of a client's JWK Set, from its registered ``jku``. Raises OSError saying why there are none."""
    assert client.jku is not None
    base = parse_base(client.jku)
    route = Route(base, client.networks, client.ca_file)
    questions: dict[str, Callable[[Get], bytes]] = {"keys": lambda get: get(base.path)}
    found = in_parallel(route, {"Accept": "application/json"}, questions, KEYS_SECONDS, lambda: None)["keys"]
    if isinstance(found, Trouble):
        raise OSError(found.value)
    return found
