"""Run the gates of params.yaml on a challenger, and keep what they said with the version."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from audioml.errors import AudiomlError, ServiceError, StoreError
from audioml.gates._evidence import Evidence, Side, Verdict
from audioml.plugins import load_plugin
from audioml.processes import die_with
from audioml.registry.logged_models import fetch_package
from audioml.registry.package import ARTIFACTS
from audioml.registry.paired import read_scores, read_test_clips
from audioml.registry.versions import RegisteredVersion
from audioml.registry.workspace import Workspace
from audioml.store.files import hash_file, hash_json
from audioml.store.manifest import MANIFEST, SPLITS
from audioml.training.seeds import derive_seed

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

GATES_TAG = "audioml.gates"
"""Of a version: what its gates said last, as JSON."""
MAX_SAID = 1000
"""Characters of what a gate says: a tag of MLflow's holds 100,000."""
ADDRESS = re.compile(r"http://[0-9.]+:[0-9]+")
SERVING = {"serving": {"log_share": 0.0, "poll_s": 3600.0}}
"""A server that is only tried: what it is asked is nobody's request, and it follows no alias."""
END_S = 20.0
JUDGED_BY = (MANIFEST, SPLITS, "reports/validation.json")
"""Files of the workspace that gates look at."""
PACKAGE = "package"
"""What a version fails that cannot be fetched: no gate is asked then."""


@dataclass(frozen=True)
class GateResult:
    """What one gate said."""

    name: str
    params: Mapping[str, Any]
    passed: bool | None
    """None where it does not apply."""
    said: str
    figures: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether it speaks against the version."""
        return self.passed is False


@dataclass(frozen=True)
class Judgement:
    """What all gates said of a version."""

    champion: int | None
    """The version that was champion."""
    settings: str
    """Hash of what was asked for, and of the test clips: with others they are asked again."""
    results: tuple[GateResult, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the gates that speak against the version."""
        return tuple(result.name for result in self.results if result.failed)


def judge(
    ctx: Workspace,
    client: MlflowClient,
    challenger: RegisteredVersion,
    champion: RegisteredVersion | None,
    comparison: Mapping[str, Any],
) -> Judgement:
    """Return what the gates say of a challenger: that all let it pass, if they said so of the same before, or anew.

    Needs `audioml.registry.tracking.tracking` around it.

    Parameters
    ----------
    ctx
        The workspace, whose params name the gates.
    client
        MLflow's.
    challenger, champion
        The versions.
    comparison
        What `audioml.registry.comparison` found.
    """
    files = [ctx.path(path) for path in JUDGED_BY]
    settings = hash_json(
        [
            ctx.params.model_dump(mode="json", include={"registry", "evaluate", "split", "seed"}),
            [hash_file(path) if path.exists() else None for path in files],
            comparison["paired"],
            *([side.package_digest, repr(sorted(side.metrics.items()))] for side in (challenger, champion) if side),
        ]
    )
    against = champion.version if champion else None
    known = read_judgement(client.get_model_version(challenger.name, str(challenger.version)))
    # What failed is tried again: a server that did not start may start now.
    if known and not known.failed and (known.settings, known.champion) == (settings, against):
        return known
    results = tuple(_ask_all(ctx, challenger, champion, comparison))
    judgement = Judgement(against, settings, results)
    text = json.dumps(asdict(judgement), ensure_ascii=False)
    client.set_model_version_tag(challenger.name, str(challenger.version), GATES_TAG, text)
    return judgement


def read_judgement(version: ModelVersion) -> Judgement | None:
    """Return what a version's gates said last; None if they were never asked."""
    text = version.tags.get(GATES_TAG)
    if not text:
        return None
    stored = json.loads(text)
    return Judgement(**stored | {"results": tuple(GateResult(**result) for result in stored["results"])})


def _ask_all(
    ctx: Workspace,
    challenger: RegisteredVersion,
    champion: RegisteredVersion | None,
    comparison: Mapping[str, Any],
) -> Iterator[GateResult]:
    sections = ctx.params.gate_sections()
    try:
        evidence = _gather(ctx, challenger, champion, comparison)
    except ServiceError:
        raise
    except AudiomlError as error:
        yield GateResult(PACKAGE, {}, False, str(error)[:MAX_SAID])
        return
    for name, params in sections:
        yield _ask(name, params, evidence)


def _ask(name: str, params: Any, evidence: Evidence) -> GateResult:
    start = time.perf_counter()
    try:
        verdict: Verdict = load_plugin("gates", name).check(params, evidence)
    except ServiceError:
        raise
    except AudiomlError as error:
        verdict = Verdict(False, str(error))
    seconds = time.perf_counter() - start
    shown = params.model_dump(mode="json")
    return GateResult(name, shown, verdict.passed, verdict.said[:MAX_SAID], dict(verdict.figures), round(seconds, 3))


def _gather(
    ctx: Workspace,
    challenger: RegisteredVersion,
    champion: RegisteredVersion | None,
    comparison: Mapping[str, Any],
) -> Evidence:
    def side(version: RegisteredVersion) -> Side:
        package = fetch_package(ctx.state, version.uri, version.package_digest)
        return Side(version.version, version.metrics, package / ARTIFACTS)

    def read_clips(n: int) -> tuple[pd.DataFrame, list[bytes]]:
        return read_test_clips(ctx, n, np.random.default_rng(derive_seed(ctx.params.seed, "gates")))

    return Evidence(
        workspace=ctx.workspace,
        params=ctx.params,
        challenger=side(challenger),
        champion=side(champion) if champion else None,
        primary=comparison["primary"],
        higher_is_better=comparison["higher_is_better"],
        paired=comparison["paired"],
        not_paired=comparison["not_paired"],
        read_scores=cache(lambda: read_scores(ctx, challenger, champion) if champion else None),
        read_clips=read_clips,
        serve=lambda: _serve(ctx, challenger),
    )


@contextmanager
def _serve(ctx: Workspace, version: RegisteredVersion) -> Iterator[str]:
    """Run a server of a version for the block, in a process of its own; yield its address.

    Raises
    ------
    StoreError
        When it does not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings, log = Path(folder) / "serving.yaml", Path(folder) / "log"
        settings.write_text(yaml.safe_dump(SERVING))
        options: Sequence[str] = [
            f"--model={version.name}@{version.version}",
            "--port=0",
            f"--params={settings}",
            f"--tokens={Path(folder) / 'tokens.json'}",
            f"--workspace={ctx.workspace}",
        ]
        with (
            log.open("w") as errors,
            subprocess.Popen(
                [sys.executable, "-P", "-m", "audioml", "serve", *options],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=die_with(os.getpid()),
            ) as process,
        ):
            try:
                assert process.stdout
                found = ADDRESS.search(process.stdout.readline())
                if not found:
                    process.wait(END_S)
                    said = log.read_text(errors="replace").strip().splitlines()
                    raise StoreError(
                        f"A server of version {version.version} does not start: {said[-1] if said else 'no reason'}"
                    )
                yield found[0]
            finally:
                process.terminate()
                try:
                    process.wait(END_S)
                except subprocess.TimeoutExpired:
                    process.kill()
