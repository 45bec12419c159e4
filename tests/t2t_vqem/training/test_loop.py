import math
import types

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.metrics.bleu import Score
from t2t_vqem.training.early_stopping import EarlyStopping
from t2t_vqem.training.evaluation import Evaluation
from t2t_vqem.training.loop import Intervals, Loop, NotFiniteError
from t2t_vqem.training.signals import StoppedError, StopRequest
from t2t_vqem.training.step import StepResult

BLEU = Score(12.5, "13a", "BLEU")


class Reader:
    """Gives (number, batch) from a first number on."""

    def __init__(self, first):
        self.number = first
        self.wait_seconds = 0.0
        self.closed = False

    def __next__(self):
        self.number += 1
        return self.number - 1, {"number": np.array([self.number - 1])}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.closed = True


class Plan:
    def batch(self, number):
        return np.array([*range(100 * number, 100 * number + 10), -1]), 24


class World:
    """All that a loop touches, noting in `events` what it does."""

    def __init__(self, **options):
        self.events = []
        self.stop = StopRequest()
        self.stop_after = options.pop("stop_after", None)  # updates
        self.losses = options.pop("losses", {})  # by step, instead of 6
        self.norms = options.pop("norms", {})
        self.evaluated = set(options.pop("evaluated", ()))
        self.evaluation = options.pop("evaluation", self.evaluate)
        self.accumulate_steps = options.pop("accumulate_steps", 1)
        self.early_stopping = options.pop("early_stopping", None)
        self.before = options.pop("before", {})
        self.intervals = Intervals(
            **{"train": 10, "save": 4, "evaluate": 5, "report": 3, **options}
        )
        self.latest = None

    def step(self, batches, *, step, stop_wish):
        numbers = [int(batch["number"][0]) for batch in batches]
        self.events.append(("step", step, *numbers))
        if self.stop_after is not None and step + 1 >= self.stop_after:
            self.stop.name = "SIGTERM"
        loss = tf.constant(self.losses.get(step, 6.0))
        return StepResult(
            loss,
            tf.constant(3.0),
            {"accuracy": (tf.constant(1.0), tf.constant(3.0))},
            tf.constant(self.norms.get(step, 0.5)),
            tf.constant(0.1),
            tf.constant(float(stop_wish)),
        )

    def evaluate(self, stop):
        return Evaluation({"loss": 3.0}, {"bleu": BLEU}, 0.1)

    def save(self, step):
        self.events.append(("save", step))
        self.latest = f"ckpt-{step}"

    def write(self, kind, step, figures, **notes):
        self.events.append((kind, step))
        if kind == "eval":
            self.evaluated.add(step)
        if kind == "train":
            self.figures = figures

    def open_reader(self, first):
        self.reader = Reader(first)
        return self.reader

    def run(self, start=0):
        namespace = types.SimpleNamespace
        loop = Loop(
            self.step,
            replicas=namespace(
                distribute=lambda batch, num_rows: batch, gather=lambda value: [value]
            ),
            plan=Plan(),
            open_reader=self.open_reader,
            accumulate_steps=self.accumulate_steps,
            intervals=self.intervals,
            checkpoints=self,
            log=self,
            progress=namespace(
                advance=lambda: None,
                show=lambda *a: None,
                say=lambda m: None,
                unit="tokens",
                unit_weight=1,
            ),
            evaluate=self.evaluation,
            early_stopping=self.early_stopping,
            stop=self.stop,
            before=self.before,
        )
        try:
            return loop.run(start)
        finally:
            assert self.reader.closed

    # What the loop calls on checkpoints and log besides `save` and `write`.
    def save_if_best(self, step, score, loss):
        assert (score, loss) == (12.5, 3.0)
        return True

    def has_evaluation(self, step):
        return step in self.evaluated

    def evaluations(self):
        return [{"loss": 3.0, "bleu": 12.5} for _ in self.evaluated]

    def noted(self, kind):
        return [
            event[1:] if len(event) > 2 else event[1] for event in self.events if event[0] == kind
        ]


def test_things_happen_when_they_are_due():
    world = World()
    assert world.run() == 10
    assert world.noted("step") == [(i, i) for i in range(10)]
    assert world.noted("save") == [4, 8, 10]
    assert world.noted("eval") == [5, 10]
    assert world.noted("train") == [3, 6, 9, 10]


def test_figures_are_means_over_tokens():
    world = World(losses={0: 3.0, 1: 12.0}, train=2)
    world.run()
    assert world.figures["loss"] == pytest.approx(15 / 6)
    assert world.figures["accuracy"] == pytest.approx(1 / 3)
    assert world.figures["gradient_norm"] == 0.5
    assert world.figures["learning_rate"] == pytest.approx(0.1)
    assert world.figures["wait_share"] == 0.0
    assert world.figures["tokens_per_second"] == pytest.approx(
        3 * world.figures["steps_per_second"]
    )


