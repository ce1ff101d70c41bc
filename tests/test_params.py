import subprocess
import sys

import pytest
from pydantic import ValidationError

from audioml.errors import ParamsError, UnknownPluginError
from audioml.params import load_params, parse_params


@pytest.fixture
def with_section(minimal_params):
    """Return a function that makes the minimal params with further values in one section."""

    def build(section, **values):
        return {**minimal_params, section: {**minimal_params.get(section, {}), **values}}

    return build


def test_defaults_are_filled_in_and_frozen(minimal_params):
    params = parse_params(minimal_params)
    assert params.seed == 0
    assert params.training.batch_size == 64
    with pytest.raises(ValidationError):
        params.seed = 1


def test_an_unknown_key_names_itself_and_the_nearest(with_section):
    with pytest.raises(ParamsError, match=r"'training\.max_epoch'\. Did you mean 'max_epochs'\?"):
        parse_params(with_section("training", max_epoch=3))


def test_an_unknown_section_names_the_nearest(minimal_params):
    with pytest.raises(ParamsError, match=r"'trainin'\. Did you mean 'training'\?"):
        parse_params({**minimal_params, "trainin": {}})


def test_the_alias_of_validate_is_its_key(with_section):
    assert parse_params(with_section("validate", min_clips_per_label=2)).validate_.min_clips_per_label == 2
    with pytest.raises(ParamsError, match="'min_clips_per_label'"):
        parse_params(with_section("validate", min_clip_per_label=2))


def test_segments_are_off_unless_named(minimal_params, with_section):
    assert parse_params(minimal_params).segment_section() is None
    params = parse_params(with_section("ingest", segment={"name": "fixed", "length_s": 5}))
    assert (params.segment_section().length_s, params.segment_section().hop_s) == (5.0, None)


def test_the_keys_of_segments_are_checked(with_section):
    with pytest.raises(UnknownPluginError, match=r"'fixd'\. Did you mean 'fixed'"):
        parse_params(with_section("ingest", segment={"name": "fixd"}))
    with pytest.raises(ParamsError, match=r"'ingest\.segment\.name' is missing"):
        parse_params(with_section("ingest", segment={"length_s": 5}))
    for values, message in (
        ({"lenght_s": 5}, r"'ingest\.segment\.lenght_s'\. Did you mean 'length_s'"),
        ({"length_s": 5, "hop_s": 6}, r"'ingest\.segment': hop_s is 6, but at most length_s \(5\)"),
    ):
        params = parse_params(with_section("ingest", segment={"name": "fixed", **values}))
        with pytest.raises(ParamsError, match=message):
            params.load_all_sections()


def test_a_wrong_value_says_what_came(with_section):
    with pytest.raises(ParamsError, match=r"'split\.test_share' is 1\.5"):
        parse_params(with_section("split", test_share=1.5))


def test_a_missing_section_is_named(minimal_params):
    with pytest.raises(ParamsError, match="'features' is missing"):
        parse_params({k: v for k, v in minimal_params.items() if k != "features"})


def test_an_unknown_plugin_is_found_without_loading_it(with_section):
    with pytest.raises(UnknownPluginError, match="Did you mean 'bcresnet'"):
        parse_params(with_section("model", name="bcresne"))


@pytest.mark.parametrize(
    ("section", "key", "nearest"),
    [("features", "n_mel", "n_mels"), ("data", "sourc", "source"), ("task", "label_smoothin", "label_smoothing")],
)
def test_the_keys_of_plugins_are_checked(section, key, nearest, with_section):
    params = parse_params(with_section(section, **{key: 1}))
    with pytest.raises(ParamsError, match=rf"'{section}\.{key}'\. Did you mean '{nearest}'\?"):
        params.load_all_sections()


def test_an_augmentation_is_named_by_its_place(minimal_params):
    params = parse_params({**minimal_params, "augment": [{"name": "mixup", "alfa": 1}]})
    with pytest.raises(ParamsError, match=r"'augment\.0\.alfa'"):
        params.load_all_sections()


def test_clips_are_freed_from_dc_unless_the_chain_says_otherwise(minimal_params):
    assert [name for name, _ in parse_params(minimal_params).clean_sections()] == ["remove_dc"]
    assert parse_params({**minimal_params, "clean": []}).clean_sections() == []


def test_a_part_of_the_cleaning_chain_is_named_by_its_place(minimal_params):
    with pytest.raises(UnknownPluginError, match=r"clean: no plug-in is called 'denoize'.*Did you mean 'denoise'"):
        parse_params({**minimal_params, "clean": [{"name": "denoize"}]})
    params = parse_params({**minimal_params, "clean": [{"name": "remove_dc"}, {"name": "trim", "keep": 1}]})
    with pytest.raises(ParamsError, match=r"'clean\.1\.keep'\. Did you mean 'keep_s'\?"):
        params.load_all_sections()


def test_a_folder_that_is_no_workspace_says_how_to_make_one(tmp_path):
    with pytest.raises(ParamsError, match="audioml init"):
        load_params(tmp_path)


def test_broken_yaml_names_the_file(tmp_path):
    (tmp_path / "params.yaml").write_text("a: [1,")
    with pytest.raises(ParamsError, match=r"params\.yaml is not valid YAML"):
        load_params(tmp_path)


def test_start_up_imports_nothing_heavy():
    code = (
        "import sys, audioml.cli, audioml.pipeline.graph, audioml.params, audioml.plugins;"
        "heavy = {'torch', 'librosa', 'mlflow', 'airflow', 'pandas', 'dvc', 'great_expectations'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_low_rank_changes_need_a_model_to_change(minimal_params):
    with pytest.raises(ParamsError, match="'training': adapt changes a trained model, so init_from must name one"):
        parse_params(minimal_params | {"training": {"adapt": "lora"}})


def test_an_augmentation_of_waveforms_needs_them_kept(minimal_params):
    augment = [{"name": "mixup"}, {"name": "gain"}]
    with pytest.raises(ParamsError, match=r"'augment\.1' is 'gain', .* Set features\.keep_audio: true"):
        parse_params({**minimal_params, "augment": augment}).load_all_sections()
    for features in ({"name": "logmel", "keep_audio": True}, {"name": "waveform"}):
        parse_params({**minimal_params, "augment": augment, "features": features}).load_all_sections()


@pytest.mark.parametrize(("serve", "key"), [("int8", "int8: true"), ("pruned", "prune: 0.3")])
def test_a_variant_that_serves_is_made(minimal_params, serve, key):
    with pytest.raises(ParamsError, match=f"serve is {serve}, which is not made.*{key}"):
        parse_params(minimal_params | {"export": {"serve": serve}})
    made = {"int8": True, "prune": 0.3}
    assert parse_params(minimal_params | {"export": {"serve": serve, **made}}).export.serve == serve
