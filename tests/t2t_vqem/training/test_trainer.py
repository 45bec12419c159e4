"""Whole runs of the toy model on the tiny translation task."""

import dataclasses
import itertools
import json
import os
import pathlib
import signal
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from t2t_vqem.constants import MAX_SEED, UsageError
from t2t_vqem.data import building
from t2t_vqem.output_dir import OutputDir
from t2t_vqem.training import loop, trainer
from t2t_vqem.training.averaging import average_checkpoints
from t2t_vqem.training.metrics_log import MetricsLog


@pytest.fixture
def request_for(tmp_path, tiny_text_data, toy_registered):
    """Returns a function that makes the request of a run in a folder below the test's own."""

    def make(folder="run", **options):
        defaults = {
            "problem": tiny_text_data.problem_name,
            "data_dir": tiny_text_data.data_dir,
            "hparams_set": "toy",
            "xla": False,
            "train_steps": 6,
            "local_eval_frequency": 100,
            "schedule": "train",
        }
        return trainer.Request(output_dir=str(tmp_path / folder), **{**defaults, **options})

    return make


def only(request, **options):
    """What a user types to continue: the folder and little else."""
    return trainer.Request(
        output_dir=request.output_dir, xla=False, schedule=request.schedule, **options
    )


def saved(request):
    """Every number in the last checkpoint, by name."""
    path = OutputDir(request.output_dir).find_checkpoint("latest")
    reader = tf.train.load_checkpoint(path)
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if not name.startswith(("_CHECKPOINTABLE", "save_counter"))
    }


def assert_equal(ours, others, **tolerance):
    assert ours.keys() == others.keys()
    for name, value in ours.items():
        if tolerance:
            np.testing.assert_allclose(value, others[name], err_msg=name, **tolerance)
        else:
            np.testing.assert_array_equal(value, others[name], err_msg=name)


@pytest.mark.parametrize("hparams", ["num_buckets=2", "accumulate_steps=2"])
def test_resumed_run_gives_the_same_numbers(request_for, hparams):
    unbroken = request_for("unbroken", hparams=hparams)
    assert trainer.run(unbroken).step == 6
    broken = request_for("broken", hparams=hparams, train_steps=3)
    assert trainer.run(broken).step == 3
    halfway = saved(broken)
    assert trainer.run(only(broken, train_steps=6)).step == 6
    wanted = saved(unbroken)
    assert {name.partition("/")[0] for name in wanted} == {
        "model",
        "averaged",
        "first",
        "second",
        "step",
    }
    assert_equal(saved(broken), wanted)
    name = next(name for name in wanted if name.startswith("model/"))
    assert np.abs(halfway[name] - wanted[name]).max() > 0


def test_a_system_clock_that_jumps_changes_nothing(request_for, monkeypatch):
    still, jumping = (
        request_for(name, save_checkpoints_steps=2, keep_checkpoint_max=2, train_steps=4)
        for name in ("still", "jumping")
    )
    trainer.run(still)
    times = itertools.cycle([1e9, 4e9, 0.0, 2e9])
    monkeypatch.setattr(time, "time", lambda: next(times))
    trainer.run(jumping)
    for run in (still, jumping):
        trainer.run(only(run, train_steps=6, keep_checkpoint_max=2))
    assert_equal(saved(jumping), saved(still))
    folders = [pathlib.Path(run.output_dir, "checkpoints") for run in (still, jumping)]
    for folder in folders:  # TensorFlow may keep more than it was asked to
        assert {"ckpt-4.index", "ckpt-6.index"} <= set(os.listdir(folder))
    seconds = [line["seconds"] for line in MetricsLog.read(OutputDir(jumping.output_dir))]
    assert min(seconds) >= 0 and seconds == sorted(seconds)


def test_two_replicas_give_the_run_of_one_device(request_for, caplog):
    """The batches too, although two replicas cannot share their rows evenly."""
    caplog.set_level("INFO")
    one = request_for("one", hparams="batch_size=84,num_buckets=1")
    two = request_for("two", hparams="batch_size=84,num_buckets=1", devices=["cpu:0", "cpu:1"])
    for request in (one, two):
        trainer.run(request)
    assert caplog.text.count("rows x length: 7x12") == 2
    wanted = saved(one)
    # float32 sums in another order; see test_step.py.
    assert_equal(saved(two), wanted, rtol=1e-4, atol=2e-6)
    # And a run that began on two replicas continues on one.
    assert trainer.run(only(two, train_steps=8)).step == 8
    assert trainer.run(only(one, train_steps=8)).step == 8
    assert_equal(saved(two), saved(one), rtol=1e-4, atol=2e-6)


