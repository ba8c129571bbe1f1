"""The audit on Spark: byte for byte what one machine says, faults included."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from click.testing import CliRunner, Result
from lacking import lacking
from pyarrow import parquet

from cds_service.cli import main
from cds_service.errors import InputError
from cds_service.population import spark_tasks
from cds_service.population.made import MADE
from cds_service.population.remote_files import remote_files
from cds_service.population.spark_tasks import Pack, zipped
from cds_service.population.synthetic.content import load_content
from cds_service.population.synthetic.synthetic_infants import infants, write_population
from cds_service.rules.library import load_library
from cds_service.rules.pack import packaged_cards

DAY = date(2026, 11, 22)
LIBRARY = load_library()
PROGRAM = [sys.executable, "-m", "cds_service.cli"]


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spark can be started here."""
    if find_spec("pyspark") is None:
        lacking("pyspark is not installed: pip install -e '.[spark]'")
    if shutil.which("java") is None:
        lacking("there is no Java: apt-get install -y default-jre-headless")
    monkeypatch.delenv("SPARK_HOME", raising=False)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export with every fault that an audit tells of."""
    folder = tmp_path_factory.mktemp("faulty") / "in"
    write_population(infants(load_content(packaged_cards(), LIBRARY.reading), 24, 5, DAY), folder)
    (folder / "truth.ndjson").unlink()
    observations = (folder / "Observation.ndjson").read_bytes().splitlines(keepends=True)
    (folder / "Observation.ndjson").write_bytes(b"".join(observations[:-40]))
    packed = gzip.compress(b"".join(observations[-40:]))
    (folder / "deeper").mkdir()
    (folder / "deeper" / "whole.gz").write_bytes(packed)
    first = json.loads(observations[0])
    owner = first["subject"]["reference"]
    lines = [
        observations[0], b"\n", b"no json\n",
        b'{"resourceType":"Observation","subject":{"reference":"%b"},\n' % owner.encode(),
        json.dumps(first | {"status": "amended"}).encode() + b"\n",
        b'{"resourceType":"Condition","id":"a","id":"b","subject":{"reference":"%b"}}\n' % owner.encode(),
        b'{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/nobody"}}\n',
        b'{"resourceType":"Condition","id":"d"}\n',
        b'{"resourceType":"Condition","x":"' + b"y" * (17 << 20) + b'"}\n',
    ]  # fmt: skip
    (folder / "odd.txt").write_bytes(b"".join(lines))
    (folder / "short.gz").write_bytes(packed[:-30])
    rows: list[bytes | None] = [row.strip() for row in (folder / "Condition.ndjson").read_bytes().splitlines()]
    (folder / "Condition.ndjson").unlink()
    rows += [None, b"no json", b"", b'{"resourceType":\n"Condition","subject":{"reference":"%b"},' % owner.encode()]
    table = arrow.table({"id": range(len(rows)), "resource": arrow.array(rows, arrow.binary())})
    parquet.write_table(table, folder / "deeper" / "part-00000", row_group_size=50)
    parquet.write_table(table, folder / "torn", row_group_size=20, use_dictionary=False, write_page_checksum=True)
    second = parquet.ParquetFile(folder / "torn").metadata.row_group(1).column(1)
    torn = bytearray((folder / "torn").read_bytes())
    torn[second.data_page_offset + second.total_compressed_size // 2] ^= 1
    (folder / "torn").write_bytes(torn)
    return folder


def audit(folder: Path | str, out: Path, *more: str) -> Result:
    words = ["--out", str(out), "--as-of", DAY.isoformat(), "--exact", "--parts", "5", *more]
    return CliRunner().invoke(main, ["audit", str(folder), *words])


def outputs(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != MADE}


@pytest.fixture(scope="module")
def here(faulty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one machine says of it."""
    out = tmp_path_factory.mktemp("here") / "out"
    done = audit(faulty, out, "--workers", "1")
    assert done.exit_code == 3 and "short.gz, torn ended early" in done.output
    fates = json.loads((out / "summary.json").read_bytes())["input"]["lines"]
    assert fates["bad"] == 4 and fates["bad, patient known"] == 3 and fates["about no patient"] == 1
    return out


def test_spark_says_byte_for_byte_what_one_machine_says(spark: None, faulty: Path, here: Path, tmp_path: Path) -> None:
    done = audit(faulty, tmp_path / "out", "--engine", "spark", "--workers", "2")
    assert done.exit_code == 3, done.output
    assert "short.gz, torn ended early" in done.output
    assert outputs(tmp_path / "out") == outputs(here)


