"""The real commands on a toy task that the model must learn."""

import io
import json
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.bin import _main, t2t_avg_all, t2t_decoder, t2t_trainer
from tests.conftest import wait_until


def run(module, *arguments):
    """Runs a command in this process; returns its exit status."""
    for name in module.FLAGS:  # resets what another test has set
        module.FLAGS[name].unparse()
    with pytest.raises(SystemExit) as caught:
        _main.run(module.main, module.FLAGS, argv=["command", *arguments])
    module.FLAGS.unparse_flags()
    return caught.value.code or 0


def metrics(output_dir, kind):
    lines = pathlib.Path(output_dir, "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


def arguments(data, output_dir, *more):
    return [
        f"--problem={data.problem_name}",
        "--model=transformer",
        "--hparams_set=transformer_tiny",
        f"--data_dir={data.data_dir}",
        f"--output_dir={output_dir}",
        *more,
    ]


SMALL = (
    "num_encoder_layers=1,num_decoder_layers=1,hidden_size=64,filter_size=128,num_heads=4,"
    "num_buckets=1,batch_size=1536,max_length=16,dropout=0,attention_dropout=0,relu_dropout=0,"
    "label_smoothing=0,learning_rate=5e-3,warmup_steps=50,ema_decay=0.98"
)


@pytest.mark.slow
def test_learns_the_toy_language(tiny_text_data, tmp_path, capsys, monkeypatch):
    folder = str(tmp_path / "run")
    status = run(
        t2t_trainer,
        *arguments(tiny_text_data, folder, f"--hparams={SMALL}", "--train_steps=400"),
        "--local_eval_frequency=200",
        "--save_checkpoints_steps=100",
        "--log_step_count_steps=50",
    )
    assert status == 0
    losses = [line["loss"] for line in metrics(folder, "train")]
    assert losses[0] > 2.0 > 10 * losses[-1]
    last = metrics(folder, "eval")[-1]
    assert last["step"] == 400
    assert last["bleu"] > 80
    assert last["accuracy"] > 0.95

    assert run(t2t_avg_all, f"--output_dir={folder}", "--n=2") == 0
    assert "averaged/ckpt-400" in capsys.readouterr().out
    assert (
        run(
            t2t_trainer,
            f"--output_dir={folder}",
            "--schedule=evaluate",
            "--checkpoint=averaged",
        )
        == 0
    )
    printed = capsys.readouterr().out
    bleu = float(printed.partition("bleu ")[2].partition(" ")[0])
    assert bleu > 80
    assert "tok:13a" in printed

    out = f"--decode_to_file={tmp_path}/out.de"
    assert run(t2t_decoder, f"--output_dir={folder}", "--decode_split=test", out, "--xla") == 0
    assert float(capsys.readouterr().out.removeprefix("BLEU = ").split()[0]) > 80
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one two\n\nfour\n")))
    assert run(t2t_decoder, f"--output_dir={folder}", "--decode_interactive", "--noxla") == 0
    assert capsys.readouterr().out == "zwei eins\n\nvier\n"


@pytest.mark.slow
def test_a_run_stopped_by_sigterm_continues_to_the_same_numbers(tiny_text_data, tmp_path):
    """With XLA and the real model, in separate processes."""

    def command(folder, *more):
        return [
            sys.executable,
            "-m",
            "t2t_vqem.bin.t2t_trainer",
            f"--output_dir={folder}",
            "--train_steps=200",
            "--schedule=train",
            "--log_step_count_steps=2",
            *more,
        ]

    hparams = SMALL.replace(",dropout=0,", ",dropout=0.1,")
    first = [*arguments(tiny_text_data, "x")[:-1], f"--hparams={hparams}"]
    unbroken, stopped = tmp_path / "unbroken", tmp_path / "stopped"
    subprocess.run(command(unbroken, *first), check=True, timeout=600)
    process = subprocess.Popen(command(stopped, *first), stderr=subprocess.PIPE, text=True)
    log = stopped / "metrics.jsonl"
    wait_until(
        lambda: log.exists() and log.read_text().count("\n") >= 2, "two lines", process=process
    )
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 75, stderr
    assert "stopped by SIGTERM; the same command continues after step" in stderr
    # No line of TensorFlow's C++ logs on a healthy start.
    assert not re.search(r"^([IWEF]\d{4} |WARNING: All log)|\.cc:\d", stderr, re.M)
    subprocess.run(command(stopped), check=True, timeout=600)

    readers = [tf.train.load_checkpoint(str(f / "checkpoints")) for f in (unbroken, stopped)]
    names = readers[0].get_variable_to_shape_map()
    compared = [name for name in names if name.startswith(("model/", "averaged/", "first/", "sec"))]
    assert len(compared) > 60
    for name in compared:
        a, b = (reader.get_tensor(name) for reader in readers)
        np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "--output_dir is missing"),
        (
            ["--output_dir=none", "--checkpoint=best"],
            "--checkpoint is only for --schedule=evaluate",
        ),
        (["--output_dir=none"], "--problem is missing, and .*none holds no run"),
        (["--output_dir=none", "--train_steps=0"], "--train_steps"),
        (["--output_dir=none", "--schedule=evalute"], "evalute"),
        (["--output_dri=none"], "output_dri"),
    ],
)
def test_missing_or_invalid_flags_are_errors(given, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(t2t_trainer, *given) == 2
    assert re.search(f"error: .*{message}", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_averaging_needs_a_run(capsys, tmp_path):
    assert run(t2t_avg_all) == 2
    assert "--output_dir is missing" in capsys.readouterr().err
    assert run(t2t_avg_all, f"--output_dir={tmp_path}") == 2
    assert "has 0 checkpoint(s), expected 5" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "shown"), [("", "transformer_tiny"), ("=transformer", "dropout")])
def test_registry_help(flag, shown, capsys):
    assert run(t2t_trainer, f"--registry_help{flag}") == 0
    assert shown in capsys.readouterr().out


def test_help_lists_the_flags(capsys):
    assert run(t2t_trainer, "--help") == 0
    printed = capsys.readouterr().out
    for flag in ("--train_steps", "--local_eval_frequency", "--[no]xla", "--strategy"):
        assert flag in printed
