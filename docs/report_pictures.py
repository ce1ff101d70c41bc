"""Take pictures of parts of a workspace's report for docs/evaluation.md: `python docs/report_pictures.py WORKSPACE`.

Needs Debian's `chromium`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright

IMAGES = Path(__file__).parent / "images"
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]
VIEWPORT: ViewportSize = {"width": 1100, "height": 900}
SECTIONS = ("slices", "noise", "calibration", "explanations")


def main(workspace: Path) -> None:
    """Write one PNG a section of the report: docs/images/evaluation-NAME.png."""
    report = workspace / "reports" / "evaluation" / "index.html"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport=VIEWPORT)
        page.goto(report.resolve().as_uri())
        for section in SECTIONS:
            page.locator(f"#{section}").screenshot(path=IMAGES / f"evaluation-{section}.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
