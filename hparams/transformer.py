"""The autoregressive Transformer: its hyperparameters and its sets.

A set lists only what differs from the defaults of the class, or from the set that it builds on.
`t2t-trainer --registry_help=transformer_base` shows all values of a set.
"""

import dataclasses

from t2t_vqem.config import HParams, option
from t2t_vqem.constants import UsageError
from t2t_vqem.registry import hparams_sets, model_hparams


@model_hparams.register()
@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerHParams(HParams):
    """Autoregressive Transformer (Vaswani et al., 2017), pre-norm, with shared embeddings.

    The default sizes are those of the paper's base model.
    """

    num_encoder_layers: int = option(6, "number of encoder layers", minimum=1)
    num_decoder_layers: int = option(6, "number of decoder layers", minimum=1)
    hidden_size: int = option(
        512, "width of embeddings and layers; a multiple of num_heads", minimum=2
    )
    filter_size: int = option(2048, "width inside the feed-forward layers", minimum=1)
    num_heads: int = option(8, "attention heads per layer", minimum=1)
    dropout: float = option(
        0.1,
        "dropout probability of the embeddings and of each layer's output",
        minimum=0,
        below=1,
    )
    attention_dropout: float = option(
        0.1, "dropout probability of the attention weights", minimum=0, below=1
    )
    relu_dropout: float = option(
        0.1, "dropout probability inside the feed-forward layers", minimum=0, below=1
    )
    rematerialize: bool = option(
        False,
        "compute the activations of each layer again in the backward pass, instead of storing "
        "them: a step takes less memory and more time (benchmarks/rematerialization.py)",
    )
    label_smoothing: float = option(
        0.1,
        "probability mass of the training target that is spread over the vocabulary",
        minimum=0,
        below=1,
    )

    subword_nbest: int = option(
        1,
        "subword regularisation (Kudo, 2018): each time a training sentence occurs, it is split "
        "into one of this many of its most probable segmentations, drawn at random; 1: always the "
        "best one",
        minimum=1,
        maximum=512,
    )
    subword_alpha: float = option(
        0.1,
        "exponent of the probabilities of these segmentations; 0: all are equally probable",
        minimum=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.num_heads:
            raise UsageError(
                f"hidden_size={self.hidden_size} with num_heads={self.num_heads}: expected "
                f"hidden_size to be a multiple of num_heads"
            )


# Tensor2Tensor's rate is 2 hidden_size^-0.5 min(step^-0.5, step warmup^-1.5). It is highest at
# step = warmup. Here `learning_rate` is that highest value.


@hparams_sets.register()
def transformer_base() -> TransformerHParams:
    """Base Transformer as in Tensor2Tensor, 6+6 layers of width 512.

    Reproduces the base model of Vaswani et al. (2017, table 3) on WMT'14 English-German with
    Tensor2Tensor's later settings: pre-norm, attention dropout, 8000 warm-up steps.
    Tensor2Tensor used a batch of 4096 on each of 8 GPUs; `--hparams=batch_size=32768` gives an
    update as many tokens here.

        t2t-trainer --problem=translate_ende_wmt14 --model=transformer \\
          --hparams_set=transformer_base --hparams=batch_size=32768 --train_steps=300000 \\
          --data_dir=data --output_dir=runs/base

    Expected: about 27.5 sacreBLEU on newstest2014 (tensor2tensor#317 has 27.52 for one
    checkpoint). Not yet run in this project.
    """
    return TransformerHParams(learning_rate=9.88e-4, warmup_steps=8000, clip_norm=0.0)


@hparams_sets.register()
def transformer_big() -> TransformerHParams:
    """Big Transformer as in Tensor2Tensor, 6+6 layers of width 1024.

    Reproduces the big model of Vaswani et al. (2017, table 3). Differs from `transformer_base` in
    the sizes, the stronger dropout and Tensor2Tensor's smaller batch. The command is that of
    `transformer_base`. Expected: about one BLEU more. Not yet run in this project.
    """
    return dataclasses.replace(
        transformer_base(),
        hidden_size=1024,
        filter_size=4096,
        num_heads=16,
        dropout=0.3,
        batch_size=2048,
        learning_rate=6.99e-4,
    )


@hparams_sets.register()
def transformer_small() -> TransformerHParams:
    """Small Transformer as in Tensor2Tensor, 2+2 layers of width 256.

    For first experiments; reproduces no publication.
    """
    return dataclasses.replace(
        transformer_base(),
        num_encoder_layers=2,
        num_decoder_layers=2,
        hidden_size=256,
        filter_size=1024,
        num_heads=4,
        learning_rate=1.4e-3,
    )


@hparams_sets.register()
def transformer_tiny() -> TransformerHParams:
    """Tiny Transformer as in Tensor2Tensor, 2+2 layers of width 128.

    For quick trials of a few seconds; reproduces no publication.
    """
    return dataclasses.replace(
        transformer_base(),
        num_encoder_layers=2,
        num_decoder_layers=2,
        hidden_size=128,
        filter_size=512,
        num_heads=4,
        learning_rate=1.98e-3,
    )


@hparams_sets.register()
def transformer_deep_shallow() -> TransformerHParams:
    """Deep encoder, shallow decoder: 12+1 layers at base width.

    Reproduces the 12-1 model of Kasai et al. (2021, "Deep Encoder, Shallow Decoder"), the strongest
    baseline for speed, because only the decoder layers run once per token. The paper has 28.3 BLEU
    on newstest2014 after training on distilled data. The command is that of `transformer_base`.
    Not yet run in this project.
    """
    return dataclasses.replace(transformer_base(), num_encoder_layers=12, num_decoder_layers=1)


@hparams_sets.register()
def transformer_multi30k() -> TransformerHParams:
    """Transformer for Multi30k, 29,000 short sentences: 3+3 layers of width 192.

        t2t-trainer --problem=translate_ende_multi30k --model=transformer \\
          --hparams_set=transformer_multi30k --data_dir=data --output_dir=runs/multi30k \\
          --train_steps=15000

    Expected: 38.0 sacreBLEU greedy and 39.0 with beam 4 on the 2016 test set after 47 minutes on
    two CPU cores (see benchmarks/results/translation_quality.md). Width 256 learns no more per
    epoch, and an epoch takes a third longer.
    """
    return TransformerHParams(
        num_encoder_layers=3,
        num_decoder_layers=3,
        hidden_size=192,
        filter_size=512,
        num_heads=4,
        dropout=0.2,  # with less, the model overfits so few sentences
        batch_size=1024,
        num_buckets=8,
        max_length=128,
        learning_rate=2e-3,
        warmup_steps=1000,
        schedule="cosine",
        adam_beta2=0.98,
        ema_decay=0.9995,
    )


@hparams_sets.register()
def transformer_multi30k_deep_shallow() -> TransformerHParams:
    """As transformer_multi30k, with 6+1 layers: a fast student, for training on distilled text.

        t2t-datagen --problem=translate_ende_multi30k_distilled --teacher_dir=runs/multi30k \\
          --data_dir=data
        t2t-trainer --problem=translate_ende_multi30k_distilled --model=transformer \\
          --hparams_set=transformer_multi30k_deep_shallow --data_dir=data \\
          --output_dir=runs/student --train_steps=15000

    Kasai et al. (2021) found such students to be the strongest rivals of non-autoregressive models.
    Expected: as good as its teacher, 38.3 sacreBLEU greedy, after 5,400 steps with
    --hparams=batch_size=8192,num_buckets=1,max_length=40,ema_decay=0.999. That took six minutes on
    one H200 that ten other runs shared (see benchmarks/results/latent_table.md).
    """
    return dataclasses.replace(transformer_multi30k(), num_encoder_layers=6, num_decoder_layers=1)


@hparams_sets.register()
def transformer_cldr() -> TransformerHParams:
    """Transformer for the built-in problem: trains in a minute and a half on two CPU cores.

        t2t-trainer --problem=translate_ende_cldr --model=transformer \\
          --hparams_set=transformer_cldr --data_dir=data --output_dir=runs/cldr --train_steps=950

    Expected: 90.2 sacreBLEU on the test split, 91.3 with beam 4. `t2t-demo` trains this set. It has
    no dropout, no label smoothing and a high learning rate, because sentences generated by rules
    have very little noise and each one is seen only a few times.
    """
    return dataclasses.replace(
        transformer_multi30k(),
        num_encoder_layers=2,
        num_decoder_layers=2,
        hidden_size=128,
        dropout=0.0,
        attention_dropout=0.0,
        relu_dropout=0.0,
        label_smoothing=0.0,
        batch_size=512,  # 1024 in half as many updates learns less
        num_buckets=3,  # compiling one length takes as long as a hundred steps
        max_length=64,
        learning_rate=3e-3,
        warmup_steps=300,
        ema_decay=0.99,
    )
