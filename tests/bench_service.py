"""`make bench`: what a decision costs, as a ratio to a floor measured in the same run on the same server.

The floor is the same application on the same server, with the same framing of answers and logs, whose one
handler parses the same bytes with orjson and answers {"cards":[]}. Figures: docs/performance.md.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import orjson
from flask import Response, request

from cds_service.app import worker_app
from cds_service.store.database import Database
from cds_service.store.schema_version import upgrade
from cds_service.web.front import Front

PATH = "/cds-services/infant-motor-workup"
SIZES = {6: 1500, 100: 1600, 500: 250, 1000: 120, 2000: 60}
ROUNDS = 5
# What most charts are (nothing to say), and what few are (two urgent cards, each with text, reasons and order).
CHARTS = {"silent": "nothing-to-say", "urgent": "clustered-awake-jerks"}
LIMITS = {("silent", 100): 2.0, ("silent", 500): 2.0, ("urgent", 100): 3.0, ("urgent", 500): 2.5}
COLD_START_SECONDS = 2.0
WORKER_MEGABYTES = 125.0


def floor_app() -> Front:
    """The service with its decision taken out."""
    front = worker_app()

    def parse_only(service_id: str) -> Response:
        orjson.loads(request.stream.read())
        return Response(orjson.dumps({"cards": []}), content_type="application/json; charset=utf-8")

    front.application.view_functions["hooks.call"] = parse_only
    return front


def body_of(resources: int, sample_name: str = "clustered-awake-jerks") -> bytes:
    """A request with so many resources: the clustered jerks of the sample and background measurements."""
    sample = json.loads((Path(__file__).parents[1] / "fixtures" / f"{sample_name}.json").read_text())
    patient = sample["context"]["patientId"]
    entries = sample["prefetch"]["observations"]["entry"]
    present = 1 + sum(len(v.get("entry", [])) for v in sample["prefetch"].values() if v["resourceType"] == "Bundle")
    for number in range(max(0, resources - present)):
        kind = number % 4
        code, display, unit, value = (
            ("29463-7", "Body weight", "kg", 3.5), ("8302-2", "Body height", "cm", 55.0),
            ("8867-4", "Heart rate", "/min", 130.0), ("9843-4", "Head occipital-frontal circumference", "cm", 38.0),
        )[kind]  # fmt: skip
        entries.append({"fullUrl": f"https://ehr.example/fhir/Observation/bg{number}", "resource": {
            "resourceType": "Observation", "id": f"bg{number}", "status": "final",
            "meta": {"versionId": "1", "lastUpdated": "2026-11-20T10:00:00.000+00:00"},
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category",
                                      "code": "vital-signs", "display": "Vital Signs"}]}],
            "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": display}], "text": display},
            "subject": {"reference": f"Patient/{patient}"},
            "encounter": {"reference": f"Encounter/e{number // 4}"},
            "effectiveDateTime": f"2026-{number % 10 + 1:02}-{number % 28 + 1:02}T09:30:00+01:00",
            "issued": "2026-11-20T10:00:00.000+00:00",
            "valueQuantity": {"value": value + number / 100, "unit": unit, "system": "http://unitsofmeasure.org",
                              "code": unit}}})  # fmt: skip
    return orjson.dumps(sample)


HERE = Path(__file__).parent


class Server:
    """A granian worker running one of the two applications."""

    def __init__(self, target: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._folder = tempfile.TemporaryDirectory()
        url = f"sqlite:///{self._folder.name}/bench.sqlite3"
        database = Database(url)
        upgrade(database)  # as in production, where no worker does it
        database.close()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE / "only_locked"), str(HERE)]),
            "CDS_DATABASE_URL": url,
            "CDS_PORT": str(self.port),
            "PYTHONDONTWRITEBYTECODE": "",  # what is installed is compiled once
            "CDS_KEEP_INPUTS": "false",  # as in production; what keeping costs: bench_store.py
        }
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "granian", "--interface", "asginl", "--factory", "--no-ws", "--log-level", "error",
             "--port", str(self.port), "--workers", "1", target],
            env=environment, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/healthz")
                connection.getresponse().read()
                break
            except OSError:
                if time.perf_counter() - started > 30:
                    raise
                time.sleep(0.01)
        self.cold_start = time.perf_counter() - started
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self.worker = int(children[0])

    def cpu(self) -> float:
        """CPU seconds that the worker has used."""
        fields = Path(f"/proc/{self.worker}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """The worker's resident memory."""
        pages = int(Path(f"/proc/{self.worker}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def milliseconds(self, body: bytes, times: int) -> float:
        """CPU milliseconds of the worker per request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        for phase in (times // 10, times):
            before = self.cpu()
            for _ in range(phase):
                connection.request("POST", PATH, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"answered {answer.status}")
        return (self.cpu() - before) / times * 1000

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(10)
        self._folder.cleanup()


def main() -> int:
    floor, service = Server("bench_service:floor_app"), Server("cds_service.app:worker_app")
    too_slow = []
    try:
        print(f"{'chart':>8} {'resources':>9} {'bytes':>9} {'floor ms':>9} {'service ms':>10} {'ratio':>6}")
        for (chart, sample), (size, times) in product(CHARTS.items(), SIZES.items()):
            body = body_of(size, sample)
            pairs = [(floor.milliseconds(body, times), service.milliseconds(body, times)) for _ in range(ROUNDS)]
            low, high = min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)
            ratio = high / low
            print(f"{chart:>8} {size:>9} {len(body):>9} {low:>9.3f} {high:>10.3f} {ratio:>6.2f}", flush=True)
            if ratio > LIMITS.get((chart, size), 99):
                too_slow.append(f"{chart} chart of {size} resources: {ratio:.2f} × the floor")
        print(f"cold start {service.cold_start:.2f} s, worker {service.megabytes():.0f} MB")
        if service.cold_start > COLD_START_SECONDS:
            too_slow.append(f"cold start {service.cold_start:.2f} s, allowed {COLD_START_SECONDS}")
        if service.megabytes() > WORKER_MEGABYTES:
            too_slow.append(f"worker {service.megabytes():.0f} MB, allowed {WORKER_MEGABYTES}")
    finally:
        service.stop()
        floor.stop()
    print("\n".join(too_slow) or "within every limit")
    return 1 if too_slow else 0


if __name__ == "__main__":
    sys.exit(main())
