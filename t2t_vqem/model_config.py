"""Hyperparameters that several models share: frozen dataclasses, each field with meaning and range.

A model's own hyperparameters stand in t2t_vqem.hparams, beside its sets.
"""

import dataclasses

from t2t_vqem import registry
from t2t_vqem.constants import UsageError
from t2t_vqem.fields import Config, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class HParams(Config):
    """Hyperparameters of every model.

    A model's own class derives from this and is registered with `registry.model_hparams`.
    """

    batch_size: int = option(
        4096,
        "size of a global micro-batch, whatever the number of replicas. Text: padded target "
        "positions, rows times length. Images: images",
        minimum=1,
    )
    num_buckets: int = option(
        6, "at most this many lengths of batches; each is compiled once", minimum=1
    )
    max_length: int = option(
        256, "positions of either side with EOS; what is longer is cut, and counted", minimum=2
    )
    accumulate_steps: int = option(
        1, "micro-batches whose gradients are added before an update", minimum=1
    )
    learning_rate: float = option(
        1e-3, "highest learning rate that the schedule reaches", minimum=0
    )
    warmup_steps: int = option(
        4000, "updates in which the learning rate rises linearly from 0", minimum=0
    )
    schedule: str = option(
        "rsqrt", "registered schedule: how the learning rate goes on after the warm-up"
    )
    adam_beta1: float = option(0.9, "Adam: decay of the mean of gradients", minimum=0, below=1)
    adam_beta2: float = option(0.997, "Adam: decay of the mean of squares", minimum=0, below=1)
    adam_epsilon: float = option(1e-9, "Adam: added to the root of the mean of squares", minimum=0)
    weight_decay: float = option(
        0.0, "decoupled decay of weight matrices, times the learning rate; 0 for none", minimum=0
    )
    clip_norm: float = option(
        1.0, "largest global norm of an update's gradient, per target token; 0 for any", minimum=0
    )
    ema_decay: float = option(
        0.0,
        "decay of the averaged copy of the weights that inference uses; 0 for no copy",
        minimum=0,
        below=1,
    )
    dtype: str = option(
        "float32", "of activations; variables are float32 always", choices=("float32", "bfloat16")
    )

    @property
    def model(self) -> str:
        """Name of the model that these hyperparameters are registered for."""
        return registry.model_hparams.name_of(type(self))

    @property
    def group_size(self) -> int:
        """Tokens of the groups that targets are laid out in, see `data.groups`; 1: they are not."""
        return 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class BottleneckHParams(Config):
    """Hyperparameters of the vector quantisation that the latent models share."""

    bottleneck_kind: str = option(
        "soft_em", "how codes are chosen and learned", choices=("vq", "hard_em", "soft_em")
    )
    num_codes: int = option(512, "codes of each codebook, K", minimum=2)
    num_codebooks: int = option(
        1, "slices of a latent vector, each with its own codebook (product quantisation)", minimum=1
    )
    code_size: int = option(
        64, "width of a latent vector, all slices together; num_codebooks divides it", minimum=1
    )
    num_samples: int = option(
        10, "soft_em: codes drawn for each vector, m; 0 for the exact expectation", minimum=0
    )
    temperature: float = option(
        0.1,
        "soft_em: codes are drawn from softmax(-d^2/t) with t = this times the running mean of the "
        "squared distance to the nearest code",
        minimum=1e-6,
    )
    temperature_end: float = option(0.02, "soft_em: what `temperature` falls to", minimum=1e-6)
    temperature_steps: int = option(
        10_000, "soft_em: updates in which it falls, by equal factors; 0: it stays", minimum=0
    )
    beta: float = option(0.25, "weight of the commitment loss", minimum=0)
    codebook_decay: float = option(
        0.99,
        "hard_em, soft_em: decay of the moving counts and sums; lower follows a quick encoder",
        minimum=0,
        maximum=1,
    )
    revive_below: float = option(
        0.02,
        "a code whose moving count is below this share of the mean count is moved to a vector of "
        "the batch; unused codes get there in log(this) / log(codebook_decay) updates; 0 for never",
        minimum=0,
        below=1,
    )
    balance: float = option(
        0.0,
        "how strongly codes are kept equally used: one used e times as often as the mean looks "
        "this times the running mean of the squared distance farther; 1 or 2 take most of the "
        "inequality, 0: distances alone count",
        minimum=0,
    )
    codebook_start: str = option(
        "kmeans++",
        "first codes: k-means++ over the vectors of the first batches, or vectors drawn from them",
        choices=("kmeans++", "data"),
    )
    normalize_codes: bool = option(
        False, "compare directions only: vectors and codes are scaled to length 1 first"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.code_size % self.num_codebooks:
            raise UsageError(
                f"code_size={self.code_size} with num_codebooks={self.num_codebooks}: expected a "
                f"code_size that num_codebooks divides"
            )
