"""The options of vector quantisation, declared once for the Keras layer and for hyperparameters."""

import dataclasses
from typing import Any

from t2t_vqem.constants import UsageError
from t2t_vqem.fields import Config, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizerOptions(Config):
    """Sizes of the codebooks, and how codes are chosen and learned.

    The layer `VectorQuantizer` takes these options by name. `BottleneckHParams` has them under the
    names of the command line, declared with `quantizer_option`.
    """

    num_codes: int = option(dataclasses.MISSING, "number of codes in each codebook, K", minimum=2)
    width: int = option(
        dataclasses.MISSING,
        "width of a latent vector, all slices together",
        minimum=1,
    )
    kind: str = option(
        "soft_em", "how codes are chosen and learned", choices=("vq", "hard_em", "soft_em")
    )
    num_codebooks: int = option(1, "number of codes for each latent vector, C", minimum=1)
    composition: str = option(
        "product",
        "what the codebooks quantise. product: each a slice of the vector; residual: each what the "
        "codebooks before it left over, so that the vector is the sum of its codes",
        choices=("product", "residual"),
    )
    num_samples: int = option(
        10,
        "soft_em: number of codes drawn for each vector, m; 0: the exact expectation instead",
        minimum=0,
    )
    temperature: float = option(
        0.1,
        "soft_em: codes are drawn from softmax(-d^2/t) with t = this times the running mean of the "
        "squared distance to the nearest code",
        minimum=1e-6,
    )
    temperature_end: float = option(
        0.02, "soft_em: final value of the temperature after its decay", minimum=1e-6
    )
    temperature_steps: int = option(
        10_000,
        "soft_em: number of updates in which the temperature decays exponentially; 0: no decay",
        minimum=0,
    )
    beta: float = option(0.25, "weight of the commitment loss", minimum=0)
    decay: float = option(
        0.9,
        "hard_em, soft_em: decay of the moving counts and sums; lower follows a fast-changing "
        "encoder",
        minimum=0,
        maximum=1,
    )
    revive_below: float = option(
        0.02,
        "a code is replaced by a vector drawn from the batch if its moving count is below this "
        "share of the mean count; an unused code reaches that in log(this) / log(decay of the "
        "counts) updates; 0: never",
        minimum=0,
        below=1,
    )
    balance: float = option(
        0.0,
        "how strongly the use of codes is equalised: the squared distance to a code used e times "
        "as often as the mean is increased by this times the running mean of the squared "
        "distance; 1 or 2 remove most of the inequality, 0: only distances count",
        minimum=0,
    )
    normalize: bool = option(
        False, "compare only directions: vectors and codes are scaled to length 1 first"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_codebooks(self, "width", "normalize")

    @property
    def code_width(self) -> int:
        """Width of the codes."""
        return self.width if self.residual else self.width // self.num_codebooks

    @property
    def residual(self) -> bool:
        """Whether each codebook quantises what the codebooks before it left over."""
        return self.composition == "residual"


def check_codebooks(config: Config, width: str, normalize: str) -> None:
    """Raises UsageError if the options `width` and `normalize` do not fit the codebooks."""
    size, num_codebooks = getattr(config, width), config.num_codebooks
    if config.composition == "product" and size % num_codebooks:
        raise UsageError(
            f"{width}={size} with num_codebooks={num_codebooks}: expected a {width} that is a "
            "multiple of num_codebooks"
        )
    if config.composition == "residual" and getattr(config, normalize):
        raise UsageError(
            f"composition=residual with {normalize}=True: expected {normalize}=False, because what "
            "a code of length 1 left over has another length"
        )


def quantizer_option(name: str, default: Any = dataclasses.MISSING) -> Any:
    """Declares a field of another `Config` as an option of the quantiser.

    Args:
      name: the field of `QuantizerOptions` that gives the help text and the limits.
      default: the default value, if it differs from that of `QuantizerOptions`.
    """
    (field,) = (field for field in dataclasses.fields(QuantizerOptions) if field.name == name)
    default = field.default if default is dataclasses.MISSING else default
    return dataclasses.field(default=default, metadata={**field.metadata, "quantizer": name})


def quantizer_options(config: Config) -> QuantizerOptions:
    """Collects the options from the fields declared with `quantizer_option`."""
    values = {
        field.metadata["quantizer"]: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if "quantizer" in field.metadata
    }
    return QuantizerOptions(**values)
