"""params.yaml as frozen, typed sections. Unknown keys are errors that name the nearest known key.

The core sections live here. A section with a `name` (or `data.layout`) belongs to a plug-in, whose own
`Params` class checks the rest; `Params.load_all_sections` does so for every plug-in at once, before any
long work, and `Params.plugin_section` for one. Loading params imports no plug-in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from audioml.errors import ParamsError, did_you_mean
from audioml.partitions import check_pattern
from audioml.plugins import (
    changes_audio,
    check_plugin,
    features_are_audio,
    is_prunable,
    load_plugin,
    mixes_targets,
    plugin_names,
    targets_mix,
)

FILE_NAME = "params.yaml"
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Hours = Annotated[float, Field(gt=0, le=8760)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
SECRETS = frozenset(
    {"account_key", "aws_secret_access_key", "connection_string", "key", "password", "sas_token", "secret", "token"}
)
"""Keys of storage options that hold credentials."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
SEARCHED = ("model", "augment", "training", "task")
"""Sections that a search may change: none of them is known to what comes before training."""
NOT_SEARCHED = frozenset(
    f"training.{key}" for key in ("accelerator", "devices", "num_nodes", "share_devices", "init_from")
)
S = TypeVar("S", bound="Section")


class Section(BaseModel):
    """Base of every section: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class PluginSection(BaseModel):
    """A section whose keys, beside `name`, belong to the plug-in of that name."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @model_validator(mode="before")
    @classmethod
    def _check_shape(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"it must be a section with a name; write: {{name: {value}}}")
        return value


def is_url(address: str) -> bool:
    """Tell a URL from a path."""
    return _URL.match(address) is not None


class DataParams(Section):
    """Where the recordings are. Each layout plug-in subclasses this with its own keys."""

    layout: str
    """folder, filename, table or events; or one that makes its clips: spoken_commands, spoken_digit_strings or
    spoken_sentences."""
    source: str | None = None
    """Folder or table file: a path (relative ones start at the workspace) or a URL that fsspec reads, such as
    s3://bucket/prefix or https://host/listing/. None for layouts that make their clips."""
    storage_options: dict[str, Any] = {}
    """Options of fsspec for a URL, such as endpoint_url; no credentials, which come from the environment."""
    pattern: str | None = None
    """Regular expression searched in each path relative to the source, without extension; its named
    groups become columns."""
    label: str = "label"
    """The column that holds the label."""
    partition: str | None = None
    """Folder below the source that holds one partition each: strftime directives for dates, such as %Y-%m-%d or
    %Y/%m/%d, or * for any name, such as a release. None for a source without partitions."""

    @field_validator("partition")
    @classmethod
    def _check_partition(cls, partition: str | None) -> str | None:
        return None if partition is None else check_pattern(partition)

    @field_validator("source")
    @classmethod
    def _check_source(cls, source: str | None) -> str | None:
        if source is not None and source.startswith("~"):
            raise ValueError("write the whole path, as DVC does not expand ~")
        if source is None or not is_url(source):
            return source
        if source.startswith("file://"):
            raise ValueError("write the path alone, without file://")
        host = urlsplit(source).netloc
        if not host:
            raise ValueError("it names no bucket or host; write s3://bucket/prefix or https://host/listing/")
        if "@" in host:
            raise ValueError("it holds credentials, which would be kept in git; give them in the environment")
        return source

    @field_validator("storage_options")
    @classmethod
    def _check_options(cls, options: dict[str, Any]) -> dict[str, Any]:
        if secret := sorted(SECRETS & set(_keys(options))):
            raise ValueError(f"{', '.join(secret)} would be kept in git; give credentials in the environment")
        return options

    @property
    def is_remote(self) -> bool:
        """Whether the source is a URL."""
        return self.source is not None and is_url(self.source)


class DataSection(DataParams):
    """The `data` section before its layout has checked the layout's own keys."""

    model_config = ConfigDict(frozen=True, extra="allow")


