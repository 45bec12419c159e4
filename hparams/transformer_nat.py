"""Sets for the latent non-autoregressive Transformer."""

import dataclasses

from t2t_vqem.config import TransformerNATHParams
from t2t_vqem.registry import hparams_sets


@hparams_sets.register()
def transformer_nat_base() -> TransformerNATHParams:
    """Latent Transformer of base size: a code of 4096 for each 8 tokens, learned by soft EM.

    The model of "Theory and Experiments on Vector Quantized Autoencoders" (arXiv 1805.11063,
    section 5): width 512, filter 4096, 6 layers, K=2^12, ten samples, decay 0.999, masking over
    50,000 steps. Its latent predictor is shallow, since it alone runs one latent at a time. As for
    `transformer_base`, one update saw 8 times the batch there: `batch_size=32768`.

        t2t-trainer --problem=translate_ende_wmt14_distilled --model=transformer_nat \\
          --hparams_set=transformer_nat_base --hparams=batch_size=32768 --train_steps=300000 \\
          --data_dir=data --output_dir=runs/nat

    Expected: the paper has 26.7 BLEU on newstest2014, tokenised, with compounds split, about 25.2
    sacreBLEU; not run in this project so far. docs/paper.md has the whole chain.
    """
    return TransformerNATHParams(
        num_encoder_layers=6,
        num_target_encoder_layers=6,
        num_decoder_layers=6,
        num_predictor_layers=2,
        hidden_size=512,
        filter_size=4096,
        num_heads=8,
        dropout=0.1,
        attention_dropout=0.1,
        relu_dropout=0.1,
        predictor_dropout=0.1,
        label_smoothing=0.1,
        num_halvings=3,
        masking_steps=50_000,
        bottleneck_kind="soft_em",
        num_codes=4096,
        code_size=512,
        num_samples=10,
        beta=0.25,
        codebook_decay=0.999,
        temperature_steps=100_000,
        batch_size=4096,
        max_length=256,
        learning_rate=9.88e-4,
        warmup_steps=4000,
        schedule="rsqrt",
        adam_beta1=0.9,
        adam_beta2=0.997,
        adam_epsilon=1e-9,
        clip_norm=0.0,
    )


@hparams_sets.register()
def transformer_nat_big() -> TransformerNATHParams:
    """Latent Transformer of big size, width 1024; otherwise as `transformer_nat_base`.

    The command is that of `transformer_nat_base`; reproduces no publication, and was not run in
    this project so far.
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
    """Small latent Transformer, 2 layers of width 256: a code of 512 for each 4 tokens.

    For first experiments; reproduces no publication. The command is that of
    `transformer_nat_base`, without --hparams.
    """
    return dataclasses.replace(
        transformer_nat_base(),
        num_encoder_layers=2,
        num_target_encoder_layers=2,
        num_decoder_layers=2,
        hidden_size=256,
        filter_size=1024,
        num_heads=4,
        num_halvings=2,
        num_codes=512,
        code_size=64,
        codebook_decay=0.99,
        masking_steps=10_000,
        temperature_steps=20_000,
        learning_rate=1.4e-3,
    )


@hparams_sets.register()
def transformer_nat_tiny() -> TransformerNATHParams:
    """Tiny latent Transformer, 2 layers of width 128: a code of 64 for each 4 tokens.

    To try things out in seconds; reproduces no publication. The command is that of
    `transformer_nat_base`, without --hparams.
    """
    return dataclasses.replace(
        transformer_nat_small(),
        hidden_size=128,
        filter_size=512,
        num_predictor_layers=1,
        num_codes=64,
        code_size=32,
        masking_steps=1000,
        temperature_steps=2000,
        learning_rate=1.98e-3,
    )


@hparams_sets.register()
def transformer_nat_multi30k() -> TransformerNATHParams:
    """Latent Transformer for Multi30k: layers as in `transformer_multi30k`, from which it starts.

        t2t-datagen --problem=translate_ende_multi30k_distilled --teacher_dir=runs/multi30k \\
          --data_dir=data --problem_params=num_translations=4
        t2t-trainer --problem=translate_ende_multi30k_distilled --model=transformer_nat \\
          --hparams_set=transformer_nat_multi30k --warm_start_from=runs/multi30k \\
          --data_dir=data --output_dir=runs/nat --train_steps=12000

    Expected, from a teacher of 38.0 sacreBLEU (greedy, 2016 test set, 15,000 steps): 36.4, and of
    nine candidates 36.8 by itself and 38.1 by the teacher, after less than two hours on two CPU
    cores beside other work (see benchmarks/results/latent_translation.md). Most of it is there
    after 8,000 steps; few are too few for the predictor, which has a language of codes to learn.
    With four times the sources and more than twice the training: 37.9, from a teacher of 38.3, and
    38.3 and 39.4 of nine candidates (see docs/latent_translation.md, "What each part is worth").
    """
    return TransformerNATHParams(
        num_encoder_layers=3,
        num_target_encoder_layers=2,
        num_decoder_layers=3,
        num_predictor_layers=3,
        hidden_size=192,
        filter_size=512,
        num_heads=4,
        dropout=0.15,
        attention_dropout=0.1,
        relu_dropout=0.1,
        predictor_dropout=0.3,  # it is the predictor that learns its sentences by heart
        label_smoothing=0.1,
        num_halvings=2,
        masking_steps=250,
        bottleneck_kind="soft_em",
        num_codes=512,
        code_size=64,
        num_samples=10,
        beta=0.25,
        codebook_decay=0.99,
        temperature_steps=6000,
        batch_size=1536,
        num_buckets=8,
        max_length=128,
        learning_rate=1.5e-3,
        warmup_steps=300,
        schedule="cosine",
        adam_beta2=0.98,
        ema_decay=0.9995,
    )


@hparams_sets.register()
def transformer_nat_cldr() -> TransformerNATHParams:
    """Latent Transformer for the built-in problem, which starts from `transformer_cldr`.

        t2t-datagen --problem=translate_ende_cldr_distilled --teacher_dir=runs/cldr --data_dir=data
        t2t-trainer --problem=translate_ende_cldr_distilled --model=transformer_nat \\
          --hparams_set=transformer_nat_cldr --warm_start_from=runs/cldr \\
          --data_dir=data --output_dir=runs/nat --train_steps=450

    Expected: 80.2 sacreBLEU on the test split, from a teacher of 90.2 (greedy), after two minutes
    on two CPU cores; those of `t2t-demo`.
    """
    return dataclasses.replace(
        transformer_nat_multi30k(),
        num_encoder_layers=2,
        num_target_encoder_layers=1,
        num_decoder_layers=2,
        num_predictor_layers=2,
        hidden_size=128,
        filter_size=512,
        whole_words=True,  # they have two pieces each
        dropout=0.0,
        attention_dropout=0.0,
        relu_dropout=0.0,
        predictor_dropout=0.0,
        label_smoothing=0.0,
        masking_steps=100,
        temperature_steps=400,
        batch_size=640,  # of 1536, 0.4 times the updates learn much less
        num_buckets=2,  # compiling a length takes as long as a hundred steps
        max_length=64,
        learning_rate=3e-3,
        warmup_steps=100,
        ema_decay=0.99,
    )
