"""The variants of a packaged model on the test clips."""

from __future__ import annotations

from typing import Any

from audioml.evaluation.variants import VariantFigures, read_variants
from audioml.inference.predictor import Predictor
from audioml.pipeline.context import Context
from audioml.pipeline.judging import PACKAGE, Judged, judge_clips, read_timed, window_shape
from audioml.store.features import FeatureSet
from audioml.tasks._outputs import divide, sum_scores


def measure_variants(ctx: Context, features: FeatureSet, test: Judged, run: dict[str, Any]) -> list[VariantFigures]:
    """Return the figures of all variants, float32 first; none where it is the only one.

    All are judged with the temperature and the thresholds of the one that serves, as the package has no others.

    Parameters
    ----------
    run
        models/run.json.
    """
    folder, figures = ctx.path(PACKAGE) / "artifacts", []
    for variant in read_variants(run):
        if not variant.accepted:
            figures.append(variant)
            continue
        predictor = Predictor.load(folder, threads=0, network=variant.network)
        judged = judge_clips(features, predictor, test.manifest)
        assert judged is not None, "there are test clips"
        targets = predictor.description.targets
        value = divide(*sum_scores(predictor.task, targets, judged.truth, judged.outputs))
        figures.append(variant.measure(folder, window_shape(ctx, predictor, test), value, read_timed(ctx, test)))
    return figures