class FeatureParams(Section):
    """How audio is prepared before features. Each feature plug-in subclasses this with its own keys."""

    sample_rate: Annotated[int, Field(ge=1000, le=192000)] = 16000
    """Target rate in Hz; audio of any other rate is resampled with soxr."""
    duration_s: Annotated[float, Field(gt=0)] = 1.0
    """Length of one model input in seconds."""
    length: Literal["pad", "segment", "whole"] = "pad"
    """pad: centre-crop longer clips, pad shorter ones with zeros. segment: cut longer clips into
    windows of `duration_s`; the clip's output is the mean over its windows. whole: each clip is one window
    as long as it is, whatever `duration_s` says."""
    segment_hop_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds between windows; None takes half of `duration_s`."""
    keep_audio: Annotated[bool, Field(exclude=True)] = False
    """Keep the prepared samples of each window beside its features, for augmentations that change waveforms; 4 bytes a
    sample. Not part of what describes a model: the features are the same."""
    device: Annotated[Literal["auto", "cpu", "gpu"], Field(exclude=True)] = "auto"
    """Where features are computed: auto takes a CUDA GPU if there is one. Not part of what names a feature
    shard or describes a model: all devices give the same features within 1e-3 of a value."""


class IngestParams(Section):
    """How recordings are packed."""

    shard_mb: Annotated[float, Field(gt=0)] = 64.0
    """Packed clips per shard, at most, in megabytes of recordings. A shard is also a work item of featurize."""
    shard_s: Annotated[float, Field(gt=0)] = 1800.0
    """Audio per shard, at most, in seconds; a clip counts as half a second at least."""
    max_bad_share: Share = 0.1
    """The run stops when a larger share of files cannot be read."""
    segment: PluginSection | None = None
    """How long recordings are cut into clips (name: fixed or activity, and its keys); None takes each recording as
    one clip."""


Severity = Literal["fail", "warn", "off"]


class ValidateParams(Section):
    """What a dataset must fulfil. Each check has a bound and a severity: fail, warn or off."""

    labels: list[str] | None = None
    """The labels that may occur; None takes them as they come."""
    min_clips_per_label: Annotated[int, Field(ge=1)] = 5
    max_label_imbalance: Annotated[float, Field(ge=1)] = 20.0
    """Largest class over smallest class, in clips."""
    min_duration_s: Annotated[float, Field(ge=0)] = 0.05
    max_duration_s: Annotated[float, Field(gt=0)] = 3600.0
    min_sample_rate: Annotated[int, Field(ge=1000)] = 8000
    """In Hz."""
    max_clipped_share: Share = 0.05
    """Share of a clip's samples at full scale."""
    max_silent_share: Share = 0.95
    """Share of a clip's 25 ms frames below -60 dBFS."""
    mostly: Share = 0.98
    """Share of clips that must be within the bounds on duration, rate, clipping and silence."""
    severity: dict[str, Severity] = {}
    """Overrides by check name; the defaults are in validation/checks.py."""


