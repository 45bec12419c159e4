"""Evaluates a model on a split: its loss and metrics, and the quality of its decoded output."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from t2t_vqem.capabilities import ImageModel, TranslationModel
from t2t_vqem.config import HParams
from t2t_vqem.constants import DEV, UsageError
from t2t_vqem.metrics.bleu import Score, choose_tokenizer
from t2t_vqem.models.base import LossOutput, Model
from t2t_vqem.problem import Dataset
from t2t_vqem.training.pictures import Pictures
from t2t_vqem.training.signals import StoppedError, StopRequest
from t2t_vqem.training.strategies import ReplicaBatch, Replicas
from t2t_vqem.training.text_evaluation import TextEvaluator


class Evaluator:
    """Evaluates a model repeatedly during training.

    The computation of the loss is divided among all replicas, and decoding among all workers. Only
    the chief makes images.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: Model,
        dataset: Dataset,
        hparams: HParams,
        *,
        split: str = DEV,
        xla: bool = True,
    ):
        """Opens the data, without computing anything.

        Args:
            strategy: the strategy that the model was built with.
            model: the model with the weights for inference.
            dataset: the data.
            hparams: the batch size and other hyperparameters of batches.
            split: the split to evaluate on.
            xla: whether to compile decoding, and the loss of images.
        """
        self.split = split
        self._strategy = strategy
        self._replicas = Replicas(strategy)
        self._model = model
        self._dataset = dataset
        examples = dataset.examples(split, hparams, seed=0, shuffle=False, epochs=1)
        self._own_examples = examples._replace(plan=self._replicas.own_rows(examples.plan))
        images, text = (dataset.problem.needs_a(x) for x in (ImageModel, TranslationModel))
        # Images have one shape, and compilation makes their loss several times faster. Text has
        # many shapes: a forward pass over a small split takes less time than compiling for them.
        self._loss = tf.function(
            lambda features: model.loss(features, rng=None),
            jit_compile=xla and images,
            autograph=False,
        )
        self._functions: dict[Any, Callable[[ReplicaBatch], LossOutput]] = {}
        self._pictures = None
        replicas = self._replicas
        if images and replicas.is_chief:
            self._pictures = Pictures(model, dataset, split=split)
        self._translate = None
        if text:
            self._translate = TextEvaluator(
                model,
                dataset,
                examples,
                split,
                max_length=hparams.max_length,
                tokenizer=choose_tokenizer(hparams.bleu_tokenizer, dataset.problem.target_language),
                replicas=replicas,
                xla=xla,
            )

    def __call__(self, stop: StopRequest) -> "Evaluation":
        """Evaluates the current weights.

        Raises:
            StoppedError: a stop was requested during the evaluation.
        """
        started = time.monotonic()
        figures = self._losses(stop)
        scores: Mapping[str, Score] = {}
        if self._translate:
            scores, found = self._translate(stop)
            figures |= found
        return Evaluation(figures, scores, time.monotonic() - started, self._pictures)

    def _losses(self, stop: StopRequest) -> dict[str, float]:
        """Returns "loss" (nats per token, the training objective) and the model's own metrics."""
        sums: dict[str, float] = {}
        weights: dict[str, float] = {}
        statistics = None
        with self._own_examples.read() as reader:
            for _, batch in reader:
                wish = tf.constant(stop.poll(), tf.float32)
                output, wishes = self._compute(
                    self._replicas.distribute(batch), wish, _shapes(batch)
                )
                stop.hear(float(wishes))
                if stop:
                    raise StoppedError
                pairs = {"loss": (output.loss, output.weight), **output.metrics}
                for name, (value, weight) in pairs.items():
                    sums[name] = sums.get(name, 0.0) + float(value)
                    weights[name] = weights.get(name, 0.0) + float(weight)
                if statistics is not None:
                    output = output._replace(
                        statistics=tf.nest.map_structure(tf.add, statistics, output.statistics)
                    )
                statistics = output.statistics
        if not all(weights.values()):
            raise UsageError(
                f"nothing to evaluate on: {self._dataset.problem.name} has an empty {self.split}"
            )
        described = self._model.describe_statistics(statistics)
        return {
            **{name: sums[name] / weights[name] for name in sums},
            **{name: float(value) for name, value in described.items()},
        }

    def _compute(
        self, batch: ReplicaBatch, stop_wish: tf.Tensor, shapes: Any
    ) -> tuple[LossOutput, tf.Tensor]:
        """Returns the sums over all replicas of a batch's losses and of stop requests."""
        if shapes not in self._functions:
            self._functions[shapes] = tf.function(
                lambda *args: self._strategy.run(self._replica_loss, args=args), autograph=False
            )
        output = self._functions[shapes](batch, stop_wish)
        return self._strategy.experimental_local_results(output)[0]

    def _replica_loss(
        self, batch: ReplicaBatch, stop_wish: tf.Tensor
    ) -> tuple[LossOutput, tf.Tensor]:
        output = self._loss(batch.features), tf.identity(stop_wish)
        context = tf.distribute.get_replica_context()
        flat = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.nest.flatten(output))
        return tf.nest.pack_sequence_as(output, flat)


class Evaluation:
    """The result of one evaluation.

    Attributes:
        figures: "loss" in nats per token, the model's own metrics, and the scores.
        signatures: of the scores: "signature" for BLEU, "chrf_signature" and "ter_signature".
        seconds: duration of the evaluation.
        pictures: makes images of the model, to be called before its weights change; None if there
            are no images.
    """

    def __init__(
        self,
        figures: Mapping[str, float],
        scores: Mapping[str, Score],
        seconds: float,
        pictures: Pictures | None = None,
    ):
        """Takes the results; see the attributes. Scores, by metric, are for decoded text."""
        self.figures = {**figures, **{name: score.value for name, score in scores.items()}}
        self.signatures = {
            "signature" if name == "bleu" else f"{name}_signature": score.signature
            for name, score in scores.items()
        }
        self._scores = dict(scores)
        self.seconds = seconds
        self.pictures = pictures

    @property
    def score(self) -> float:
        """BLEU, or the negated loss if there is no BLEU: higher is better."""
        return self.figures.get("bleu", -self.figures["loss"])

    def __str__(self) -> str:
        shown = [
            f"{name} {value:.2f}" if name.endswith("bleu") else f"{name} {value:.4f}"
            for name, value in self.figures.items()
            if name not in self._scores
        ]
        shown += [f"{name} {s.value:.2f} ({s.signature})" for name, s in self._scores.items()]
        return ", ".join(shown)


def _shapes(batch: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple((name, batch[name].shape) for name in sorted(batch))
