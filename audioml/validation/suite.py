"""Check a manifest with Great Expectations: suites from params, Data Docs, a summary."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
from great_expectations.core.expectation_validation_result import ExpectationValidationResult
from great_expectations.core.run_identifier import RunIdentifier

from audioml.params import ValidateParams
from audioml.store.files import write_folder_atomic
from audioml.validation.checks import COLUMNS, Check, Table, build_checks
from audioml.validation.context import SITE, open_context
from audioml.validation.data_docs import finish_site

MAX_EXAMPLES = 5
_SEVERITIES = {"fail": "critical", "warn": "warning"}
_NAMED_BY: dict[Table, str] = {"clips": "path", "labels": "label"}


def validate_manifest(
    manifest: pd.DataFrame,
    params: ValidateParams,
    docs_folder: Path,
    labels: Sequence[Sequence[str]] | None = None,
    n_labels: int = 2,
) -> dict[str, Any]:
    """Check a manifest, write Data Docs to `docs_folder`, and return the summary.

    Parameters
    ----------
    manifest
        One row a clip, as `store.manifest.read_manifest` returns it.
    params
        Bounds and severities.
    docs_folder
        Replaced as a whole by a static site; ``index.html`` is its first page.
    labels
        The labels of each clip, none or more; None takes the column `label` for one.
    n_labels
        Different labels that there must be at least.

    Returns
    -------
    dict
        ``success`` (no check of severity fail has failed), ``dataset`` (counts, hours, rates), ``checks``
        (name, severity, success, expectation, observed, unexpected, examples, advice) and the version of
        Great Expectations. The same manifest and params give the same summary.

    Raises
    ------
    ParamsError
        When a severity is given for a check that does not exist.
    """
    checks = build_checks(params, n_labels, several=labels is not None)
    pairs = manifest if labels is None else pd.DataFrame({"label": list(chain.from_iterable(labels))}, dtype=str)
    tables: dict[Table, pd.DataFrame] = {"clips": manifest, "labels": count_labels(pairs, params.labels)}
    with write_folder_atomic(docs_folder) as folder:
        context = open_context(folder)
        source = context.data_sources.add_pandas("manifest")
        results: dict[str, ExpectationValidationResult] = {}
        for name, table in tables.items():
            batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
            expectations = [_expectation(check) for check in checks if check.table == name]
            if not expectations:
                continue
            suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
            definition = gx.ValidationDefinition(name=name, data=batch, suite=suite)
            run = context.validation_definitions.add(definition).run(
                batch_parameters={"dataframe": table},
                run_id=RunIdentifier(run_name="validate"),
                # Naming the rows by a column would make a dictionary of every row that fails: minutes at a million.
                result_format={"result_format": "SUMMARY", "partial_unexpected_count": MAX_EXAMPLES},
            )
            results |= {result.expectation_config.meta["check"]: result for result in run.results}
        context.build_data_docs(site_names=[SITE])
        rows = [_summarize(check, results[check.name], tables[check.table]) for check in checks]
        summary = {
            "success": all(row["success"] or row["severity"] != "fail" for row in rows),
            "dataset": describe_dataset(manifest, pairs),
            "checks": rows,
            "great_expectations": gx.__version__,
        }
        finish_site(folder, summary)
    return summary


def count_labels(manifest: pd.DataFrame, labels: list[str] | None) -> pd.DataFrame:
    """Return one row a label: ``label``, ``clips``, ``imbalance`` (clips of the largest label over its own).

    Labels that are asked for and do not occur are there with 0 clips, and a null imbalance.
    """
    if "label" not in manifest:
        return pd.DataFrame({"label": pd.Series(dtype=str), "clips": pd.Series(dtype=int), "imbalance": []})
    counts = manifest["label"].value_counts()
    if labels is not None:
        counts = counts.reindex(counts.index.union(pd.Index(labels, dtype=counts.index.dtype)), fill_value=0)
    counts = counts.sort_index()
    clips = counts.to_numpy()
    imbalance = np.divide(clips.max(initial=0), clips, out=np.full(clips.shape, np.nan), where=clips > 0)
    return pd.DataFrame({"label": counts.index, "clips": clips, "imbalance": imbalance})


def describe_dataset(manifest: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, Any]:
    """Return the numbers of clips, hours and labels, and the clips of each label and each sample rate.

    `pairs` has a row for each label of each clip; the manifest itself where a clip has one.
    """
    described: dict[str, Any] = {"clips": len(manifest)}
    if "duration_s" in manifest:
        described["hours"] = round(float(manifest["duration_s"].sum()) / 3600, 4)
        if len(manifest):
            quantiles = manifest["duration_s"].quantile([0.0, 0.5, 1.0])
            described["duration_s"] = dict(
                zip(("min", "median", "max"), (round(float(q), 4) for q in quantiles), strict=True)
            )
    if "label" in pairs:
        counts = pairs["label"].value_counts().sort_index()
        described["labels"] = len(counts)
        described["clips_per_label"] = {str(label): int(count) for label, count in counts.items()}
    if "sample_rate" in manifest:
        rates = manifest["sample_rate"].value_counts().sort_index()
        described["clips_per_sample_rate"] = {str(rate): int(count) for rate, count in rates.items()}
    return described


def _expectation(check: Check) -> gxe.Expectation:
    kind: type[gxe.Expectation] = getattr(gxe, check.kind)
    return kind(
        **check.arguments,
        severity=_SEVERITIES[check.severity],
        meta={"check": check.name},
        notes=f"{check.name}: {check.expectation}",
    )


def _summarize(check: Check, result: ExpectationValidationResult, table: pd.DataFrame) -> dict[str, Any]:
    found: dict[str, Any] = result.result or {}
    unexpected = int(found.get("unexpected_count") or 0)
    return {
        "name": check.name,
        "severity": check.severity,
        "success": bool(result.success),
        "expectation": check.expectation,
        "observed": _observe(check, found, table),
        "unexpected": unexpected,
        "examples": _examples(check, found, table),
        "advice": check.advice,
    }


def _observe(check: Check, found: dict[str, Any], table: pd.DataFrame) -> str:
    if check.name == "columns":
        missing = [column for column in COLUMNS if column not in table]
        return f"missing: {', '.join(missing)}" if missing else "all there"
    column = check.arguments["column"]
    if column not in table:
        return f"the column {column} is missing"
    if check.name == "classes":
        labels = sorted(map(str, table["label"].dropna().unique()))
        return f"{len(labels)} labels" if len(labels) != 1 else f"1 label: {labels[0]}"
    thing = "clips" if check.table == "clips" else "labels"
    unexpected, total = int(found.get("unexpected_count") or 0), len(table)
    observed = f"all {total} {thing} do"
    if unexpected:
        observed = f"{unexpected} of {total} {thing} ({100 * unexpected / total:.3g} %) do not"
    values = table[column].dropna()
    if "Between" in check.kind and len(values):
        low, high = check.show(values.min()), check.show(values.max())
        observed += f": {low}" if low == high else f"; values range from {low} to {high}"
    return observed


def _examples(check: Check, found: dict[str, Any], table: pd.DataFrame) -> list[str]:
    name = _NAMED_BY[check.table]
    if name not in table:
        return []
    examples = []
    for row in (found.get("partial_unexpected_index_list") or [])[:MAX_EXAMPLES]:
        values: dict[Any, Any] = table.loc[row].to_dict()
        value = values[check.arguments["column"]]
        examples.append(str(values[name]) if pd.isna(value) else f"{values[name]}: {check.show(value)}")
    return examples