class SplitParams(Section):
    """Which clips train, tune and test."""

    test: str | None = None
    """pandas query over the manifest's columns that fixes the test set."""
    fold: str | None = None
    """Column with the corpus's own folds; without `test`, its highest value is the test set. For cross-validation set
    `folds` instead."""
    folds: int | str | None = None
    """Cross-validation: a number of folds to draw, groups whole, or a column whose every value is a fold.

    Beside the final model one is trained for each fold, on all others. What `test` fixes is in no fold; without it the
    highest fold is the test set of the final model, as with `fold`, and `test_share` counts for nothing."""
    group: str | None = None
    """Column whose values stay whole in one split. None keeps recordings whole (column `path`) where several
    clips are segments of one, and else draws clip by clip."""
    test_share: Share = 0.15
    """Share drawn for testing where neither `test` nor `fold` fixes it."""
    validation_share: Share = 0.1
    """Share of the remaining clips drawn for validation."""
    train_only: str | None = None
    """pandas query for clips that are trained on, by each fold's model too, and never validated or tested on, such as
    synthetic ones."""
    train_shares: list[float] = []
    """Learning curve: shares of the training clips, such as [0.1, 0.25, 0.5]. Beside the final model one is trained on
    each, and judged on the same test clips; [] for none."""

    @property
    def has_parts(self) -> bool:
        """Whether models are trained beside the final one."""
        return self.folds is not None or bool(self.train_shares)

    @field_validator("folds")
    @classmethod
    def _check_folds(cls, folds: int | str | None) -> int | str | None:
        if isinstance(folds, int) and folds < 2:
            raise ValueError("write 2 or more, the name of a column, or null for no cross-validation")
        return folds

    @field_validator("train_shares")
    @classmethod
    def _check_train_shares(cls, shares: list[float]) -> list[float]:
        if wrong := [share for share in shares if not 0 < share < 1]:
            raise ValueError(f"{wrong[0]:g} is no share between 0 and 1, both excluded; write for example [0.1, 0.5]")
        if twice := sorted({share for share in shares if shares.count(share) > 1}):
            raise ValueError(f"{twice[0]:g} stands there twice; write each share once")
        return shares

    @model_validator(mode="after")
    def _check_one_fold(self) -> Self:
        if self.fold is not None and self.folds is not None:
            raise ValueError("fold and folds both name folds; keep folds, which takes the place of fold")
        return self


class TrainingParams(Section):
    """How the model is fitted."""

    max_epochs: Annotated[int, Field(ge=1)] = 60
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    """Peak of the schedule."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of AdamW."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 2.0
    """Linear warm-up before the cosine schedule."""
    patience: Annotated[int, Field(ge=1)] = 15
    """Epochs without a better validation loss before training stops."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: a window counts in the loss by how rare its class is; all classes together count alike."""
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    """shuffled: each window once an epoch. balanced: as many windows, but of each class equally many."""
    average: Literal["none", "ema", "swa"] = "none"
    """What is validated and kept in place of the last weights: ema, their moving average over steps; swa, the mean over
    the ends of the last quarter of the epochs, in which the learning rate stays as it is."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Share of the moving average that a step leaves; less in the first steps."""
    accumulate_batches: Annotated[int, Field(ge=1)] = 1
    """Batches whose gradients make up one step, for large batches in little memory."""
    l1: Annotated[float, Field(ge=0)] = 0.0
    """Times the sum of the absolute weights (biases and normalisations aside) is added to the loss."""
    init_from: str | None = None
    """Weights to start from: NAME@ALIAS or NAME/VERSION of the registry, or the path of a checkpoint (*.ckpt). The head
    is kept where task and targets are the same. None starts from random weights."""
    freeze: Literal["none", "batchnorm", "body"] = "none"
    """batchnorm: batch normalisations stay as they are. body: all of the model does, and only the head is trained."""
    adapt: Literal["none", "lora"] = "none"
    """lora: the body is frozen but for a low-rank change of each linear and convolutional layer. Needs init_from."""
    rank: Annotated[int, Field(ge=1)] = 8
    """Of the changes that `adapt` trains."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """auto, cpu or gpu, as in Lightning."""
    devices: int | Literal["auto"] = "auto"
    """How many devices of a node, as in Lightning; auto takes all of them, however many are in use just now."""
    num_nodes: Annotated[int, Field(ge=1)] = 1
    """Hosts that train together; with more than one, torchrun starts the training on each."""
    share_devices: Annotated[bool, Field(exclude=True)] = False
    """true: train on GPUs that other trainings use too, if those share as well. false: wait until enough are free."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    """32-true, 16-mixed or bf16-mixed, as in Lightning."""
    deterministic: bool = True
    """true: the same inputs give the same weights, bit for bit, on the same kind of machine. false: operations of a GPU
    that are faster but add up in no fixed order are allowed."""
    checkpoint_every_epochs: Annotated[int, Field(ge=1)] = 1
    checkpoint_every_steps: Annotated[int, Field(ge=1)] | None = 1000
    """Within an epoch, so that a killed training of long epochs loses less; None saves at their ends only."""

    @model_validator(mode="after")
    def _check_adapt(self) -> TrainingParams:
        if self.adapt != "none" and self.init_from is None:
            raise ValueError("adapt changes a trained model, so init_from must name one, such as digits@champion")
        return self


class ExportParams(Section):
    """Variants of the network beside float32, and which of them answers. Nothing here trains the network again."""

    int8: bool = False
    """true: make one with weights and activations of 8 bits, by ranges measured on training clips."""
    prune: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of each layer's channels that a pruned one lacks; None makes none."""
    prune_epochs: Annotated[int, Field(ge=1)] = 10
    """For which the pruned one is trained again, at most."""
    max_loss: Annotated[float, Field(ge=0)] = 0.005
    """Of the primary metric on validation clips that a variant may lose against float32, in absolute terms; one that
    loses more is refused."""
    serve: Literal["float32", "int8", "pruned"] = "float32"
    """Which one answers. A refused one never does; float32 answers in its place."""

    @model_validator(mode="after")
    def _check_serve(self) -> Self:
        made = {"float32": True, "int8": self.int8, "pruned": self.prune is not None}
        if not made[self.serve]:
            key = {"int8": "int8: true", "pruned": "prune, such as prune: 0.3"}[self.serve]
            raise ValueError(f"serve is {self.serve}, which is not made; set {key}")
        return self


