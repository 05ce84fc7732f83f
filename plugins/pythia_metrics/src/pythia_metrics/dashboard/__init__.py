"""The page at ``/``: one answer that holds all it needs, so that it works without the internet and without a build.

The browser is told so too: by its policy the page may run this one script, use this one style, and ask this server only.
What messages say comes as JSON and is put in as text, never as HTML.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from pythia_metrics.server import Answer

__all__ = ["page"]


@cache
def page() -> Answer:
    """Return the page, with the policy that fits it."""
    folder = files("pythia_metrics") / "dashboard"
    style, script = ((folder / name).read_text() for name in ("page.css", "page.js"))
    html = (folder / "page.html").read_text()
    body = html.replace("/* STYLE */", style).replace("/* SCRIPT */", script)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
    return Answer(body, "text/html; charset=utf-8", headers=headers)


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
