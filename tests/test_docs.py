"""Documentation that lags fails: commands, settings, error codes, kinds of criterion, links."""

from __future__ import annotations

import ast
import configparser
import json
import re
from pathlib import Path

import click
import pytest

from cds_service import errors as all_errors
from cds_service.cli import main
from cds_service.errors import RequestError
from cds_service.settings import Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_is_in_the_readme(command: str) -> None:
    assert re.search(rf"cds-service {command}\b", read("README.md"))


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_and_option_explains_itself(command: str) -> None:
    found = main.commands[command]
    assert found.help
    for parameter in found.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{command} {parameter.name}"


def test_settings_and_their_page_are_the_same_list() -> None:
    documented = set(re.findall(r"^\| `CDS_(\w+)`", read("docs/settings.md"), re.MULTILINE))
    assert documented == {name.upper() for name in Settings.model_fields}


def raised_codes() -> set[str]:
    """Every code given to an error in the software."""
    codes = {"internal", "unauthenticated"}
    errors = {
        name for name, kind in vars(all_errors).items() if isinstance(kind, type) and issubclass(kind, RequestError)
    }
    for module in (ROOT / "cds_service").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in errors and node.args:
                assert isinstance(node.args[0], ast.Constant), f"{module}:{node.lineno}: a code that is computed"
                codes.add(str(node.args[0].value))
    return codes


def test_error_codes_and_their_page_are_the_same_list() -> None:
    documented = set(re.findall(r"^\| `([a-z.\-]+)` \|", read("docs/errors.md"), re.MULTILINE))
    assert documented == raised_codes()


def test_kinds_of_criterion_and_their_page_are_the_same_list() -> None:
    schema = json.loads(read("cards/schema/criterion.schema.json"))
    kinds = {branch["required"][0] for branch in schema["anyOf"]}
    page = read("docs/rule-language.md")
    table = page.split("## Kinds of criterion")[1].split("Qualifiers of a finding")[0]
    assert set(re.findall(r"`(\w+):", table)) - {"verification", "recorded", "implied_by", "before", "is"} == kinds


def test_qualifiers_and_keys_of_a_rule_are_on_the_page() -> None:
    page = read("docs/rule-language.md")
    rule = json.loads(read("cards/schema/rule.schema.json"))
    criterion = json.loads(read("cards/schema/criterion.schema.json"))
    keys = set(rule["properties"])
    finding = criterion["allOf"][0]["then"]["else"]["properties"]
    for name in keys | set(finding):
        assert re.search(rf"`{name}\b", page), name


@pytest.mark.parametrize(
    "page", ["README.md", "cards/README.md", *(str(p.relative_to(ROOT)) for p in DOCS.rglob("*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", read(page)):
        if not target.startswith("http"):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"


def test_decisions_are_short() -> None:
    for path in (DOCS / "decisions").glob("*.md"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 40, path.name


def test_every_requirement_is_locked_with_a_hash() -> None:
    """`pip install --require-hashes -r requirements.lock` installs what setup.cfg asks for."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    asked = re.findall(r"^([A-Za-z][\w.\-]*) ", config["options"]["install_requires"], re.MULTILINE)
    blocks = re.split(r"\n(?=[a-z0-9])", read("requirements.lock"))
    locked = {block.split("==")[0] for block in blocks if "--hash=sha256:" in block}
    assert len(blocks) == len(locked)
    assert {name.lower().replace(".", "-") for name in asked} <= {name.replace(".", "-") for name in locked}
