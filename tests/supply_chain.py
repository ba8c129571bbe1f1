"""What the lock file brings along: pins, their bill of materials (CycloneDX) and their licences.

    python tests/supply_chain.py PYTHON    writes docs/sbom.cdx.json and docs/licences.md

PYTHON is the interpreter of an environment into which requirements.lock and nothing else was installed (`make lock`).
"""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
SBOM = ROOT / "docs/sbom.cdx.json"
LICENCES = ROOT / "docs/licences.md"
BROUGHT_BY_VENV = {"pip", "setuptools"}

# Licences that ask for no more than the notice, which a wheel carries.
PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CNRI-Python", "ISC", "MIT", "MIT-0", "PSF-2.0",
    "Unlicense", "Zlib",
}  # fmt: skip

# Reviewed one by one: the licence and why it may be used beside Apache-2.0. A change of licence is reviewed again.
REVIEWED = {
    "certifi": ("MPL-2.0", "a list of certificates, used unchanged; the licence binds its own files only"),
    "orjson": ("MPL-2.0 AND (Apache-2.0 OR MIT)", "used unchanged; the MPL binds its own files only"),
    "psycopg": ("LGPL-3.0-only", "a library used unchanged, which its user may replace"),
    "psycopg-binary": ("LGPL-3.0-only", "as psycopg; libpq (PostgreSQL) and OpenSSL (Apache-2.0) are inside"),
    "python-stdnum": ("LGPL-2.1-or-later", "a library used unchanged, which its user may replace"),
}

# What packages write that do not use SPDX expressions.
SPDX = {
    "Apache 2.0": "Apache-2.0", "Apache License 2.0": "Apache-2.0", "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause", "BSD License": "BSD-3-Clause", "BSD license": "BSD-3-Clause", "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0", "LGPL": "LGPL-2.1-or-later",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.1-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
}  # fmt: skip


def canonical(name: str) -> str:
    """A package's name as all tools agree to write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: Path = LOCK) -> dict[str, str]:
    """Each package of a lock file with its version."""
    return {canonical(name): version for name, version in re.findall(r"^([\w.\-]+)==(\S+)", lock.read_text(), re.M)}


def licence_of(package: Distribution) -> str:
    """The licence as SPDX expression, from what the package says of itself; empty when it says nothing clear."""
    said = package.metadata.get("License-Expression")
    if said:
        return str(said)
    prefix = "License :: "
    classified = [line.split(" :: ")[-1] for line in package.metadata.get_all("Classifier") or [] if prefix in line]
    written = [text for text in classified if text != "OSI Approved"] or [package.metadata.get("License") or ""]
    return " AND ".join(sorted(SPDX.get(text.strip(), text.strip()) for text in written))


def permissive(expression: str) -> bool:
    """Whether an SPDX expression can be met by permissive licences alone; what cannot be read cannot."""
    tokens = re.findall(r"[()]|[^\s()]+", expression)

    def term() -> bool:
        word = tokens.pop(0) if tokens else ""
        if word != "(":
            return word in PERMISSIVE
        inner = any_of()
        return bool(tokens) and tokens.pop(0) == ")" and inner

    def all_of() -> bool:
        good = term()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            good = term() and good
        return good

    def any_of() -> bool:
        good = all_of()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            good = all_of() or good
        return good

    return any_of() and not tokens


def objection(name: str, licence: str) -> str | None:
    """Why this licence may not be used without review; None when it may."""
    if name in REVIEWED:
        known = REVIEWED[name][0]
        return None if licence == known else f"{name}: reviewed as {known}, now {licence or 'unknown'}"
    return None if permissive(licence) else f"{name}: {licence or 'an unknown licence'} is not reviewed"


def installed(site_packages: list[str]) -> dict[str, Distribution]:
    """The packages of an environment by canonical name."""
    return {canonical(found.name): found for found in distributions(path=site_packages)}


def licences_page(packages: dict[str, Distribution]) -> str:
    """docs/licences.md. Raises SystemExit when a licence needs review."""
    rows, problems = [], []
    for name in sorted(packages):
        licence = licence_of(packages[name])
        problem = objection(name, licence)
        problems += [problem] if problem else []
        rows.append(f"| {name} | {packages[name].version} | {licence} | {REVIEWED.get(name, ('', ''))[1]} |")
    if problems:
        raise SystemExit("\n".join(problems))
    head = (
        "# Licences of what is installed with the service\n\n"
        "Written by `make lock` from the metadata of the packages of requirements.lock; the service itself is\n"
        "Apache-2.0. A licence that is not permissive is reviewed, by package, in `tests/supply_chain.py`; an unknown\n"
        "or changed one fails the tests. The bill of materials is [sbom.cdx.json](sbom.cdx.json) (CycloneDX).\n\n"
        "| Package | Version | Licence | Reviewed |\n|---|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def bill_of_materials(python: str) -> str:
    """CycloneDX 1.6 of an environment, the same bytes for the same environment. Hashes are in the lock file."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", python, "--output-reproducible", "--sv", "1.6"]
    bill = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    name, version = setup["metadata"]["name"], setup["metadata"]["version"]
    direct = {canonical(found) for found in re.findall(r"^([\w.\-]+)", setup["options"]["install_requires"], re.M)}
    bill["components"] = [part for part in bill["components"] if canonical(part["name"]) not in BROUGHT_BY_VENV]
    for part in bill["components"]:
        part.pop("externalReferences", None)
    refs = {part["bom-ref"]: canonical(part["name"]) for part in bill["components"]}
    bill["metadata"]["component"] = {"type": "application", "bom-ref": name, "name": name, "version": version}
    bill["dependencies"] = [part for part in bill["dependencies"] if part["ref"] in refs]
    bill["dependencies"].append({"ref": name, "dependsOn": [ref for ref, found in refs.items() if found in direct]})
    return json.dumps(bill, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main(python: str) -> None:
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    packages = {name: found for name, found in installed([where]).items() if name not in BROUGHT_BY_VENV}
    if {name: found.version for name, found in packages.items()} != pins():
        raise SystemExit("the environment does not hold what requirements.lock pins")
    LICENCES.write_text(licences_page(packages), encoding="utf-8")
    SBOM.write_text(bill_of_materials(python), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
