"""A rule set that somebody uploads to compare it: a zip of a cards/ folder, unpacked with every care.

It is kept for a day in a folder of the machine that only the service's user reads, so that every worker finds it and
an address of a comparison goes on to hold. It is never installed and decides nothing about a patient.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from cds_service.errors import CdsError
from cds_service.rules.pack import packaged_cards

MOST_FILES = 2000
LARGEST_FILE = 4 * 1024 * 1024  # unpacked
LARGEST_PACK = 24 * 1024 * 1024
DEEPEST = 6  # folders
KEPT_SECONDS = 24 * 3600
MOST_KEPT = 10
CONTENT = (".yaml", ".json")
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of these a part can be unpacked without the whole
_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)


class PackRefused(CdsError):
    """The upload is no cards/ folder that we unpack; says why."""


def unpack(content: bytes, folder: Path) -> Path:
    """Write the content files of the zip below ``folder`` and say where the pack is. Raises PackRefused.

    All of it is looked at before the first file is written. Other files than content are left out, and the schemas
    are this release's own: a pack does not say itself what is right.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            files = _read(packed)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, NotImplementedError):
        raise PackRefused("This is no zip file that can be unpacked.") from None
    tops = sorted((path.parent for path in files if path.name == "reading.yaml"), key=lambda path: len(path.parts))
    if not tops:
        raise PackRefused("There is no reading.yaml in it: give a zip of a cards/ folder.")
    root = folder / "cards"
    for path, text in files.items():
        if path.is_relative_to(tops[0]) and path.relative_to(tops[0]).parts[0] != "schema":
            _write(root / path.relative_to(tops[0]), text)
    for schema in (packaged_cards() / "schema").iterdir():
        if schema.name.endswith(".json"):
            _write(root / "schema" / schema.name, schema.read_bytes())
    return root


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def _read(packed: zipfile.ZipFile) -> dict[PurePosixPath, bytes]:
    entries = packed.infolist()
    if len(entries) > MOST_FILES:
        raise PackRefused(f"There are more than {MOST_FILES} files in it.")
    found: dict[PurePosixPath, bytes] = {}
    left = LARGEST_PACK
    for entry in entries:
        path = _safe(entry)
        if entry.is_dir() or path.suffix not in CONTENT:
            continue
        if path in found:
            raise PackRefused("A file stands in it twice.")
        with packed.open(entry) as file:
            found[path] = file.read(min(LARGEST_FILE, left) + 1)  # what it says of its size is not believed
        left -= len(found[path])
        if len(found[path]) > LARGEST_FILE or left < 0:
            raise PackRefused("Unpacked it is too large.")
    return found


def _safe(entry: zipfile.ZipInfo) -> PurePosixPath:
    """Where the entry wants to go. Raises PackRefused when that is outside, or when it is no plain file."""
    path = PurePosixPath(entry.filename)
    name = entry.orig_filename  # before zipfile mends it
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in name:
        raise PackRefused("A file in it wants to lie outside its folder.")
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise PackRefused("There is a link in it, or something else that is no plain file.")
    if entry.flag_bits & 1 or entry.compress_type not in METHODS:
        raise PackRefused("A file in it is encrypted, or packed by a method that is not taken.")
    if len(path.parts) > DEEPEST:
        raise PackRefused("Its folders are too deep.")
    return path


class KeptPacks:
    """The uploads of the last day on this machine, under the SHA-256 of their bytes."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / f"cds-service-packs-{os.getuid()}"

    def keep(self, content: bytes, now: float) -> str:
        """Keep it; its name. Old ones go. ``now``: seconds since 1970. Raises PackRefused when the disk does not."""
        name = hashlib.sha256(content).hexdigest()
        try:
            folder = self._own_folder()
            handle, new = tempfile.mkstemp(dir=folder)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(new).replace(folder / f"{name}.zip")
            self._forget(folder, now)
        except OSError as problem:
            raise PackRefused(f"The upload cannot be kept on this machine ({type(problem).__name__}).") from None
        return name

    def find(self, name: str) -> bytes | None:
        """The upload of this name, while it is kept."""
        if not _NAME.fullmatch(name):
            return None
        try:
            content = (self._own_folder() / f"{name}.zip").read_bytes()
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == name else None

    def _own_folder(self) -> Path:
        """The folder, which somebody else of this machine may not have put there. Raises OSError."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        found = self._folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise PermissionError
        return self._folder

    def _forget(self, folder: Path, now: float) -> None:
        kept = sorted(folder.glob("*.zip"), key=lambda file: file.stat().st_mtime, reverse=True)
        for place, file in enumerate(kept):
            if place >= MOST_KEPT or now - file.stat().st_mtime > KEPT_SECONDS:
                file.unlink(missing_ok=True)
