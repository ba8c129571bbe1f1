"""The rules of the house, held by the syntax trees of the modules (docs/architecture.md)."""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cds_service"
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(module.relative_to(PACKAGE)) for module in MODULES]

# Each room with the rooms it may import from; outside any room stand the modules at the top.
ROOMS = {
    "errors": set[str](),
    "record": {"errors"},
    "rules": {"errors", "record"},
    "trust": {"errors"},
    "hooks": {"errors", "record", "rules", "trust"},
    "store": {"errors", "record", "rules"},
    "knowledge": {"errors", "record", "rules", "hooks"},
    "population": {"errors", "explain", "hooks", "record", "rules"},
    "bulk": {"errors", "population", "trust"},
    "settings": {"errors", "store"},
    "log_keys": {"errors", "settings", "store"},
    "explain": {"errors", "record", "rules", "hooks"},
    "replay": {"errors", "hooks", "rules", "store"},
    "web": {
        "errors",
        "explain",
        "hooks",
        "knowledge",
        "log_keys",
        "population",
        "record",
        "registry",
        "replay",
        "rules",
        "settings",
        "store",
        "trust",
    },
    "app": {"errors", "log_keys", "rules", "settings", "store", "web"},
    "serve": {"errors", "hooks", "settings", "trust", "web"},
    "gunicorn_server": {"errors", "serve", "settings", "web"},
    "registry": {"errors", "settings", "store", "trust"},
    "commands": {
        "bulk",
        "errors",
        "hooks",
        "log_keys",
        "population",
        "record",
        "registry",
        "replay",
        "rules",
        "settings",
        "store",
        "trust",
    },
    "cli": {"commands", "errors", "explain", "hooks", "knowledge", "record", "rules", "serve", "settings", "store"},
}
CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.today", "datetime.utcnow", "date.today"}
CLOCK_READERS = {"app.py", "cli.py"}


def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


