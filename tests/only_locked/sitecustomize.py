"""Python as production has it: what no line of requirements.lock installs cannot be imported.

The tests' environment holds more, and jsonschema alone takes 25 MB and two seconds of CPU for formats that it finds
there. Put this folder first in PYTHONPATH.
"""

import os
import re
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

TOLD = "ONLY_LOCKED_OTHERS"  # so that processes started from here do not look again: it takes a quarter of a second
LOCK = Path(__file__).parents[2] / "requirements.lock"
OURS = {"cds-service", "pip", "setuptools"}


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def others():
    """The top-level packages that only distributions outside the lock bring."""
    from importlib.metadata import packages_distributions

    pinned = re.findall(r"^([A-Za-z0-9._-]+)==", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    kept = {plain(name) for name in pinned} | OURS
    return {top for top, names in packages_distributions().items() if not kept & {plain(name) for name in names}}


class Absent(MetaPathFinder):
    """Finds nothing, loudly, for packages that production lacks."""

    def __init__(self, names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


if TOLD not in os.environ:
    os.environ[TOLD] = " ".join(sorted(others()))
sys.meta_path.insert(0, Absent(set(os.environ[TOLD].split())))