class EvaluateParams(Section):
    """How the model is judged."""

    bootstrap_samples: Annotated[int, Field(ge=100)] = 2000
    """Resamples behind each interval."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of each interval."""
    max_slice_values: Annotated[int, Field(ge=2)] = 50
    """A manifest column with more distinct values than this is not a slice."""
    worst_mistakes: Annotated[int, Field(ge=0)] = 12
    """Mistakes shown in the report, most confident first."""
    explained_clips: Annotated[int, Field(ge=0)] = 12
    """Clips whose answer is explained in the report: the worst mistakes, half of them at most, and a right one of
    each label."""
    noise: str = "pink"
    """What clips are mixed with to see how the model does in noise: white, pink, brown, or a folder of recordings,
    which is not watched for changes."""
    noise_snrs_db: list[Annotated[float, Field(ge=-60, le=120)]] = [20.0, 10.0, 5.0, 0.0]
    """Signal-to-noise ratios in dB; [] mixes nothing."""
    noise_clips: Annotated[int, Field(ge=1)] = 300
    """Test clips that are mixed with noise, at most, drawn from the seed."""
    unknown: str | None = None
    """Folder of recordings that are none of the labels: the report then says whether the model notices. It is not
    watched for changes."""
    timed_clips: Annotated[int, Field(ge=0)] = 50
    """Test clips that are timed from audio file to answer; 0 times none."""


