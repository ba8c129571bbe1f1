"""When something of ours breaks: the other cards still come, operators see it, and nothing of the patient leaks."""

from __future__ import annotations

import io
import json
import threading
from functools import partial

import msgspec
import pytest
import structlog
from infants import observation, request
from sqlalchemy import create_engine, select
from wire import post, report, sample, walk

from cds_service import app as app_module
from cds_service.app import create_app
from cds_service.hooks.request import AS_OF
from cds_service.rules.library import load_library
from cds_service.rules.sentences import compile_sentence
from cds_service.settings import Settings
from cds_service.store import decisions as store
from cds_service.store.schema import decisions
from cds_service.web import framing, hooks_api, logs

SECRET = "CANARY-SECRET"  # noqa: S105


class Running:
    """An app with its client and its database; ``library`` may be broken."""

    def __init__(self, url, library=None, queue=10_000):
        self.app = create_app(Settings(database_url=url, decision_queue=queue), library)
        self.client = self.app.test_client()
        self.post = partial(post, self.client)
        self.log = self.app.extensions["decision_log"]

    def ready(self):
        answer = self.client.get("/readyz")
        return answer.status_code, answer.get_json()["problems"]

    def metrics(self):
        return self.client.get("/metrics").get_data(as_text=True)


@pytest.fixture
def database(tmp_path):
    return f"sqlite:///{tmp_path}/decisions.sqlite3"


@pytest.fixture
def start(database):
    started = []

    def run(url=database, **how):
        started.append(Running(url, **how))
        return started[-1]

    yield run
    for running in started:
        running.log.close()


def rows(url):
    engine = create_engine(url)
    with engine.connect() as connection:
        found = [dict(row._mapping) for row in connection.execute(select(decisions).order_by("id"))]
    engine.dispose()
    return found


def broken(rule_id, *names, tell=False):
    """A library in which these criteria of one rule, or what it would tell, raise with a secret in the message."""

    def raises(record):
        raise ZeroDivisionError(f"{SECRET} {record.facts}")

    library = load_library()
    rules = []
    for rule in library.rules:
        if rule.id == rule_id:
            criteria = dict(rule.criteria)
            for name in names:
                criteria[name] = msgspec.structs.replace(criteria[name], ask=raises, sentence=None, holds=None)
            rule = msgspec.structs.replace(
                rule, criteria=criteria,
                applies=compile_sentence(rule.recommend_when, criteria.__getitem__),
                excluded=None if rule.unless is None else compile_sentence(rule.unless, criteria.__getitem__),
                tell=tuple(item._replace(ask=raises) for item in rule.tell) if tell else rule.tell,
            )  # fmt: skip
        rules.append(rule)
    library.rules = tuple(rules)
    return library


def cards(answer):
    return {card["source"]["topic"]["code"]: card["indicator"] for card in answer.get_json()["cards"]}


CLONUS = request(observation("ankle_clonus", "2026-11-20", ("laterality", "bilateral")), observation("hyperreflexia"))
TREMOR = request(observation("tremor", "2026-11-20"))
STIFF_JERK = request(observation("muscle_spasm", "2026-11-20", ("pattern", "flexion-stiffening")))
CLUSTER = request(observation("myoclonus", "2026-11-20", ("frequency", "clustered")))


def test_a_rule_that_raises_does_not_silence_the_others(start):
    service = start(library=broken("clonus-persistent-or-bilateral", "notable_clonus"))
    answer = service.post(CLONUS)
    reasons = {item["rule"]: item.get("reason") for item in report(answer.get_json())["notEvaluated"]}
    assert cards(answer) == {"imaging": "warning", "referrals": "warning"}
    assert reasons["clonus-persistent-or-bilateral"] == "internal-error"
    assert not [word for word in ("ZeroDivision", SECRET, "Traceback", "Facts") if word in answer.text]


def test_a_rule_that_raises_is_counted_and_named_to_operators(start):
    service = start(library=broken("clonus-persistent-or-bilateral", "notable_clonus"))
    assert "cds_rule_errors_total{" not in service.metrics()
    service.post(CLONUS)
    service.post(CLONUS)
    status, (probe, problem) = service.ready()
    assert status == 503
    assert probe == "rule clonus-persistent-or-bilateral: does not speak on its probe infant (internal-error)"
    assert problem == "rule clonus-persistent-or-bilateral: raised 2 times since start"
    assert 'cds_rule_errors_total{rule="clonus-persistent-or-bilateral"} 2.0' in service.metrics()
    assert SECRET not in problem + service.metrics()


