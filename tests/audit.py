"""Known vulnerabilities of what requirements.lock installs, by pip-audit: `make audit`.

Where a package index has no advisories, pip-audit says that nothing is wrong with anything. So it is first shown a
package that is known to be vulnerable; when it does not see that, nothing it says counts.

On a machine that reaches no advisories: `make audit ADVISORIES=all.zip` with OSV's export of the PyPI ecosystem,
fetched elsewhere. pip-audit then asks a server that is started here. Exit: 0 none known, 1 some, 3 cannot judge.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

LOCK = Path(__file__).parents[1] / "requirements.lock"
CANARY = ("pyjwt", "2.3.0")  # CVE-2022-29217, key confusion, fixed in 2.4.0
OLDEST = timedelta(days=30)
NONE_KNOWN, VULNERABLE, CANNOT_JUDGE = 0, 1, 3

Advisory = dict[str, Any]


class CannotJudge(Exception):
    """Why nothing can be said about vulnerabilities."""


class Advisories:
    """OSV records of PyPI packages, from a zip of JSON files."""

    def __init__(self, file: Path) -> None:
        """Raises CannotJudge when the file is no such zip, or its newest record is older than OLDEST."""
        self._of: dict[str, list[Advisory]] = {}
        newest = ""
        try:
            with zipfile.ZipFile(file) as archive:
                for name in archive.namelist():
                    record = json.loads(archive.read(name))
                    newest = max(newest, record["modified"])
                    for package in {part["package"]["name"] for part in record.get("affected", ())}:
                        self._of.setdefault(canonicalize_name(package), []).append(record)
        except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as problem:
            raise CannotJudge(f"{file}: not a zip of OSV records ({type(problem).__name__})") from None
        if newest[:10] < (datetime.now(UTC) - OLDEST).date().isoformat():
            raise CannotJudge(f"{file}: the newest advisory is of {newest[:10] or 'no day'}; fetch the file anew")
        self.newest = newest[:10]

    def on(self, package: str, version: str) -> list[Advisory]:
        """The advisories that hold for this version."""
        return [
            record
            for record in self._of.get(canonicalize_name(package), ())
            if "withdrawn" not in record
            and any(
                canonicalize_name(part["package"]["name"]) == canonicalize_name(package) and affects(part, version)
                for part in record["affected"]
            )
        ]


def affects(part: Advisory, version: str) -> bool:
    """Whether one "affected" entry of an OSV record holds for a version."""
    if version in part.get("versions", ()):
        return True
    for span in part.get("ranges", ()):
        within = False
        for event in span["events"] if span["type"] == "ECOSYSTEM" else ():
            ((kind, at),) = event.items()
            try:
                reached = at == "0" or Version(version) >= Version(at)
                passed = reached and Version(version) != Version(at)
            except InvalidVersion:
                return True  # told too often rather than not at all
            within = reached if kind == "introduced" and reached else within
            within = within and not (reached if kind == "fixed" else passed if kind == "last_affected" else False)
        if within:
            return True
    return False


@contextmanager
def served(advisories: Advisories) -> Iterator[list[str]]:
    """A server on this machine that answers as api.osv.dev does; gives pip-audit's options for it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = advisories.on(asked["package"]["name"], asked["version"])
            body = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: each package would be a line."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield ["--vulnerability-service", "osv", "--osv-url", f"http://127.0.0.1:{server.server_port}/v1/query"]
    finally:
        server.shutdown()
        server.server_close()


def asked(requirements: Path, options: list[str]) -> list[dict[str, Any]]:
    """What pip-audit says of each package. Raises CannotJudge when it cannot say it of one."""
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--no-deps", "--disable-pip",
             "--format", "json", "--progress-spinner", "off", "--cache-dir", cache, *options],
            capture_output=True, text=True,
        )  # fmt: skip
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        raise CannotJudge(f"pip-audit failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}") from None
    for package in packages:
        if "skip_reason" in package:
            raise CannotJudge(f"pip-audit left out {package['name']}: {package['skip_reason']}")
    return packages


def audit(lock: Path, options: list[str]) -> int:
    """Print what is known of the packages of a lock file. Raises CannotJudge."""
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary.txt"
        canary.write_text("==".join(CANARY) + "\n")
        (package,) = asked(canary, options)
    if not package["vulns"]:
        raise CannotJudge(f"{' '.join(CANARY)} is known to be vulnerable, and pip-audit has nothing against it")
    packages = asked(lock, options)
    for found in packages:
        for known in found["vulns"]:
            fixed = ", ".join(known["fix_versions"]) or "no version yet"
            print(
                f"{found['name']} {found['version']}: {known['id']} ({', '.join(known['aliases'])}), fixed in {fixed}"
            )
    count = sum(len(found["vulns"]) for found in packages)
    print(f"{count} known vulnerabilities in {len(packages)} packages; the canary {' '.join(CANARY)} was seen")
    return VULNERABLE if count else NONE_KNOWN


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--advisories", type=Path, help="OSV's export of PyPI (all.zip), instead of a service")
    parser.add_argument("--lock", type=Path, default=LOCK)
    chosen = parser.parse_args(arguments)
    try:
        advisories = Advisories(chosen.advisories) if chosen.advisories else None
        if advisories is not None:
            print(f"advisories of {chosen.advisories}, the newest of {advisories.newest}")
        with served(advisories) if advisories is not None else nullcontext([]) as options:
            return audit(chosen.lock, options)
    except CannotJudge as reason:
        print(f"THE AUDIT CANNOT JUDGE, this is no pass: {reason}", file=sys.stderr)
        return CANNOT_JUDGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