def test_accumulation_takes_several_batches_an_update():
    world = World(accumulate_steps=3, train=4)
    assert world.run(2) == 4
    assert world.noted("step") == [(2, 6, 7, 8), (3, 9, 10, 11)]


def test_stop_saves_and_ends():
    world = World(stop_after=7)
    assert world.run() == 7
    assert world.noted("save") == [4, 7]


def test_stop_right_after_a_save_does_not_save_again():
    world = World(stop_after=4)
    assert world.run() == 4
    assert world.noted("save") == [4]


def test_evaluation_that_a_stop_gave_up_is_done_when_going_on():
    def give_up(stop):
        raise StoppedError

    world = World(evaluation=give_up, stop_after=5)
    assert world.run() == 5
    assert world.noted("eval") == []
    assert world.noted("save") == [4, 5]
    again = World()
    again.run(5)
    assert again.noted("eval") == [5, 10]
    once = World(evaluated=[5])
    once.run(5)
    assert once.noted("eval") == [10]


@pytest.mark.parametrize("start", [0, 4, 5, 8])
def test_evaluations_that_do_not_improve_end_the_run_wherever_it_continued(start):
    rule = EarlyStopping("bleu", 1)
    world = World(train=100, evaluated=[5] if start >= 5 else [], early_stopping=rule)
    assert world.run(start) == 10
    assert world.noted("save")[-1] == 10
    again = World(train=100, evaluated=[5, 10], early_stopping=rule)
    assert again.run(10) == 10
    assert again.events == []


def test_train_only_evaluates_nothing():
    world = World(evaluation=None)
    world.run()
    assert world.noted("eval") == []


def test_nothing_left_to_do():
    world = World(evaluated=[10])
    assert world.run(10) == 10
    assert world.events == []


@pytest.mark.parametrize("accumulate_steps", [1, 2])
@pytest.mark.parametrize(
    ("losses", "norms", "what"),
    [
        ({5: math.nan}, {}, r"the loss is nan and the gradient norm 0\.5, expected finite"),
        ({}, {5: math.inf}, r"the loss is 6\.0 and the gradient norm inf, expected finite"),
    ],
)
def test_not_finite_stops_and_saves_nothing(losses, norms, what, accumulate_steps):
    world = World(losses=losses, norms=norms, accumulate_steps=accumulate_steps)
    with pytest.raises(NotFiniteError, match=f"stopped at step 5: {what}") as caught:
        world.run()
    message = str(caught.value)
    first = 5 * accumulate_steps
    for number in range(first, first + accumulate_steps):
        n = 100 * number
        named = ", ".join(str(n + i) for i in range(8))
        assert f"batch {number}: 11 rows of length 24, examples {named}, ..." in message
    assert "Last good checkpoint: ckpt-4" in message
    assert "clip_norm" in message
    assert world.noted("save") == [4]
    assert world.noted("step")[-1][0] <= 6  # one more may be under way


@pytest.mark.parametrize(
    ("intervals", "saved"), [({"save": 6}, []), ({"evaluate": 6}, [4]), ({"report": 6}, [4])]
)
def test_last_step_is_found_before_anything_is_done_with_it(intervals, saved):
    world = World(losses={5: math.nan}, **intervals)
    with pytest.raises(NotFiniteError, match="step 5.*" if saved else "checkpoint: none"):
        world.run()
    assert world.noted("save") == saved
    assert 6 not in world.noted("eval") + world.noted("train")


def test_stop_does_not_save_what_is_not_finite():
    world = World(losses={5: math.nan}, stop_after=6)
    with pytest.raises(NotFiniteError, match="stopped at step 5"):
        world.run()
    assert world.noted("save") == [4]


def test_failure_of_the_reader_closes_it_and_saves_nothing():
    world = World()

    def fail(batches, **options):
        raise OSError("no such record")

    world.step = fail
    with pytest.raises(OSError, match="no such record"):
        world.run()
    assert world.events == []


@pytest.mark.parametrize(("start", "expected"), [(0, [2]), (2, [2]), (3, [])])
def test_what_comes_before_a_step_comes_once(start, expected):
    world = World(train=5)
    world.before = {2: lambda: world.events.append(("before", 2))}
    world.run(start)
    assert [event[1] for event in world.events if event[0] == "before"] == expected
    if expected:
        index = world.events.index(("before", 2))
        assert world.events[index + 1][:2] == ("step", 2)
