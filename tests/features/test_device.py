import subprocess
import sys

import numpy as np
import pytest

from audioml.errors import ParamsError
from audioml.features import _device, logmel, mfcc
from audioml.features._device import extract_on_device, uses_gpu
from audioml.params import parse_section


@pytest.fixture(params=[True, False])
def gpu(request, monkeypatch):
    monkeypatch.setattr(_device, "has_gpu", lambda: request.param)
    return request.param


def test_auto_takes_a_gpu_that_is_there(gpu):
    assert uses_gpu(logmel.Params()) is gpu
    assert not uses_gpu(logmel.Params(device="cpu"))


def test_a_gpu_that_is_not_there_is_an_error(gpu):
    params = parse_section(logmel.Params, {"device": "gpu"}, "features")
    if gpu:
        assert uses_gpu(params)
    else:
        with pytest.raises(ParamsError, match="device is gpu, but torch finds no CUDA device"):
            uses_gpu(params)


def test_the_device_names_no_features():
    assert "device" not in logmel.Params(device="cpu").model_dump(mode="json")


def test_without_a_device_file_torch_is_not_imported(tmp_path):
    code = (
        "import pathlib, sys; from audioml.features import _device; _device.DEV = pathlib.Path(sys.argv[1]); "
        "print(_device.has_gpu(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_windows_of_any_lengths_go_to_a_device_and_back():
    pytest.importorskip("torch")
    params = mfcc.Params()
    generator = np.random.default_rng(0)
    windows = [generator.standard_normal(n).astype(np.float32) for n in (4000, 100, 4000, 9000)]
    out = [np.empty(mfcc.shape_of(params, len(samples)), np.float32) for samples in windows]
    extract_on_device(mfcc, params, windows, out, "cpu")
    for samples, features in zip(windows, out, strict=True):
        np.testing.assert_allclose(features, mfcc.extract(params, samples[None])[0], rtol=0, atol=1e-3)