class SpaceParams(Section):
    """Values that one key may take in a search: all from `low` to `high`, or `choices`."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    """Draw the logarithm evenly: for learning rates and the like."""
    step: int | float | None = None
    """Between values, from `low` on; None takes any, or any whole number where `low` and `high` are whole."""
    choices: list[Any] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.choices is None) == (self.low is None or self.high is None) or self.choices == []:
            raise ValueError("write {low: A, high: B} or {choices: [A, B, ...]}")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low is {self.low} and high {self.high}; low must be less")
        if self.log and (self.step is not None or (self.low or 0) <= 0):
            raise ValueError("log needs low above 0, and no step")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step is {self.step}; it must be above 0")
        return self

    def holds(self, value: Any) -> bool:
        """Tell whether a value is one of them, steps aside."""
        if self.choices is not None:
            return value in self.choices
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high  # type: ignore[operator,no-any-return]


class TuneParams(Section):
    """What `audioml tune` searches. Nothing here changes an output."""

    trials: Annotated[int, Field(ge=1)] = 20
    """In all; a search that is started again does those that are left."""
    jobs: Annotated[int, Field(ge=1)] = 1
    """Trials at once, as processes that share the cores; under Airflow, mapped tasks."""
    metric: Literal["primary", "loss"] = "primary"
    """primary: the task's metric. loss: the task's loss. Of the best epoch on validation clips."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 5
    """Before a trial may be given up for being worse than the median of the others at the same epoch."""
    timeout_h: Hours | None = None
    """No trial starts later than this after the start of the search; None for no bound."""
    folds: bool = False
    """true: judge a trial by the primary metric's mean over folds (split.folds), those of the test set left out."""
    space: dict[str, SpaceParams] = {}
    """Dotted path to values, such as {training.learning_rate: {low: 0.001, high: 0.03, log: true}}. Paths are in model,
    augment, training and task."""

    @field_validator("space")
    @classmethod
    def _check_paths(cls, space: dict[str, SpaceParams]) -> dict[str, SpaceParams]:
        for path in space:
            section, _, key = path.partition(".")
            if section not in SEARCHED or not key:
                raise ValueError(
                    f"a search cannot change {path!r}: only keys in {', '.join(SEARCHED)}, which need no features again"
                )
            if path in NOT_SEARCHED:
                raise ValueError(
                    f"a search cannot change {path!r}: it says where a training runs, or starts from, not how it learns"
                )
        return space

    @model_validator(mode="after")
    def _check_metric(self) -> Self:
        if self.folds and self.metric == "loss":
            raise ValueError("folds are judged by the primary metric; set metric: primary, or folds: false")
        if self.metric == "loss" and (changed := [path for path in self.space if path.startswith("task.")]):
            raise ValueError(f"{changed[0]!r} may change what the loss measures; set metric: primary")
        return self


DEFAULT_GATES = ("validation", "leakage", "champion", "parity")


class RegistryParams(Section):
    """How the model is registered."""

    name: Name | None = None
    """Registered name; None takes the workspace's name."""
    gates: list[PluginSection] = [PluginSection(name=name) for name in DEFAULT_GATES]
    """What a version must pass to become champion, beside not being worse than the one that is."""


class ServingParams(Section):
    """How the model is served. Nothing here changes an output."""

    poll_s: Annotated[float, Field(gt=0)] = 5.0
    """Seconds between two looks at the registry for another version of what is served."""
    canary: str | None = None
    """Alias of the version that answers a share of the requests in place of the served one, such as challenger."""
    canary_share: Share = 0.1
    """Of the requests, where there is a canary."""
    shadow: str | None = None
    """Alias of a version that hears every request beside the served one: answers that differ are counted, not given."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """That decode, make features and run the network; None takes one a core."""
    max_batch: Annotated[int, Field(ge=1)] = 16
    """Clips of different requests that go through the network together, at most."""
    batch_ms: Annotated[float, Field(gt=0)] = 20.0
    """Latency budget of a batch: no more clips are taken together than are answered in this time."""
    max_wait_ms: Annotated[float, Field(gt=0)] = 1000.0
    """A request that would wait longer for its turn is refused with 503 and Retry-After."""
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """For one request, from its first byte to its answer."""
    max_upload_mb: Annotated[float, Field(gt=0)] = 25.0
    """Of a request, in megabytes of 10^6 bytes."""
    max_waiting_mb: Annotated[float, Field(gt=0)] = 512.0
    """Of all requests that are not answered yet; further ones are refused with 503."""
    max_files: Annotated[int, Field(ge=1)] = 64
    """In one request."""
    max_duration_s: Annotated[float, Field(gt=0)] = 600.0
    """Of a recording."""
    max_channels: Annotated[int, Field(ge=1)] = 16
    max_sample_rate: Annotated[int, Field(ge=1000)] = 384_000
    """In Hz."""
    max_streams: Annotated[int, Field(ge=0)] = 64
    """Live streams at a time."""
    max_stream_s: Annotated[float, Field(gt=0)] = 3600.0
    """Of audio in one live stream."""
    cors_origins: list[str] = []
    """Origins whose pages may ask this server, such as https://example.org; [] for none but its own."""
    log_share: Share = 1.0
    """Of the predictions, drawn at random, that are written to the log which monitoring reads."""
    log_audio: bool = False
    """Keep the recordings in that log as well."""
    log_days: Annotated[int, Field(ge=1)] = 90
    """Days after which a day's log is removed."""

    @model_validator(mode="after")
    def _check_batch(self) -> Self:
        if self.max_upload_mb > self.max_waiting_mb:
            raise ValueError(
                f"max_upload_mb is {self.max_upload_mb:g} and max_waiting_mb {self.max_waiting_mb:g}; a single upload "
                "must fit into what may wait"
            )
        return self


