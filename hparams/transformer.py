"""Sets for the autoregressive Transformer."""

import dataclasses

from t2t_vqem.config import TransformerHParams
from t2t_vqem.registry import hparams_sets

# Tensor2Tensor's rate is 2 hidden_size^-0.5 min(step^-0.5, step warmup^-1.5), which is highest at
# step = warmup = 8000. Here a set says that highest value itself.


@hparams_sets.register()
def transformer_base() -> TransformerHParams:
    """Base Transformer as in Tensor2Tensor, 6+6 layers of width 512.

    Reproduces the base model of Vaswani et al. (2017, table 3), WMT'14 English-German, with
    Tensor2Tensor's later settings: pre-norm, dropout in attention, 8000 steps of warm-up.
    Tensor2Tensor's batch of 4096 is that of each of 8 GPUs; one update here saw as much with
    `--hparams=batch_size=32768`.

        t2t-trainer --problem=translate_ende_wmt14 --model=transformer \\
          --hparams_set=transformer_base --hparams=batch_size=32768 --train_steps=300000 \\
          --data_dir=data --output_dir=runs/base

    Expected: about 27.5 sacreBLEU on newstest2014 (tensor2tensor#317 has 27.52 for one
    checkpoint); not run in this project so far.
    """
    return TransformerHParams(
        num_encoder_layers=6,
        num_decoder_layers=6,
        hidden_size=512,
        filter_size=2048,
        num_heads=8,
        dropout=0.1,
        attention_dropout=0.1,
        relu_dropout=0.1,
        label_smoothing=0.1,
        batch_size=4096,
        max_length=256,
        learning_rate=9.88e-4,
        warmup_steps=8000,
        schedule="rsqrt",
        adam_beta1=0.9,
        adam_beta2=0.997,
        adam_epsilon=1e-9,
        clip_norm=0.0,
    )


@hparams_sets.register()
def transformer_big() -> TransformerHParams:
    """Big Transformer as in Tensor2Tensor, 6+6 layers of width 1024.

    Reproduces the big model of Vaswani et al. (2017, table 3); as `transformer_base` but for the
    sizes, the stronger dropout and Tensor2Tensor's smaller batch. The command is that of
    `transformer_base`. Expected: about one BLEU more; not run in this project so far.
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

    To try things out in seconds; reproduces no publication.
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
    baseline for speed: 28.3 BLEU on newstest2014 when it is trained on distilled data. Only the
    decoder's layers cost time for every token. The command is that of `transformer_base`; not run
    in this project so far.
    """
    return dataclasses.replace(transformer_base(), num_encoder_layers=12, num_decoder_layers=1)


@hparams_sets.register()
def transformer_multi30k() -> TransformerHParams:
    """Transformer for Multi30k, 29,000 short sentences: 3+3 layers of width 192.

        t2t-trainer --problem=translate_ende_multi30k --model=transformer \\
          --hparams_set=transformer_multi30k --data_dir=data --output_dir=runs/multi30k \\
          --train_steps=15000

    Expected: 38.0 sacreBLEU greedy and 39.0 with beam 4 on the 2016 test set after 47 minutes on
    two CPU cores (see benchmarks/results/translation_quality.md). Width 256 learns no more from an
    epoch and takes a third longer for it.
    """
    return TransformerHParams(
        num_encoder_layers=3,
        num_decoder_layers=3,
        hidden_size=192,
        filter_size=512,
        num_heads=4,
        dropout=0.2,  # so few sentences are learned by heart otherwise
        attention_dropout=0.1,
        relu_dropout=0.1,
        label_smoothing=0.1,
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
    """As transformer_multi30k, with 6+1 layers: a fast student, to be trained on distilled text.

        t2t-datagen --problem=translate_ende_multi30k_distilled --teacher_dir=runs/multi30k \\
          --data_dir=data
        t2t-trainer --problem=translate_ende_multi30k_distilled --model=transformer \\
          --hparams_set=transformer_multi30k_deep_shallow --data_dir=data \\
          --output_dir=runs/student --train_steps=15000

    What Kasai et al. (2021) found to be the strongest rival of models that are not autoregressive.
    Expected: as good as its teacher, 38.3 sacreBLEU greedy, after 5,400 steps with
    --hparams=batch_size=8192,num_buckets=1,max_length=40,ema_decay=0.999, six minutes of one H200
    beside ten other runs (see benchmarks/results/latent_table.md).
    """
    return dataclasses.replace(transformer_multi30k(), num_encoder_layers=6, num_decoder_layers=1)


@hparams_sets.register()
def transformer_cldr() -> TransformerHParams:
    """Transformer for the built-in problem: trains in a minute and a half on two CPU cores.

        t2t-trainer --problem=translate_ende_cldr --model=transformer \\
          --hparams_set=transformer_cldr --data_dir=data --output_dir=runs/cldr --train_steps=950

    Expected: 90.2 sacreBLEU on the test split, 91.3 with beam 4; those of `t2t-demo`. The sentences
    are made by rule, so that there is hardly any noise, and each is seen only a few times: no
    dropout, no label smoothing, and a high rate.
    """
    return dataclasses.replace(
        transformer_multi30k(),
        num_encoder_layers=2,
        num_decoder_layers=2,
        hidden_size=128,
        filter_size=512,
        dropout=0.0,
        attention_dropout=0.0,
        relu_dropout=0.0,
        label_smoothing=0.0,
        batch_size=512,  # of 1024, half as many updates learn less
        num_buckets=3,  # compiling a length takes as long as a hundred steps
        max_length=64,
        learning_rate=3e-3,
        warmup_steps=300,
        ema_decay=0.99,
    )
