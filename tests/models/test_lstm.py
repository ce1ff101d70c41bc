from __future__ import annotations

from audioml.models.lstm import Params, build


def test_size_with_defaults() -> None:
    """Four gates, each with weights for inputs and states, and two biases as torch has them; two directions."""
    model = build(Params(), (40, 101))
    expected = sum(2 * 4 * 64 * (inputs + 64 + 2) for inputs in (40, 128))
    assert sum(p.numel() for p in model.parameters()) == expected
    assert model.width == 128