class NotifierParams(BaseModel):
    """Who is told, and of what. Keys beside `name` and `on` go to the notifier."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)
    name: str
    """smtp, webhook, or the dotted path of an Airflow notifier class."""
    on: list[Literal["failure", "deadline", "approval"]] = ["failure", "deadline", "approval"]
    """An Airflow task that failed, a run that takes longer than `deadline_h`, a promotion that waits for a person."""


class PoolParams(Section):
    """Airflow pools of a workspace's DAGs. Pools of a name of its own give a workspace its own share."""

    cpu: str = "cpu"
    """Of Airflow tasks that compute."""
    gpu: str = "gpu"
    """Of training, where it may take a GPU."""
    dvc: str = "dvc"
    """Of Airflow tasks that use DVC and little else."""


class AirflowParams(Section):
    """How Airflow runs this workspace. Nothing here changes an output."""

    owner: Annotated[str, Field(min_length=1, max_length=100)] = "audioml"
    """Whom Airflow's pages name as owner of the DAGs."""
    tags: list[Annotated[str, Field(min_length=1, max_length=100)]] = []
    """Beside audioml, the workspace's name and the task."""
    cron: str | None = None
    """When recordings are ingested, as a cron expression; None leaves it to people and `watch_s`."""
    timezone: str = "UTC"
    """Of `cron`."""
    watch_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds between two looks at the source for new recordings; None does not look."""
    max_parallel_items: Annotated[int, Field(ge=1)] | None = None
    """Mapped Airflow tasks of one step that run at once; None leaves it to the pools."""
    max_failed_share: Share = 0.1
    """Items that fail, up to this share of a step's items, are reported and tried again alone; more stop the run."""
    pools: PoolParams = PoolParams()
    """Airflow pools of the DAGs, by what they bound; other names give a workspace pools of its own."""
    retries: Annotated[int, Field(ge=0)] = 2
    """Times that an Airflow task is tried again after a fault of the machine; bad input is not tried again."""
    retry_delay_s: Annotated[float, Field(ge=0, le=86400)] = 10.0
    """Before the first retry; each further one waits twice as long."""
    item_timeout_h: Hours = 6.0
    """For one mapped Airflow task; where a step has more than 1,000 items, that is several of them."""
    step_timeout_h: Hours = 12.0
    """For each other Airflow task of a step, training aside."""
    train_timeout_h: Hours = 168.0
    """For training; it goes on from its last checkpoint when it is started again."""
    deadline_h: Hours | None = None
    """A DAG run that takes longer than this, from when it was queued, is reported to the notifiers."""
    promote: Literal["auto", "approve", "manual"] = "auto"
    """auto: a new challenger becomes champion if it is not worse on the test set. approve: a person is asked, with the
    metrics of both. manual: only when someone starts the promote DAG."""
    notify: list[NotifierParams] = []
    """Notifiers, such as {name: webhook, url: https://...} or {name: smtp, to: team@example.org}."""


