from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioml.inference.description import Description
from audioml.params import ExportParams
from audioml.pipeline.variants import Variant, choose_variant, describe_variants, summarize_variants

DESCRIPTION = Description("bands", [], {}, {}, {}, {}, (8, 12))
SHARES = st.integers(0, 1000).map(lambda n: n / 1000)


def make_variant(name: str, value: float, path: Path = Path("model.onnx")) -> Variant:
    return Variant(name, path, DESCRIPTION, value)


@given(SHARES, SHARES, SHARES)
def test_a_variant_is_accepted_within_the_stated_loss(before: float, value: float, max_loss: float) -> None:
    float32, variant = make_variant("float32", before), make_variant("int8", value)
    judged = variant.judge(float32, higher_is_better=True, max_loss=max_loss)
    # In whole thousandths, where nothing is rounded.
    assert judged.accepted == (round(1000 * before) - round(1000 * value) <= round(1000 * max_loss))
    # Of an error rate, it is the other way round.
    rate = make_variant("int8", 1 - value).judge(make_variant("float32", 1 - before), False, max_loss)
    assert rate.accepted == judged.accepted
    assert rate.loss == pytest.approx(judged.loss)


def test_a_refused_variant_never_serves_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"network")
    params = ExportParams(int8=True, serve="int8")
    float32 = make_variant("float32", 0.9, path)
    good = make_variant("int8", 0.897, path).judge(float32, True, params.max_loss)
    bad = make_variant("int8", 0.8, path).judge(float32, True, params.max_loss)
    assert choose_variant([float32, good], params) is good
    assert choose_variant([float32, bad], params) is float32
    assert summarize_variants([float32, bad], float32, 0.005) == {
        "int8": "refused (loses 0.1000 of 0.005)",
        "serves": "float32",
    }
    described = describe_variants([float32, bad], float32, 0.005)
    assert described["max_loss"] == 0.005
    assert [(name, of["accepted"], of["serves"]) for name, of in described["variants"].items()] == [
        ("float32", True, True),
        ("int8", False, False),
    ]
    assert described["variants"]["int8"]["bytes"] == 7


def test_float32_alone_is_not_told() -> None:
    float32 = make_variant("float32", float("nan"))
    assert choose_variant([float32], ExportParams()) is float32
    assert describe_variants([float32], float32, 0.005) == summarize_variants([float32], float32, 0.005) == {}
