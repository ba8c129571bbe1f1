"""Parquet as input: the same resources say the same as NDJSON, and what is wrong with a file is told."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet

from cds_service.cli import main
from cds_service.errors import InputError
from cds_service.population.finished import checked
from cds_service.population.made import MADE
from cds_service.population.ndjson import COMPLETE, Line, SourceFile, source_files
from cds_service.population.one_infant import ask_again
from cds_service.population.pieces import tasks_of
from cds_service.population.remote_files import RemoteFile, remote_files
from cds_service.population.synthetic.content import load_content
from cds_service.population.synthetic.synthetic_infants import infants, write_population
from cds_service.rules.library import load_library
from cds_service.rules.pack import packaged_cards

DAY = date(2026, 11, 22)
LIBRARY = load_library()
ALONE = ("--workers", "1")  # unless a test says otherwise
OF_INPUT = {"name", "sha256", "bytes"}  # what a file is called and how it is packed


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small export as NDJSON, with lines that are bad or blank."""
    folder = tmp_path_factory.mktemp("plain") / "in"
    write_population(infants(load_content(packaged_cards(), LIBRARY.reading), 30, 3, DAY), folder)
    (folder / "truth.ndjson").unlink()
    with (folder / "Observation.ndjson").open("ab") as file:
        owner = json.loads((folder / "Observation.ndjson").read_bytes().splitlines()[0])["subject"]["reference"]
        file.write(b'no json\n\nnull\n{"resourceType":"Observation"}\n')
        file.write(b'{"resourceType":"Observation","subject":{"reference":"%b"},\n' % owner.encode())
    return folder


def write(path: Path, rows: Sequence[Any], kind: Any = None, column: str = "resource", **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.table({column: arrow.array(rows, kind or arrow.string())}), path, **how)
    return path


