"""The built wheel in a fresh environment, outside the checkout: it starts and gives one card."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest
import requests

ROOT = Path(__file__).parents[1]
# An egg-info left by an editable install lists files that setup.cfg may no longer name, and setuptools packs them.
LEFT_BEHIND = shutil.ignore_patterns("*.egg-info", "build", "dist", ".*", "node_modules", "__pycache__", "*.sqlite3*")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel, built as from a fresh clone, in its own environment; the checkout is out of reach."""
    folder = tmp_path_factory.mktemp("elsewhere")
    source = shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "clone", ignore=LEFT_BEHIND)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder / "dist"), str(source)],
        env=environment(), check=True, capture_output=True,
    )  # fmt: skip
    venv.create(folder / "venv", with_pip=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    subprocess.run(
        [str(folder / "venv/bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)],
        env=environment(), check=True, capture_output=True,
    )  # fmt: skip
    return folder


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CDS_", "PYTHON"))}
    return kept


def test_the_wheel_explains_a_sample(installed: Path) -> None:
    where = "import fixtures, pathlib; print(pathlib.Path(fixtures.__file__).parent)"
    python = str(installed / "venv/bin/python")
    folder = subprocess.run([python, "-c", where], cwd=installed, env=environment(), capture_output=True, text=True)
    sample = Path(folder.stdout.strip()) / "clustered-awake-jerks.json"
    assert installed in sample.parents
    done = subprocess.run(
        [str(installed / "venv/bin/cds-service"), "explain", str(sample), "--json"],
        cwd=installed, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    cards = json.loads(done.stdout)["response"]["cards"]
    assert (cards[0]["source"]["topic"]["code"], cards[0]["indicator"]) == ("eeg", "critical")


def test_the_wheel_checks_its_own_pack(installed: Path) -> None:
    done = subprocess.run(
        [str(installed / "venv/bin/cds-service"), "check"],
        cwd=installed,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert " rules, " in done.stdout


def test_the_wheel_brings_its_migrations(installed: Path) -> None:
    variables = environment() | {"CDS_DATABASE_URL": f"sqlite:///{installed}/migrated.sqlite3"}
    for command in ("upgrade", "check"):
        done = subprocess.run(
            [str(installed / "venv/bin/cds-service"), "db", command],
            cwd=installed, env=variables, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_the_wheel_serves_a_card(installed: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [str(installed / "venv/bin/cds-service"), "serve", "--port", str(port)],
        cwd=installed, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        base = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 30
        while True:
            try:
                if requests.get(f"{base}/readyz", timeout=5).json()["status"] == "ready":
                    break
            except requests.ConnectionError:
                pass
            assert time.monotonic() < deadline, "the service did not get ready"
            time.sleep(0.05)
        (service,) = requests.get(f"{base}/cds-services", timeout=5).json()["services"]
        body = (ROOT / "fixtures" / "jittery-newborn.json").read_bytes()
        answer = requests.post(
            f"{base}/cds-services/{service['id']}", data=body, headers={"Content-Type": "application/json"}, timeout=5
        )
        (card,) = answer.json()["cards"]
        assert card["source"]["topic"]["code"] == "reassurance"
        page = requests.get(card["links"][0]["url"], timeout=5)
        assert page.status_code == 200
        assert "MYO-08" in page.text
        printed = ""
        while "Stop with Ctrl-C" not in printed:
            line = server.stdout.readline() if server.stdout else ""
            assert line, "the sample answer was never shown"
            printed += line
        assert f"{base}/cds-services" in printed
        assert "Urgent EEG to consider" in printed
    finally:
        server.terminate()
        server.communicate(timeout=15)
