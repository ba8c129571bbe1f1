"""Dockerfile, compose file and systemd units: linted, held against our rules, and what can be tried without them is.

No container engine and no systemd run where the tests run. docs/deploy.md says so.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from databases import free_port
from lacking import lacking
from test_deploy_page import clean_environment, wait_for

from cds_service.settings import Settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "docs/deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
UNITS = ("cds-service.service", "cds-service-prune.service", "cds-service-prune.timer")
DCLINT = ROOT / "tests/deployment/node_modules/.bin/dclint"
AS_NOBODY = ("setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", "--bounding-set=-all", "--no-new-privs")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)


def test_hadolint_finds_nothing_in_the_dockerfile(tmp_path: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = run(hadolint, "--failure-threshold", "style", DEPLOY / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")
    (tmp_path / "Dockerfile").write_text("FROM python:latest\nRUN sudo apt-get install curl\n")
    assert run(hadolint, tmp_path / "Dockerfile").returncode == 1


def test_the_compose_file_meets_the_schema(tmp_path: Path) -> None:
    done = run("node", DCLINT, "--quiet", DEPLOY / "compose.yaml")
    assert done.returncode == 0, done.stdout
    (tmp_path / "compose.yaml").write_text("services: {x: {image: 'a:1', cap_dorp: [ALL]}}")
    assert run("node", DCLINT, "--quiet", tmp_path / "compose.yaml").returncode == 1


def test_the_image_installs_by_hash_and_runs_as_nobody() -> None:
    installs = re.findall(r"pip install .*", DOCKERFILE)
    assert len(installs) == 3
    for line in installs:
        assert "--require-hashes --only-binary :all:" in line or "--no-deps --no-index" in line, line
    last = DOCKERFILE.split("\nFROM ")[-1]
    assert re.search(r"^USER 10001:10001$", last, re.M)
    assert "pip" not in last
    assert not re.search(r"\b(curl|wget|apt-get|ADD)\b", DOCKERFILE)
    assert re.search(r'CMD \["python", "-c", "import urllib\.request; .*/healthz', last)


def test_what_is_copied_into_the_image_is_let_through_and_little_else() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M)
    assert {name for names in copied for name in names.split()} == set(allowed)
    assert all((ROOT / name).exists() for name in allowed)
    refused = [line for line in lines[1:] if not line.startswith(("!", "#", "*"))]
    assert refused == []
    for secret in ("docs/deploy/owner.env", ".git/config", "cds-service.sqlite3", "docs/deploy/tls/key.pem"):
        assert not any(fnmatch.fnmatch(secret, name) or secret.startswith(f"{name}/") for name in allowed), secret


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_each_container_can_change_nothing_but_its_data(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "logging"} <= set(service)
    assert not set(service) & {"privileged", "network_mode", "pid", "ipc", "devices"}
    assert "docker.sock" not in str(service)
    assert not service["image"].endswith((":latest", "/latest"))
    assert ":" in service["image"]
    ours = service["image"].startswith("cds-service:") or "unprivileged" in service["image"]
    assert ours or service["user"] == "999:999"
    writable = [volume for volume in service.get("volumes", []) if not volume.endswith(":ro")]
    assert writable == (["data:/var/lib/postgresql/data"] if name == "database" else [])


def test_only_the_proxy_is_reached_and_the_database_reaches_nothing() -> None:
    services = COMPOSE["services"]
    assert [name for name in services if "ports" in services[name]] == ["proxy"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert services["database"]["networks"] == ["inside"]
    assert "inside" not in services["proxy"]["networks"]
    subnet = COMPOSE["networks"]["outside"]["ipam"]["config"][0]["subnet"]
    assert services["cds-service"]["environment"]["CDS_PROXIES"] == subnet


def test_no_secret_is_written_down() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert not re.search(r"(?i)password\s*[:=]\s*(?!/run/secrets)\S", text.replace("owner_password", ""))
    for name in re.findall(r"env_file: \[(\S+)\]", text):
        assert (DEPLOY / f"{name}.example").exists()


@pytest.mark.parametrize("name", ["cds.env.example", "owner.env.example"])
def test_the_example_environments_name_settings_that_exist(name: str) -> None:
    lines = (DEPLOY / name).read_text(encoding="utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    known = {f"CDS_{field.upper()}" for field in Settings.model_fields} | {"CDS_SERVICE_PASSWORD"}
    assert {key for key in given if key.startswith("CDS_")} <= known
    assert {"CDS_PUBLIC_URL", "CDS_DATABASE_URL"} <= set(given)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with a program that exists here in place of the installed one."""
    if shutil.which("systemd-analyze") is None:
        lacking("systemd is not installed: apt-get install systemd")
    for name in UNITS:
        text = (DEPLOY / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("/opt/cds-service/bin/cds-service", "/bin/true"))
    return tmp_path


