"""What an import remembers in its folder, so that one that was interrupted goes on, and an update knows its start.

It all stands in ``.import/``, which an audit passes over.
"""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
from msgspec import Struct

from cds_service.errors import InputError

HIDDEN, STATE = ".import", "state.json"


class Asked(Struct, frozen=True):
    """What was asked for: an unfinished import goes on only for the same."""

    base: str
    group: str | None = None
    types: tuple[str, ...] = ()
    since: str | None = None


class Part(Struct):
    """One file: how the server names its version, how it is packed, and once it is whole, what it holds."""

    etag: str = ""
    packed: bool = False
    name: str = ""  # in the folder; empty until it is whole
    resources: int = 0
    problem: str = ""


class State(Struct):
    """How far an import is. ``number``: the first into this folder is 1, each update is one more."""

    number: int
    asked: Asked
    status_url: str = ""
    transaction_time: str = ""
    parts: dict[str, Part] = {}
    finished: bool = False


class Folder:
    """The folder of an import. Its files are its owner's alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hidden = path / HIDDEN
        self._lock = threading.Lock()
        self.state: State | None = None
        if (self.hidden / STATE).exists():
            try:
                self.state = msgspec.json.decode((self.hidden / STATE).read_bytes(), type=State)
            except msgspec.DecodeError:
                raise InputError(f"{self.hidden / STATE}: it is damaged; choose another folder") from None
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path}: it is neither empty nor a folder of an import; choose another")

    def begin(self, asked: Asked) -> State:
        """The state to go on with. Raises InputError when the folder holds what this does not continue."""
        known = self.state
        if known is not None and not known.finished:
            if known.asked != asked:
                raise InputError(
                    f"{self.path}: it holds an unfinished import of something else; give that command again, or choose "
                    "another folder"
                )
            return known
        if known is not None and (asked.since is None or known.asked.base != asked.base):
            raise InputError(
                f"{self.path}: it holds a finished import; --since last brings what changed at the same server, or "
                "choose another folder"
            )
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        self.hidden.mkdir(exist_ok=True)
        self.state = State(known.number + 1 if known is not None else 1, asked)
        self.save()
        return self.state

    def save(self) -> None:
        """Write the state, whole or not at all."""
        with self._lock:
            waiting = self.hidden / (STATE + ".new")
            waiting.write_bytes(msgspec.json.encode(self.state))
            waiting.replace(self.hidden / STATE)

    def partial(self, name: str) -> Path:
        """Where an unfinished file grows."""
        return self.hidden / f"{name}.part"