def test_no_reassurance_is_given_while_a_rule_raises(start):
    assert cards(start().post(TREMOR)) == {"reassurance": "info"}
    service = start(library=broken("tremor-persistent-severe-or-frequent", "marked_movement"))
    assert cards(service.post(TREMOR)) == {}
    elsewhere = start(library=broken("mild-tremor-first-year-reassurance", "first_year"))
    assert cards(elsewhere.post(TREMOR)) == {}


@pytest.mark.parametrize(("rule", "names", "tell", "body"), [
    ("jerk-with-stiffening-or-flexion", ("stiffness",), False, STIFF_JERK),
    ("clustered-awake-jerks", (), True, CLUSTER),
])  # fmt: skip
def test_a_criterion_that_raises_only_when_the_card_is_written_does_not_fail_the_call(start, rule, names, tell, body):
    assert len(cards(start().post(body))) == 2
    service = start(library=broken(rule, *names, tell=tell))
    answer = service.post(body)
    assert answer.status_code == 200
    assert SECRET not in answer.text
    assert rule in {item["rule"] for item in report(answer.get_json()).get("notEvaluated", [])}
    assert rule in " ".join(service.ready()[1])


@pytest.fixture
def written(monkeypatch):
    """What the log lines say."""
    lines = io.StringIO()
    printed = structlog.wrap_logger(structlog.PrintLogger(lines), processors=logs.logger._processors)
    for module in (app_module, framing):
        monkeypatch.setattr(module, "logger", printed)
    return lines


def test_a_defect_anywhere_gives_500_without_internals(start, monkeypatch, written, caplog, capfd):
    def fails(*_):
        raise RuntimeError(SECRET)

    service = start()
    with monkeypatch.context() as patch:
        patch.setattr(hooks_api, "respond", fails)
        answer = service.post(CLONUS, headers={"X-Request-Id": "call-1"})
    issue = answer.get_json()["issue"][0]
    assert answer.status_code == 500
    assert (issue["severity"], issue["details"]["coding"][0]["code"]) == ("fatal", "internal")
    text = answer.text + written.getvalue() + caplog.text + "".join(capfd.readouterr())
    assert not [word for word in (SECRET, "Traceback", "raise ") if word in text]
    assert ("call-1" in issue["diagnostics"], "RuntimeError" in answer.text) == (True, False)
    first, second = map(json.loads, written.getvalue().splitlines())
    assert (first["event"], first["kind"], first["request_id"]) == ("defect", "RuntimeError", "call-1")
    assert (second["status"], second["code"]) == (500, "internal")
    assert 'cds_answers_total{code="internal",status="500"} 1.0' in service.metrics()
    assert service.post(CLONUS).status_code == 200


def test_a_defect_after_the_answer_was_made_gives_500_and_no_traceback(start, written, caplog, capfd):
    def fails(_):
        raise RuntimeError(SECRET)

    service = start()
    service.app.after_request(fails)
    answer = service.client.get("/healthz")
    assert (answer.status_code, answer.get_json()["issue"][0]["details"]["coding"][0]["code"]) == (500, "internal")
    text = answer.text + written.getvalue() + caplog.text + "".join(capfd.readouterr())
    assert not [word for word in (SECRET, "Traceback", "raise ") if word in text]
    assert '"event": "defect", ' in written.getvalue()
    assert '"kind": "RuntimeError"' in written.getvalue()


def test_a_decision_is_kept_without_patient_and_close_writes_what_waits(start, database):
    service = start()
    body = sample("low-glucose-mg")
    answer = service.post(body, headers={"X-Request-Id": "call-9"})
    service.log.close()
    (row,) = rows(database)
    assert (row["request_id"], row["hook_instance"]) == ("call-9", body["hookInstance"])
    assert row["as_of"] == "2026-11-22T23:59:59Z"
    assert row["rule_set_hash"] == report(answer.get_json())["ruleSet"]["hash"]
    assert json.loads(row["card_uuids"]) == [card["uuid"] for card in answer.get_json()["cards"]]
    assert json.loads(row["outcomes"])["low-glucose-with-movement"] == "recommended"
    assert json.loads(row["inputs"]) == report(answer.get_json())["inputs"]
    assert not [text for text in names_in(body) if text in json.dumps(row)]
    service.post(body)
    service.log.close()
    assert len(rows(database)) == 2


def names_in(body):
    """The texts of a request by which a patient could be known."""
    patient, ids = body["prefetch"]["patient"], [item["id"] for item in walk(body["prefetch"]) if "id" in item]
    return [patient["birthDate"], patient["name"][0]["family"], body["context"]["userId"], *(f"/{i}" for i in ids)]


def test_a_refused_request_is_no_decision(start, database):
    service = start()
    assert service.post(sample("wrong-patient")).status_code == 400
    service.log.close()
    assert rows(database) == []


