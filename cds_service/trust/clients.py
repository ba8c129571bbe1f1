"""Who may call: the CDS clients that were registered, from a file and from the database.

A client is one issuer, and where that issuer serves several organisations, one tenant of it. What is not listed
is not allowed: an empty list of FHIR bases means that nothing is fetched.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Protocol

import msgspec
import orjson
import yaml

from cds_service.errors import ClientsUnavailable, SettingsError
from cds_service.trust.addresses import Base, parse_base

LARGEST_FILE = 1024 * 1024
DEFAULT_ALGORITHMS = ("ES384", "RS384")


class Client(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A registered CDS client.

    ``issuer`` is compared with the token's ``iss``, ``tenant`` with its ``tenant``. Keys come from ``jku``, a
    URL that is fetched ahead of any call, or from ``jwks``, given here. ``audiences`` are accepted for every
    endpoint beside the endpoint's own URL. ``fhir_bases`` are the FHIR servers that may be called for it, at
    public addresses or inside ``networks`` (CIDR), with the authority in ``ca_file`` if not a public one.
    """

    id: str
    name: str
    issuer: str
    jku: str | None = None
    jwks: Mapping[str, Any] | None = None
    algorithms: tuple[str, ...] = DEFAULT_ALGORITHMS
    audiences: tuple[str, ...] = ()
    subject: str | None = None
    tenant: str | None = None
    fhir_bases: tuple[str, ...] = ()
    fhir_without_token: bool = False
    networks: tuple[str, ...] = ()
    ca_file: str | None = None
    disabled: bool = False

    def base_for(self, fhir_server: str) -> Base | None:
        """The registered base that a request's ``fhirServer`` names; None when it names none of them."""
        try:
            named = parse_base(fhir_server)
        except ValueError:
            return None
        return next((base for base in map(parse_base, self.fhir_bases) if base == named), None)


class ClientSource(Protocol):
    """Where clients are registered."""

    def clients(self) -> Sequence[Client]:
        """All of them. Raises SettingsError when one is wrong, ClientsUnavailable when they cannot be read now."""


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator  # a twentieth of a second, for those who register clients

    text = files("cds_service.trust").joinpath("client.schema.json").read_bytes()
    return Draft202012Validator(orjson.loads(text))


def client_of(record: Mapping[str, Any], place: str) -> Client:
    """The client in a record of a file or a database. Raises SettingsError naming place, field and cause."""
    return clients_of({"clients": [record]}, place)[0]


def clients_of(document: object, place: str) -> list[Client]:
    """The clients of a document. Raises SettingsError naming place, field and cause, never a value."""
    for problem in _validator().iter_errors(document):
        path = ".".join(map(str, problem.absolute_path)) or "the whole"
        wanted = f"{problem.validator}: {problem.validator_value}"
        raise SettingsError(f"{place}: {path}: it is not as docs/trust.md says ({wanted})")
    assert isinstance(document, dict)
    found = [msgspec.convert(record, Client) for record in document["clients"]]
    for client in found:
        _check(client, f"{place}: client {client.id}")
    return found


def _check(client: Client, place: str) -> None:
    for url in client.fhir_bases:
        _check_url(url, f"{place}: fhir_bases")
    if client.jku is not None and client.jwks is None:
        _check_url(client.jku, f"{place}: jku")
    for network in client.networks:
        try:
            ip_network(network)
        except ValueError:
            raise SettingsError(f"{place}: networks: write each as CIDR, such as 10.20.0.0/16") from None
    if client.ca_file is not None and not Path(client.ca_file).is_file():
        raise SettingsError(f"{place}: ca_file: there is no such file")


def _check_url(url: str, place: str) -> None:
    try:
        base = parse_base(url)
    except ValueError as problem:
        raise SettingsError(f"{place}: {problem}") from None
    if base.scheme != "https" and not base.is_loopback:
        raise SettingsError(f"{place}: only https is called outside this machine")


class ClientFile:
    """The clients of a JSON or YAML file."""

    def __init__(self, path: Path, *, guarded: bool) -> None:
        """``guarded``: refuse a file that any user of the machine may change."""
        self.path = path
        self._guarded = guarded
        self._last: tuple[bytes, object] | None = None  # a thousand clients are three seconds of reading YAML

    def clients(self) -> list[Client]:
        """All clients of the file. Raises SettingsError with the place of the first mistake."""
        try:
            mode = os.stat(self.path).st_mode
            content = self.path.read_bytes()
        except OSError as problem:
            raise SettingsError(f"CDS_CLIENTS_FILE: {self.path}: {problem.strerror}") from None
        if self._guarded and mode & stat.S_IWOTH:
            raise SettingsError(f"CDS_CLIENTS_FILE: {self.path}: any user may write it; chmod o-w")
        if len(content) > LARGEST_FILE:
            raise SettingsError(f"CDS_CLIENTS_FILE: {self.path}: larger than {LARGEST_FILE} bytes")
        if self._last is None or self._last[0] != content:
            self._last = content, _document(content, self.path.name)
        return clients_of(self._last[1], self.path.name)


