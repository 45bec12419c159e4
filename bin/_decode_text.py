"""What t2t-decoder does with a run of text: it translates."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from absl import flags

from t2t_vqem import __version__, capabilities
from t2t_vqem.capabilities import LatentTextModel, ScoringModel
from t2t_vqem.constants import UsageError
from t2t_vqem.data.lines import read_stream
from t2t_vqem.data.progress import Progress
from t2t_vqem.files import is_special
from t2t_vqem.inference.resume import translate_to_file
from t2t_vqem.inference.text_files import LineList, Lines, open_lines, read_lines
from t2t_vqem.metrics import bleu


def run(values: flags.FlagValues) -> None:
    """Translates what the flags of t2t-decoder name."""
    _check(values)
    if values.decode_interactive:
        _interact(*make_translator(values))
        return
    source, references = _source_and_references(values)
    translator, identity = make_translator(values)
    with Progress("translating", source.num_lines, "lines") as progress:
        lines = _translate(translator, source, values.decode_to_file, identity, progress)
    if references is not None:
        hypotheses = [line.partition("\t")[2] for line in lines] if values.return_latents else lines
        # Translations on standard output are not to be mixed with scores.
        report = sys.stderr if values.decode_to_file == "-" else sys.stdout
        tokenizer = _bleu_tokenizer(values)
        print(bleu.sacrebleu_score(hypotheses, references, tokenizer=tokenizer), file=report)
        print(bleu.chrf_score(hypotheses, references), file=report)


def _check(values: flags.FlagValues) -> None:
    modes = ("decode_from_file", "decode_split", "decode_interactive")
    chosen = [f"--{mode}" for mode in modes if values[mode].value]
    if len(chosen) != 1:
        raise UsageError(
            f"expected exactly one of --{', --'.join(modes)}, got {' and '.join(chosen) or 'none'}"
        )
    if values.score_file and not values.decode_from_file:
        raise UsageError(f"--score_file goes with --decode_from_file, not with {chosen[0]}")


def _source_and_references(values: flags.FlagValues) -> tuple[Lines, list[str] | None]:
    """Reads and checks the texts before anything slow starts."""
    if values.decode_split:
        from t2t_vqem.output_dir import OutputDir

        output_dir = OutputDir(values.output_dir)
        dataset = output_dir.problem().open(values.data_dir or output_dir.settings().data_dir)
        source = LineList(dataset.sources(values.decode_split))
        return source, dataset.references(values.decode_split)
    source = open_lines(values.decode_from_file)
    if not values.score_file:
        return source, None
    references = read_lines(values.score_file)
    if len(references) != source.num_lines:
        raise UsageError(
            f"--score_file={values.score_file} has {len(references)} lines but "
            f"--decode_from_file={values.decode_from_file} has {source.num_lines}; line i of one "
            "must answer line i of the other"
        )
    return source, references


def _bleu_tokenizer(values: flags.FlagValues) -> str:
    """Returns the tokenizer of BLEU: the one asked for, or else the one that the run has."""
    from t2t_vqem.output_dir import OutputDir

    output_dir = OutputDir(values.output_dir)
    name = values.bleu_tokenizer or output_dir.hparams().bleu_tokenizer
    return bleu.choose_tokenizer(name, output_dir.problem().target_language)


def make_translator(values: flags.FlagValues) -> tuple[Any, dict[str, Any]]:
    """Returns the translator of the run, and all that its translations depend on."""
    # Imports TensorFlow, which takes seconds; errors in flags and files come before.
    import tensorflow as tf

    from t2t_vqem.decoding.options import DecodeOptions
    from t2t_vqem.inference.translate import DEFAULT_BATCH_TOKENS, WINDOW_LINES, load_translator
    from t2t_vqem.output_dir import OutputDir, checkpoint_hash

    temperature = values.sampling_temp or 0.0
    # Candidates that are not drawn are what beam search finds.
    beam_size = values.beam_size if temperature else max(values.beam_size, values.num_candidates)
    options = DecodeOptions(
        beam_size=beam_size,
        alpha=values.alpha,
        extra_length=values.extra_length,
        sampling_temperature=temperature,
        sampling_top_k=values.sampling_keep_top_k,
        num_candidates=values.num_candidates,
        keep_repeats=values.keep_repeats,
    )
    output_dir = OutputDir(values.output_dir)
    checkpoint = output_dir.find_checkpoint(values.checkpoint)
    settings = {
        "batch_tokens": values.batch_size or DEFAULT_BATCH_TOKENS,
        "seed": values.seed,
        "xla": values.xla,
    }
    model = output_dir.hparams().model
    if not capabilities.offers(model, LatentTextModel):
        _refuse_latent_flags(values, model)
    rescorer, rescorer_hash = _rescorer(values, output_dir.vocabulary())
    translator = load_translator(output_dir, checkpoint, options, **settings, rescorer=rescorer)
    identity = {
        "checkpoint": checkpoint_hash(checkpoint),
        "rescorer": rescorer_hash,
        "return_latents": values.return_latents,
        "max_length": output_dir.hparams().max_length,
        **dataclasses.asdict(options),
        **settings,
        "t2t_vqem": __version__,
        "tensorflow": tf.__version__,
        "window": WINDOW_LINES,
    }
    return translator, identity


def _refuse_latent_flags(values: flags.FlagValues, model: str) -> None:
    for name in ("num_candidates", "rescore_dir", "return_latents", "keep_repeats"):
        if values[name].present:
            raise UsageError(
                f"--{name} is for models that translate by latents, such as transformer_nat, and "
                f"the run in {values.output_dir} is of {model}. Leave it out"
            )


def _rescorer(values: flags.FlagValues, vocabulary: Any) -> tuple[Any, str | None]:
    """Returns the model that chooses among candidates, and the hash of its weights."""
    if not values.rescore_dir:
        return None, None
    from t2t_vqem.output_dir import OutputDir, checkpoint_hash

    if values.num_candidates < 2:
        raise UsageError(
            f"--rescore_dir={values.rescore_dir} has nothing to choose from with "
            f"--num_candidates={values.num_candidates}: give more, for example 9"
        )
    output_dir = OutputDir(values.rescore_dir)
    name = output_dir.hparams().model
    if not capabilities.offers(name, ScoringModel):
        raise UsageError(
            f"--rescore_dir={values.rescore_dir} holds a run of {name!r}: expected one of a model "
            f"that {ScoringModel.offers}, {capabilities.models_that_offer(ScoringModel)}"
        )
    theirs = output_dir.vocabulary()
    if theirs is None or theirs.hash != vocabulary.hash:
        raise UsageError(
            f"--rescore_dir={values.rescore_dir}: that run has another vocabulary than the one in "
            f"{values.output_dir}, so that it cannot score its tokens. A teacher and a model that "
            f"was trained on data distilled by it share theirs"
        )
    model = output_dir.build_model()
    return model, checkpoint_hash(output_dir.restore_for_inference(model))


def _translate(
    translator: Any, source: Lines, path: str, identity: dict[str, Any], progress: Progress
) -> list[str]:
    """Writes the translations of all lines and returns them."""

    def translate(lines: Iterable[str], first_index: int = 0) -> Iterator[Any]:
        hypotheses = translator.translate(lines, first_index=first_index, progress=progress.advance)
        return map(_with_latents, hypotheses) if identity["return_latents"] else hypotheses

    if path == "-" or is_special(path):  # which nothing can go on from
        hypotheses = []
        with _opened(path) as output:
            for hypothesis in translate(source.lines()):
                print(hypothesis.text, file=output, flush=True)
                hypotheses.append(hypothesis.text)
        return hypotheses
    translate_to_file(
        translate,
        source,
        path,
        identity=identity,
        window=identity["window"],
        on_resume=lambda num_lines: progress.advance(num_lines, skipped=True),
    )
    return read_lines(path)


def _opened(path: str) -> contextlib.AbstractContextManager[TextIO]:
    if path == "-":
        return contextlib.nullcontext(sys.stdout)
    return open(path, "w", encoding="utf-8", newline="\n")


def _with_latents(hypothesis: Any) -> Any:
    """Puts the codes and a tab, which no code holds, before the translation."""
    codes = " ".join(map(str, hypothesis.codes))
    return hypothesis._replace(text=f"{codes}\t{hypothesis.text}")


def _interact(translator: Any, identity: dict[str, Any]) -> None:
    """Answers each line of standard input before the next is read."""
    prompt = "> " if sys.stdin.isatty() else ""
    print(prompt, end="", file=sys.stderr, flush=True)
    for index, line in enumerate(read_stream(sys.stdin.buffer, "standard input")):
        for hypothesis in translator.translate([line], first_index=index):
            shown = _with_latents(hypothesis) if identity["return_latents"] else hypothesis
            print(shown.text, flush=True)
        print(prompt, end="", file=sys.stderr, flush=True)
