"""Measures a model on a split: loss and accuracy, and the quality of what it decodes."""

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
    """Evaluates one model, again and again while it trains.

    All replicas share the loss, all workers share what is decoded; the chief alone makes pictures.
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
        """Opens the data; nothing is computed yet.

        Args:
            strategy: where the model was built.
            model: the model with the weights that inference uses.
            dataset: the data.
            hparams: sizes of batches.
            split: the split to measure.
            xla: whether to compile the decoding, and the loss of images.
        """
        self.split = split
        self._strategy = strategy
        self._replicas = Replicas(strategy)
        self._model = model
        self._dataset = dataset
        examples = dataset.examples(split, hparams, seed=0, shuffle=False, epochs=1)
        self._own_examples = examples._replace(plan=self._replicas.own_rows(examples.plan))
        images, text = (dataset.problem.needs_a(x) for x in (ImageModel, TranslationModel))
        # Images have one shape, and compiled their loss takes a fraction of the time. Text has many
        # shapes: one forward pass over a small split costs less than compiling them would.
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
        """Measures the model as it is now.

        Raises:
            StoppedError: a stop was requested meanwhile.
        """
        started = time.monotonic()
        figures = self._losses(stop)
        bleu = None
        if self._translate:
            bleu, found = self._translate(stop)
            figures |= found
        return Evaluation(figures, bleu, time.monotonic() - started, self._pictures)

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
        """Returns the sums of a batch, and of the wishes to stop, over all replicas."""
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
        figures: "loss" in nats per token, the model's own metrics, "bleu" where it decodes.
        signature: of BLEU, None where it does not decode.
        seconds: how long it took.
        pictures: makes pictures of the model while it is as it was; None where there are none.
    """

    def __init__(
        self,
        figures: Mapping[str, float],
        bleu: Score | None,
        seconds: float,
        pictures: Pictures | None = None,
    ):
        """Puts the parts together."""
        self.figures = dict(figures)
        self.signature = None
        if bleu is not None:
            self.figures["bleu"] = bleu.value
            self.signature = bleu.signature
        self.seconds = seconds
        self.pictures = pictures

    @property
    def score(self) -> float:
        """What is the higher the better the model: BLEU, or minus the loss where there is none."""
        return self.figures.get("bleu", -self.figures["loss"])

    def __str__(self) -> str:
        text = ", ".join(
            f"{name} {value:.2f}" if name.endswith("bleu") else f"{name} {value:.4f}"
            for name, value in self.figures.items()
        )
        return f"{text} ({self.signature})" if self.signature else text


def _shapes(batch: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple((name, batch[name].shape) for name in sorted(batch))
