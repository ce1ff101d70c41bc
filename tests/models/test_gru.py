from __future__ import annotations

from audioml.models import lstm
from audioml.models.gru import Params, build


def test_it_has_three_quarters_of_the_parameters_of_an_lstm() -> None:
    sizes = [
        sum(p.numel() for p in model.parameters())
        for model in (build(Params(), (40, 101)), lstm.build(lstm.Params(), (40, 101)))
    ]
    assert 4 * sizes[0] == 3 * sizes[1]
