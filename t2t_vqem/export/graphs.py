"""The functions of an exported model, as graphs for any batch size and length."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from t2t_vqem.capabilities import LatentTextModel, PairScoringModel
from t2t_vqem.constants import NotExportableError, UsageError
from t2t_vqem.decoding.greedy import POSITION_MULTIPLE
from t2t_vqem.decoding.options import DecodeOptions, SearchSettings
from t2t_vqem.ops.shapes import building_for_interpreter, rounded_up
from t2t_vqem.runtime import images, text

_IDS = tf.TensorSpec([None, None], tf.int32)


class Graphs(tf.Module):
    """Functions over the same variables, by their names in `runtime`.

    It is also a `runtime.interpreters.Backend` that computes with TensorFlow.

    Attributes:
        functions: the functions, each with one signature.
        variables_used: the variables that they read.
    """

    def __init__(self, functions: Mapping[str, Any], variables: Sequence[Any]):
        """Stores the functions; `text_graphs` and `image_graphs` make them.

        Args:
            functions: `tf.function`s, each with an input signature.
            variables: the variables that they read.
        """
        super().__init__(name="graphs")
        self.functions, self.variables_used = dict(functions), list(variables)

    @property
    def signatures(self) -> dict[str, Any]:
        """The functions by name, for a SavedModel."""
        return {name: f.get_concrete_function() for name, f in self.functions.items()}

    def trace(self) -> None:
        """Traces the graphs from the current state of the models."""
        for function in self.functions.values():
            function.get_concrete_function()

    @property
    def concurrency(self) -> int:
        """See `Backend`: TensorFlow divides the work itself."""
        return 1

    def inputs(self, signature: str) -> list[str] | None:
        """See `Backend`."""
        found = self.functions.get(signature)
        return None if found is None else [spec.name for spec in found.input_signature]

    def call(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Backend`."""
        given = [tf.constant(inputs[name]) for name in self.inputs(signature)]
        outputs = self.functions[signature](*given)
        return {name: output.numpy() for name, output in outputs.items()}


def _graph(function: Callable[..., dict[str, tf.Tensor]], **specs: tf.TensorSpec) -> Any:
    """Makes a function with named inputs."""
    signature = [tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in specs.items()]

    def built(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        with building_for_interpreter():
            return function(**dict(zip(specs, inputs, strict=True)))

    return tf.function(built, input_signature=signature, autograph=False)


def check_exportable(model: type) -> None:
    """Checks that a class of models that translate has a graph of any batch and length.

    Raises:
        NotExportableError: it has none.
    """
    if "settings" not in inspect.signature(model.infer).parameters:
        raise NotExportableError(
            f"the model {model.__name__} cannot be exported: its `infer` takes no `settings`, the "
            "settings of a search as tensors. See docs/your_model.md for the requirements"
        )


def text_graphs(model: Any, options: DecodeOptions, rescorer: Any = None) -> Graphs:
    """Makes the functions of a model that translates.

    Args:
        model: a built model in float32.
        options: the decoding options that change the graph; the others are inputs.
        rescorer: a model that chooses among candidates.

    Raises:
        UsageError: the model cannot be exported.
    """
    check_exportable(type(model))
    if not isinstance(model, LatentTextModel) and (
        options.num_candidates > 1 or options.keep_repeats
    ):
        raise UsageError(
            f"num_candidates and keep_repeats are only for models that translate with latents, and "
            f"{model.name!r} does not: omit them"
        )
    extra = {"rescorer": rescorer} if rescorer is not None else {}

    def translate(**given: tf.Tensor) -> dict[str, tf.Tensor]:
        ids, extra_length = given["inputs"], given["extra_length"]
        settings = SearchSettings(
            alpha=given.get("alpha", options.alpha),
            extra_length=extra_length,
            temperature=given.get("temperature", 0.0),
            top_k=given.get("top_k", 0),
        )
        decoded = model.infer(
            ids,
            options,
            max_length=rounded_up(tf.shape(ids)[1] + extra_length, POSITION_MULTIPLE),
            seed=given.get("seed", 0),
            row_ids=given.get("row_ids"),
            settings=settings,
            **extra,
        )
        return _present(decoded)

    functions = {
        text.TRANSLATE: _graph(translate, **_search_inputs(options)),
        # Most reshaping disappears if the batch is known, and that takes more time than the
        # products of a single sentence.
        text.TRANSLATE_ONE: _graph(translate, **_search_inputs(options, rows=1)),
    }
    if isinstance(model, PairScoringModel):
        functions[text.SCORE] = _graph(
            lambda inputs, targets: _present(model.score_pairs(inputs, targets)),
            inputs=_IDS,
            targets=_IDS,
        )
    if isinstance(model, LatentTextModel):
        functions[text.DECODE_CODES] = _graph(
            lambda inputs, codes: _present(model.decode_codes(inputs, codes)),
            inputs=_IDS,
            codes=_IDS,
        )
    return Graphs(functions, _variables(model, *([rescorer] if rescorer is not None else [])))


def _variables(*models: Any) -> list[Any]:
    return [variable.value for model in models for variable in model.variables]


def _search_inputs(options: DecodeOptions, rows: int | None = None) -> dict[str, tf.TensorSpec]:
    """Returns the inputs of a search.

    Args:
        options: the decoding options of the graph.
        rows: number of sentences; None: any. A search for a known number does not draw tokens, only
            candidates.
    """
    specs = {
        "inputs": tf.TensorSpec([rows, None], tf.int32),
        "extra_length": tf.TensorSpec([], tf.int32),
    }
    if options.beam_size > 1 or options.num_candidates > 1:
        specs["alpha"] = tf.TensorSpec([], tf.float32)
    if options.beam_size == 1 and (rows is None or options.num_candidates > 1):
        specs |= {
            "temperature": tf.TensorSpec([], tf.float32),
            "top_k": tf.TensorSpec([], tf.int32),
            "seed": tf.TensorSpec([], tf.int32),
            "row_ids": tf.TensorSpec([rows], tf.int32),
        }
    return specs


def _present(found: Any) -> dict[str, tf.Tensor]:
    """Returns the fields of a NamedTuple that are not None."""
    return {name: value for name, value in found._asdict().items() if value is not None}


def image_graphs(model: Any, image_shape: tuple[int, int, int]) -> Graphs:
    """Makes the functions of a model of images.

    Args:
        model: a built model in float32.
        image_shape: (H, W, channels) of its images.
    """
    height, width, channels = image_shape

    def sample(temperature, top_k, seed, row_ids):
        codes = model.sample_codes(
            tf.shape(row_ids)[0], temperature=temperature, top_k=top_k, seed=seed, row_ids=row_ids
        )
        return {"codes": codes}

    encode = _graph(
        lambda images: {"codes": model.encode_to_codes(images)},
        images=tf.TensorSpec([None, height, width, channels], tf.uint8),
    )
    code_shape = encode.get_concrete_function().structured_outputs["codes"].shape
    return Graphs(
        {
            images.ENCODE: encode,
            images.DECODE: _graph(
                lambda codes: {"images": model.decode_codes(codes)},
                codes=tf.TensorSpec(code_shape, tf.int32),
            ),
            images.SAMPLE: _graph(
                sample,
                temperature=tf.TensorSpec([], tf.float32),
                top_k=tf.TensorSpec([], tf.int32),
                seed=tf.TensorSpec([], tf.int32),
                row_ids=tf.TensorSpec([None], tf.int32),
            ),
        },
        _variables(model),
    )


def in_float32(hparams: Any) -> Any:
    """Returns the hparams for the same weights in float32."""
    return dataclasses.replace(hparams, dtype="float32")
