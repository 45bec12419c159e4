"""The options of vector quantisation, declared once for the Keras layer and for hyperparameters."""

import dataclasses
from typing import Any

from t2t_vqem.constants import UsageError
from t2t_vqem.fields import Config, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizerOptions(Config):
    """What the codebooks are and how they learn.

    The layer `VectorQuantizer` takes these by name. `BottleneckHParams` has them under the names
    of the command line, declared with `quantizer_option`.
    """

    num_codes: int = option(dataclasses.MISSING, "codes of each codebook, K", minimum=2)
    width: int = option(
        dataclasses.MISSING,
        "width of a latent vector, all slices together; num_codebooks divides it",
        minimum=1,
    )
    kind: str = option(
        "soft_em", "how codes are chosen and learned", choices=("vq", "hard_em", "soft_em")
    )
    num_codebooks: int = option(
        1, "slices of a latent vector, each with its own codebook (product quantisation)", minimum=1
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
    decay: float = option(
        0.9,
        "hard_em, soft_em: decay of the moving counts and sums; lower follows a quick encoder",
        minimum=0,
        maximum=1,
    )
    revive_below: float = option(
        0.02,
        "a code whose moving count is below this share of the mean count is replaced by a vector "
        "drawn from the batch; an unused code gets there in log(this) / log(decay of the counts) "
        "updates; 0 for never",
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
    normalize: bool = option(
        False, "compare directions only: vectors and codes are scaled to length 1 first"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_slices("width", self.width, self.num_codebooks)

    @property
    def slice_width(self) -> int:
        """Width of the part of a vector that one codebook quantises."""
        return self.width // self.num_codebooks


def check_slices(name: str, width: int, num_codebooks: int) -> None:
    """Raises UsageError where `num_codebooks` does not divide the width, the option `name`."""
    if width % num_codebooks:
        raise UsageError(
            f"{name}={width} with num_codebooks={num_codebooks}: expected a {name} that "
            f"num_codebooks divides"
        )


def quantizer_option(name: str, default: Any = dataclasses.MISSING) -> Any:
    """Declares a field of another `Config` as an option of the quantiser.

    Args:
      name: the field of `QuantizerOptions` that says meaning and limits.
      default: its value where nobody sets one, if it is not that of `QuantizerOptions`.
    """
    (field,) = (field for field in dataclasses.fields(QuantizerOptions) if field.name == name)
    default = field.default if default is dataclasses.MISSING else default
    return dataclasses.field(default=default, metadata={**field.metadata, "quantizer": name})


def quantizer_options(config: Config) -> QuantizerOptions:
    """Returns the options that the fields declared with `quantizer_option` give."""
    values = {
        field.metadata["quantizer"]: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if "quantizer" in field.metadata
    }
    return QuantizerOptions(**values)
