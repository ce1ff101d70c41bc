from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.errors import ParamsError
from audioml.orchestration.overrides import apply_overrides, override_file, parse_setting
from audioml.orchestration.params_file import render_params
from audioml.params import FeatureParams, parse_params

SPARSE = {
    "name": "digits",
    "data": {"layout": "folder", "source": "/somewhere"},
    "features": {"name": "logmel", "sample_rate": 8000, "n_mels": 64},
    "task": {"name": "classification"},
    "model": {"name": "rescnn", "width": 32},
    "augment": [{"name": "time_shift"}, {"name": "mixup", "share": 0.25}],
    "training": {"max_epochs": 7},
}
COMPLETE = yaml.safe_load(render_params(SPARSE))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and value of each leaf, and of each list and mapping."""
    if path:
        yield path, value
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from leaves(inner, f"{path}.{key}" if path else str(key))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(list(leaves(COMPLETE))), min_size=1, max_size=5))
def test_setting_what_is_there_changes_nothing(pairs: list[tuple[str, Any]]) -> None:
    same = [f"{path}={yaml.safe_dump(value, default_flow_style=True, width=10_000)}".strip() for path, value in pairs]
    same = [text.removesuffix("...").strip() for text in same]
    assert apply_overrides(SPARSE, same) == SPARSE


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 500), st.floats(1e-6, 1.0), st.permutations(["epochs", "rate", "width"]))
def test_values_arrive_in_any_order_and_only_their_sections_change(epochs: int, rate: float, order: list[str]) -> None:
    given_ = {
        "epochs": f"training.max_epochs={epochs}",
        "rate": f"training.learning_rate={rate!r}",
        "width": "model.width=24",
    }
    changed = apply_overrides(SPARSE, [given_[name] for name in order])
    params = parse_params(changed)
    assert (params.training.max_epochs, params.training.learning_rate) == (epochs, rate)
    assert params.plugin_section("models").width == 24
    assert {key for key in changed if changed[key] != SPARSE.get(key)} == {"training", "model"}


def test_another_plugin_starts_from_its_own_defaults() -> None:
    changed = apply_overrides(SPARSE, ["model.dropout=0.3", "model.name=bcresnet"])
    assert changed["model"]["name"] == "bcresnet"
    assert changed["model"]["dropout"] == 0.3  # set for the new one, though it came first
    assert changed["model"]["width"] != 32
    assert "channels" not in changed["model"]


def test_features_of_another_name_keep_how_audio_is_prepared() -> None:
    changed = apply_overrides(SPARSE, ["features.name=waveform"])
    assert changed["features"]["sample_rate"] == 8000
    assert set(changed["features"]) == {"name", *FeatureParams.model_fields}
    assert apply_overrides(SPARSE, ["features.name=mfcc"])["features"]["n_mels"] == 64


def test_lists_take_indices_and_one_more() -> None:
    changed = apply_overrides(SPARSE, ["augment.1.share=0.75", "augment.2.bin_masks=1", "augment.2.name=specaugment"])
    assert [(item["name"], item.get("share"), item.get("bin_masks")) for item in changed["augment"]] == [
        ("time_shift", None, None),
        ("mixup", 0.75, None),
        ("specaugment", None, 1),
    ]
    assert apply_overrides(SPARSE, ["augment=[]"])["augment"] == []
    assert apply_overrides(SPARSE, ["clean.0.name=trim"])["clean"][0]["name"] == "trim"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.max_epoch=5", r"unknown key 'training.max_epoch'. Did you mean 'max_epochs'\?"),
        ("trainig.max_epochs=5", r"unknown key 'trainig'. Did you mean 'training'\?"),
        ("model.widht=5", r"unknown key 'model.widht'. Did you mean 'width'\?"),
        ("model.name=bcresnett", r"no plug-in is called 'bcresnett'. Did you mean 'bcresnet'\?"),
        ("training.max_epochs=0", "'training.max_epochs' is 0, but"),
        ("augment.7.share=0.5", "'augment' is a list of 2: write 0 to 2, not '7'"),
        ("augment.last.share=0.5", "not 'last'"),
        ("seed.x=1", "'seed' is 0, a value without keys"),
        ("training.max_epochs", "is no setting; write PATH=VALUE"),
        ("=5", "is no setting"),
        ("seed=[1", "the value is not YAML"),
        ("name=other", "'name' is the same for all runs. .*audioml init"),
        ("registry={name: other}", "'registry.name' is the same for all runs"),
        ("data.source=/elsewhere", "'data.source' is the same for all runs"),
        ("airflow.retries=5", "'airflow' is the same for all runs. It is read when the DAG is built"),
    ],
)
def test_what_no_run_can_have_is_refused_by_name(setting: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        apply_overrides(SPARSE, [setting])


def test_a_change_of_dvc_yaml_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audioml.orchestration.overrides.render_dvc_yaml", lambda params: str(params.seed))
    with pytest.raises(ParamsError, match="would change dvc"):
        apply_overrides(SPARSE, ["seed=1"])


def test_values_are_yaml() -> None:
    assert parse_setting(" split.test='index < 5' ") == ("split.test", "index < 5")
    assert parse_setting("split.test = a == 1") == ("split.test", "a == 1")
    assert parse_setting("augment=[{name: mixup}]") == ("augment", [{"name": "mixup"}])
    assert parse_setting("features.fmax=") == ("features.fmax", None)


def test_a_file_changes_in_the_sections_that_change(tmp_path: Path) -> None:
    text = (
        "# My notes.\nname: digits\ndata: {layout: folder, source: /somewhere}\n\n# Mine too.\n\n# Of training.\n"
        "training:\n  max_epochs: 7  # enough\n\n# And these.\n\n# The task.\ntask: {name: classification}\n"
        "features: {name: logmel}\nmodel:\n  name: rescnn\n\n# The end.\n"
    )
    path = tmp_path / "params.yaml"
    path.write_text(text)
    changed = override_file(path, ["training.max_epochs=9", "seed=3"])
    before, rendered = text.split("# Of training.\ntraining:\n  max_epochs: 7  # enough\n")
    assert changed.startswith(f"{before}# How the model is fitted.\ntraining:\n  max_epochs: 9\n")
    assert rendered.rstrip() in changed
    assert "\nseed: 3\n" in changed.split("# The end.")[1]
    assert yaml.safe_load(changed) == apply_overrides(yaml.safe_load(text), ["training.max_epochs=9", "seed=3"])


@pytest.mark.parametrize(
    "text",
    [
        "{name: a, data: {layout: folder, source: /x}, features: {name: logmel}, task: {name: classification}, "
        "model: {name: rescnn}}",
        "name: a\ntraining: {max_epochs: &n 7, patience: 3}\nevaluate: {worst_mistakes: *n}\n"
        "data: {layout: folder, source: /x}\nfeatures: {name: logmel}\ntask: {name: classification}\n"
        "model: {name: rescnn}\n",
    ],
    ids=["flow style", "an anchor in a section that goes"],
)
def test_a_file_that_cannot_be_mended_in_parts_is_written_whole(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    changed = yaml.safe_load(override_file(path, ["training.max_epochs=9"]))
    assert changed == apply_overrides(yaml.safe_load(text), ["training.max_epochs=9"])
    assert changed["training"]["max_epochs"] == 9