class Params(Section):
    """All of params.yaml."""

    name: Annotated[Name, Field(max_length=200)]
    """Names the model, the MLflow experiment and the Airflow DAGs."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of splits, initial weights, shuffling and augmentation."""
    data: DataSection
    ingest: IngestParams = IngestParams()
    validate_: Annotated[ValidateParams, Field(alias="validate")] = ValidateParams()
    split: SplitParams = SplitParams()
    clean: list[PluginSection] = [PluginSection(name="remove_dc")]
    """What happens to each clip before its features, in this order; [] for nothing."""
    features: PluginSection
    task: PluginSection
    model: PluginSection
    augment: list[PluginSection] = []
    """Changes to training clips, in this order; [] for none."""
    training: TrainingParams = TrainingParams()
    tune: TuneParams = TuneParams()
    export: ExportParams = ExportParams()
    evaluate: EvaluateParams = EvaluateParams()
    registry: RegistryParams = RegistryParams()
    serving: ServingParams = ServingParams()
    airflow: AirflowParams = AirflowParams()

    def data_section(self) -> Any:
        """Return the `data` section checked by its layout's own `Params`."""
        layout = load_plugin("datasets", self.data.layout)
        return parse_section(layout.Params, self.data.model_dump(), "data")

    def plugin_section(self, kind: str) -> Any:
        """Return the section of a plug-in kind (features, tasks, models), checked by its `Params`.

        The section has the plug-in's keys only; its name is in `params.<section>.name`.
        """
        section: PluginSection = getattr(self, {"tasks": "task", "models": "model"}.get(kind, kind))
        return _check_plugin_section(kind, section, kind.removesuffix("s") if kind != "features" else kind)

    def augment_sections(self) -> list[tuple[str, Any]]:
        """Return (name, section) of every augmentation, in order.

        Raises
        ------
        ParamsError
            When a section is not valid, changes waveforms that are not kept, or mixes what the task cannot mix.
        """
        sections = _check_plugin_sections("augment", self.augment)
        kept = self.plugin_section("features").keep_audio or features_are_audio(self.features.name)
        for i, (name, _) in enumerate(sections):
            if not kept and changes_audio(name):
                raise ParamsError(
                    f"{FILE_NAME}: 'augment.{i}' is {name!r}, which changes waveforms, but features.keep_audio is "
                    "false: only features are stored. Set features.keep_audio: true, or remove the augmentation."
                )
            if mixes_targets(name) and not targets_mix(self.task.name):
                raise ParamsError(
                    f"{FILE_NAME}: 'augment.{i}' is {name!r}, which mixes clips and what is to be learned of them, but "
                    f"the task {self.task.name!r} has nothing between two targets. Remove the augmentation."
                )
        return sections

    def located(self, workspace: Path) -> Params:
        """Return the same params with the folders of augmentations as absolute paths."""
        sections = [
            section.model_copy(update={"folder": str(workspace / folder)})
            if isinstance(folder := (section.model_extra or {}).get("folder"), str)
            else section
            for section in self.augment
        ]
        return self.model_copy(update={"augment": sections})

    def clean_sections(self) -> list[tuple[str, Any]]:
        """Return (name, section) of every part of the cleaning chain, in order."""
        return _check_plugin_sections("clean", self.clean)

    def gate_sections(self) -> list[tuple[str, Any]]:
        """Return (name, section) of every gate, in order."""
        return _check_plugin_sections("gates", self.registry.gates, "registry.gates")

    def segment_section(self) -> Any:
        """Return the section of the segment plug-in, checked by its `Params`; None when recordings stay whole."""
        section = self.ingest.segment
        return None if section is None else _check_plugin_section("segment", section, "ingest.segment")

    def check_export(self) -> None:
        """Check that the variants of `export` can be made of the model.

        Raises
        ------
        ParamsError
            When it is to be pruned, and has no channels that can go.
        """
        if self.export.prune is not None and not is_prunable(self.model.name):
            able = ", ".join(name for name in plugin_names("models") if is_prunable(name))
            raise ParamsError(
                f"{FILE_NAME}: 'export.prune' is {self.export.prune:g}, but no channels can be removed from the model "
                f"{self.model.name!r}. Set it to null, or choose one of: {able}."
            )

    def load_all_sections(self) -> None:
        """Check every plug-in's section. Imports all plug-ins in use, torch among them."""
        self.data_section()
        self.segment_section()
        for kind in ("features", "tasks", "models"):
            self.plugin_section(kind)
        self.clean_sections()
        self.augment_sections()
        self.gate_sections()
        self.check_export()


