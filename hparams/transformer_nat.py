"""The latent non-autoregressive Transformer: its hyperparameters and its sets.

Each set builds on the Transformer set of the same size and lists only what differs from it or from
the defaults of the class. `t2t-trainer --registry_help=transformer_nat_base` shows all values.
"""

import dataclasses
from typing import Any

from t2t_vqem.config import BottleneckHParams, option
from t2t_vqem.constants import UsageError
from t2t_vqem.hparams.transformer import (
    TransformerHParams,
    transformer_base,
    transformer_cldr,
    transformer_multi30k,
    transformer_small,
    transformer_tiny,
)
from t2t_vqem.registry import hparams_sets, model_hparams

_MAX_GROUP_HALVINGS = 4  # the largest of `data.groups.GROUP_SIZES`, which needs NumPy


@model_hparams.register()
@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerNATHParams(BottleneckHParams, TransformerHParams):
    """Latent non-autoregressive Transformer with vector-quantised latents (arXiv 1805.11063).

    `num_encoder_layers` counts the layers of the source encoder, `num_decoder_layers` those of the
    parallel decoder.
    """

    num_halvings: int = option(
        2,
        "how many times the target length is halved, n_c: one latent stands for 2^n_c tokens",
        minimum=0,
    )
    whole_words: bool = option(
        False,
        "align latents with word boundaries if a word fits into one latent. That needs more "
        "latents, which are easier to predict; intended for vocabularies of short pieces",
    )
    num_target_encoder_layers: int = option(
        3, "layers of the target encoder, before downsampling", minimum=0
    )
    num_predictor_layers: int = option(
        2, "layers of the latent predictor, which run once per latent", minimum=1
    )
    predictor_dropout: float = option(
        0.1, "`dropout` and `relu_dropout` of the latent predictor", minimum=0, below=1
    )
    masking_steps: int = option(
        0,
        "updates over which the decoder input changes from target embeddings to latents. "
        "Quantisation and training of the predictor begin after them",
        minimum=0,
    )
    num_scorer_layers: int = option(
        0,
        "layers of the scorer, a causal decoder that chooses among candidates; one is enough, and "
        "0 means no scorer",
        minimum=0,
    )
    scorer_weight: float = option(
        0.5,
        "weight of the scorer's loss, whose gradient also moves the encoder and the embeddings",
        minimum=0,
    )
    self_normalization: float = option(
        0.3,
        "alpha, weight of (log Z)^2 in the scorer's loss, so that its logits are close to "
        "log-probabilities (Devlin et al. 2014)",
        minimum=0,
    )

    @property
    def group_size(self) -> int:
        """Tokens per latent if latents are aligned with words, else 1."""
        return 2**self.num_halvings if self.whole_words else 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.whole_words and self.num_halvings > _MAX_GROUP_HALVINGS:
            raise UsageError(
                f"num_halvings={self.num_halvings} with whole_words: expected at most "
                f"{_MAX_GROUP_HALVINGS}"
            )
        if self.num_codebooks != 1:
            raise UsageError(
                f"num_codebooks={self.num_codebooks}: expected 1 for transformer_nat. Several "
                f"codes per latent would be predicted one after the other, which costs the time "
                f"that shorter latent sequences save"
            )


def _latent(transformer: TransformerHParams, **changes: Any) -> TransformerNATHParams:
    """Returns a set with the values of a Transformer set, that of its teacher, and changes."""
    return TransformerNATHParams(**dataclasses.asdict(transformer) | changes)


@hparams_sets.register()
def transformer_nat_base() -> TransformerNATHParams:
    """Latent Transformer of base size: one of 4096 codes per 8 tokens, learned by soft EM.

    The model of "Theory and Experiments on Vector Quantized Autoencoders" (arXiv 1805.11063,
    section 5): width 512, filter size 4096, 6 layers, K=2^12, ten samples, decay 0.999, masking
    over 50,000 steps. The latent predictor is shallow, because it is the only part that runs
    sequentially. As for `transformer_base`, each update there used 8 times the batch:
    `batch_size=32768`.

        t2t-trainer --problem=translate_ende_wmt14_distilled --model=transformer_nat \\
          --hparams_set=transformer_nat_base --hparams=batch_size=32768 --train_steps=300000 \\
          --data_dir=data --output_dir=runs/nat

    Expected: the paper has 26.7 BLEU on newstest2014, tokenised, with compounds split, which is
    about 25.2 sacreBLEU. Not yet run in this project. docs/paper.md has all commands.
    """
    return _latent(
        transformer_base(),
        num_target_encoder_layers=6,
        filter_size=4096,
        num_halvings=3,
        masking_steps=50_000,
        num_codes=4096,
        code_size=512,
        codebook_decay=0.999,
        temperature_steps=100_000,
        warmup_steps=4000,
    )


