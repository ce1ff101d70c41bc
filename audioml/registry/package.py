"""The MLflow package of a model: ONNX network, description, code, requirements, signature and an example.

It loads with `mlflow.pyfunc.load_model` where audioml is not installed, and equal models make equal packages:
nothing in one depends on the time or on the machine's paths.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import audioml
from audioml.store.files import hash_file, hash_json, write_folder_atomic, write_json

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

    from audioml.inference.reference import ReferenceClip

REQUIREMENTS = ("mlflow", "numpy", "onnxruntime", "pandas", "pydantic", "pyyaml", "scipy", "soundfile", "soxr")
"""What inference needs. Pinned to the versions that the model was trained beside."""
CODE = (
    "__init__.py",
    "audio",
    "clean",
    "errors.py",
    "features",
    "inference",
    "labels.py",
    "params.py",
    "partitions.py",
    "phonemes.py",
    "plugins.py",
    "store/__init__.py",
    "store/files.py",
    "tasks",
    "units.py",
)
"""The parts of audioml that inference imports; a package carries them and no more."""
ARTIFACTS = "artifacts"
CHECKPOINT = "checkpoint.ckpt"
"""The weights as torch has them, for trainings that start from this model; inference does not read it."""
MLMODEL = "MLmodel"
NOT_DIGESTED = frozenset({MLMODEL, "registered_model_meta"})
"""Files that a registry completes or adds."""


def save_package(
    folder: Path,
    *,
    onnx: Path,
    description: dict[str, Any],
    example_audio: bytes,
    checkpoint: Path | None = None,
    stream: Path | None = None,
    golden: Sequence[tuple[str, bytes]] = (),
    reference: Iterable[ReferenceClip] = (),
    variants: Mapping[str, Path] = MappingProxyType({}),
) -> None:
    """Write the package of a model to `folder`, whole or not at all.

    Parameters
    ----------
    folder
        Replaced if it exists.
    onnx
        The network, in one file.
    description
        What `audioml.inference.predictor.Predictor.load` reads: cleaning, features, task, targets, input shape.
    example_audio
        A short audio file, kept as the input example. Its prediction gives the output's signature, and shows
        that the package answers.
    checkpoint
        The weights that `audioml.training.transfer.save_weights` wrote, if others shall start from them.
    stream
        The network for streams, in one file, if the model can answer them.
    golden
        Id and audio file of the golden clips: they are kept with what the package makes of them (`inference.golden`).
    reference
        Clips that say what audio the model knows and what it makes of it (`inference.reference`), for monitoring.
    variants
        Other networks that could answer, each in one file, by name: ``int8`` is kept as ``int8.onnx``.
    """
    import mlflow
    import pandas as pd
    from mlflow.models import Model

    from audioml.inference.description import DESCRIPTION, MODEL, STREAM
    from audioml.inference.golden import GOLDEN, write_golden
    from audioml.inference.predictor import Predictor
    from audioml.inference.reference import REFERENCE, write_reference

    code = Path(audioml.__file__).resolve().parent
    example = pd.DataFrame({"audio": [example_audio]})
    with tempfile.TemporaryDirectory() as scratch, write_folder_atomic(folder) as temporary:
        files = Path(scratch)
        shutil.copyfile(onnx, files / MODEL)
        write_json(files / DESCRIPTION, description)
        _copy_code(code, files / code.name)
        artifacts = [MODEL, DESCRIPTION]
        if checkpoint is not None:
            shutil.copyfile(checkpoint, files / CHECKPOINT)
            artifacts.append(CHECKPOINT)
        if stream is not None:
            shutil.copyfile(stream, files / STREAM)
            artifacts.append(STREAM)
        for name, path in variants.items():
            shutil.copyfile(path, files / f"{name}.onnx")
            artifacts.append(f"{name}.onnx")
        predictor = Predictor.load(files)
        if golden:
            write_golden(files / GOLDEN, predictor, golden, predictor.description.rounding)
            artifacts.append(GOLDEN)
        if write_reference(files / REFERENCE, predictor, reference):
            artifacts.append(REFERENCE)
        prediction = predictor.predict([example_audio])[0]
        mlflow.pyfunc.save_model(
            path=str(temporary),
            python_model=str(code / "registry" / "pyfunc_model.py"),
            artifacts={name: str(files / name) for name in artifacts},
            code_paths=[str(files / code.name)],
            pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS],
            input_example=example,
            signature=_signature(example, prediction, getattr(predictor.task, "LISTS", {})),
            mlflow_model=Model(model_uuid=hash_json([hash_file(onnx), description])[:32]),
        )
        _remove_incidentals(temporary)


def package_digest(folder: Path) -> str:
    """Return a SHA-256 over all files of a package but those that a registry writes; equal before and after."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return hash_json({name: hash_file(path) for name, path in names.items() if name not in NOT_DIGESTED})


def _copy_code(source: Path, target: Path) -> None:
    for name in CODE:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source / name, path)


def _signature(example: pd.DataFrame, prediction: dict[str, Any], lists: dict[str, Any]) -> ModelSignature:
    """Return the signature. Probabilities by label are a map in it: labels are data, not columns.

    `lists` says what the lists of an answer hold, as the example's may be empty: a type, or one a key.
    """
    import pandas as pd
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Map

    rest = {name: value for name, value in prediction.items() if name not in lists}
    inferred = infer_signature(example, pd.DataFrame([rest]) if rest else None)
    known = {column.name: column for column in inferred.outputs or []}
    for name, value in prediction.items():
        if name in lists:
            known[name] = ColSpec(Array(_list_type(lists[name])), name)
        elif _maps_to_numbers(value):
            known[name] = ColSpec(Map(DataType.double), name)
    return ModelSignature(inferred.inputs, Schema([known[name] for name in prediction]))


def _list_type(item: Any) -> Any:
    from mlflow.types import DataType
    from mlflow.types.schema import Object, Property

    types = {str: DataType.string, float: DataType.double}
    return Object([Property(key, types[kind]) for key, kind in item.items()]) if isinstance(item, dict) else types[item]


def _maps_to_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, float) for item in value.values())


def _remove_incidentals(folder: Path) -> None:
    """Remove byte code, the time of writing, and the paths from which artifacts were copied."""
    import yaml

    for cache in list(folder.rglob("__pycache__")):
        shutil.rmtree(cache)
    path = folder / MLMODEL
    model = yaml.safe_load(path.read_text(encoding="utf-8"))
    model.pop("utc_time_created", None)
    flavor = model["flavors"]["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    path.write_text(yaml.safe_dump(model, sort_keys=False), encoding="utf-8")
