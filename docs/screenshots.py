"""Take the README's pictures from a running workspace: `python docs/screenshots.py audioml-demo`.

Needs Debian's `chromium` and a stack that `audioml demo` or `audioml up` has started.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, sync_playwright

IMAGES = Path(__file__).parent / "images"
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-quic", "--no-first-run"),
]
VIEWPORT: ViewportSize = {"width": 1400, "height": 900}
SETTLE_MS = 4000
"""Both pages draw their graphs and tables some time after the network is quiet."""


def main(workspace: Path) -> None:
    """Write one PNG each of the Airflow graph, the MLflow model and the report."""
    command = ["audioml", "status", "-C", str(workspace), "--json"]
    stack = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    registered = json.loads((workspace / "models" / "registered.json").read_text())
    urls = {name: service["url"] for name, service in stack["services"].items() if service["url"]}
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            profile, executable_path="/usr/bin/chromium", args=FLAGS, viewport=VIEWPORT
        )
        page = browser.new_page()
        take_airflow(page, urls["airflow-api-server"], stack["login"], workspace.resolve().name)
        take_mlflow(page, urls["mlflow"], registered)
        page.goto((workspace / "reports" / "evaluation" / "index.html").resolve().as_uri())
        page.screenshot(path=IMAGES / "report.png")
        browser.close()


def take_airflow(page: Page, url: str, login: dict[str, str], dag_id: str) -> None:
    """Log in and open the graph of the newest run, a box a step."""
    page.goto(f"{url}/auth/login")
    page.get_by_label("Username").fill(login["username"])
    page.get_by_label("Password").first.fill(login["password"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda address: "login" not in address)
    page.goto(f"{url}/dags/{dag_id}/runs")
    page.wait_for_timeout(SETTLE_MS)
    page.locator("a[href*='/runs/manual']").first.click()
    page.wait_for_timeout(SETTLE_MS)
    for button in ("Show Graph (Press g)", "Collapse Details Panel"):
        page.get_by_label(button).first.click()
    page.set_viewport_size({"width": 1900, "height": 640})
    page.wait_for_timeout(SETTLE_MS)
    page.get_by_label("Fit View").first.click()
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=IMAGES / "airflow-graph.png")
    page.set_viewport_size(VIEWPORT)


def take_mlflow(page: Page, url: str, registered: dict[str, str]) -> None:
    """Open the page of the registered version, then that of the model it was made from."""
    page.goto(f"{url}/#/models/{registered['name']}/versions/{registered['version']}")
    page.wait_for_timeout(SETTLE_MS)
    page.get_by_text("Model training", exact=True).click()
    page.goto(f"{url}/#/models/{registered['name']}/versions/{registered['version']}")
    page.wait_for_timeout(SETTLE_MS)
    if page.get_by_label("Close").count():
        page.get_by_label("Close").first.click()
    page.locator("a[href*='/models/m-']").first.click()
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=IMAGES / "mlflow-model.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
