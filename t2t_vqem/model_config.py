"""Hyperparameters that several models share: frozen dataclasses of described, checked fields.

A model's own hyperparameters are in t2t_vqem.hparams, beside its sets.
"""

import dataclasses

from t2t_vqem import registry
from t2t_vqem.constants import AUTO_TOKENIZER, BLEU_TOKENIZERS
from t2t_vqem.fields import Config, option
from t2t_vqem.quantizer_options import check_codebooks, quantizer_option


@dataclasses.dataclass(frozen=True, kw_only=True)
class HParams(Config):
    """Hyperparameters of every model.

    A model's own class derives from this and is registered with `registry.model_hparams`.
    """

    batch_size: int = option(
        4096,
        "size of a global micro-batch, for all replicas together. Text: padded target positions, "
        "rows times length. Images: images",
        minimum=1,
    )
    num_buckets: int = option(
        6, "largest number of different batch lengths; each is compiled once", minimum=1
    )
    max_length: int = option(
        256, "positions per side, with EOS; longer text is truncated, and counted", minimum=2
    )
    accumulate_steps: int = option(
        1, "micro-batches whose gradients are summed for one update", minimum=1
    )
    learning_rate: float = option(1e-3, "peak of the learning rate schedule", minimum=0)
    warmup_steps: int = option(
        4000, "updates over which the learning rate rises linearly from 0", minimum=0
    )
    schedule: str = option("rsqrt", "registered schedule of the learning rate after the warm-up")
    adam_beta1: float = option(0.9, "Adam: decay of the mean of gradients", minimum=0, below=1)
    adam_beta2: float = option(0.997, "Adam: decay of the mean of squares", minimum=0, below=1)
    adam_epsilon: float = option(1e-9, "Adam: added to the root of the mean of squares", minimum=0)
    weight_decay: float = option(
        0.0, "decoupled decay of weight matrices, times the learning rate; 0 for none", minimum=0
    )
    clip_norm: float = option(
        1.0, "gradient clipping: largest global norm, per target token; 0 for none", minimum=0
    )
    frozen: tuple[str, ...] = option(
        (),
        "weights that are not trained: patterns of their names, such as ['encoder/*']. "
        "Codes that are learned by EM are fixed by codebook_decay=1,revive_below=0 instead",
    )
    ema_decay: float = option(
        0.0,
        "decay of the averaged copy of the weights that inference uses; 0 for no copy",
        minimum=0,
        below=1,
    )
    dtype: str = option(
        "float32", "type of activations; variables are float32", choices=("float32", "bfloat16")
    )
    bleu_tokenizer: str = option(
        AUTO_TOKENIZER,
        "sacreBLEU's tokenizer for BLEU on the dev split; auto: the one for the target language",
        choices=BLEU_TOKENIZERS,
    )

    @property
    def model(self) -> str:
        """Name of the model that these hyperparameters are registered for."""
        return registry.model_hparams.name_of(type(self))

    @property
    def group_size(self) -> int:
        """Tokens per group if targets are laid out in groups, see `data.groups`; else 1."""
        return 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class BottleneckHParams(Config):
    """Hyperparameters of the vector quantisation that the latent models share."""

    bottleneck_kind: str = quantizer_option("kind")
    num_codes: int = quantizer_option("num_codes", 512)
    num_codebooks: int = quantizer_option("num_codebooks")
    composition: str = quantizer_option("composition")
    code_size: int = quantizer_option("width", 64)
    num_samples: int = quantizer_option("num_samples")
    temperature: float = quantizer_option("temperature")
    temperature_end: float = quantizer_option("temperature_end")
    temperature_steps: int = quantizer_option("temperature_steps")
    beta: float = quantizer_option("beta")
    codebook_decay: float = quantizer_option("decay", 0.99)
    revive_below: float = quantizer_option("revive_below")
    balance: float = quantizer_option("balance")
    codebook_start: str = option(
        "kmeans++",
        "first codes: k-means++ over the vectors of the first batches, or vectors drawn from them",
        choices=("kmeans++", "data"),
    )
    normalize_codes: bool = quantizer_option("normalize")
    prior_weight: float = option(
        0.0,
        "weight of the learned prior in the E step, in training: the squared distance to a code of "
        "probability p is increased by this times the running mean of the squared distance times "
        "-log p (at most 10), so that codes become easier to predict; 0: only distances count",
        minimum=0,
    )
    prior_weight_steps: int = option(
        1000, "updates over which `prior_weight` rises linearly from 0", minimum=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_codebooks(self, "code_size", "normalize_codes")
