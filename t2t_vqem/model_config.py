"""Hyperparameters of the models: frozen dataclasses, each field with its meaning and range."""

import dataclasses
from typing import ClassVar

from t2t_vqem.constants import UsageError
from t2t_vqem.fields import Config, option
from t2t_vqem.quantizer_options import check_slices, quantizer_option

_MAX_GROUP_HALVINGS = 4  # the largest of `data.groups.GROUP_SIZES`, which needs NumPy


@dataclasses.dataclass(frozen=True, kw_only=True)
class HParams(Config):
    """Hyperparameters of every model. A model's own class derives from this and names the model."""

    model: ClassVar[str]

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
    def group_size(self) -> int:
        """Tokens of the groups that targets are laid out in, see `data.groups`; 1: they are not."""
        return 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerHParams(HParams):
    """Hyperparameters of the autoregressive Transformer (Vaswani et al., 2017), pre-norm."""

    model: ClassVar[str] = "transformer"

    num_encoder_layers: int = option(6, "layers of the encoder", minimum=1)
    num_decoder_layers: int = option(6, "layers of the decoder", minimum=1)
    hidden_size: int = option(
        512, "width of embeddings and layers; num_heads divides it", minimum=2
    )
    filter_size: int = option(2048, "width inside the feed-forward layers", minimum=1)
    num_heads: int = option(8, "heads of each attention", minimum=1)
    dropout: float = option(
        0.1,
        "probability to drop a unit of the embeddings or of a layer's output",
        minimum=0,
        below=1,
    )
    attention_dropout: float = option(
        0.1, "probability to drop an attention weight", minimum=0, below=1
    )
    relu_dropout: float = option(
        0.1, "probability to drop a unit inside the feed-forward layers", minimum=0, below=1
    )
    label_smoothing: float = option(
        0.1,
        "probability mass that the training target spreads over the vocabulary",
        minimum=0,
        below=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.num_heads:
            raise UsageError(
                f"hidden_size={self.hidden_size} with num_heads={self.num_heads}: expected a "
                f"hidden_size that num_heads divides"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BottleneckHParams(Config):
    """Hyperparameters of the vector quantisation that the latent models share."""

    bottleneck_kind: str = quantizer_option("kind")
    num_codes: int = quantizer_option("num_codes", 512)
    num_codebooks: int = quantizer_option("num_codebooks")
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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_slices("code_size", self.code_size, self.num_codebooks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VQVAEHParams(BottleneckHParams, HParams):
    """Hyperparameters of the VQ-VAE (van den Oord et al., 2017) and the prior over its codes."""

    model: ClassVar[str] = "vqvae"

    hidden_size: int = option(128, "channels of the convolutions", minimum=1)
    num_downsamplings: int = option(
        2, "halvings of height and width, from the image to the field of latents", minimum=1
    )
    num_residual_blocks: int = option(
        2, "residual blocks of the encoder, and of the decoder", minimum=0
    )
    residual_size: int = option(64, "channels inside a residual block", minimum=1)
    encoding_turns: int = option(
        1,
        "turns in which the field is encoded, 1, 2 or 4: the latents of each know the codes of "
        "those before it, which makes nearer images; each further one costs a convolution and a "
        "residual block",
        choices=(1, 2, 4),
    )
    num_mixtures: int = option(5, "logistic distributions mixed for each pixel", minimum=1)
    squared_error_weight: float = option(
        0.0,
        "weight of the mean image's squared error in the loss, in nats, beside that of the "
        "likelihood, 1: more makes nearer images (PSNR) that cost more bits; scale beta alike",
        minimum=0,
    )
    prior_layers: int = option(4, "layers of the prior", minimum=1)
    prior_size: int = option(256, "width of the prior; prior_heads divides it", minimum=2)
    prior_filter_size: int = option(1024, "width inside its feed-forward layers", minimum=1)
    prior_heads: int = option(4, "heads of each attention of the prior", minimum=1)
    prior_dropout: float = option(
        0.1, "probability to drop a unit of the prior's layers", minimum=0, below=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior_size % self.prior_heads:
            raise UsageError(
                f"prior_size={self.prior_size} with prior_heads={self.prior_heads}: expected a "
                f"prior_size that prior_heads divides"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerNATHParams(BottleneckHParams, TransformerHParams):
    """Hyperparameters of the latent non-autoregressive Transformer (arXiv 1805.11063).

    `num_encoder_layers` are those of the source, `num_decoder_layers` those of the parallel
    decoder.
    """

    model: ClassVar[str] = "transformer_nat"

    num_halvings: int = option(
        2, "halvings of the target's length, n_c: a latent stands for 2^n_c tokens", minimum=0
    )
    whole_words: bool = option(
        False,
        "whether a latent stands for whole words where they fit, so that it takes more latents, "
        "which are easier to predict: for vocabularies of small pieces",
    )
    num_target_encoder_layers: int = option(
        3, "layers that read the target before it is shortened", minimum=0
    )
    num_predictor_layers: int = option(
        2, "layers of the latent predictor, all of them run for each latent", minimum=1
    )
    predictor_dropout: float = option(
        0.1, "`dropout` and `relu_dropout` of the latent predictor", minimum=0, below=1
    )
    masking_steps: int = option(
        0,
        "updates in which the decoder's input turns from the target's embeddings into the latents; "
        "only then latents are quantised, and the predictor begins to learn",
        minimum=0,
    )

    @property
    def group_size(self) -> int:
        """Tokens that a latent stands for, where they are to be whole words."""
        return 2**self.num_halvings if self.whole_words else 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.whole_words and self.num_halvings > _MAX_GROUP_HALVINGS:
            raise UsageError(
                f"num_halvings={self.num_halvings} with whole_words: expected "
                f"{_MAX_GROUP_HALVINGS} at most"
            )
        if self.num_codebooks != 1:
            raise UsageError(
                f"num_codebooks={self.num_codebooks}: transformer_nat takes 1. Several codes for a "
                f"latent would be predicted one after the other, which is what shorter latents save"
            )
