import json

import numpy as np
import pytest

from audioml.audio.sound import Sound
from audioml.clean._chain import describe_chain, load_chain, parse_chain
from audioml.errors import ParamsError, UnknownPluginError
from audioml.params import parse_params
from audioml.plugins import plugin_names


def test_every_plugin_survives_its_description(minimal_params):
    sections = parse_params({**minimal_params, "clean": [{"name": n} for n in plugin_names("clean")]}).clean_sections()
    described = describe_chain(sections)
    assert parse_chain(json.loads(json.dumps(described))) == sections
    for part, (_, section) in zip(described, sections, strict=True):
        assert part["params"].keys() == type(section).model_fields.keys()


def test_the_chain_keeps_the_order(minimal_params):
    raw = {**minimal_params, "clean": [{"name": "preemphasis", "coefficient": 1.0}, {"name": "remove_dc"}]}
    first, second = load_chain(parse_params(raw).clean_sections())
    ramp = Sound(np.array([1, 2, 3, 4], np.float32), 8000)
    np.testing.assert_array_equal(first(ramp).samples, [1, 1, 1, 1])
    np.testing.assert_array_equal(second(first(ramp)).samples, [0, 0, 0, 0])


@pytest.mark.parametrize("name", plugin_names("clean"))
def test_every_plugin_takes_any_length(name, minimal_params):
    (clean,) = load_chain(parse_params({**minimal_params, "clean": [{"name": name}]}).clean_sections())
    for n_samples in (0, 1, 2, 3, 7, 100, 511, 512, 513, 5000):
        samples = np.random.default_rng(n_samples).uniform(-0.5, 0.5, n_samples).astype(np.float32)
        cleaned = clean(Sound(samples, 16000, 0.5))
        assert cleaned.samples.dtype == np.float32
        assert (cleaned.samples.size > 0) == (n_samples > 0)
        assert np.isfinite(cleaned.samples).all()
        assert cleaned.start_s >= 0.5


def test_a_description_from_another_version_is_named():
    with pytest.raises(UnknownPluginError, match="'dereverberate'"):
        parse_chain([{"name": "dereverberate", "params": {}}])
    with pytest.raises(ParamsError, match=r"'clean\.0\.strength'"):
        parse_chain([{"name": "denoise", "params": {"strength": 1}}])
