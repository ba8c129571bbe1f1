"""The keys of the decision log: with which inputs are sealed and patients get their pseudonyms."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cds_service.settings import Settings
from cds_service.store.database import database_files
from cds_service.store.made_keys import MadeKeys, keys_in, make_keys
from cds_service.store.pseudonyms import key_of
from cds_service.store.sealed_inputs import InputKeys


class LogKeys(NamedTuple):
    """``keeps_inputs``: whether new inputs are kept; ``inputs`` opens those kept before all the same."""

    keeps_inputs: bool
    inputs: InputKeys | None
    pseudonym: bytes | None


NO_KEYS = LogKeys(False, None, None)


def log_keys(settings: Settings, *, may_make: bool = True) -> LogKeys:
    """The keys of the settings; in the sandbox those not given are made once, in a file beside the database.

    Where they can be neither had nor made, nothing is kept and nobody gets a pseudonym. Raises SettingsError for a
    key that is none.
    """
    made = _made(settings, may_make) if settings.makes_keys else None
    inputs = settings.inputs_key or (made.inputs if made is not None else None)
    names = settings.pseudonym_key or (made.pseudonym if made is not None else None)
    return LogKeys(
        keeps_inputs=settings.keeps_inputs and inputs is not None,
        inputs=InputKeys(inputs) if inputs is not None else None,
        pseudonym=key_of(names) if names is not None else None,
    )


def _made(settings: Settings, may_make: bool) -> MadeKeys | None:
    if settings.inputs_key and settings.pseudonym_key:
        return None
    files = database_files(settings.database_url)
    if not files or files[0].name == ":memory:":
        return None
    file = Path(f"{files[0]}.keys")
    return make_keys(file) if may_make else keys_in(file)
