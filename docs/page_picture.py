"""Take the picture of the server's page for docs/serving.md: `python docs/page_picture.py ADDRESS RECORDING`.

Needs Debian's `chromium`, a server that `audioml serve` has started at the address, and a recording to ask it about.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright

IMAGE = Path(__file__).parent / "images" / "page.png"
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]
VIEWPORT: ViewportSize = {"width": 1200, "height": 900}


def main(address: str, recording: Path) -> None:
    """Write one PNG of the page with the answer to a recording."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport=VIEWPORT)
        page.goto(address)
        page.get_by_text("trained", exact=True).wait_for()
        page.set_input_files("#file", recording)
        page.get_by_text("request ").wait_for()
        page.screenshot(path=IMAGE, full_page=True)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