@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_every_line(name: str, units: Path) -> None:
    done = run("systemd-analyze", "verify", "--man=no", units / name)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_line_that_systemd_does_not_know_would_be_told(units: Path) -> None:
    unit = units / "cds-service.service"
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHoem="))
    assert "Unknown key 'ProtectHoem'" in run("systemd-analyze", "verify", "--man=no", unit).stderr


@pytest.mark.parametrize("name", [name for name in UNITS if name.endswith(".service")])
def test_systemd_counts_little_exposure(name: str, units: Path) -> None:
    """Of 10; what is left is that the service speaks to networks."""
    done = run("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", units / name)
    assert done.returncode == 0, done.stdout
    exposure = re.search(r"exposure level for \S+: (\d\.\d)", done.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= 2.0


def opened(place: str) -> str:
    """Commands that let nobody reach Python and the project where their top folder (/root) is closed to others."""
    needed = sorted({sys.base_prefix, sys.prefix, str(ROOT)})
    closed = {f"/{path.split('/')[1]}" for path in needed if not Path(f"/{path.split('/')[1]}").stat().st_mode & 1}
    kept = [path for path in needed if path.startswith(tuple(f"{top}/" for top in closed))]
    commands = [f"mkdir {place}/{n} && mount --rbind {path} {place}/{n}" for n, path in enumerate(kept)]
    commands += [f"mount -t tmpfs -o mode=755 none {top}" for top in closed]
    commands += [f"mkdir -p {path} && mount --rbind {place}/{n} {path}" for n, path in enumerate(kept)]
    return "".join(f"{command} && " for command in commands)


def test_it_serves_as_nobody_on_a_read_only_root_and_without_executable_memory() -> None:
    """What the image and the unit ask for, had here from the kernel: mounts, user, capabilities, MDWE."""
    if os.geteuid() != 0 or run("unshare", "--mount", "true").returncode != 0:
        lacking("needs root and mount namespaces")
    place = "/srv"  # hidden by a file system in memory, for this process alone
    port = free_port()
    variables = {"CDS_PORT": str(port), "CDS_DATABASE_URL": f"sqlite:///{place}/s.sqlite3", "PYTHONPATH": str(ROOT)}
    stricter = (
        "import ctypes, os, sys\n"
        "assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0, 'this kernel knows no PR_SET_MDWE'\n"
        "try: open('/var/written', 'w')\n"
        "except OSError as refused: assert refused.errno == 30, refused\n"
        "else: raise SystemExit('the root can be written')\n"
        "os.chdir(os.environ['PLACE'])\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'cds_service.cli', 'serve', '--quiet'])\n"
    )
    mounts = f"mount --make-rprivate / && mount -t tmpfs -o mode=1777 none {place} && {opened(place)}"
    mounts += 'mount -o bind,remount,ro / && exec "$@"'
    served = subprocess.Popen(
        ["unshare", "--mount", "sh", "-euc", mounts, "sh", *AS_NOBODY, sys.executable, "-c", stricter],
        env=clean_environment() | variables | {"PLACE": str(place), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/healthz", served)
        status = Path(f"/proc/{served.pid}/status").read_text()
        assert re.search(r"^Uid:\s+10001\s+10001", status, re.M)
        assert re.search(r"^CapBnd:\s+0+$", status, re.M)
        body = (ROOT / "fixtures/clustered-awake-jerks.json").read_bytes()
        answer = requests.post(
            f"http://127.0.0.1:{port}/cds-services/infant-motor-workup",
            data=body, headers={"Content-Type": "application/json"}, timeout=10,
        )  # fmt: skip
        assert answer.json()["cards"]
    finally:
        served.terminate()
        served.communicate(timeout=30)
