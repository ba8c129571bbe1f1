"""The commands of a documentation page, with what it says comes out."""

from __future__ import annotations

import re


def console_steps(page: str) -> list[tuple[str, list[str]]]:
    """Every ``$ command`` of the console blocks in a page or section, with the lines that follow it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found
