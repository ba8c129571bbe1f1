"""What an audit leaves behind, out of the merged rows and the counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from cds_service.population.answers import URGENCIES, WORKLIST, csv_line
from cds_service.population.audit import Audited
from cds_service.population.disclosure import Disclosure
from cds_service.population.measure_report import measure_reports
from cds_service.population.parquet import write_parquet
from cds_service.population.partition import disk_refused
from cds_service.population.report import report_page
from cds_service.population.summary import Json, summary_of
from cds_service.record.times import iso
from cds_service.rules.library import RuleLibrary


def write_audit(
    audited: Audited, run: Mapping[str, Any], library: RuleLibrary, as_of: int, exact: bool, parquet: bool
) -> Json:
    """The rest, beside the merged rows: summary, page, MeasureReports, worklist and Parquet; the summary."""
    out, disclosure = audited.results, Disclosure(exact)
    shown = dict(run) | {"asOf": iso(as_of)}
    summary = summary_of(shown, audited.input, audited.counts, library, disclosure, audited.exported.types)
    reports = measure_reports(audited.counts, library, run["id"], as_of, disclosure)
    try:
        write_worklist(out)
        if parquet:
            write_parquet(out)
        (out / "measure-reports.ndjson").write_bytes(
            b"".join(orjson.dumps(report, option=orjson.OPT_APPEND_NEWLINE) for report in reports)
        )
        (out / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
        (out / "report.html").write_text(report_page(summary), encoding="utf-8")
    except OSError as problem:
        raise disk_refused(out, problem) from None
    return summary


def write_worklist(out: Path) -> None:
    """The infants with a card, most urgent first and by id within an urgency."""
    with (out / "worklist.csv").open("wb") as worklist:
        worklist.write(csv_line(WORKLIST))
        for urgency in URGENCIES:
            part = out / f"worklist-{urgency}.ndjson"
            if part.exists():
                with part.open("rb") as rows:
                    for row in rows:
                        worklist.write(row)
                part.unlink()
