"""``cds-service`` with stubs for what no request can cause: names that are slow to look up, and defects of ours.

`python tests/stubbed_worker.py serve` serves as `cds-service serve` does, but for the names below SLOW, for the rule
BROKEN, and for requests of the encounter DEFECT. What is raised has the whole record, or request, in its message.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from granian import Granian

from cds_service.cli import main

if TYPE_CHECKING:  # what the worker alone needs: this process imports no more than `cds-service` does
    from cds_service.rules.library import RuleLibrary
    from cds_service.web.front import Front

PROGRAM = (str(Path(__file__).resolve()),)
SLOW = ".slow.example"
LOOKUP_SECONDS = 5.0
BROKEN = "clonus-persistent-or-bilateral"
DEFECT = "defect"


def worker_app() -> Front:
    """The worker's application, stubbed."""
    from cds_service import app
    from cds_service.web import hooks_api

    look, respond = socket.getaddrinfo, hooks_api.respond

    def slow(host: Any, *arguments: Any, **how: Any) -> Any:
        if str(host).endswith(SLOW):
            time.sleep(LOOKUP_SECONDS)
            raise OSError(f"{host} is not known")
        return look(host, *arguments, **how)

    def defective(request: Any, *arguments: Any) -> Any:
        if request.encounter_id == DEFECT:
            raise RuntimeError(f"{request}")
        return respond(request, *arguments)

    socket.getaddrinfo = slow
    hooks_api.respond = defective
    app.load_library = with_a_broken_rule
    return app.worker_app()


def with_a_broken_rule(**how: Any) -> RuleLibrary:
    """The library, in which every criterion of the rule BROKEN raises."""

    from cds_service.rules.library import load_library

    def raises(record: Any) -> Any:
        raise ZeroDivisionError(f"{record.facts}")

    library = load_library(**how)
    broken = next(rule for rule in library.rules if rule.id == BROKEN)
    criteria = {name: msgspec.structs.replace(one, ask=raises, sentence=None) for name, one in broken.criteria.items()}
    rules = (msgspec.structs.replace(r, criteria=criteria) if r is broken else r for r in library.rules)
    library.rules = tuple(rules)
    return library


def with_our_worker(server: Granian, _: str, **how: Any) -> None:
    """The server that serve.py makes, with our worker in place of its own."""
    make(server, "stubbed_worker:worker_app", **how)


if __name__ == "__main__":
    make = Granian.__init__
    Granian.__init__ = with_our_worker  # type: ignore[method-assign, assignment]
    main()
