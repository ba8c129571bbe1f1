"""Clients' public keys: read from JWK Sets, bound to the algorithms they may verify, and kept fresh ahead of calls.

A request never fetches: keys are loaded at start and renewed in the background (threat S11). A key id that is not
known only asks the background to look again, at most once a minute for each client.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK, PyJWTError

from cds_service.errors import SettingsError
from cds_service.trust.clients import Client, ClientRegistry

MOST_KEYS = 20
SHORTEST_RSA = 2048
CURVES = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
RSA_ALGORITHMS = ("RS256", "RS384", "RS512")
RENEW_SECONDS = 600.0
REGISTRY_SECONDS = 15.0
RETRY_SECONDS = 60.0
KEPT_SECONDS = 24 * 3600.0


class Key(NamedTuple):
    """A public key and the algorithms that our record of the client allows with it."""

    public: RSAPublicKey | EllipticCurvePublicKey
    algorithms: frozenset[str]


class KeySet(NamedTuple):
    """Keys by key id, and what was wrong with those left out."""

    keys: Mapping[str, Key]
    problems: tuple[str, ...]


def read_key_set(document: object, allowed: Iterable[str]) -> KeySet:
    """The usable keys of a JWK Set.

    Left out, with the reason: keys without id or with one that stands twice, private and symmetric keys, keys
    for encryption, RSA under 2048 bits, and keys whose algorithm the client may not use.
    """
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list) or not listed or len(listed) > MOST_KEYS:
        return KeySet({}, ("it is no JWK Set of 1 to 20 keys",))
    keys: dict[str, Key] = {}
    problems: list[str] = []
    twice: set[str] = set()
    for number, jwk in enumerate(listed):
        try:
            kid, key = _key(jwk, frozenset(allowed))
        except ValueError as problem:
            problems.append(f"keys[{number}]: {problem}")
            continue
        if kid in keys or kid in twice:
            problems.append(f"keys[{number}]: its kid stands twice")
            keys.pop(kid, None)
            twice.add(kid)
            continue
        keys[kid] = key
    return KeySet(keys, tuple(problems))


def _key(jwk: Any, allowed: frozenset[str]) -> tuple[str, Key]:
    if not isinstance(jwk, dict) or not isinstance(jwk.get("kid"), str) or not jwk["kid"]:
        raise ValueError("it has no kid")
    if jwk.get("kty") not in ("RSA", "EC"):
        raise ValueError("its kty is neither RSA nor EC")
    if {"d", "p", "q", "k"} & jwk.keys():
        raise ValueError("it is a private key: publish the public one and make a new pair")
    if jwk.get("use", "sig") != "sig":
        raise ValueError("its use is not sig")
    try:
        parts = {name: jwk[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in jwk}
        public = PyJWK(parts).key
    except (PyJWTError, ValueError, TypeError, KeyError):
        raise ValueError("it cannot be read") from None
    fit: Iterable[str]
    if isinstance(public, RSAPublicKey):
        if public.key_size < SHORTEST_RSA:
            raise ValueError(f"it is shorter than {SHORTEST_RSA} bits")
        fit = RSA_ALGORITHMS
    elif isinstance(public, EllipticCurvePublicKey):
        fit = CURVES.get(public.curve.name, ())
    else:
        raise ValueError("it cannot be read")
    algorithms = allowed & set(fit)
    if "alg" in jwk:
        algorithms &= {jwk["alg"]} if isinstance(jwk["alg"], str) else set()
    if not algorithms:
        raise ValueError("no algorithm registered for this client goes with it")
    return jwk["kid"], Key(public, algorithms)


class _Entry:
    """What is known of the keys of one client."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.keys: Mapping[str, Key] = {}
        self.problem: str | None = None
        self.loaded: float | None = None
        self.tried: float | None = None
        if client.jwks is not None:
            read = read_key_set(client.jwks, client.algorithms)
            self.keys, self.loaded = read.keys, 0.0
            self.problem = "; ".join(read.problems) if not read.keys else None

    def may_look_again(self, now: float) -> bool:
        """Whether the last look is long enough ago for an unknown key id to cause another."""
        return self.tried is None or now - self.tried >= RETRY_SECONDS

    def due(self, now: float, wanted: bool) -> bool:
        """Whether to load the keys now."""
        if wanted or self.problem is not None:
            return self.may_look_again(now)
        return self.tried is None or now - self.tried >= RENEW_SECONDS


