"""The first sample answer: what is asked of a service that has just started, and for how long."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from cds_service import serve
from cds_service.errors import InputError
from cds_service.settings import Settings
from cds_service.trust.outbound import Answer


class Service:
    """What stands where the service would, and a clock that goes on by a second with each question."""

    def __init__(self, answers: Iterator[int | None]) -> None:
        self.answers, self.asked, self.moment = answers, list[str](), 0.0

    def call(self, method: str, url: str, body: bytes | None = None, headers: object = None) -> Answer:
        self.asked.append(url)
        self.moment += 1
        status = next(self.answers)
        if status is None:
            raise InputError("nobody answers")
        return Answer(status, b'{"cards": [{"indicator": "info", "summary": "FIRST", "detail": "x"}]}')


def shown(service: Service, monkeypatch: pytest.MonkeyPatch, host: str = "127.0.0.1") -> str:
    monkeypatch.setattr(serve, "call_loopback", service.call)
    monkeypatch.setattr(serve, "PAUSE", 0.0)
    monkeypatch.setattr(serve, "monotonic", lambda: service.moment)
    out = Console(file=io.StringIO(), width=200)
    serve._show_first_answer(Settings(host=host, port=8123), out)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


@pytest.mark.parametrize("status", [None, 404, 500, 503])
def test_a_service_that_does_not_get_well_is_asked_for_twenty_seconds(
    status: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(iter([status] * 100))
    assert shown(service, monkeypatch) == ""
    assert len(service.asked) == serve.PATIENCE + 1


def test_the_sample_is_answered_as_soon_as_the_service_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(iter([None, 503, 200, 200]))
    assert "[info] FIRST" in shown(service, monkeypatch, "::1")
    assert set(service.asked[:3]) == {"http://[::1]:8123/healthz"}
    assert service.asked[3:] == ["http://[::1]:8123/cds-services/infant-motor-workup"]