@pytest.fixture(scope="module")
def packed(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same export as Parquet, file by file in another of its forms."""
    folder = tmp_path_factory.mktemp("packed") / "in"
    kinds = [arrow.string(), arrow.binary(), arrow.large_string(), arrow.large_binary(), arrow.string_view()]
    for number, path in enumerate(sorted(plain.iterdir())):
        rows = [None if row == b"null" else row for row in path.read_bytes().split(b"\n")[:-1]]
        texts = arrow.array(rows, arrow.binary()).cast(kinds[number % 5])
        how = {"compression": ["snappy", "zstd", "none", "gzip"][number % 4], "row_group_size": [7, 1000][number % 2]}
        parquet.write_table(arrow.table({"resource": texts}), folder.parent / "one", **how)
        folder.mkdir(exist_ok=True)
        (folder.parent / "one").rename(folder / f"{path.stem}.whatever")
    return folder


def audit(folder: Path, out: Path, *more: str) -> Result:
    return CliRunner().invoke(
        main, ["audit", str(folder), "--out", str(out), "--as-of", DAY.isoformat(), *ALONE, *more]
    )


def outputs(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != MADE}


def summary(out: Path) -> Any:
    return json.loads((out / "summary.json").read_bytes())


def without_packing(told: Any) -> Any:
    """The summary without what says how the input is packed and called."""
    told["run"] = {key: value for key, value in told["run"].items() if key not in ("id", "inputDigest")}
    told["input"]["files"] = [
        {key: file[key] for key in file if key not in OF_INPUT} for file in told["input"]["files"]
    ]
    return told


def read(path: Path, longest: int = 1000) -> tuple[list[Line], SourceFile]:
    file = SourceFile(path, path.name, longest)
    return list(file.lines()), file


# The same as NDJSON


@pytest.mark.parametrize("workers", ["1", "2"])
def test_parquet_says_what_ndjson_of_the_same_says(plain: Path, packed: Path, tmp_path: Path, workers: str) -> None:
    for name, folder in (("a", plain), ("b", packed)):
        done = audit(folder, tmp_path / name, "--exact", "--exported", "all", "--workers", workers)
        assert done.exit_code == 0, done.output
    ndjson, rows = outputs(tmp_path / "a"), outputs(tmp_path / "b")
    of_a_run = {"summary.json", "report.html", "measure-reports.ndjson"}  # these name the run
    assert len(ndjson) > 8 and {name for name in ndjson if ndjson[name] != rows[name]} == of_a_run
    told = without_packing(summary(tmp_path / "b"))
    assert told == without_packing(summary(tmp_path / "a"))
    (observations,) = [file for file in told["input"]["files"] if "Observation" in file["types"]]
    assert observations["fates"]["blank"] == 1 and observations["fates"]["bad"] == 2
    assert observations["fates"]["bad, patient known"] == 1 and observations["fates"]["about no patient"] == 1
    assert [item["line"] for item in observations["badLines"]] == [observations["lines"] - back for back in (4, 2, 0)]


def test_each_row_is_a_line_with_the_number_of_the_row(tmp_path: Path) -> None:
    rows = ['{"a":\n 1.10}', None, "", "x" * 5000, '{"b":"\n"}', "last"]
    path = write(tmp_path / "a", rows, row_group_size=2)
    lines, file = read(path)
    assert lines == [
        Line(1, b'{"a":\r 1.10}'), Line(2, b"null"), Line(4, b"x" * 4096, True), Line(5, b'{"b":"\r"}'),
        Line(6, b"last"),
    ]  # fmt: skip
    assert json.loads(lines[0].content) == {"a": 1.1}
    with pytest.raises(json.JSONDecodeError):  # a newline within a text is no more allowed than it was
        json.loads(lines[3].content)
    assert (file.number_of_lines, file.blank, file.ending) == (6, 1, COMPLETE)
    assert file.sha256 == sha256(path.read_bytes()).hexdigest() and file.bytes_read == path.stat().st_size


@pytest.mark.parametrize("kind", [arrow.json_(), arrow.dictionary(arrow.int32(), arrow.string()), arrow.binary_view()])
def test_every_kind_of_text_is_read(tmp_path: Path, kind: Any) -> None:
    texts = arrow.array(["{}", None, "[]"])
    if isinstance(kind, arrow.DictionaryType):
        texts = texts.dictionary_encode()
    elif isinstance(kind, arrow.BaseExtensionType):
        texts = arrow.ExtensionArray.from_storage(kind, texts)
    else:
        texts = texts.cast(kind)
    parquet.write_table(arrow.table({"any name": texts}), tmp_path / "a")
    assert [line.content for line in read(tmp_path / "a")[0]] == [b"{}", b"null", b"[]"]


def test_text_that_is_no_utf8_is_a_bad_line_and_no_end_of_the_file(tmp_path: Path) -> None:
    texts = arrow.array([b'{"a":"\xff"}', b"{}"]).view(arrow.string())
    parquet.write_table(arrow.table({"resource": texts}), tmp_path / "a")
    lines, file = read(tmp_path / "a")
    assert [line.content for line in lines] == [b'{"a":"\xff"}', b"{}"] and file.ending == COMPLETE


class Told(io.FileIO):
    """A file that tells how much was read of it at once."""

    def __init__(self, path: Path, reads: list[int]) -> None:
        super().__init__(path)
        self._reads = reads

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(-1 if size is None else size)
        self._reads.append(len(content))
        return content


def test_a_file_is_read_batch_by_batch_whatever_its_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [random.Random(row).randbytes(2000).hex() for row in range(16_000)]  # 64 MB in one row group
    path = write(tmp_path / "a", rows, compression="zstd", row_group_size=len(rows), use_dictionary=False)
    assert parquet.ParquetFile(path).metadata.num_row_groups == 1
    del rows
    before, most = arrow.total_allocated_bytes(), 0
    reads: list[int] = []
    monkeypatch.setattr(SourceFile, "open", lambda file: Told(file.path, reads))
    file = SourceFile(path, "a")
    for number, _ in enumerate(file.lines(), 1):
        if number % 50 == 0:
            most = max(most, arrow.total_allocated_bytes() - before)
    assert number == 16_000 and file.ending == COMPLETE
    assert most < 16 << 20 and max(reads) <= 2 << 20


def test_a_file_of_parquet_is_never_cut_into_pieces(tmp_path: Path) -> None:
    rows = [random.Random(row).randbytes(1000).hex() for row in range(4_000)]
    write(tmp_path / "a", rows, compression="none", use_dictionary=False)
    (piece,) = [piece for task in tasks_of(source_files(tmp_path), 2) for piece in task]
    assert piece.path.stat().st_size > 7_000_000 and not piece.is_cut


def test_an_infant_of_parquet_is_asked_again(packed: Path, tmp_path: Path) -> None:
    assert audit(packed, tmp_path / "out", "--exact", "--exported", "all").exit_code == 0
    card = json.loads((tmp_path / "out" / "cards.ndjson").read_bytes().splitlines()[0])
    again = ask_again(str(packed), card["patient"], checked(summary(tmp_path / "out")), LIBRARY)
    assert card["card"]["summary"] in [item["summary"] for item in again.response.body["cards"]] and not again.changed


# The column


TEXT, NUMBER = arrow.array(["{}"]), arrow.array([1])
PARTS = arrow.array([{"family": "x"}])


@pytest.mark.parametrize(
    "columns",
    [{"anything": TEXT}, {"Resource": TEXT, "id": TEXT}, {"value": TEXT, "name": PARTS}, {"n": NUMBER, "x": TEXT}],
    ids=" and ".join,
)
def test_the_column_of_the_resources_is_found(tmp_path: Path, columns: dict[str, Any]) -> None:
    parquet.write_table(arrow.table(columns), tmp_path / "a")
    assert [line.content for line in read(tmp_path / "a")[0]] == [b"{}"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"id": TEXT, "gender": TEXT}, "it has 'id' (text), 'gender' (text)"),
        ({"id": TEXT, "name": PARTS}, "it has 'id' (text), 'name' (nested)"),
        ({"raw": TEXT, "json": TEXT}, "it has 'raw' (text), 'json' (text)"),
        ({"resource": PARTS}, "it has 'resource' (nested)"),
        ({"n": NUMBER}, "it has 'n' (int64)"),
        ({f"c{number}": NUMBER for number in range(14)}, "'c11' (int64) and 2 more"),
        ({}, "it has none"),
    ],
    ids=["two of text", "parts of a resource", "two names", "a named part", "no text", "many", "none"],
)
def test_a_file_without_a_sure_column_is_refused(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    parquet.write_table(arrow.table(columns), tmp_path / "odd")
    with pytest.raises(InputError, match="odd: of Parquet one column is read") as refused:
        read(tmp_path / "odd")
    assert str(refused.value).endswith(said)


def test_an_audit_with_a_file_without_a_sure_column_is_refused(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "Patient.ndjson").write_bytes((plain / "Patient.ndjson").read_bytes())
    parquet.write_table(arrow.table({"id": TEXT, "gender": TEXT}), tmp_path / "in" / "odd.parquet")
    refused = audit(tmp_path / "in", tmp_path / "out", "--workers", "2")  # said by another process
    assert refused.exit_code == 1 and "odd.parquet: of Parquet one column is read" in refused.output
    assert "it has 'id' (text), 'gender' (text)" in refused.output
    assert not (tmp_path / "out" / "summary.json").exists()


@pytest.mark.parametrize("name", ["t/_delta_log/0.json", "t/metadata/v1.metadata.json", "t/.hoodie/hoodie.properties"])
def test_a_table_is_refused_because_its_files_hold_what_was_deleted(tmp_path: Path, name: str) -> None:
    write(tmp_path / "in" / "t" / "a.parquet", ["{}"])
    (tmp_path / "in" / name).parent.mkdir()
    (tmp_path / "in" / name).write_text("{}")
    with pytest.raises(InputError, match=f"{name} belongs to a table of Delta, Iceberg or Hudi"):
        source_files(tmp_path / "in")
    with pytest.raises(InputError, match="also hold what was replaced"):
        remote_files(f"file://{tmp_path}/in", 1000)


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a", ["{}"])
    (tmp_path / "pyarrow.py").write_text("raise ImportError('none here')")
    words = ["audit", str(tmp_path / "in"), "--workers", "1", "--no-parquet", "--out", str(tmp_path / "out")]
    without = os.environ | {"PYTHONPATH": str(tmp_path)}
    program = [sys.executable, "-m", "cds_service.cli"]
    done = subprocess.run([*program, *words], env=without, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "a: Parquet needs the extra: pip install 'cds-service[audit]'" in done.stderr
    assert not (tmp_path / "out" / "summary.json").exists()


# Damage


def test_a_file_cut_short_puts_everything_in_doubt_for_everybody(packed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for path in packed.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    whole = (folder / "Condition.whatever").read_bytes()
    (folder / "Condition.whatever").write_bytes(whole[:-1])
    done = audit(folder, tmp_path / "out", "--exact", "--exported", "all")
    assert done.exit_code == 3 and "Condition.whatever ended early" in done.output
    told = summary(tmp_path / "out")
    (file,) = [file for file in told["input"]["files"] if file["name"] == "Condition.whatever"]
    assert file["ending"] == "its Parquet is cut short" and file["lines"] == 0
    assert file["sha256"] == sha256(whole[:-1]).hexdigest() and file["bytes"] == len(whole) - 1
    assert told["input"]["lostFor"]["everybody"] == ["*"]
    assert told["notEvaluableBy"]["conditions"] > 0
    assert "reassurance" not in told["cards"]["byFamily"]


def damaged(path: Path, at: int) -> Path:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("how", [{"compression": "none", "write_page_checksum": True}, {"compression": "gzip"}])
def test_what_stands_before_a_damaged_page_is_used(tmp_path: Path, how: dict[str, Any]) -> None:
    rows = [random.Random(row).randbytes(400).hex() for row in range(200)]
    path = write(tmp_path / "a", rows, row_group_size=100, use_dictionary=False, **how)
    second = parquet.ParquetFile(path).metadata.row_group(1).column(0)
    lines, file = read(damaged(path, second.data_page_offset + second.total_compressed_size // 2))
    assert file.ending == "its Parquet is damaged or encrypted"
    assert [line.content.decode() for line in lines] == rows[: len(lines)] and 64 <= len(lines) <= 128
    assert file.number_of_lines == len(lines) and file.bytes_read == path.stat().st_size


def test_a_damaged_footer_and_an_encrypted_one_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a", ["{}"])
    lines, file = read(damaged(path, path.stat().st_size - 30))
    assert not lines or file.ending == COMPLETE
    (tmp_path / "b").write_bytes(b"PARE" + bytes(40) + b"PARE")
    lines, file = read(tmp_path / "b")
    assert not lines and file.ending == "its Parquet is damaged or encrypted"
    (tmp_path / "c").write_bytes(b"PAR1")
    lines, file = read(tmp_path / "c")
    assert not lines and file.ending == "its Parquet is cut short"


def test_a_file_that_has_other_rows_than_it_says_is_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "a", ["{}"] * 20, row_group_size=10)
    content = path.read_bytes()
    for at in (at for at, byte in enumerate(content) if byte == 40):  # 20, as the footer writes it
        path.write_bytes(content[:at] + b"\x2a" + content[at + 1 :])
        try:
            says = parquet.ParquetFile(path).metadata.num_rows
        except OSError:
            continue
        if says == 21:
            break
    lines, file = read(path)
    assert says == 21 and len(lines) == 20 and file.ending == "its Parquet is damaged or encrypted"


def test_a_byte_changed_anywhere_never_ends_a_run(tmp_path: Path) -> None:
    rows = [json.dumps({"resourceType": "Observation", "id": str(row)}) for row in range(20)]
    content = write(tmp_path / "whole", rows, compression="snappy", row_group_size=10).read_bytes()
    endings = set()
    for at in range(4, len(content), 2):
        path = tmp_path / "a"
        path.write_bytes(content)
        _, file = read(damaged(path, at))
        endings.add(file.ending)
        assert file.bytes_read == len(content)
    assert endings >= {COMPLETE, "its Parquet is damaged or encrypted", "its Parquet is cut short"}


# Objects


def test_an_object_is_read_as_a_file_is_and_in_the_same_order(tmp_path: Path) -> None:
    for name in ("a/x", "a-b/x", "a.parquet"):
        write(tmp_path / name, ['{"a":1}', None, "{"], row_group_size=1)
    files = source_files(tmp_path)
    there = remote_files(f"file://{tmp_path}", 1000)
    assert [file.name for file in there] == [file.name for file in files] and isinstance(there[0], RemoteFile)
    for here, object_ in zip(files, there, strict=True):
        assert object_.is_packed and list(object_.lines()) == list(here.lines())
        assert (object_.sha256, object_.bytes_read, object_.ending) == (here.sha256, here.bytes_read, COMPLETE)
