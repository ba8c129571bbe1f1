"""What the environment may say of the database and of where we are reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from cds_service.errors import SettingsError
from cds_service.settings import Settings, load_settings

GOOD = {"profile": "production", "public_url": "https://cds.example"}


@pytest.mark.parametrize("written", [
    "sqlite:///{}?timeout=5", "sqlite+pysqlite:///{}?cache=private&timeout=5",
    "sqlite:///file:{}?uri=true", "sqlite:///file://{}?mode=rwc&uri=true", "sqlite:///file://localhost{}?uri=true",
    "sqlite:///file:{}%2Esqlite3?uri=true",
])  # fmt: skip
@pytest.mark.parametrize("beside", ["", "-wal", "-shm"])
def test_a_database_file_that_anybody_may_read_is_refused_however_its_url_is_written(
    tmp_path: Path, written: str, beside: str
) -> None:
    plain = tmp_path / "own.sqlite3"
    url = written.format(plain.with_suffix("") if "%2E" in written else plain)
    file = Path(f"{plain}{beside}")
    file.touch(mode=0o600)
    load_settings(**GOOD, database_url=url)
    file.chmod(0o604)
    with pytest.raises(SettingsError, match=f"CDS_DATABASE_URL: {file} can be read by any user"):
        load_settings(**GOOD, database_url=url)


@pytest.mark.parametrize("url", ["no url: SECRET", "postgresql://user:SECRET@host:port/name"])
def test_what_is_no_database_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="CDS_DATABASE_URL: it is no URL of a database") as refused:
        load_settings(**GOOD, database_url=url)
    assert "SECRET" not in str(refused.value)


def test_no_text_of_the_settings_shows_a_password() -> None:
    settings = Settings(database_url="postgresql://cds:SECRET@db.example/cds", inputs_key="SECRET")
    for text in (repr(settings), str(settings), f"{settings}"):
        assert "SECRET" not in text


@pytest.mark.parametrize(("host", "found"), [
    ("127.0.0.1", "http://127.0.0.1:8123"), ("localhost", "http://localhost:8123"), ("::1", "http://[::1]:8123"),
])  # fmt: skip
def test_the_url_on_this_machine_has_brackets_around_an_ipv6_address(host: str, found: str) -> None:
    settings = load_settings(host=host, port=8123)
    assert (settings.local_url, settings.base_url) == (found, found)


def test_where_clients_reach_us_is_not_where_we_listen() -> None:
    settings = Settings(host="::1", port=8123, public_url="https://cds.example/")
    assert (settings.local_url, settings.base_url) == ("http://[::1]:8123", "https://cds.example")
