"""A signature put into a sign-off file that others read and write at the same time."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path

from cds_service.errors import ContentError, SignOffRefused
from cds_service.rules.signoff import SignOffs, head_of, read_signoffs, signoff_text


def change_signoffs(root: Traversable | Path, file: Path, change: Callable[[SignOffs], SignOffs]) -> SignOffs:
    """What the file says after ``change``; whoever reads it sees the whole of the old or of the new.

    One writer at a time: two who sign at once both stand in it. Raises SignOffRefused when it cannot be written, and
    when what would be written could not be read again; the file is then as it was.
    """
    try:
        with _alone(file):
            signoffs = change(read_signoffs(root, file))
            _replace(root, file, signoff_text(signoffs, head_of(file.read_text(encoding="utf-8"))))
    except ContentError:
        raise SignOffRefused("The sign-off file cannot be read. Nothing was signed.") from None
    except OSError as problem:
        raise SignOffRefused(f"The sign-off file cannot be written ({type(problem).__name__}).") from None
    return signoffs


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Held by one process and thread. It is the folder that is locked, because the file itself is replaced."""
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _replace(root: Traversable | Path, file: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    new = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            os.fchmod(out.fileno(), file.stat().st_mode & 0o777)
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        read_signoffs(root, new)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