@hparams_sets.register()
def transformer_nat_big() -> TransformerNATHParams:
    """Latent Transformer of big size, width 1024; otherwise as `transformer_nat_base`.

    The command is that of `transformer_nat_base`. Reproduces no publication and has not yet been
    run in this project.
    """
    return dataclasses.replace(
        transformer_nat_base(),
        hidden_size=1024,
        num_heads=16,
        dropout=0.3,
        predictor_dropout=0.3,
        batch_size=2048,
        learning_rate=6.99e-4,
    )


@hparams_sets.register()
def transformer_nat_small() -> TransformerNATHParams:
    """Small latent Transformer, 2 layers of width 256: one of 512 codes per 4 tokens.

    For first experiments; reproduces no publication. The command is that of
    `transformer_nat_base`, without --hparams.
    """
    return _latent(
        transformer_small(),
        num_target_encoder_layers=2,
        masking_steps=10_000,
        temperature_steps=20_000,
        warmup_steps=4000,
    )


@hparams_sets.register()
def transformer_nat_tiny() -> TransformerNATHParams:
    """Tiny latent Transformer, 2 layers of width 128: one of 64 codes per 4 tokens.

    For quick trials of a few seconds; reproduces no publication. The command is that of
    `transformer_nat_base`, without --hparams.
    """
    return _latent(
        transformer_tiny(),
        num_target_encoder_layers=2,
        num_predictor_layers=1,
        masking_steps=1000,
        num_codes=64,
        code_size=32,
        temperature_steps=2000,
        warmup_steps=4000,
    )


@hparams_sets.register()
def transformer_nat_multi30k() -> TransformerNATHParams:
    """Latent Transformer for Multi30k, with the layers of `transformer_multi30k`, its warm start.

        t2t-datagen --problem=translate_ende_multi30k_distilled --teacher_dir=runs/multi30k \\
          --data_dir=data --problem_params=num_translations=4
        t2t-trainer --problem=translate_ende_multi30k_distilled --model=transformer_nat \\
          --hparams_set=transformer_nat_multi30k --warm_start_from=runs/multi30k \\
          --data_dir=data --output_dir=runs/nat --train_steps=12000

    Expected, from a teacher of 38.0 sacreBLEU (greedy, 2016 test set, 15,000 steps): 36.4. The
    best of nine candidates has 36.8 if the model itself chooses and 38.1 if the teacher does.
    Training took less than two hours on two CPU cores that were also used for other work (see
    benchmarks/results/latent_translation.md). Most of that quality is reached after 8,000 steps;
    many fewer are not enough for the predictor, which must learn the sequences of codes. With four
    times the sources and more than twice the training: 37.9, from a teacher of 38.3, and 38.3 and
    39.4 for the best of nine candidates (see docs/latent_translation.md, "What is each
    part worth?").
    """
    return _latent(
        transformer_multi30k(),
        num_target_encoder_layers=2,
        num_predictor_layers=3,
        dropout=0.15,
        predictor_dropout=0.3,  # the predictor overfits first
        masking_steps=250,
        temperature_steps=6000,
        batch_size=1536,
        learning_rate=1.5e-3,
        warmup_steps=300,
    )


@hparams_sets.register()
def transformer_nat_cldr() -> TransformerNATHParams:
    """Latent Transformer for the built-in problem, with a warm start from `transformer_cldr`.

        t2t-datagen --problem=translate_ende_cldr_distilled --teacher_dir=runs/cldr --data_dir=data
        t2t-trainer --problem=translate_ende_cldr_distilled --model=transformer_nat \\
          --hparams_set=transformer_nat_cldr --warm_start_from=runs/cldr \\
          --data_dir=data --output_dir=runs/nat --train_steps=450

    Expected: 80.2 sacreBLEU on the test split, from a teacher of 90.2 (greedy), after two minutes
    on two CPU cores. `t2t-demo` trains this set.
    """
    return _latent(
        transformer_cldr(),
        num_target_encoder_layers=1,
        whole_words=True,  # words have two pieces each
        predictor_dropout=0.0,
        masking_steps=100,
        temperature_steps=400,
        batch_size=640,  # 1536 in 0.4 times the updates learns much less
        num_buckets=2,  # compiling one length takes as long as a hundred steps
        warmup_steps=100,
    )
