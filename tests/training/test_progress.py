from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from audioml.training.progress import ProgressLines


def show(n_epochs: int, terminal: bool) -> str:
    out = io.StringIO()
    lines = ProgressLines(n_epochs, Console(file=out, force_terminal=terminal, width=100, highlight=False))
    trainer = SimpleNamespace(num_training_batches=2, current_epoch=0, global_step=0)
    lines.on_train_start(trainer, None)
    for epoch in range(n_epochs):
        trainer.current_epoch = epoch
        lines.on_train_batch_end(trainer)
        lines.on_train_epoch_end(trainer, SimpleNamespace(metrics={"val_loss": 1 / (epoch + 1)}))
    lines.on_train_end(trainer, None)
    return out.getvalue()


def test_log_gets_the_first_and_the_last_of_quick_epochs() -> None:
    assert show(5, terminal=False).splitlines() == ["epoch   1/5  val_loss 1", "epoch   5/5  val_loss 0.2"]


def test_terminal_gets_every_epoch() -> None:
    text = show(3, terminal=True)
    assert all(f"epoch   {epoch}/3" in text for epoch in (1, 2, 3))


@pytest.mark.parametrize(
    ("step", "where"), [(0, ""), (4, "resumes after epoch 2/5\n"), (5, "resumes after epoch 2/5 and 1/2 batches\n")]
)
def test_a_fit_that_is_taken_up_says_where(step: int, where: str) -> None:
    out = io.StringIO()
    trainer = SimpleNamespace(
        num_training_batches=2, accumulate_grad_batches=1, current_epoch=step // 2, global_step=step
    )
    ProgressLines(5, Console(file=out, width=100, highlight=False)).on_train_start(trainer, None)
    assert out.getvalue() == where
