import numpy as np
import pytest

from t2t_vqem.constants import UsageError


def train(run, batches, *, accumulate=1, start=0):
    """Applies one update per `accumulate` batches; returns the results."""
    results = []
    for first in range(0, len(batches), accumulate):
        distributed = [run.replicas.distribute(b) for b in batches[first : first + accumulate]]
        results.append(run.step(distributed, step=start + first // accumulate))
    return results


def tolerance(values):
    """Tolerance for float32 sums over replicas and batches in another order.

    The error is 1e-7 of a gradient's largest elements, and relatively much more for an element
    close to 0, which Adam divides by the root of its square: after a few updates of 0.02 it has
    grown to about 1e-6.
    """
    return 2e-5 * np.abs(values).max()


def assert_same(ours, others):
    for a, b in zip(ours, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=tolerance(b))


@pytest.mark.parametrize(("accumulate_steps", "xla"), [(1, False), (3, False), (1, True)])
def test_two_replicas_give_the_weights_of_one_device(toy_run, toy_batches, accumulate_steps, xla):
    batches = toy_batches(6)
    one = toy_run("cpu:0", xla=xla, accumulate_steps=accumulate_steps)
    two = toy_run("cpu:0", "cpu:1", xla=xla, accumulate_steps=accumulate_steps)
    assert (one.replicas.total, two.replicas.total) == (1, 2)
    start = one.weights()
    results = [train(run, batches, accumulate=accumulate_steps) for run in (one, two)]
    assert_same(one.weights(), two.weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a.loss, b.loss, rtol=1e-5)
        np.testing.assert_allclose(a.gradient_norm, b.gradient_norm, rtol=1e-4)
        assert float(a.weight) == float(b.weight) == accumulate_steps * (5 * 5 + 2 * 2)
    for before, after in zip(start, one.weights(), strict=True):
        assert np.abs(after - before).max() > 100 * tolerance(after)  # the comparison can fail


def test_replicas_stay_the_same(toy_run, toy_batches):
    run = toy_run("cpu:0", "cpu:1")
    train(run, toy_batches(3))
    for variable in run.state.model.variables + run.state.averaged.variables:
        first, second = run.strategy.experimental_local_results(variable.value)
        np.testing.assert_array_equal(first.numpy(), second.numpy())


def test_accumulated_batches_are_one_large_batch(toy_run, toy_batches):
    parts = toy_batches(2)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    # Without dropout: its masks depend on the index of the batch.
    apart = toy_run(dropout=0.0, accumulate_steps=2)
    together = toy_run(dropout=0.0)
    (a,) = train(apart, parts, accumulate=2)
    (b,) = train(together, [whole])
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-6)
    assert_same(apart.weights(), together.weights())


def test_empty_rows_change_nothing(toy_run, toy_batches):
    (batch,) = toy_batches(1)
    padded = {name: np.pad(rows, [(0, 4), (0, 0)]) for name, rows in batch.items()}
    runs = toy_run(), toy_run()
    train(runs[0], [batch])
    train(runs[1], [padded])
    assert_same(runs[0].weights(), runs[1].weights())


def test_compiled_equals_eager_graph(toy_run, toy_batches):
    runs = toy_run(xla=True), toy_run(xla=False)
    for run in runs:
        train(run, toy_batches(4))
    assert_same(runs[0].weights(), runs[1].weights())


def test_gradient_is_the_mean_over_tokens(toy_run, toy_batches):
    """Compares the reported norm with central differences of the mean loss."""
    run = toy_run(dropout=0.0, ema_decay=0.0)
    (batch,) = toy_batches(1)
    model = run.state.model
    square = 0.0
    for variable in model.trainable_variables:
        value = variable.numpy().astype(np.float64)
        for index in np.ndindex(value.shape):
            losses = []
            for sign in (1, -1):
                moved = value.copy()
                moved[index] += sign * 1e-2
                variable.assign(moved)
                output = model.loss(batch)
                losses.append(float(output.loss) / float(output.weight))
            square += ((losses[0] - losses[1]) / 2e-2) ** 2
        variable.assign(value)
    (result,) = train(run, [batch])
    # Differences of float32 losses have an error of about 1e-7 / 1e-2; curvature adds to it.
    assert float(result.gradient_norm) == pytest.approx(square**0.5, rel=1e-3)


def test_dropout_depends_on_the_seed(toy_run, toy_batches):
    batches = toy_batches(1)
    losses = []
    for seed in (1, 1, 2):
        run = toy_run(seed=1)
        run.step._seed = seed
        losses.append(float(train(run, batches)[0].loss))
    assert losses[0] == losses[1] != losses[2]


def test_one_batch_is_memorised(toy_run, toy_batches):
    (batch,) = toy_batches(1)
    batch["inputs"] = (batch["targets"] * 5 + 1) % 13  # a task that the toy model can express
    run = toy_run(dropout=0.0, learning_rate=0.05)
    results = train(run, [batch] * 150)
    first, last = (float(r.loss) / float(r.weight) for r in (results[0], results[-1]))
    assert first > 2.0
    assert last < 0.02
    right, weight = results[-1].metrics["accuracy"]
    assert float(right) == float(weight)


def test_bfloat16_trains_float32_weights(toy_run, toy_batches):
    (batch,) = toy_batches(1)
    batch["inputs"] = (batch["targets"] * 5 + 1) % 13
    run = toy_run(dropout=0.0, learning_rate=0.05, dtype="bfloat16")
    assert {v.dtype for v in run.state.model.variables} == {"float32"}
    assert run.state.model.embed.compute_dtype == "bfloat16"
    results = train(run, [batch] * 60)
    assert float(results[-1].loss) < 0.3 * float(results[0].loss)


def test_rate_follows_the_schedule(toy_run, toy_batches):
    run = toy_run(schedule="linear", learning_rate=0.1, warmup_steps=2)
    results = train(run, toy_batches(4))
    rates = [float(result.learning_rate) for result in results]
    assert rates == pytest.approx([0.05, 0.1, 0.1 * (1 - 1 / 18), 0.1 * (1 - 2 / 18)])


def test_unknown_schedule_names_the_nearest(toy_run):
    with pytest.raises(UsageError, match="unknown schedule 'cosin'. Did you mean cosine"):
        toy_run(schedule="cosin")


def test_without_averaging_there_is_no_copy(toy_run, toy_batches):
    run = toy_run(ema_decay=0.0)
    train(run, toy_batches(1))
    assert run.state.averaged is None
    assert run.state.inference_model is run.state.model
