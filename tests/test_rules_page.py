"""docs/rules.md is run as it stands: every command, and every line that it says comes out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from console_steps import console_steps

ROOT = Path(__file__).parents[1]


PAGE = (ROOT / "docs/rules.md").read_text(encoding="utf-8")


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    """In a folder of its own, with the command of this environment; a step that says "Error:" has to fail."""
    shutil.copytree(ROOT / "cards", tmp_path / "cards", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "200",
    }
    assert len(console_steps(PAGE)) >= 10
    for command, lines in console_steps(PAGE):
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        said = done.stdout + done.stderr
        for line in lines:
            assert line in said, f"{command}\n{said}"
        assert (done.returncode != 0) is ("Error:" in lines), f"{command}\n{said}"
