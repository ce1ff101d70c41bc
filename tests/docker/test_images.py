"""What the light images install is what audioml imports there; seen from the sources, without a Docker engine."""

import ast
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

DOCKER = Path(__file__).resolve().parents[2] / "docker"
LOADED = """
import importlib, json, pkgutil, sys
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    for found in pkgutil.iter_modules(getattr(module, "__path__", [])):
        importlib.import_module(f"{name}.{found.name}")
print(json.dumps({n: m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "audioml" and m.__file__}))
"""


def loaded_sources(*packages: str) -> list[Path]:
    """Return the files of audioml that importing these packages, each module of them, loads."""
    done = subprocess.run([sys.executable, "-c", LOADED, *packages], capture_output=True, text=True, check=True)
    return [Path(path) for path in json.loads(done.stdout.splitlines()[-1]).values()]


def imported_at_start(source: Path) -> set[str]:
    """Return the packages that a module imports when it is loaded."""
    tree = ast.parse(source.read_text())
    names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"audioml", ""}


def installed_by(requirements: Path) -> set[str]:
    """Return the distributions that a list of requirements brings, as far as they are installed here."""
    lines = requirements.read_text().splitlines()
    found: set[str] = set()
    todo = [normal(line) for line in lines if line and not line.startswith("#")]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        todo += [normal(r) for r in requires if "extra ==" not in r]
    return found


def normal(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


@pytest.mark.parametrize(
    ("requirements", "packages"),
    [
        # The triggerer lists sources to watch them.
        (
            "airflow.txt",
            ["audioml.orchestration.airflow", "audioml.orchestration.workspaces", "audioml.datasets._source"],
        ),
        ("server.txt", ["audioml.cli", "audioml.serving", "audioml.registry", "audioml.inference"]),
    ],
)
def test_an_image_has_what_its_part_of_audioml_imports(requirements: str, packages: list[str]) -> None:
    distributions = metadata.packages_distributions()
    has = installed_by(DOCKER / requirements)
    for source in loaded_sources(*packages):
        for name in imported_at_start(source):
            candidates = {normal(d) for d in distributions[name]}
            assert candidates & has, f"{source} imports {name}, which {requirements} does not bring"
