import io
import logging
import sys

import pytest

from t2t_vqem.training.progress import TrainingProgress

FIGURES = {"loss": 2.34567, "tokens_per_second": 12345.6, "wait_share": 0.0123}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def show():
    def run(step=200):
        progress = TrainingProgress(start_step=100, train_steps=1100)
        for _ in range(3):
            progress.advance()
        progress.show(step, {**FIGURES, "steps_per_second": 4.0})
        progress.say("dev: bleu 12.34")
        progress.close()

    return run


def test_log_lines_without_a_terminal(show, monkeypatch, caplog):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO):
        show()
    assert caplog.messages == [
        "step 200 of 1100: loss 2.346, 12,346 tokens/s, waiting for data 1.2%, 0:03:45 left",
        "dev: bleu 12.34",
    ]


def test_bar_on_a_terminal(show, monkeypatch, caplog):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with caplog.at_level(logging.INFO):
        show()
    text = terminal.getvalue()
    assert "loss 2.346, 12,346 tokens/s, waiting for data 1.2%" in text
    assert "dev: bleu 12.34\n" in text
    assert "/1100 [" in text  # tqdm formats the steps and the time left
    assert caplog.messages == []


def test_images_are_counted_as_images(monkeypatch, caplog):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    progress = TrainingProgress(start_step=0, train_steps=9, unit="images", unit_weight=192)
    figures = {"loss": 1.0, "images_per_second": 77.7, "wait_share": 0.0, "steps_per_second": 1.0}
    with caplog.at_level(logging.INFO):
        progress.show(3, figures)
    message = "step 3 of 9: loss 1.000, 78 images/s, waiting for data 0.0%, 0:00:06 left"
    assert caplog.messages == [message]
