"""Make the Data Docs that Great Expectations renders whole: a first page, and nothing from other hosts.

Its pages ask five content networks for styles and scripts, so that without a network they are bare, and
their index is empty. Here the remote links go, a style of our own comes, the first page is a table of
the checks, and a content security policy keeps a label such as ``<script>`` from ever being run.
"""

from __future__ import annotations

import re
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_REMOTE = re.compile(
    r"""<link\b[^>]*\bhref=["']https?://[^>]*>"""
    r"""|<link\b[^>]*favicon[^>]*>"""
    r"""|<script\b.*?</script>"""
    r"""|<img\b[^>]*\bsrc=["']https?://[^>]*>"""
    r"""|<footer\b.*?</footer>"""
    r"""|\bbackground:\s*url\(["']?https?://[^;]*;""",
    re.DOTALL,
)


def finish_site(folder: Path, summary: dict[str, Any]) -> None:
    """Strip every page of remote content and write the first page, ``index.html``.

    Parameters
    ----------
    folder
        Where Great Expectations has built its site.
    summary
        What `validate_manifest` returns.
    """
    own = resources.files("audioml.validation")
    style = own.joinpath("data_docs.css").read_text(encoding="utf-8")
    head = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><link rel="icon" href="data:,">'
    pages = sorted(path for path in folder.rglob("*.html") if path.parent != folder)
    for page in pages:
        html = _REMOTE.sub("", page.read_text(encoding="utf-8"))
        html = html.replace("<html>", '<html lang="en">', 1).replace("<head>", f"<head>{head}", 1)
        html = html.replace("</head>", f"<style>{style}</style></head>", 1)
        html = re.sub(r'(<a href="[^"]*index\.html">)\s*</a>', r"\1All checks</a>", html)
        page.write_text(html, encoding="utf-8")
    # Fonts, animations and styles of the original pages, 4 MB, which no page shows any more.
    shutil.rmtree(folder / "static")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(own.joinpath("data_docs.html.j2").read_text(encoding="utf-8"))
    links = {page.relative_to(folder).as_posix(): _title(page.relative_to(folder)) for page in pages}
    index = template.render(links=links, style=style, policy=_POLICY, **summary)
    (folder / "index.html").write_text(index, encoding="utf-8")


def _title(page: Path) -> str:
    if page.parts[0] == "validations":
        return f"Results on the table of {page.parts[1]}"
    return f"Expectations on the table of {page.stem}"