def _document(content: bytes, name: str) -> object:
    """JSON or YAML without aliases and duplicate keys."""
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, Loader=yaml.SafeLoader)):
            raise SettingsError(f"{name}: YAML aliases are not read here")
        _refuse_duplicates(root, name)
        return yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SettingsError(f"{name}: neither JSON nor YAML") from None


def _refuse_duplicates(node: yaml.Node | None, name: str) -> None:
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        if len(set(map(str, keys))) != len(keys):
            raise SettingsError(f"{name}:{node.start_mark.line + 1}: a key stands twice")
    children = node.value if isinstance(node, yaml.CollectionNode) else []
    for child in children:
        for part in child if isinstance(child, tuple) else (child,):
            _refuse_duplicates(part, name)


class ClientRegistry:
    """All registered clients, found by issuer and tenant. Reading again replaces them at one stroke.

    Each source is followed by itself: of one that cannot be read the clients it named last stay, and what another
    says, a revocation above all, holds at once. ``problems`` says what was wrong when they were last read.
    """

    def __init__(self, sources: Sequence[ClientSource] = ()) -> None:
        """Raises SettingsError when a source is wrong or two clients cannot be told apart."""
        self._sources = tuple(sources)
        self._named: dict[ClientSource, Sequence[Client]] = {}
        self._by_issuer: Mapping[tuple[str, str | None], Client] = {}
        self.problems: tuple[str, ...] = ()
        wrong = self._read()
        if wrong:
            raise SettingsError(wrong[0])

    def reload(self) -> None:
        """Read all sources again. While two clients cannot be told apart nobody is added or changed; who was taken out
        or disabled is so at once."""
        self._read()

    def _read(self) -> list[str]:
        """What is wrong, beside what cannot be read now; both are in ``problems``."""
        unread: list[str] = []
        wrong: list[str] = []
        for source in self._sources:
            try:
                self._named[source] = source.clients()
            except ClientsUnavailable as problem:
                unread.append(str(problem))
            except SettingsError as problem:
                wrong.append(str(problem))
        named = [client for found in self._named.values() for client in found]
        try:
            self._by_issuer = _told_apart(named)
        except SettingsError as problem:
            wrong.append(str(problem))
            self._by_issuer = _still_admitted(self._by_issuer, named)
        self.problems = (*unread, *wrong)
        return wrong

    @property
    def is_whole(self) -> bool:
        """Whether every source has been read, now or before."""
        return len(self._named) == len(self._sources)

    def __len__(self) -> int:
        return len(self._by_issuer)

    def clients(self) -> list[Client]:
        """All clients, by id."""
        return sorted(self._by_issuer.values(), key=lambda client: client.id)

    def get(self, client_id: str) -> Client | None:
        """The client of this id."""
        return next((client for client in self._by_issuer.values() if client.id == client_id), None)

    def find(self, issuer: str, tenant: str | None) -> Client | None:
        """The client of exactly this issuer and tenant; a client without tenant sends none."""
        return self._by_issuer.get((issuer, tenant))

    def knows(self, issuer: str) -> bool:
        """Whether any client has this issuer, whatever the tenant."""
        return any(known == issuer for known, _ in self._by_issuer)


def _told_apart(clients: Sequence[Client]) -> dict[tuple[str, str | None], Client]:
    found: dict[tuple[str, str | None], Client] = {}
    ids: set[str] = set()
    for client in clients:
        if client.id in ids:
            raise SettingsError(f"client {client.id}: registered twice")
        if (client.issuer, client.tenant) in found:
            raise SettingsError(f"client {client.id}: another client has the same issuer and tenant")
        ids.add(client.id)
        found[client.issuer, client.tenant] = client
    return found


def _still_admitted(
    before: Mapping[tuple[str, str | None], Client], named: Sequence[Client]
) -> dict[tuple[str, str | None], Client]:
    """Those of before whom the sources still name and do not disable anywhere; disabled ones as such."""
    ids = {client.id for client in named}
    disabled = {client.id: client for client in named if client.disabled}
    return {key: disabled.get(client.id, client) for key, client in before.items() if client.id in ids}