Load = Callable[[Client], bytes]


class KeyRing:
    """The keys of all registered clients. ``load`` brings the bytes behind a client's ``jku``."""

    def __init__(self, registry: ClientRegistry, load: Load, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds of any steady clock."""
        self._registry = registry
        self._load = load
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wanted: set[str] = set()
        self._registry_problem: str | None = None
        self._registry_read = clock()
        self._first_round = threading.Event()
        self._follow_registry()

    def find(self, client: Client, kid: str) -> Key | None:
        """The key of this id, from memory. An unknown id asks the background to look again, and returns at once."""
        entry = self._entries.get(client.id)
        if entry is None or entry.client != client:
            return None
        key = entry.keys.get(kid)
        if key is None and client.jwks is None and entry.may_look_again(self._clock()):
            self._wanted.add(client.id)
            self.start()
            self._wake.set()
        return key

    def start(self) -> None:
        """Keep registry and keys fresh from now on. A worker that was forked starts its own thread."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="client-keys", daemon=True)
                self._thread.start()

    def preload(self, seconds: float) -> None:
        """Start, and wait until every key set was asked for once, but no longer than this."""
        if any(entry.client.jwks is None for entry in self._entries.values()):
            self.start()
            self._first_round.wait(seconds)

    def refresh(self, only: Client | None = None) -> None:
        """Load every key set that is due: not yet loaded, old, or asked for by an unknown key id.

        ``only``: look at this client's alone.
        """
        now = self._clock()
        if now - self._registry_read >= REGISTRY_SECONDS:
            self._registry_read = now
            self._follow_registry(again=True)
        wanted, self._wanted = self._wanted, set()
        for entry in list(self._entries.values()):
            client = entry.client
            if client.jwks is not None or client.disabled or only not in (None, client):
                continue
            if entry.due(now, client.id in wanted):
                self._renew(entry, now)

    def _renew(self, entry: _Entry, now: float) -> None:
        entry.tried = now
        try:
            read = read_key_set(orjson.loads(self._load(entry.client)), entry.client.algorithms)
        except Exception as problem:  # whatever the far side did: the keys we have are kept for a day
            entry.problem = f"{type(problem).__name__}: {problem}" if isinstance(problem, OSError) else "not JSON"
        else:
            if read.keys:
                entry.keys, entry.loaded, entry.problem = read.keys, now, None
                return
            entry.problem = "; ".join(read.problems)
        if entry.loaded is not None and now - entry.loaded > KEPT_SECONDS:
            entry.keys = {}

    def _follow_registry(self, *, again: bool = False) -> None:
        try:
            if again:
                self._registry.reload()
            self._registry_problem = None
        except SettingsError as problem:
            self._registry_problem = str(problem)
        except Exception as problem:  # a database that does not answer: the clients we know go on
            self._registry_problem = type(problem).__name__
        current: dict[str, _Entry] = {}
        for client in self._registry.clients():
            known = self._entries.get(client.id)
            current[client.id] = known if known is not None and known.client == client else _Entry(client)
        self._entries = current

    def _run(self) -> None:
        while True:
            self._wake.clear()
            self.refresh()
            self._first_round.set()
            self._wake.wait(REGISTRY_SECONDS)

    def problems(self) -> list[str]:
        """Clients whose tokens cannot be checked, for /readyz; nothing of a patient."""
        found = [
            f"client {entry.client.id}: no usable key{f' ({entry.problem})' if entry.problem else ''}"
            for entry in self._entries.values()
            if not entry.keys and not entry.client.disabled
        ]
        return found + ([f"clients: {self._registry_problem}"] if self._registry_problem else [])
