"""The audit of the lock file: it tells the vulnerable from the sound, and says so when it cannot."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from audit import CANNOT_JUDGE, NONE_KNOWN, VULNERABLE, affects, main
from supply_chain import pins

NOW = datetime.now(UTC).isoformat()


def advisory(name: str, package: str, *events: dict[str, str], modified: str = NOW) -> dict[str, Any]:
    span = {"type": "ECOSYSTEM", "events": list(events)}
    affected = {"package": {"ecosystem": "PyPI", "name": package}, "ranges": [span]}
    return {"id": name, "modified": modified, "summary": "", "details": "", "affected": [affected]}


# As published: GHSA-ffqj-6fqr-9h24 is CVE-2022-29217.
PYJWT = advisory("GHSA-ffqj-6fqr-9h24", "pyjwt", {"introduced": "1.5.0"}, {"fixed": "2.4.0"})


def export(folder: Path, *records: dict[str, Any]) -> str:
    file = folder / "all.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for record in records:
            archive.writestr(f"{record['id']}.json", json.dumps(record))
    return str(file)


def test_the_lock_file_is_sound_where_the_canary_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--advisories", export(tmp_path, PYJWT)]) == NONE_KNOWN
    assert (
        f"0 known vulnerabilities in {len(pins())} packages; the canary pyjwt 2.3.0 was seen" in capsys.readouterr().out
    )


def test_a_vulnerable_pin_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = advisory("GHSA-made-up-one", "flask", {"introduced": "0"}, {"fixed": "99.0"})
    assert main(["--advisories", export(tmp_path, PYJWT, ours)]) == VULNERABLE
    assert f"flask {pins()['flask']}: GHSA-made-up-one (), fixed in 99.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        pytest.param([advisory("GHSA-other", "django", {"introduced": "0"})], "nothing against it", id="no canary"),
        pytest.param([{**PYJWT, "withdrawn": NOW}], "nothing against it", id="canary withdrawn"),
        pytest.param([{**PYJWT, "modified": "2026-01-01T00:00:00Z"}], "fetch the file anew", id="old"),
        pytest.param([], "fetch the file anew", id="empty"),
    ],
)
def test_without_good_advisories_it_does_not_pass(
    records: list[dict[str, Any]], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--advisories", export(tmp_path, *records)]) == CANNOT_JUDGE
    said = capsys.readouterr()
    assert "THE AUDIT CANNOT JUDGE, this is no pass" in said.err
    assert reason in said.err
    assert "0 known" not in said.out


def test_a_file_that_is_no_export_is_no_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "all.zip").write_text("not found")
    assert main(["--advisories", str(tmp_path / "all.zip")]) == CANNOT_JUDGE
    assert "not a zip of OSV records" in capsys.readouterr().err


def test_an_index_without_advisories_is_no_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a mirror: pip-audit itself then ends with 0 and finds nothing in anything."""
    monkeypatch.setattr("audit.asked", lambda *_: [{"name": "pyjwt", "version": "2.3.0", "vulns": []}])
    assert main([]) == CANNOT_JUDGE
    assert "pip-audit has nothing against it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "events", "expected"),
    [
        ("1.4.9", [{"introduced": "1.5.0"}, {"fixed": "2.4.0"}], False),
        ("1.5.0", [{"introduced": "1.5.0"}, {"fixed": "2.4.0"}], True),
        ("2.10.0", [{"introduced": "2.9"}, {"fixed": "2.11"}], True),
        ("2.4.0", [{"introduced": "1.5.0"}, {"fixed": "2.4.0"}], False),
        ("3.1", [{"introduced": "0"}, {"fixed": "2"}, {"introduced": "3"}, {"fixed": "4"}], True),
        ("2.5", [{"introduced": "0"}, {"fixed": "2"}, {"introduced": "3"}, {"fixed": "4"}], False),
        ("2.0", [{"introduced": "0"}, {"last_affected": "2.0"}], True),
        ("2.1", [{"introduced": "0"}, {"last_affected": "2.0"}], False),
        ("9", [{"introduced": "0"}], True),
        ("1", [{"introduced": "0"}, {"fixed": "odd!"}], True),
    ],
)
def test_versions_within_a_range(version: str, events: list[dict[str, str]], expected: bool) -> None:
    assert affects({"ranges": [{"type": "ECOSYSTEM", "events": events}]}, version) is expected


def test_versions_of_a_list() -> None:
    assert affects({"versions": ["1.0", "1.1"]}, "1.1")
    assert not affects({"versions": ["1.0", "1.1"]}, "1.2")
