"""The sandbox's own keys in a file beside its database, made once however many workers start at once."""

from __future__ import annotations

import os
import secrets
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

from cds_service.errors import SettingsError
from cds_service.store.sealed_inputs import KEY_BYTES

NAMES = ("CDS_INPUTS_KEY", "CDS_PSEUDONYM_KEY")


class MadeKeys(NamedTuple):
    """Both keys as the settings would hold them, in base64."""

    inputs: str
    pseudonym: str


def make_keys(file: Path) -> MadeKeys | None:
    """The keys in this file, which is made with new ones, readable by its owner only, when it is not there.

    Of several that make it one wins, and all read what it wrote. None where no file can be made. Raises
    SettingsError for a file with anything else in it.
    """
    if not file.exists():
        with suppress(OSError):
            _write_once(file)
    return keys_in(file)


def keys_in(file: Path) -> MadeKeys | None:
    """The keys in this file; None when there is no file. Raises SettingsError for a file with anything else in it."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        lines = []
    written = dict(line.split("=", 1) for line in lines if "=" in line)
    if set(written) != set(NAMES):
        raise SettingsError(f"{file}: it does not hold the sandbox's two keys. Set them, or take the file away.")
    return MadeKeys(*(written[name] for name in NAMES))


def _write_once(file: Path) -> None:
    """Linked into place when it is whole, so that nobody reads half of it and nobody's is overwritten."""
    text = "".join(f"{name}={b64encode(secrets.token_bytes(KEY_BYTES)).decode()}\n" for name in NAMES)
    with NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.", encoding="ascii") as whole:  # mode 0600
        whole.write(text)
        whole.flush()
        os.fsync(whole.fileno())
        os.link(whole.name, file)
