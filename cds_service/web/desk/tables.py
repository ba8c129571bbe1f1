"""A table that people filter, sort and page through by its URL, with the same rows as CSV and JSON.

Rows hold plain values: text, numbers, None, or a list of words. What came from outside stays text everywhere:
Jinja escapes it on the page, and in CSV a cell that a spreadsheet would calculate is quoted.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

import orjson
from flask import Response, abort, render_template, request

PAGE = 100
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
Row = Mapping[str, Any]


class Column(NamedTuple):
    """One column. ``facet``: offered as a choice; ``link``: the row's key that holds the address of its cell."""

    key: str
    title: str
    facet: bool = False
    number: bool = False
    link: str = ""


class Facet(NamedTuple):
    """A column's values with how many rows of the whole table have each."""

    column: Column
    values: Sequence[tuple[str, int]]
    chosen: str


class Table(NamedTuple):
    """All rows of a table, before the URL has narrowed it."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    searched: bool = True
    empty: str = "Nothing here."
    beside: bool = False  # stands on a page with others, so that the URL says which table it speaks of


class View(NamedTuple):
    """What a page shows of a table."""

    table: Table
    rows: Sequence[Row]
    found: int
    facets: Sequence[Facet]
    text: str
    sort: str
    page: int
    pages: int

    def url(self, **change: object) -> str:
        """This page's address with something else in its query; None takes it out."""
        query = {key: value for key, value in request.args.items() if key != "format"}
        query |= {key: str(value) for key, value in change.items() if value is not None}
        for key, value in change.items():
            if value is None:
                query.pop(key, None)
        return f"{request.path}?{urlencode(query)}" if query else request.path

    def sort_url(self, column: Column) -> str:
        """The address that sorts by this column, the other way round if it is so already."""
        sort = f"-{column.key}" if self.sort == column.key else column.key
        return self.url(sort=sort, page=None, table=self.table.name if self.table.beside else None)

    def sorted_by(self, column: Column) -> str:
        """The column's ``aria-sort``."""
        return {column.key: "ascending", f"-{column.key}": "descending"}.get(self.sort, "none")


def table_answer(table: Table, template: str, /, **context: Any) -> Response | str:
    """The page, or with ``?format=csv`` or ``json`` every row that the same URL would show over all its pages."""
    view = view_of(table)
    if wants_twin():
        return twin(table, _narrowed(table))
    return render_template(template, table=view, **context)


def view_of(table: Table) -> View:
    """The part of the table that the request's query asks for."""
    rows = _narrowed(table)
    pages = max(1, -(-len(rows) // PAGE))
    asked = _asked_of(table)
    number = asked.get("page", "1")
    page = min(max(1, int(number)), pages) if number.isascii() and number.isdigit() and len(number) < 7 else 1
    facets = [
        Facet(column, _counted(table.rows, column.key), asked.get(column.key, ""))
        for column in table.columns
        if column.facet
    ]
    shown = rows[(page - 1) * PAGE : page * PAGE]
    text, sort = asked.get("q", "")[:200], asked.get("sort", "")
    return View(table, shown, len(rows), facets, text, sort, page, pages)


def several_answer(tables: Sequence[Table], template: str, /, **context: Any) -> Response | str:
    """A page with several tables, each a View under its name in ``tables``; twins by ``?table=NAME&format=csv``."""
    named = {table.name: table for table in tables}
    if wants_twin():
        asked = named.get(request.args.get("table", ""))
        if asked is None:
            abort(404)
        return twin(asked, _narrowed(asked))
    return render_template(template, tables={name: view_of(table) for name, table in named.items()}, **context)


def _asked_of(table: Table) -> Mapping[str, str]:
    """The query, as far as it speaks of this table."""
    return request.args if not table.beside or request.args.get("table") == table.name else {}


def _narrowed(table: Table) -> list[Row]:
    asked = _asked_of(table)
    text = asked.get("q", "")[:200].casefold() if table.searched else ""
    chosen = {column.key: value for column in table.columns if column.facet and (value := asked.get(column.key))}
    keys = [column.key for column in table.columns]
    rows = [row for row in table.rows if all(value in words_of(row.get(key)) for key, value in chosen.items())]
    if text:
        rows = [row for row in rows if any(text in word.casefold() for key in keys for word in words_of(row.get(key)))]
    sort = asked.get("sort", "")
    if sort.removeprefix("-") in {column.key for column in table.columns}:
        rows.sort(key=lambda row: _order(row.get(sort.removeprefix("-"))), reverse=sort.startswith("-"))
    return rows


def _order(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return 1, float(value), ""
    return (0, 0.0, "") if value is None else (2, 0.0, " ".join(words_of(value)).casefold())


def words_of(value: Any) -> list[str]:
    """A cell's words: one for a single value, several for a list, none for None."""
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]


def _counted(rows: Sequence[Row], key: str) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for row in rows:
        for word in words_of(row.get(key)):
            counts[word] = counts.get(word, 0) + 1
    return sorted(counts.items())


def wants_twin() -> bool:
    """Whether the URL asks for a table's rows as CSV or JSON, instead of a page."""
    return request.args.get("format", "") in ("csv", "json")


def twin(table: Table, rows: Sequence[Row]) -> Response:
    """These rows in the form that the URL asks for."""
    return (_csv if request.args["format"] == "csv" else _json)(table, rows)


def _csv(table: Table, rows: Sequence[Row]) -> Response:
    """The rows as CSV (RFC 4180), in which nothing calculates."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([column.key for column in table.columns])
    writer.writerows([_cell(row.get(column.key)) for column in table.columns] for row in rows)
    answer = Response(text.getvalue(), mimetype="text/csv")
    answer.headers["Content-Disposition"] = f'attachment; filename="{table.name}.csv"'
    return answer


def _cell(value: Any) -> str | int | float:
    if isinstance(value, bool | int | float):
        return value
    text = "; ".join(words_of(value))
    return f"'{text}" if text.startswith(FORMULA) else text


def _json(table: Table, rows: Sequence[Row]) -> Response:
    """The rows as JSON, under the table's name."""
    keys = [column.key for column in table.columns]
    body = orjson.dumps({table.name: [{key: row.get(key) for key in keys} for row in rows]})
    return Response(body, mimetype="application/json")