@pytest.mark.parametrize(("url", "kind"), [
    ("sqlite:////nowhere/at/all/decisions.sqlite3", "FileNotFoundError"),
    ("sqlite:////proc/decisions.sqlite3", "FileNotFoundError"),
    ("no url at all", "ArgumentError"),
    ("no-such-driver://host/name", "ArgumentError"),
])  # fmt: skip
def test_without_a_database_the_cards_come_and_the_loss_is_reported(start, url, kind):
    service = start(url=url)
    assert service.ready() == (503, [f"store: it cannot be written ({kind})"])
    assert len(cards(service.post(CLONUS))) == 2
    service.log.close()
    assert service.log.dropped == 1
    assert (service.ready()[0], service.ready()[1][-1]) == (503, "decision log: 1 decisions were not written")
    assert "cds_decisions_lost_total 1.0" in service.metrics()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_meets_an_unforeseen_error_reports_the_loss_and_lives_on(start, monkeypatch, database):
    def fails(*_):
        raise RuntimeError(SECRET)

    service = start()
    with monkeypatch.context() as patch:
        patch.setattr(store, "append", fails)
        assert service.post(CLONUS).status_code == 200
        service.log.close()
    assert service.ready() == (503, ["decision log: 1 decisions were not written"])
    service.post(CLONUS)
    service.log.close()
    assert len(rows(database)) == 1


def test_when_the_queue_is_full_the_cards_come_and_the_loss_is_counted(start, monkeypatch, database):
    opened, go, real = threading.Event(), threading.Event(), store.append

    def slow(*batch):
        opened.set()
        assert go.wait(30)
        real(*batch)

    monkeypatch.setattr(store, "append", slow)
    service = start(queue=1)
    service.post(CLONUS)
    assert opened.wait(30)
    assert [len(cards(service.post(CLONUS))) for _ in range(3)] == [2, 2, 2]
    assert service.ready() == (503, ["decision log: 2 decisions were not written"])
    go.set()
    service.log.close()
    assert len(rows(database)) == 2


KEPT = {"resourceType", "hook", "hookInstance", "system", "code", "status", "intent", "type", "mode", "class"}


def canaries(value, counter, key=""):
    """The request with every free text replaced: names, displays, ids, references, notes."""
    if isinstance(value, dict):
        return {name: part if name in KEPT else canaries(part, counter, name) for name, part in value.items()}
    if isinstance(value, list):
        return [canaries(part, counter, key) for part in value]
    if not isinstance(value, str) or key in ("extension", "birthDate", "unit") or value[:4].isdigit():
        return value
    counter.append(value)
    return f"{value.rsplit('/', 1)[0]}/CANARY-{len(counter)}" if "/" in value else f"CANARY-{len(counter)}"


def marked(name):
    """A sample full of canaries that is still one patient's, so that cards come."""
    marked = canaries(sample(name), []) | {"extension": sample(name)["extension"]}
    marked["context"]["patientId"] = marked["prefetch"]["patient"]["id"] = "CANARY-0"
    for part in walk(marked["prefetch"]):
        if "subject" in part:
            part["subject"] = {"reference": "Patient/CANARY-0", "display": "CANARY-99"}
    return marked


def test_nothing_of_the_patient_reaches_logs_metrics_errors_or_the_database(start, tmp_path, written, caplog, capfd):
    service = start()
    answer = service.post(marked("low-glucose-mg"))
    assert cards(answer) == cards(service.post(sample("low-glucose-mg"))) != {}
    assert b"Observation/CANARY" in answer.data
    good = marked("clonus-both-sides")
    errors = [service.post(json.dumps(good).encode()[:-3]), service.client.get("/rules/CANARY-1?CANARY-2=1")]
    for member, wrong in [
        ("hook", "CANARY-1"), ("fhirServer", "CANARY-1"), ("prefetch", {"CANARY-1": None}), ("context", "CANARY-1"),
        ("fhirAuthorization", {"access_token": "CANARY-1"}), ("extension", {AS_OF: "CANARY-1"}),
        ("prefetch", {**good["prefetch"], "patient": {"resourceType": "Patient", "id": "CANARY-1"}}),
    ]:  # fmt: skip
        errors.append(service.post(good | {member: wrong}))
    app_module.logger.info("answered", patient="CANARY-1", status=200)
    assert {error.status_code for error in errors} == {400, 404, 412}
    for error in errors:
        assert (error.get_json()["resourceType"], b"CANARY" in error.data) == ("OperationOutcome", False)
    service.log.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"low-glucose-with-movement" in kept
    assert b"CANARY" not in kept
    seen = written.getvalue() + service.metrics() + caplog.text + "".join(capfd.readouterr())
    assert seen.count('"event": "answered"') >= len(errors) + 2
    assert "CANARY" not in seen
