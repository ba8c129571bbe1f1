"""What is installed with the service is pinned, listed and licensed; what the software never does, its trees show."""

from __future__ import annotations

import ast
import configparser
import json
import re
import sys
import sysconfig
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from supply_chain import LICENCES, REVIEWED, ROOT, SBOM, canonical, installed, licence_of, objection, permissive, pins

PACKAGE = ROOT / "cds_service"
NAMES = sorted(str(module.relative_to(PACKAGE)) for module in PACKAGE.rglob("*.py"))
RENEW = "renew it: make lock"

XML = {"lxml", "defusedxml", "xmltodict", "xmlschema", "beautifulsoup4", "html5lib", "untangle", "pyquery"}
FORBIDDEN_MODULES = {
    *("xml", "xmlrpc", "pyexpat", *XML, "bs4"),  # no XML is read: CDS Hooks and FHIR come as JSON
    *("pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"),
    *("subprocess", "pty", "pexpect", "sh"),
    *("code", "codeop", "runpy"),
}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__", "breakpoint"}
FORBIDDEN_ATTRIBUTES = {
    "os": re.compile(r"system|popen|exec\w+|spawn\w+|posix_spawn\w*|fork\w*"),
    "asyncio": re.compile(r"create_subprocess_\w+"),
    "importlib": re.compile(r"import_module|reload"),
    "yaml": re.compile(r"(?!C?Safe)\w*Loader|(full|unsafe)_load(_all)?"),
    "flask": re.compile(r"render_template_string"),
}