def imports(module: Path) -> set[str]:
    """Every dotted name that a module imports, at the top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("name", NAMES)
def test_imports_run_one_way(name: str) -> None:
    module = PACKAGE / name
    room = room_of(module)
    if room == "__init__":
        assert not imports(module)
        return
    used = {found.split(".")[1] for found in imports(module) if found.startswith("cds_service.")}
    assert used <= ROOMS[room] | {room}, f"{name} imports {sorted(used - ROOMS[room] - {room})}"


def test_the_order_of_rooms_has_no_circle() -> None:
    seen: set[str] = set()
    waiting = dict(ROOMS)
    while waiting:
        free = [room for room, needs in waiting.items() if needs <= seen]
        assert free, f"a circle among {sorted(waiting)}"
        for room in free:
            seen.add(room)
            del waiting[room]


@pytest.mark.parametrize("name", NAMES)
def test_flask_only_in_web_and_app(name: str) -> None:
    if any(found.split(".")[0] in ("flask", "werkzeug") for found in imports(PACKAGE / name)):
        assert room_of(PACKAGE / name) in ("web", "app")


@pytest.mark.parametrize("name", NAMES)
def test_sockets_only_in_outbound(name: str) -> None:
    network = {"socket", "requests", "urllib.request", "urllib3", "http.client", "httpx", "ssl", "ftplib"}
    used = {found for found in imports(PACKAGE / name) if found in network or found.split(".")[0] in network}
    assert not used or name == "trust/outbound.py"


@pytest.mark.parametrize("name", NAMES)
def test_a_database_only_in_the_store(name: str) -> None:
    used = {found.split(".")[0] for found in imports(PACKAGE / name)} & {"sqlalchemy", "sqlite3", "psycopg", "alembic"}
    assert not used or room_of(PACKAGE / name) == "store"


def clock_calls(module: Path) -> list[str]:
    found = []
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if f"{name}.{node.func.attr}" in CLOCKS:
                found.append(f"{module.name}:{node.lineno}")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_no_clock_below_the_entrances(name: str) -> None:
    if name not in CLOCK_READERS and not name.startswith("commands/"):
        assert not clock_calls(PACKAGE / name)


def test_the_clock_check_sees_a_clock() -> None:
    assert clock_calls(PACKAGE / "cli.py")


@pytest.mark.parametrize("name", NAMES)
def test_no_clinical_constant_in_the_software(name: str) -> None:
    """No clinical code system's code and no finding, analyte or workup by name: they are content, in cards/."""
    content = {path.stem.replace("-", "_") for path in (ROOT / "cards" / "valuesets").glob("*.json")}
    content |= {path.stem for path in (ROOT / "cards" / "workups").glob("*.yaml")} - {"reassurance"}
    allowed = {"rules/case_facts.py": {"gestational_age_birth"}, "knowledge/draft_orders.py": {"tremor"}}
    for node in ast.walk(tree(PACKAGE / name)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not is_docstring(node, name):
            text = node.value
            assert text not in content - allowed.get(name, set()), f"{name}:{node.lineno}: {text}"
            assert not re.fullmatch(r"[1-9]\d{5,17}|\d{1,5}-\d|[A-TV-Z]\d{2}\.[0-9A-Z]{1,4}|HP:\d{7}", text), text


def is_docstring(constant: ast.Constant, name: str) -> bool:
    for node in ast.walk(tree(PACKAGE / name)):
        if isinstance(node, ast.Expr) and node.value.lineno == constant.lineno:
            return True
    return False


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("record/", "rules/"))])
def test_no_clinical_number_in_record_and_rules(name: str) -> None:
    """No number of a threshold, limit or window stands in the software; a time of day is no threshold."""
    cards = ROOT / "cards"
    rules = [file for file in cards.glob("rules/*/*.yaml") if not file.name.endswith(".cases.yaml")]
    files = [cards / "limits.yaml", cards / "reading.yaml", cards / "criteria.yaml", *rules]
    text = "\n".join(re.sub(r"(source|because|title|says):.*", "", file.read_text(encoding="utf-8")) for file in files)
    numbers = {float(found) for found in re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w-])", text)}
    clinical = {number for number in numbers if number > 12 or number % 1} - {60.0}
    assert {28.0, 90.0, 280.0, 2.6} <= clinical
    allowed = {"record/times.py": {14.0, 24.0, 28.0}}.get(name, set())
    for node in ast.walk(tree(PACKAGE / name)):
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            assert float(node.value) not in clinical - allowed, f"{name}:{node.lineno}: {node.value}"


@pytest.mark.parametrize("name", NAMES)
def test_no_module_over_300_lines(name: str) -> None:
    assert len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("name", NAMES)
def test_every_module_and_public_function_says_what_it_is_for(name: str) -> None:
    if name.endswith("__init__.py"):
        return
    parsed = tree(PACKAGE / name)
    assert ast.get_docstring(parsed), f"{name} has no docstring"
    for node in parsed.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name}:{node.lineno}: {node.name} has no docstring"


def test_nothing_names_a_place_outside_the_project() -> None:
    outside = re.compile(r"\.\./shared|/work/|/farm/")
    for path in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *PACKAGE.rglob("*.py"),
        *ROOT.glob("cards/**/*.yaml"),
    ]:
        assert not outside.search(path.read_text(encoding="utf-8")), path


def test_the_five_packages_that_were_asked_for_are_used() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    used = {found.split(".")[0] for module in MODULES for found in imports(module)}
    assert {"fhir", "flask", "jsonschema", "requests"} <= used
    declared = config["options"]["install_requires"] + config["options.extras_require"]["test"]
    for package in ("fhir.resources", "flask", "jsonschema", "pytest", "requests"):
        assert re.search(rf"^{re.escape(package)}\b", declared, re.MULTILINE | re.IGNORECASE), package


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