def test_seed_decides_the_run(request_for):
    requests = [
        request_for("a", train_steps=2, seed=5),
        request_for("b", train_steps=2, seed=5),
        request_for("c", train_steps=2, seed=6),
    ]
    for request in requests:
        trainer.run(request)
    first, same, other = map(saved, requests)
    assert_equal(first, same)
    assert any(np.abs(first[name] - other[name]).max() > 0 for name in first)


def test_evaluates_and_keeps_the_best(request_for, tiny_text_data, caplog):
    request = request_for(
        schedule="train_and_evaluate", local_eval_frequency=3, save_checkpoints_steps=3
    )
    with caplog.at_level("INFO"):
        trainer.run(request)
    output_dir = OutputDir(request.output_dir)
    evaluations = [line for line in MetricsLog.read(output_dir) if line["kind"] == "eval"]
    assert [line["step"] for line in evaluations] == [3, 6]
    model, dataset = output_dir.build_model(), tiny_text_data.dataset
    records = dataset.records("dev").read(range(40))
    for line in evaluations:
        path = output_dir.join("checkpoints", f"ckpt-{line['step']}")
        output_dir.restore_for_inference(model, path)
        output = model.loss(dataset.problem.make_batch(records, model.hparams.max_length))
        assert line["loss"] == pytest.approx(float(output.loss / output.weight), rel=1e-5)
        for name in ("nll", "accuracy"):
            value, weight = output.metrics[name]
            assert line[name] == pytest.approx(float(value / weight), rel=1e-5)
        assert "tok:13a" in line["signature"] and "nc:6" in line["chrf_signature"]
        assert "tok:tercom" in line["ter_signature"] and line["ter"] > 0
    assert "tok:13a" in caplog.text  # BLEU is never shown without it
    assert "reference   " in caplog.text
    best = max(evaluations, key=lambda line: line["bleu"])
    assert output_dir.find_checkpoint("best").endswith(f"ckpt-{best['step']}")
    for folder in ("train", "eval"):
        assert list(pathlib.Path(output_dir.join(folder)).glob("events*"))


def test_early_stopping_ends_at_one_step_in_one_go_or_in_parts(request_for, monkeypatch, caplog):
    options = {
        "hparams": "learning_rate=0.0",  # so that no evaluation improves on the first one
        "schedule": "train_and_evaluate",
        "train_steps": 20,
        "local_eval_frequency": 2,
        "eval_early_stopping_patience": 1,
    }
    unbroken, parts = (request_for(name, **options) for name in ("unbroken", "parts"))
    with caplog.at_level("INFO"):
        assert trainer.run(unbroken) == (4, False)
    assert "done, bleu did not improve in the last 1 evaluations, after step 4" in caplog.text
    call = loop.TrainStep.__call__

    def interrupted(self, batches, *, step, **options):
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return call(self, batches, step=step, **options)

    monkeypatch.setattr(loop.TrainStep, "__call__", interrupted)
    assert trainer.run(parts) == (3, True)
    monkeypatch.undo()
    remembered = only(parts, local_eval_frequency=2)
    for _ in range(2):  # continued, and started once more
        assert trainer.run(remembered) == (4, False)
    assert_equal(saved(parts), saved(unbroken))
    more = dataclasses.replace(remembered, eval_early_stopping_patience=0, train_steps=6)
    assert trainer.run(more) == (6, False)


def test_evaluation_does_not_depend_on_the_replicas(request_for):
    figures = []
    for folder, devices in (("one", ["cpu:0"]), ("two", ["cpu:0", "cpu:1"])):
        request = request_for(folder, train_steps=1, schedule="train_and_evaluate", devices=devices)
        trainer.run(request)
        (line,) = [x for x in MetricsLog.read(OutputDir(request.output_dir)) if x["kind"] == "eval"]
        figures.append([line[name] for name in ("loss", "nll", "accuracy", "bleu")])
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)


