"""A real identity provider on this machine (tests/oidc/provider.mjs), and a person at its forms."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests

FOLDER = Path(__file__).parent / "oidc"
CLIENT_ID = "cds desk"
SECRET = "a secret of 32 characters, +/%: too"  # noqa: S105
FORM = re.compile(r'<form[^>]*action="([^"]+)"')
FIELD = re.compile(r'<input[^>]*type="hidden"[^>]*name="([^"]+)"[^>]*value="([^"]*)"')


@contextmanager
def running_provider(port: int, redirect_uri: str) -> Iterator[str]:
    """The provider for a while; its issuer. It lets the browser go back to ``redirect_uri`` alone."""
    if not (FOLDER / "node_modules" / "oidc-provider").is_dir():
        pytest.fail("oidc-provider is not installed: make test does it, or npm ci in tests/oidc")
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "printed"
        with printed.open("wb") as output:
            server = subprocess.Popen(
                ["node", "provider.mjs", str(port), redirect_uri, SECRET], cwd=FOLDER, stdout=output, stderr=output
            )
        try:
            deadline = time.monotonic() + 60
            while "listening\n" not in printed.read_text():
                assert server.poll() is None and time.monotonic() < deadline, printed.read_text()
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()


def log_in_there(url: str, name: str, back_to: str) -> str:
    """Fill in the provider's forms as a person of this name; the URL with which it sends the browser back to us."""
    with requests.Session() as browser:
        answer = browser.get(url, allow_redirects=False, timeout=10)
        for _ in range(12):
            if answer.is_redirect:
                url = urljoin(answer.url, answer.headers["Location"])
                if url.startswith(back_to):
                    return url
                answer = browser.get(url, allow_redirects=False, timeout=10)
                continue
            form = FORM.search(answer.text)
            assert answer.status_code == 200 and form, answer.text
            fields = {name_: unescape(value) for name_, value in FIELD.findall(answer.text)}
            if 'name="login"' in answer.text:
                fields |= {"login": name, "password": "any"}
            answer = browser.post(urljoin(answer.url, unescape(form[1])), fields, allow_redirects=False, timeout=10)
    raise AssertionError("the provider did not send the browser back")
