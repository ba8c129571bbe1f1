"""docs/deploy.md is run as it stands, in a folder that stands in for the file system's root."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from console_steps import console_steps
from databases import free_port, postgresql, programs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
LEFT_BEHIND = shutil.ignore_patterns("*.egg-info", "build", "dist", ".*", "node_modules", "__pycache__", "*.sqlite3*")
PLACES = ("/opt/cds-service", "/etc/cds-service", "/var/lib/cds-service")
SAID = "=== said ==="

__all__ = ["postgresql"]


def steps(section: str) -> list[tuple[str, list[str]]]:
    """The commands of a section's console blocks with the lines that each says."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return console_steps(text)


class Machine:
    """A folder in which the page's places are, and a port for the service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        for place in PLACES:
            self.at(place).mkdir(parents=True, mode=0o700)

    def at(self, place: str) -> Path:
        return self.folder / place.removeprefix("/")

    def here(self, text: str) -> str:
        """A command of the page with this machine's places and port."""
        text = re.sub("|".join(PLACES), lambda found: str(self.at(found[0])), text)
        return text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")

    def run(self, section: str, cwd: Path, before: str = "", **environment: str) -> None:
        """All commands of a section in one shell that ends at the first that fails; each says what the page says."""
        commands = steps(section)
        assert commands
        script = f"exec 2>&1\n{before}\n" + "".join(f"echo '{SAID}'\n{self.here(line)}\n" for line, _ in commands)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=cwd, env=clean_environment() | environment,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        for (command, lines), said in zip(commands, done.stdout.split(SAID)[1:], strict=True):
            for line in lines:
                assert line in said, f"{command}\n{said}"

    @contextmanager
    def started(self) -> Iterator[None]:
        """The service as its unit starts it: the same command, folder and environment file."""
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(ROOT / "docs/deploy/cds-service.service")
        written = self.at(unit["Service"]["EnvironmentFile"]).read_text(encoding="utf-8")
        variables = dict(line.split("=", 1) for line in written.splitlines() if line and not line.startswith("#"))
        served = subprocess.Popen(
            shlex.split(self.here(unit["Service"]["ExecStart"])), cwd=self.at(unit["Service"]["WorkingDirectory"]),
            env=clean_environment() | variables, umask=0o077, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            wait_for(f"http://127.0.0.1:{self.port}/healthz", served)
            yield
        finally:
            served.terminate()
            served.communicate(timeout=30)


def clean_environment() -> dict[str, str]:
    """Without settings of ours; python3 is the one that runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CDS_", "PYTHON", "PG"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "PIP_NO_COMPILE": "1"}  # compiled when imported: fifteen seconds less


def wait_for(url: str, served: subprocess.Popen[str]) -> None:
    """Until the service answers; fails with what it printed when it ends instead."""
    deadline = time.monotonic() + 60
    while True:
        try:
            assert requests.get(url, timeout=5).status_code == 200
            return
        except requests.ConnectionError:
            assert served.poll() is None, served.communicate()[0]
            assert time.monotonic() < deadline, "the service did not start"


def test_from_nothing_to_a_registered_client(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "root")
    source = shutil.copytree(ROOT, tmp_path / "clone", ignore=LEFT_BEHIND)
    machine.run("1. Install", source)
    file = machine.at("/etc/cds-service") / "cds.env"
    file.write_text(machine.here(file.read_text()).replace("CDS_PORT=8080", f"CDS_PORT={machine.port}"))
    machine.run("2. Database and first client", tmp_path)
    enter = f"set -a; . {file}; set +a; PATH={machine.at('/opt/cds-service')}/bin:$PATH"
    with machine.started():
        machine.run("3. Start", machine.at("/var/lib/cds-service"), enter)
    database = machine.at("/var/lib/cds-service") / "cds-service.sqlite3"
    assert database.stat().st_mode & 0o077 == 0


def test_postgresql_with_an_owner_and_a_service_that_cannot_change_its_log(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("postgresql")
    psql = programs()
    assert psql is not None
    owner = server.new_database().replace("+psycopg", "")
    service = owner.replace("//cds@", "//cds_service@")
    page = Machine(tmp_path / "root")
    page.here = lambda text: text.replace(  # type: ignore[method-assign]
        "postgresql://cds_owner@db.example/cds", owner
    ).replace("postgresql://cds_service:change-me@db.example/cds", service)
    page.run("PostgreSQL", ROOT, CDS_PROFILE="sandbox", PATH=f"{psql}:{clean_environment()['PATH']}")

    def refused(statement: str) -> str:
        done = subprocess.run(
            [str(psql / "psql"), "--no-psqlrc", "--command", statement, service],
            capture_output=True, text=True, env=clean_environment(),
        )  # fmt: skip
        return done.stderr

    for statement in (
        "UPDATE decisions SET hash = ''", "DELETE FROM decisions", "DELETE FROM feedback", "TRUNCATE chains",
        "DROP TABLE feedback", "CREATE TABLE theirs (id int)", "DELETE FROM clients",
        "INSERT INTO clients (id) VALUES ('x')",
    ):  # fmt: skip
        assert re.search("permission denied|must be owner", refused(statement)), statement
    assert refused("DELETE FROM seen_tokens") == ""


def test_the_page_of_the_store_grants_the_same() -> None:
    """Each GRANT that docs/store.md shows is in the file that is run."""
    shown = re.findall(r"^GRANT .*;$", (ROOT / "docs/store.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert shown
    assert set(shown) <= set((ROOT / "docs/deploy/grants.sql").read_text(encoding="utf-8").splitlines())


def test_commands_that_are_not_run_name_files_and_commands_that_exist() -> None:
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
    for name in re.findall(r"docs/deploy/[\w.*-]+", PAGE):
        assert list(ROOT.glob(name)), name
    for unit in re.findall(r"[\w-]+\.(?:timer|service)\b", blocks):
        assert list((ROOT / "docs/deploy").glob(unit)), unit
    for name in re.findall(r"cp (\S+\.example)", blocks):
        assert (ROOT / "docs/deploy" / name).exists(), name