def test_evaluate_alone_prints_the_figures_of_a_checkpoint(request_for, capsys):
    request = request_for(schedule="train_and_evaluate")
    trainer.run(request)
    (line,) = [x for x in MetricsLog.read(OutputDir(request.output_dir)) if x["kind"] == "eval"]
    again = trainer.Request(output_dir=request.output_dir, schedule="evaluate", xla=False)
    capsys.readouterr()
    assert trainer.run(again).step == 6
    printed = capsys.readouterr().out
    assert f"loss {line['loss']:.4f}" in printed
    for name in ("bleu", "chrf", "ter"):
        assert f"{name} {line[name]:.2f} (nrefs:1" in printed
    assert "ckpt-6, dev:" in printed


def test_a_profile_is_of_the_steps_asked_for_and_changes_nothing(request_for):
    plain, profiled = request_for("plain"), request_for("profiled", profile_steps=[2, 4])
    for request in (plain, profiled):
        trainer.run(request)
    assert_equal(saved(profiled), saved(plain))
    (path,) = pathlib.Path(profiled.output_dir).glob("train/plugins/profile/*/*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    steps = set()
    for plane in space.planes:
        names = {key: value.name for key, value in plane.stat_metadata.items()}
        events = {key: value.name for key, value in plane.event_metadata.items()}
        steps |= {
            stat.int64_value
            for line in plane.lines
            for event in line.events
            if events[event.metadata_id] == "train"
            for stat in event.stats
            if names[stat.metadata_id] == "step_num"
        }
    assert steps == {2, 3}


def test_averaged_checkpoint_is_the_mean(request_for):
    request = request_for(save_checkpoints_steps=2)
    trainer.run(request)
    output_dir = OutputDir(request.output_dir)
    path = average_checkpoints(output_dir, 2)
    assert path == output_dir.find_checkpoint("averaged")
    model = output_dir.build_model()
    weights = []
    for name in ("checkpoints/ckpt-4", "checkpoints/ckpt-6", path):
        output_dir.restore_for_inference(model, output_dir.join(name))
        weights.append([variable.numpy() for variable in model.variables])
    for a, b, mean in zip(*weights, strict=True):
        np.testing.assert_allclose(mean, (a.astype(np.float64) + b) / 2, rtol=1e-6, atol=1e-8)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(*weights[:2], strict=True))
    evaluate = trainer.Request(
        output_dir=request.output_dir, schedule="evaluate", xla=False, checkpoint="averaged"
    )
    assert trainer.run(evaluate).step == 6


def test_averaging_more_than_there_are(request_for):
    request = request_for(train_steps=1)
    trainer.run(request)
    with pytest.raises(UsageError, match="has 1 checkpoint.*expected 4 .*--keep_checkpoint_max"):
        average_checkpoints(OutputDir(request.output_dir), 4)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_the_run_goes_on(request_for, number, monkeypatch, caplog):
    unbroken = request_for("unbroken")
    trainer.run(unbroken)
    stopped = request_for("stopped")
    call = loop.TrainStep.__call__

    def interrupted(self, batches, *, step, **options):
        if step == 3:
            os.kill(os.getpid(), number)
        return call(self, batches, step=step, **options)

    monkeypatch.setattr(loop.TrainStep, "__call__", interrupted)
    with caplog.at_level("INFO"):
        assert trainer.run(stopped) == (4, True)  # the step that was under way is finished
    monkeypatch.undo()
    message = f"stopped by {number.name}; the same command continues after step 4"
    assert message in caplog.text
    assert trainer.run(stopped).step == 6
    assert_equal(saved(stopped), saved(unbroken))


def test_not_finite_loss_saves_nothing(request_for):
    request = request_for(
        hparams="learning_rate=1e30,warmup_steps=0,clip_norm=0",
        train_steps=50,
        save_checkpoints_steps=1,
    )
    with pytest.raises(UsageError, match="training stopped at step") as caught:
        trainer.run(request)
    assert str(OutputDir(request.output_dir).find_checkpoint("latest")) in str(caught.value)
    for name, value in saved(request).items():
        assert np.isfinite(value).all(), name


