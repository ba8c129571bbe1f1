"""The audit on a cluster of several machines' programs, reading from an object store: Spark's own master and workers
(standalone mode), each executor a Java of its own, and S3 as moto speaks it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from databases import free_port
from lacking import lacking
from pyarrow import fs
from test_audit_spark import DAY, LIBRARY, outputs

from cds_service.population.synthetic.content import load_content
from cds_service.population.synthetic.synthetic_infants import infants, write_population
from cds_service.rules.pack import packaged_cards

WORKERS = 2
PATIENTS, PARTS = 60, 12
KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_EC2_METADATA_DISABLED": "true"}


class Cluster(NamedTuple):
    """The folder in which its executors work, and what a program needs in its environment to use it."""

    place: Path
    environment: dict[str, str]

    def executors(self) -> list[int]:
        """The processes of its executors."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended
                here = (process / "cwd").readlink().is_relative_to(self.place)
                if here and "CoarseGrainedExecutorBackend" in (process / "cmdline").read_text():
                    found.append(int(process.name))
        return sorted(found)


def eventually(true: Callable[[], bool], what: str) -> None:
    for _ in range(1200):
        if true():
            return
        time.sleep(0.05)
    pytest.fail(f"{what} never came about")


@contextmanager
def running(log: Path, *words: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program whose words go to the log, and all that it starts, which end with the block."""
    with log.open("wb") as written:
        started = subprocess.Popen(
            words, stdout=written, stderr=written, env=os.environ | more, start_new_session=True
        )  # fmt: skip
        try:
            yield started
        finally:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if find_spec("pyspark") is None:
        lacking("pyspark is not installed: pip install -e '.[spark]'")
    if shutil.which("java") is None:
        lacking("there is no Java: apt-get install -y default-jre-headless")
    import pyspark

    home, place, port = Path(pyspark.__file__).parent, tmp_path_factory.mktemp("cluster"), free_port()
    master, deploy = f"spark://127.0.0.1:{port}", "org.apache.spark.deploy"
    settings = {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1"}
    spark_class, log = str(home / "bin" / "spark-class"), place / "master.log"
    with ExitStack() as started:
        words = [
            spark_class,
            f"{deploy}.master.Master",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--webui-port",
            "0",
        ]
        started.enter_context(running(log, *words, **settings))
        eventually(lambda: "Starting Spark master" in log.read_text(), "Spark's master")
        for number in range(WORKERS):
            words = [spark_class, f"{deploy}.worker.Worker", "--cores", "1", "--memory", "1g", "--webui-port", "0",
                     "--host", "127.0.0.1", "--work-dir", str(place / f"work-{number}"), master]  # fmt: skip
            started.enter_context(running(place / f"worker-{number}.log", *words, **settings))
        eventually(lambda: log.read_text().count("Registering worker") == WORKERS, "two workers of Spark")
        submit = f"--master {master} --conf spark.driver.host=127.0.0.1 --executor-memory 512m pyspark-shell"
        yield Cluster(place, {"PYSPARK_SUBMIT_ARGS": submit, "PYSPARK_PYTHON": sys.executable, "SPARK_HOME": str(home)})


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "in"
    write_population(infants(load_content(packaged_cards(), LIBRARY.reading), PATIENTS, 8, DAY), folder)
    (folder / "truth.ndjson").unlink()
    return folder


def command(source: str, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "cds_service.cli", "audit", source, "--out", str(out), "--as-of", DAY.isoformat(),
            "--exact", "--exported", "all", "--parts", str(PARTS), *more]  # fmt: skip


@pytest.fixture(scope="module")
def here(export: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one machine says."""
    out = tmp_path_factory.mktemp("here") / "out"
    subprocess.run(command(str(export), out, "--workers", "1"), check=True, capture_output=True)
    return outputs(out)


@pytest.fixture
def bucket(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The export in an object store; its URI."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    port, log = free_port(), tmp_path / "s3.log"
    with running(log, sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)):
        eventually(lambda: "Running on" in log.read_text(), "the object store")
        store = fs.S3FileSystem(endpoint_override=f"127.0.0.1:{port}", scheme="http", allow_bucket_creation=True)
        store.create_dir("exports")
        fs.copy_files(str(export), "exports/2026-11", destination_filesystem=store)
        yield f"s3://exports/2026-11?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"


def test_a_cluster_that_loses_an_executor_says_what_one_machine_says(
    cluster: Cluster, bucket: str, here: dict[str, bytes], tmp_path: Path
) -> None:
    """What the executor had finished is on its own disk: the other one answers it again."""
    out, log = tmp_path / "out", tmp_path / "log"
    with running(log, *command(bucket, out, "--engine", "spark"), **cluster.environment) as driver:
        eventually(lambda: driver.poll() is not None or any((out / ".work").glob("done-*")), "a finished part")
        assert driver.poll() is None, log.read_text()
        os.kill(cluster.executors()[0], signal.SIGKILL)
        assert len(list((out / ".work").glob("done-*"))) < PARTS  # so some of its parts have to be answered again
        assert driver.wait(120) == 0, log.read_text()
    assert outputs(out) == here