def load_params(workspace: Path, file_name: str = FILE_NAME) -> Params:
    """Read `params.yaml` of a workspace, or what stands in its place.

    Raises
    ------
    ParamsError
        When the file is missing or not YAML, or a key or value is not valid.
    """
    return parse_params(read_raw_params(workspace / file_name))


def read_raw_params(path: Path) -> dict[str, Any]:
    """Read a params.yaml as the mapping of sections that it is, unchecked.

    Raises
    ------
    ParamsError
        When the file is missing, or holds no mapping.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(
            f"{path} does not exist, so {path.parent} is no audioml workspace. "
            "Make one with: audioml init DIR --data SRC"
        ) from None
    except OSError as error:
        raise ParamsError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path} is not UTF-8 ({error}). Save it as UTF-8.") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ParamsError(f"{path} must hold a mapping of sections, but holds {type(raw).__name__}.")
    return raw


def read_serving(path: Path) -> ServingParams:
    """Read the section `serving` of a YAML file, where there is no workspace. Raises ParamsError as `load_params`."""
    return parse_section(ServingParams, read_raw_params(path).get("serving") or {}, "serving")


def parse_params(raw: dict[str, Any]) -> Params:
    """Check a mapping of sections; plug-in names must exist, their keys are checked later."""
    params = parse_section(Params, raw, "")
    check_plugin("datasets", params.data.layout)
    if params.ingest.segment is not None:
        check_plugin("segment", params.ingest.segment.name)
    check_plugin("features", params.features.name)
    check_plugin("tasks", params.task.name)
    check_plugin("models", params.model.name)
    for section in params.clean:
        check_plugin("clean", section.name)
    for section in params.augment:
        check_plugin("augment", section.name)
    return params


def parse_section(model: type[S], raw: dict[str, Any], where: str) -> S:
    """Build a section from a mapping; the error names each key, its value and the nearest known key."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ParamsError("\n".join(_explain(model, item, where) for item in error.errors())) from None


def _check_plugin_section(kind: str, section: PluginSection, where: str) -> Any:
    keys = {k: v for k, v in section.model_dump().items() if k != "name"}
    return parse_section(load_plugin(kind, section.name).Params, keys, where)


def _check_plugin_sections(kind: str, sections: list[PluginSection], where: str = "") -> list[tuple[str, Any]]:
    return [(s.name, _check_plugin_section(kind, s, f"{where or kind}.{i}")) for i, s in enumerate(sections)]


def _explain(model: type[BaseModel], item: Any, where: str) -> str:
    location = [str(part) for part in item["loc"]]
    key = ".".join([where, *location] if where else location)
    if item["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        nearest = did_you_mean(location[-1], known)
        return f"{FILE_NAME}: unknown key '{key}'.{nearest} Known keys: {', '.join(sorted(known))}."
    if item["type"] == "missing":
        return f"{FILE_NAME}: '{key}' is missing; add it."
    message = item["msg"].removeprefix("Value error, ")
    if isinstance(item["input"], dict):
        return f"{FILE_NAME}: '{key}': {message}."
    return f"{FILE_NAME}: '{key}' is {item['input']!r}, but: {message}."


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        for name, field in model.model_fields.items():
            annotation = field.annotation
            if part in (name, field.alias) and isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
    return [field.alias or name for name, field in model.model_fields.items()]


def _keys(value: Any) -> Iterator[str]:
    """Yield the keys of a mapping and of those in it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _keys(inner)
