"""The pipeline on one page. Order is the order of the flow; imports nothing heavy."""

from __future__ import annotations

from audioml.errors import StepError, did_you_mean
from audioml.pipeline.step import Output, Step

FEATURE_CODE = (
    "audio",
    "clean",
    "features/_batch.py",
    "features/_deltas.py",
    "features/_device.py",
    "features/_mel.py",
    "features/_stft.py",
    "features/_torch.py",
    "features/_window.py",
    "features/${features.name}.py",
    "units.py",
)
TASK_CODE = (
    "labels.py",
    "phonemes.py",
    "tasks/_clip_labels.py",
    "tasks/_ctc_decoding.py",
    "tasks/_decoding.py",
    "tasks/_matching.py",
    "tasks/_ngrams.py",
    "tasks/_outputs.py",
    "tasks/_ranking.py",
    "tasks/_text_so_far.py",
    "tasks/_texts.py",
    "tasks/${task.name}.py",
)
INFERENCE_CODE = (*FEATURE_CODE, *TASK_CODE, "inference")
"""From audio bytes to a prediction; the model's package carries it."""

STEPS: tuple[Step, ...] = (
    Step(
        name="ingest",
        summary="pack recordings into Parquet shards and describe them in a manifest",
        inputs=("${data.source}",),
        outputs=(
            Output("data/audio", persist=True),
            Output("data/manifest.parquet", persist=True),
            Output("data/quarantine.parquet", persist=True),
        ),
        params=("data", "ingest"),
        code=(
            "audio",
            "datasets/_files.py",
            "datasets/_partition.py",
            "datasets/_record.py",
            "datasets/_source",
            "datasets/_table.py",
            "datasets/${data.layout}.py",
            "segment",
            "store",
            "labels.py",
            "partitions.py",
            "units.py",
            "pipeline/examination.py",
            "pipeline/ingest_job.py",
            "pipeline/ingest_listing.py",
            "pipeline/withdrawal.py",
            "pipeline/steps/ingest.py",
        ),
        mapped=True,
    ),
    Step(
        name="validate",
        summary="check the manifest with Great Expectations",
        inputs=("data/manifest.parquet",),
        outputs=(Output("reports/validation"), Output("reports/validation.json", kind="small")),
        params=("task", "validate"),
        code=(*TASK_CODE, "store", "validation", "pipeline/steps/validate.py"),
    ),
    Step(
        name="split",
        summary="assign clips to train, validation and test, groups whole",
        inputs=("data/manifest.parquet", "reports/validation.json"),
        outputs=(Output("data/splits.parquet"),),
        params=("seed", "split", "task"),
        code=(
            *TASK_CODE,
            "store",
            "pipeline/drawing.py",
            "pipeline/folding.py",
            "pipeline/splitting.py",
            "pipeline/train_shares.py",
            "pipeline/steps/split.py",
        ),
    ),
    Step(
        name="featurize",
        summary="turn packed clips into Arrow feature shards",
        inputs=("data/audio", "data/manifest.parquet", "reports/validation.json"),
        outputs=(Output("features", persist=True),),
        params=("clean", "features", "ingest.max_bad_share"),
        code=(*FEATURE_CODE, "inference/extraction.py", "store", "pipeline/steps/featurize.py"),
        mapped=True,
    ),
    Step(
        name="train",
        summary="fit the model with Lightning and package it for MLflow",
        inputs=("data/audio", "data/manifest.parquet", "data/splits.parquet", "features"),
        outputs=(
            Output("models/checkpoint.ckpt"),
            Output("models/model.onnx"),
            Output("models/package"),
            Output("models/parts.parquet"),
            Output("models/run.json", kind="small"),
            Output("models/training_clips.parquet"),
        ),
        params=("augment", "clean", "export", "model", "name", "seed", "split.group", "task", "training"),
        code=(
            *INFERENCE_CODE,
            "augment",
            "evaluation/calibration.py",
            "evaluation/outputs.py",
            "models/_attention.py",
            "models/_causal.py",
            "models/_probabilities.py",
            "models/_recurrent.py",
            "models/_statistics.py",
            "models/_trees.py",
            "models/${model.name}.py",
            "registry/package.py",
            "registry/pyfunc_model.py",
            "store",
            "tasks/_pooling.py",
            "tasks/_speaker_head.py",
            "training",
            "pipeline/package_clips.py",
            "pipeline/packaging.py",
            "pipeline/transfer_source.py",
            "pipeline/variants.py",
            "pipeline/steps/train.py",
        ),
        spawned=True,
    ),
    Step(
        name="evaluate",
        summary="measure the model on held-out clips and write the report",
        inputs=(
            "data/audio",
            "data/manifest.parquet",
            "data/splits.parquet",
            "features",
            "models/checkpoint.ckpt",
            "models/package",
            "models/parts.parquet",
            "models/run.json",
        ),
        outputs=(
            Output("reports/metrics.json", kind="metrics"),
            Output("reports/plots", kind="plots"),
            Output("reports/evaluation"),
        ),
        params=("evaluate", "name", "seed", "split.group"),
        code=(
            *INFERENCE_CODE,
            "datasets/_files.py",
            "evaluation",
            "models/${model.name}.py",
            "store",
            "tasks/_figures.py",
            "training/network.py",
            "training/seeds.py",
            "pipeline/judging.py",
            "pipeline/variant_figures.py",
            "pipeline/steps/evaluate.py",
        ),
    ),
    Step(
        name="register",
        summary="add a version to the MLflow registry with the alias challenger",
        inputs=("models/package", "models/run.json", "models/training_clips.parquet", "reports/metrics.json"),
        # Persistent outputs are not in DVC's run cache: registering acts on the registry, so it cannot be restored.
        outputs=(Output("models/registered.json", kind="small", persist=True),),
        params=("name", "registry"),
        code=(
            "gates",
            "registry",
            "store",
            "tasks/_outputs.py",
            "training/seeds.py",
            "pipeline/steps/register.py",
        ),
    ),
)


def find_step(name: str) -> Step:
    """Return the step of this name.

    Raises
    ------
    StepError
        With the names of all steps and the nearest one.
    """
    for step in STEPS:
        if step.name == name:
            return step
    names = [step.name for step in STEPS]
    raise StepError(f"No step is called {name!r}.{did_you_mean(name, names)} Steps: {', '.join(names)}.")


def downstream(name: str) -> list[str]:
    """Return the names of all steps that read, directly or not, what this step writes; in order."""
    reached = {name}
    for step in STEPS:
        made = {o.path for s in STEPS if s.name in reached for o in s.outputs}
        if made & set(step.inputs):
            reached.add(step.name)
    return [step.name for step in STEPS if step.name in reached and step.name != name]
