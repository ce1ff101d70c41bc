"""validate: check the manifest with Great Expectations; a failed check of severity fail stops the run."""

from __future__ import annotations

import logging
from typing import Any

from audioml.errors import DatasetError
from audioml.pipeline.context import Context
from audioml.pipeline.step import Item
from audioml.store.files import read_json, write_json
from audioml.store.manifest import MANIFEST, read_manifest
from audioml.tasks._clip_labels import labels_of, min_labels
from audioml.validation.suite import validate_manifest

DOCS = "reports/validation"
SUMMARY = "reports/validation.json"
log = logging.getLogger(__name__)


def plan(ctx: Context) -> list[Item]:
    """Return the one item: the manifest."""
    ctx.require(MANIFEST, "ingest")
    return [Item("manifest", "all checks")]


def work(ctx: Context, item: Item) -> dict[str, Any]:
    """Check the manifest; write the Data Docs and the summary, whatever the outcome."""
    manifest = read_manifest(ctx.path(MANIFEST))
    labels = labels_of(ctx.params, manifest)
    summary = validate_manifest(manifest, ctx.params.validate_, ctx.path(DOCS), labels, min_labels(ctx.params))
    write_json(ctx.path(SUMMARY), summary)
    return {"success": summary["success"], "checks": len(summary["checks"])}


def collect(ctx: Context) -> dict[str, Any]:
    """Report warnings, and stop the run when a check of severity fail has failed.

    Raises
    ------
    DatasetError
        With each failed check: what was expected, what was observed, examples, and what to do.
    """
    summary = read_json(ctx.require(SUMMARY, "validate"))
    not_held = [check for check in summary["checks"] if not check["success"]]
    failed = [check for check in not_held if check["severity"] == "fail"]
    warned = [check for check in not_held if check["severity"] == "warn"]
    for check in warned:
        log.warning("%s", explain_check(check))
    if failed:
        reasons = "\n".join(explain_check(check) for check in failed)
        raise DatasetError(
            f"{len(failed)} of {len(summary['checks'])} checks failed on the {summary['dataset']['clips']} clips "
            f"of {MANIFEST}:\n{reasons}\n"
            f"See {DOCS}/index.html. validate.severity in params.yaml makes a check warn or turns it off."
        )
    return {
        "checks": len(summary["checks"]),
        "warnings": [explain_check(check) for check in warned],
        "clips": summary["dataset"]["clips"],
        "hours": summary["dataset"]["hours"],
        "labels": summary["dataset"]["labels"],
    }


def explain_check(check: dict[str, Any]) -> str:
    """Return a check that does not hold in words: expected, observed, examples, what to do."""
    examples = f" For example: {'; '.join(check['examples'])}." if check["examples"] else ""
    return f"- {check['name']}: {check['expectation']} Observed: {check['observed']}.{examples} {check['advice']}"
