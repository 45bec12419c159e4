import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.output_dir import OutputDir, named_weights
from t2t_vqem.training.checkpoints import Checkpoints


@pytest.fixture
def output_dir(tmp_path):
    return OutputDir(str(tmp_path / "run"))


def open_checkpoints(output_dir, run, keep=3, is_chief=True):
    return Checkpoints(output_dir, run.state, keep=keep, is_chief=is_chief)


def fill(run, seed):
    """Gives every variable other values, also those that a layer's list holds."""
    rng = np.random.default_rng(seed)
    state = run.state
    for model in (state.model, state.averaged):
        for variable in model.variables:
            variable.assign(rng.normal(size=variable.shape))
    for variable in (*state.slots.first, *state.slots.second):
        variable.assign(rng.normal(size=variable.shape))
    return run.weights()


def test_everything_comes_back(output_dir, toy_run):
    run = toy_run()
    saved = fill(run, seed=0)
    open_checkpoints(output_dir, run).save(7)
    other = toy_run(seed=2)
    assert open_checkpoints(output_dir, other).restore() == 7
    assert len(saved) == len(other.weights()) == 4 * 7
    for a, b in zip(saved, other.weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("before", "after"), [(["cpu:0", "cpu:1"], ["cpu:0"]), (["cpu:0"], ["cpu:0", "cpu:1"])]
)
def test_from_replicas_to_one_device_and_back(output_dir, toy_run, before, after):
    run = toy_run(*before)
    saved = fill(run, seed=0)
    open_checkpoints(output_dir, run).save(1)
    other = toy_run(*after)
    open_checkpoints(output_dir, other).restore()
    for a, b in zip(saved, other.weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for variable in other.state.model.variables:
        copies = other.strategy.experimental_local_results(variable.value)
        assert len(copies) == len(after)
        for copy in copies:
            np.testing.assert_array_equal(copy.numpy(), copies[0].numpy())


def test_nothing_to_restore(output_dir, toy_run):
    checkpoints = open_checkpoints(output_dir, toy_run())
    assert checkpoints.restore() == 0
    assert checkpoints.latest is None


def test_the_last_ones_are_kept(output_dir, toy_run):
    run = toy_run()
    for step in (2, 4, 6):
        open_checkpoints(output_dir, run, keep=2).save(step)
    names = sorted(
        path.stem for path in pathlib.Path(output_dir.join("checkpoints")).glob("*.index")
    )
    assert names == ["ckpt-4", "ckpt-6"]


def test_half_written_checkpoint_is_not_seen(output_dir, toy_run):
    run = toy_run()
    checkpoints = open_checkpoints(output_dir, run)
    checkpoints.save(3)
    folder = pathlib.Path(output_dir.join("checkpoints"))
    (folder / "ckpt-9.data-00000-of-00001").write_bytes(b"half")
    (folder / "ckpt-9_temp").mkdir()
    assert open_checkpoints(output_dir, run).restore() == 3


def test_damaged_checkpoint_is_named(output_dir, toy_run):
    run = toy_run()
    checkpoints = open_checkpoints(output_dir, run)
    checkpoints.save(3)
    pathlib.Path(f"{checkpoints.latest}.index").write_bytes(b"damage" * 20)
    with pytest.raises(UsageError, match="ckpt-3 cannot be restored.*delete it"):
        open_checkpoints(output_dir, run).restore()


def test_checkpoint_of_a_wider_model(output_dir, toy_run):
    open_checkpoints(output_dir, toy_run(width=6)).save(3)
    with pytest.raises(UsageError, match=r"ckpt-3 cannot be restored: .*[Ss]hape"):
        open_checkpoints(output_dir, toy_run(width=4)).restore()


def test_folder_that_cannot_be_written(output_dir, toy_run):
    checkpoints = open_checkpoints(output_dir, toy_run())
    pathlib.Path(output_dir.path).mkdir(exist_ok=True)
    folder = pathlib.Path(output_dir.join("checkpoints"))
    if folder.exists():
        folder.rmdir()
    folder.write_text("a file is in the way")
    with pytest.raises(
        UsageError, match="checkpoint of step 5 cannot be written .*good one is None"
    ):
        checkpoints.save(5)


def test_best_is_what_scored_highest(output_dir, toy_run):
    run = toy_run()
    checkpoints = open_checkpoints(output_dir, run)
    assert checkpoints.best() == (-math.inf, -math.inf)
    kept = []
    for step, score in ((10, 20.0), (20, 25.5), (30, 25.5), (40, 21.0)):
        weights = fill(run, seed=step)
        kept.append(checkpoints.save_if_best(step, score, loss=1.5))
        if step == 20:
            averaged = weights[7:14]
    assert kept == [True, True, False, False]
    reopened = open_checkpoints(output_dir, run)
    assert reopened.best() == (25.5, -1.5)
    assert not reopened.save_if_best(50, 25.0, loss=1.0)
    path = tf.train.latest_checkpoint(output_dir.join("best"))
    assert path.endswith("ckpt-20")
    model = toy_run(seed=5).state.model
    assert output_dir.restore_for_inference(model, "best") == path
    for a, b in zip(averaged, model.variables, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


def test_inference_takes_the_averaged_weights(output_dir, toy_run):
    run = toy_run()
    weights = fill(run, seed=0)
    open_checkpoints(output_dir, run).save(4)
    model = toy_run(ema_decay=0.0).state.model
    output_dir.restore_for_inference(model)
    for a, b in zip(weights[7:14], model.variables, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


def test_inference_takes_the_weights_where_there_is_no_average(output_dir, toy_run):
    run = toy_run(ema_decay=0.0)
    open_checkpoints(output_dir, run).save(4)
    model = toy_run(seed=9).state.model
    output_dir.restore_for_inference(model, "latest")
    for a, b in zip(run.weights()[:7], model.variables, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


def test_equal_scores_go_to_the_lower_loss(output_dir, toy_run):
    """A model that learns has BLEU 0 for long, or for ever where all sentences are short."""
    checkpoints = open_checkpoints(output_dir, toy_run())
    losses = [2.4, 1.0, 1.5, 0.002, 0.002]
    kept = [checkpoints.save_if_best(step, 0.0, loss) for step, loss in enumerate(losses)]
    assert kept == [True, True, False, True, False]
    assert not checkpoints.save_if_best(8, -1.0, loss=0.0)
    assert checkpoints.best() == (0.0, -0.002)


def test_best_weights_of_an_older_version_have_no_loss(output_dir, toy_run):
    run = toy_run()
    older = tf.train.Checkpoint(
        model=named_weights(run.state.inference_model),
        step=run.state.step,
        score=tf.Variable(0.0, dtype=tf.float64),
    )
    manager = tf.train.CheckpointManager(
        older, output_dir.join("best"), max_to_keep=1, checkpoint_name="ckpt"
    )
    manager.save(checkpoint_number=20)
    checkpoints = open_checkpoints(output_dir, run)
    assert checkpoints.best() == (0.0, -math.inf)
    assert checkpoints.save_if_best(40, 0.0, loss=2.0)
    assert checkpoints.best() == (0.0, -2.0)


def test_other_processes_leave_no_files(output_dir, toy_run):
    checkpoints = open_checkpoints(output_dir, toy_run(), is_chief=False)
    checkpoints.save(3)
    assert not checkpoints.save_if_best(3, 10.0, loss=1.0)
    assert not list(pathlib.Path(output_dir.path).rglob("*.index"))


@pytest.mark.parametrize("content", [None, b"", b"\xac\x91", b'model_checkpoint_path: "ckpt-'])
def test_the_last_one_is_found_without_the_file_that_names_it(output_dir, toy_run, content):
    run = toy_run()
    checkpoints = open_checkpoints(output_dir, run, keep=2)
    for step in (2, 10):
        checkpoints.save(step)
    checkpoints.save_if_best(9, 0.5, loss=2.0)
    for folder in ("checkpoints", "best"):
        path = pathlib.Path(output_dir.join(folder, "checkpoint"))
        path.unlink() if content is None else path.write_bytes(content)
    again = open_checkpoints(output_dir, toy_run(seed=2), keep=2)
    assert again.restore() == 10
    assert again.best() == (0.5, -2.0)
    again.save(11)
    names = {path.stem for path in pathlib.Path(output_dir.join("checkpoints")).glob("*.index")}
    assert names == {"ckpt-10", "ckpt-11"}


def test_where_the_last_one_is_gone_the_one_before_is_taken(output_dir, toy_run):
    checkpoints = open_checkpoints(output_dir, toy_run())
    for step in (2, 10):
        checkpoints.save(step)
    for path in pathlib.Path(output_dir.join("checkpoints")).glob("ckpt-10.*"):
        path.unlink()
    assert open_checkpoints(output_dir, toy_run()).restore() == 2