def broken(source: str) -> list[str]:
    """What a module does that no module of ours may, with its line."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [(node.lineno, a.name) for a in names if a.name.split(".")[0] in FORBIDDEN_MODULES]
            case ast.ImportFrom(module=str(module), names=names):
                if module.split(".")[0] in FORBIDDEN_MODULES:
                    found.append((node.lineno, module))
                found += [(node.lineno, "yaml.load") for a in names if module == "yaml" and a.name.startswith("load")]
                pattern = FORBIDDEN_ATTRIBUTES.get(module)
                found += [(node.lineno, f"{module}.{a.name}") for a in names if pattern and pattern.fullmatch(a.name)]
            case ast.Name(id=name) if name in FORBIDDEN_NAMES:
                found.append((node.lineno, name))
            case ast.Attribute(value=ast.Name(id=owner), attr=name):
                pattern = FORBIDDEN_ATTRIBUTES.get(owner)
                found += [(node.lineno, f"{owner}.{name}")] if pattern and pattern.fullmatch(name) else []
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="yaml"), attr="load" | "load_all"), args=args, keywords=keywords
            ):
                loaders = [*args[1:], *(keyword.value for keyword in keywords if keyword.arg == "Loader")]
                names = [loader.attr for loader in loaders if isinstance(loader, ast.Attribute)]
                found += [] if names in (["SafeLoader"], ["CSafeLoader"]) else [(node.lineno, "yaml.load")]
            case ast.Call(keywords=keywords):
                for keyword in keywords:
                    value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                    if keyword.arg == "shell" or (keyword.arg == "verify" and value is False):
                        found.append((node.lineno, f"{keyword.arg}="))
    return [f"{line}: {what}" for line, what in found]


@pytest.mark.parametrize("name", NAMES)
def test_no_xml_no_shell_no_pickle_no_evaluation(name: str) -> None:
    """Nobody needs an exception today: no module starts a program, not even without a shell."""
    assert broken((PACKAGE / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import xml.etree.ElementTree as ET", "from lxml import etree", "import pickle", "from marshal import loads",
        "import subprocess", "from subprocess import run", "import os\nos.system('x')", "from os import popen",
        "os.execv('x', [])", "eval('1')", "exec('x')", "compile('', '', 'exec')", "__import__('os')",
        "from importlib import import_module", "yaml.load(x)", "yaml.load(x, Loader)", "from yaml import load",
        "yaml.unsafe_load(x)",
        "yaml.full_load(x)",
        "yaml.compose(x, Loader=yaml.Loader)", "from yaml import FullLoader", "run(x, shell=True)", "run(x, shell=y)",
        "get(url, verify=False)", "from flask import render_template_string", "asyncio.create_subprocess_exec()",
    ],
)  # fmt: skip
def test_each_of_these_would_be_noticed(source: str) -> None:
    assert broken(source)


@pytest.mark.parametrize(
    "source",
    ["yaml.compose(x, Loader=yaml.CSafeLoader)", "yaml.load(x, yaml.SafeLoader)", "yaml.safe_load(x)",
     "re.compile('x')", "os.environ['x']",
     "from importlib.resources import files", "get(url, verify=True)"],
)  # fmt: skip
def test_what_is_harmless_is_not(source: str) -> None:
    assert not broken(source)


def test_templates_escape_everything() -> None:
    for template in PACKAGE.rglob("*.html"):
        assert not re.search(r"\|\s*safe|autoescape\s+false", template.read_text(encoding="utf-8")), template.name


def test_every_package_that_is_imported_is_pinned_or_of_an_extra() -> None:
    """What happens to be installed where the tests run may be missing where the lock file is all there is."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = [text for name, text in setup["options.extras_require"].items() if name != "test"]
    optional = {canonical(found) for text in extras for found in re.findall(r"^([A-Za-z][\w.\-]*)", text, re.M)}
    owners = packages_distributions()
    for name in NAMES:
        for node in ast.walk(ast.parse((PACKAGE / name).read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for top in {module.split(".")[0] for module in modules} - sys.stdlib_module_names:
                found = {canonical(owner) for owner in owners.get(top, [top])}
                assert found & (set(pins()) | optional | {"cds-service"}), f"{name} imports {top} of {sorted(found)}"


def test_no_pin_reads_xml() -> None:
    assert not set(pins()) & XML


def test_the_bill_of_materials_is_of_this_lock_file() -> None:
    bill = json.loads(SBOM.read_text(encoding="utf-8"))
    assert {re.sub(r"[-_.]+", "-", part["name"]).lower(): part["version"] for part in bill["components"]} == pins(), (
        RENEW
    )
    refs = {part["bom-ref"] for part in bill["components"]}
    (ours,) = [part for part in bill["dependencies"] if part["ref"] == "cds-service"]
    assert set(ours["dependsOn"]) <= refs
    assert len(ours["dependsOn"]) >= 15


def test_the_bill_of_materials_is_cyclonedx() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(SBOM.read_text(encoding="utf-8")) is None


def test_the_page_of_licences_is_of_this_lock_file() -> None:
    rows = re.findall(r"^\| ([\w-]+) \| (\S+) \| (.+?) \| (.*) \|$", LICENCES.read_text(encoding="utf-8"), re.M)
    assert {name: version for name, version, *_ in rows if name != "Package"} == pins(), RENEW
    assert [objection(name, licence) for name, _, licence, _ in rows if name != "Package"] == [None] * len(pins())


@pytest.mark.parametrize("name", sorted(pins()))
def test_every_installed_licence_is_permissive_or_reviewed(name: str) -> None:
    package = installed([sysconfig.get_path("purelib"), *sys.path]).get(name)
    assert package is not None, f"{name} is pinned but nothing asks for it; {RENEW}"
    assert objection(name, licence_of(package)) is None


def test_no_review_outlives_its_package() -> None:
    assert set(REVIEWED) <= set(pins())


@pytest.mark.parametrize(
    ("licence", "good"),
    [
        ("MIT", True), ("MIT OR GPL-3.0-only", True), ("MIT AND GPL-3.0-only", False), ("AGPL-3.0-only", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", False), ("(GPL-2.0-only OR MIT) AND BSD-3-Clause", True), ("", False),
        ("Apache-2.0 WITH LLVM-exception", False), ("(MIT", False), ("Proprietary", False), ("MIT OR", True),
    ],
)  # fmt: skip
def test_what_a_licence_expression_allows(licence: str, good: bool) -> None:
    assert permissive(licence) is good


def test_a_reviewed_licence_that_changes_is_reviewed_again() -> None:
    assert objection("psycopg", "LGPL-3.0-only") is None
    assert objection("psycopg", "AGPL-3.0-only") == "psycopg: reviewed as LGPL-3.0-only, now AGPL-3.0-only"
    assert objection("unheard-of", "") == "unheard-of: an unknown licence is not reviewed"


def test_the_lock_takes_wheels_of_the_python_that_is_deployed() -> None:
    """The lock is made under the Python of the image: markers of another could ask for other packages."""
    image = re.search(r"python:(\d+\.\d+)-", (ROOT / "docs/deploy/Dockerfile").read_text(encoding="utf-8"))
    assert image is not None
    assert image[1] == "3.11"
    assert "3.11" in (ROOT / "docs/deploy.md").read_text(encoding="utf-8")


def test_each_lock_names_a_hash_for_every_pin() -> None:
    for lock in (ROOT / "requirements.lock", ROOT / "docs/deploy/build.lock"):
        text = re.sub(r"^#.*$", "", lock.read_text(encoding="utf-8"), flags=re.M).strip()
        blocks = re.split(r"\n(?=[a-z0-9])", text)
        assert all(re.match(r"[\w.\-]+==\S+ \\\n +--hash=sha256:[0-9a-f]{64}", block) for block in blocks), lock
    assert set(pins(Path(ROOT / "docs/deploy/build.lock"))) == {"setuptools"}