def test_configuration_is_written_before_the_first_step(request_for, monkeypatch):
    def fail(self, batches, *, step, **options):
        raise RuntimeError("no step")

    monkeypatch.setattr(loop.TrainStep, "__call__", fail)
    request = request_for(hparams="dropout=0.2", gin_params=["toy.width = 4"], seed=7)
    with pytest.raises(RuntimeError, match="no step"):
        trainer.run(request)
    folder = pathlib.Path(request.output_dir)
    hparams = json.loads((folder / "hparams.json").read_text())
    assert (hparams["dropout"], hparams["width"]) == (0.2, 4)
    flags = json.loads((folder / "flags.json").read_text())
    assert (flags["model"], flags["seed"], flags["hparams_set"]) == ("toy", 7, "toy")
    assert flags["versions"]["tensorflow"] == tf.__version__
    assert "dropout = 0.2" in (folder / "config.gin").read_text()
    settings = OutputDir(request.output_dir).settings()
    assert settings.hparams.width == 4
    assert settings.problem_config.vocab_size == 320  # as the data was made


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hparams": "dropout=0.5"}, r"toy\.dropout: the run has 0\.3, now 0\.5"),
        ({"seed": 4}, "seed: the run has 1, now 4"),
        ({"gin_params": ["toy.width = 8"]}, r"toy\.width: the run has 6, now 8"),
    ],
)
def test_other_settings_in_the_same_folder(request_for, options, message):
    request = request_for(train_steps=1)
    trainer.run(request)
    with pytest.raises(UsageError, match=f"holds a run with other settings:\n  {message}"):
        trainer.run(request_for(train_steps=2, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"problem": None}, "--problem is missing, and .*run holds no run to continue"),
        ({"data_dir": None}, "--data_dir is missing"),
        ({"hparams_set": None}, "--hparams_set is missing"),
        (
            {"eval_early_stopping_patience": 2},
            "patience=2 needs evaluations: expected --schedule=train_and_evaluate",
        ),
        ({"profile_steps": [5, 5]}, "profile_steps=5,5: expected the first step and the one after"),
        ({"eval_early_stopping_metric": "wer"}, "metric=wer: expected one of bleu, chrf, loss"),
        ({"schedule": "evaluate"}, "no checkpoint for the run"),
        (
            {"schedule": "evalute"},
            "unknown --schedule=evalute. Expected one of: train_and_evaluate",
        ),
        ({"problem": "translate_txt"}, "unknown problem 'translate_txt'. Did you mean"),
        ({"problem_params": "vocab_size=500"}, "vocab_size was 320, now 500"),
        ({"data_dir": "nowhere"}, "no data of translate_text in .*nowhere. Make it with: t2t-dat"),
    ],
)
def test_what_is_missing_or_wrong(request_for, options, message):
    with pytest.raises(UsageError, match=message):
        trainer.run(request_for(**options))


@pytest.fixture
def reads(monkeypatch):
    """Counts how often manifests are read, and hashed."""
    counts = {"read": 0, "hashed": 0}
    checksum, read = building._checksum, building.read_manifest

    def counted_read(directory, identity=None):
        manifest = read(directory, identity)
        counts["read"] += manifest is not None
        return manifest

    def counted_checksum(manifest):
        counts["hashed"] += 1
        return checksum(manifest)

    monkeypatch.setattr(building, "read_manifest", counted_read)
    monkeypatch.setattr(building, "_checksum", counted_checksum)
    return counts


def test_the_manifest_is_read_once_in_a_run(request_for, reads):
    request = request_for(schedule="train_and_evaluate", train_steps=2, local_eval_frequency=1)
    trainer.run(request)
    assert reads == {"read": 1, "hashed": 1}
    trainer.run(dataclasses.replace(request, train_steps=3))  # continues
    trainer.run(dataclasses.replace(request, schedule="evaluate"))
    assert reads == {"read": 3, "hashed": 3}


def test_a_model_that_does_not_fit_is_refused_before_data_is_looked_for(request_for, tmp_path):
    request = request_for(hparams_set="vqvae_digits", data_dir=str(tmp_path / "nowhere"))
    message = "the model 'vqvae' does not fit the problem 'translate_text'"
    with pytest.raises(UsageError, match=message):
        trainer.run(request)
    assert not pathlib.Path(request.output_dir).exists()


def test_the_largest_seed_trains_and_a_larger_one_is_refused(request_for):
    request = request_for(train_steps=1, seed=MAX_SEED)
    assert trainer.run(request).step == 1
    for seed in (-1, MAX_SEED + 1):
        with pytest.raises(UsageError, match=f"--seed={seed}: expected a number from 0 to "):
            trainer.run(dataclasses.replace(request, seed=seed))