def test_a_uri_is_read_where_the_tasks_are_and_a_replay_is_the_same(spark: None, faulty: Path, tmp_path: Path) -> None:
    monthly = ["--at", "monthly", "--exported", "all"]
    assert audit(f"file://{faulty}", tmp_path / "a", "--engine", "spark", *monthly).exit_code == 3
    assert audit(faulty, tmp_path / "b", "--workers", "1", *monthly).exit_code == 3
    assert outputs(tmp_path / "a") == outputs(tmp_path / "b")
    assert (tmp_path / "a" / "replay.ndjson").stat().st_size > 1000


def test_what_spark_began_one_machine_finishes(
    spark: None, faulty: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cds_service.population import spark as engine

    fetched = []

    def until_the_third(part: int, patients: int, lines: int) -> Any:
        fetched.append(part)
        if len(fetched) == 3:
            raise KeyboardInterrupt
        return real(part, patients, lines)

    real = engine.Done
    with monkeypatch.context() as stopping:
        stopping.setattr(engine, "Done", until_the_third)
        assert audit(faulty, tmp_path / "out", "--engine", "spark").exit_code != 0
    left = {path.name for path in (tmp_path / "out" / ".work").iterdir() if path.name.startswith("done-")}
    assert left == {"done-0000.json", "done-0001.json", "done-0002.json"}
    again = audit(faulty, tmp_path / "out", "--workers", "1")
    assert again.exit_code == 3, again.output
    assert outputs(tmp_path / "out") == outputs(here)


def test_what_a_worker_says_of_a_file_is_said_in_its_words(spark: None, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    parquet.write_table(arrow.table({"id": ["1"], "gender": ["female"]}), tmp_path / "in" / "odd")
    refused = audit(f"file://{tmp_path}/in", tmp_path / "out", "--engine", "spark")
    assert refused.exit_code == 1
    assert "Spark: odd: of Parquet one column is read" in refused.output
    assert "it has 'id' (text), 'gender' (text)" in refused.output
    assert not (tmp_path / "out" / "summary.json").exists()


def test_a_refusal_of_a_worker_is_said_in_its_words(
    spark: None, faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cds_service.population import spark as engine

    monkeypatch.setattr(engine, "version", lambda package: "0.0.other")
    refused = audit(faulty, tmp_path / "out", "--engine", "spark")
    assert refused.exit_code == 1
    assert "Spark: a worker has cds-service" in refused.output and "install the same on all" in refused.output
    assert not (tmp_path / "out" / "summary.json").exists()


def test_the_master_that_a_launcher_names_is_used(spark: None, monkeypatch: pytest.MonkeyPatch) -> None:
    local = "--conf spark.driver.host=127.0.0.1 --conf spark.driver.bindAddress=127.0.0.1"
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", f"--master local[1] {local} pyspark-shell")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    started = [sys.executable, "-c", "from cds_service.population.spark import Spark; s = Spark(7); "
               "print('master', s._context.master); s.stop()"]  # fmt: skip
    done = subprocess.run(started, capture_output=True, text=True, timeout=300, check=True)
    assert "master local[1]" in done.stdout


# Without Spark


def test_rules_arrive_as_they_were_sent_or_are_refused() -> None:
    content = zipped(packaged_cards())
    assert spark_tasks._library(Pack(content, LIBRARY.hash), spark_tasks.version("cds-service")).hash == LIBRARY.hash
    with pytest.raises(InputError, match="not the rules that were sent"):
        spark_tasks._library(Pack(content, "0" * 64), spark_tasks.version("cds-service"))


def test_a_machine_without_pyspark_is_told_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("{}")
    (tmp_path / "pyspark.py").write_text("raise ImportError('none here')")
    words = ["audit", str(tmp_path / "in"), "--engine", "spark", "--out", str(tmp_path / "out")]
    done = subprocess.run([*PROGRAM, *words], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True,
                          text=True, timeout=120)  # fmt: skip
    assert done.returncode == 1 and "pip install 'cds-service[spark]'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_one_machine_reads_no_uri(tmp_path: Path) -> None:
    refused = audit("s3://bucket/export", tmp_path / "out")
    assert refused.exit_code == 1 and "--engine spark only" in refused.output


def test_a_uri_with_a_password_is_refused_and_told_nowhere(tmp_path: Path) -> None:
    refused = audit("s3://key:hidden@bucket/export", tmp_path / "out", "--engine", "spark")
    assert (refused.exit_code, "holds a password" in refused.output, "hidden" in refused.output) == (2, True, False)
    assert not (tmp_path / "out").exists()


def test_a_uri_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be listed"):
        remote_files(f"file://{tmp_path}/none", 1000)
    with pytest.raises(InputError, match="no such place"):
        remote_files("gopher://host/x", 1000)
    (tmp_path / ".hidden").write_text("{}")
    with pytest.raises(InputError, match="no file to audit"):
        remote_files(f"file://{tmp_path}", 1000)
