"""The rows of an audit as Parquet: one table each of evaluations, reasons, cards and what was suggested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from cds_service.errors import InputError

Row = dict[str, Any]
ROWS_AT_ONCE = 20_000
COLUMNS = {
    "evaluations": ("patient", "age", "rule", "version", "outcome", "stage", "missing"),
    "reasons": ("patient", "rule", "criterion", "answer", "evidence", "missing"),
    "workups": ("patient", "rule", "workup", "urgency", "taken_care_of", "by"),
    "cards": ("patient", "family", "urgency", "summary", "detail"),
}
LISTS = {"missing", "evidence", "by"}


def write_parquet(folder: Path) -> None:
    """Four Parquet files beside the NDJSON of an audit, of the same rows in the same order.

    Raises InputError when pyarrow is not installed.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise InputError("Parquet needs the extra: pip install 'cds-service[audit]'; or give --no-parquet") from None
    fields = {True: arrow.list_(arrow.string()), False: arrow.string()}
    schemas = {
        name: arrow.schema([(column, fields[column in LISTS]) for column in columns])
        for name, columns in COLUMNS.items()
    }
    writers = {name: parquet.ParquetWriter(folder / f"{name}.parquet", schema, compression="zstd")
               for name, schema in schemas.items()}  # fmt: skip
    waiting: dict[str, list[Row]] = {name: [] for name in COLUMNS}
    try:
        for name, row in _rows(folder):
            waiting[name].append(row)
            if len(waiting[name]) == ROWS_AT_ONCE:
                writers[name].write_table(arrow.Table.from_pylist(waiting.pop(name), schemas[name]))
                waiting[name] = []
        for name, rows in waiting.items():
            if rows:
                writers[name].write_table(arrow.Table.from_pylist(rows, schemas[name]))
    finally:
        for writer in writers.values():
            writer.close()


def _rows(folder: Path) -> Iterator[tuple[str, Row]]:
    with (folder / "evaluations.ndjson").open("rb") as file:
        for line in file:
            infant = orjson.loads(line)
            patient = infant["patient"]
            if infant["status"] != "evaluated":
                yield "evaluations", {"patient": patient, "outcome": infant.get("why", infant["status"])}
                continue
            for rule in infant["rules"]:
                yield from _of_rule(patient, infant["age"], rule)
    cards = folder / "cards.ndjson"
    if cards.exists():
        with cards.open("rb") as file:
            for line in file:
                row = orjson.loads(line)
                card = row["card"]
                yield "cards", {
                    "patient": row["patient"], "family": card["source"]["topic"]["code"],
                    "urgency": card["indicator"], "summary": card["summary"], "detail": card["detail"],
                }  # fmt: skip


def _of_rule(patient: str, age: str, rule: Row) -> Iterator[tuple[str, Row]]:
    head = {"patient": patient, "rule": rule["rule"]}
    yield "evaluations", head | {
        "age": age, "version": rule["version"], "outcome": rule["outcome"], "stage": rule["stage"],
        "missing": rule["missing"],
    }  # fmt: skip
    for reason in rule["reasons"]:
        evidence = list(dict.fromkeys(item["reference"] for item in reason["evidence"]))
        yield "reasons", head | {
            "criterion": reason["criterion"], "answer": reason["answer"], "evidence": evidence,
            "missing": reason["missing"],
        }  # fmt: skip
    for workup in rule["workups"]:
        yield "workups", head | {
            "workup": workup["id"], "urgency": workup["urgency"], "taken_care_of": workup["takenCareOf"],
            "by": [item["reference"] for item in workup["by"]],
        }  # fmt: skip
