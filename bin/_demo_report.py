"""The commands that t2t-demo runs, and its report on the translations."""

import copy
import shlex
import textwrap
from typing import NamedTuple

from t2t_vqem.bin import t2t_decoder
from t2t_vqem.data.lines import read_lines

_WIDTH = 78  # of a line of the report
_TIMED = 20  # number of sentences to measure the latency on


class Command(NamedTuple):
    """A command to run, and the title to print before it."""

    title: str
    program: str  # for example t2t-datagen
    flags: dict[str, object]

    def words(self) -> list[str]:
        """Returns the flags as command-line arguments."""
        return [
            f"--{name}" if value is True else f"--{name}={value}"
            for name, value in self.flags.items()
        ]

    def typed(self) -> str:
        """Returns the command as typed in a shell, with one flag on each line."""
        return " \\\n    ".join([self.program, *map(shlex.quote, self.words())])

    def module(self) -> str:
        """Returns the name of the module that implements the command."""
        return "t2t_vqem.bin." + self.program.replace("-", "_")


class Translations(NamedTuple):
    """A chapter's translations of the test split."""

    system: str
    command: Command  # the command of t2t-decoder that writes them

    @property
    def path(self) -> str:
        return self.command.flags["decode_to_file"]


class TestFiles(NamedTuple):
    """The files of the test split."""

    source: str
    reference: str


def milliseconds(found: Translations, test: TestFiles) -> float:
    """Returns the median time to decode a single sentence, with the options of the command."""
    from t2t_vqem.bin import _decode_text
    from t2t_vqem.inference.latency import milliseconds_each, usual_lines

    values = copy.deepcopy(t2t_decoder.FLAGS)
    values([found.command.program, *found.command.words()])
    translator, _ = _decode_text.make_translator(values)
    lines = _read(test.source)
    return milliseconds_each(translator, usual_lines(lines, translator.lengths(lines), _TIMED))


def report(
    test: TestFiles,
    translations: list[Translations],
    times: dict[str, float],
    num_examples: int,
) -> str:
    """Returns the scores and times of all systems, and their first few translations."""
    from t2t_vqem.metrics.bleu import sacrebleu_score  # here, so that --help answers at once

    sources, references = _read(test.source), _read(test.reference)
    outputs = {found.system: _read(found.path) for found in translations}
    lines = [f"{len(sources)} test sentences, none of them in the training data", ""]
    lines += [f"  {'':<10} {'BLEU':>5}   equals reference   ms (single sentence)"]
    for system, hypotheses in outputs.items():
        score = sacrebleu_score(hypotheses, references)
        exact = sum(map(str.__eq__, hypotheses, references)) / len(references)
        lines.append(f"  {system:<10} {score.value:5.1f}   {exact:16.0%}   {times[system]:20.1f}")
    lines += ["", f"  {score.signature}", ""]
    for index in range(min(num_examples, len(sources))):
        lines += _example(
            sources[index], references[index], {s: o[index] for s, o in outputs.items()}
        )
    return "\n".join(lines).rstrip()


def _example(source: str, reference: str, outputs: dict[str, str]) -> list[str]:
    """Returns the lines for one sentence; systems with the same translation share a line."""
    by_text: dict[str, list[str]] = {}
    for system, text in outputs.items():
        by_text.setdefault(text, []).append(system)
    rows = [("source", source), ("reference", reference)]
    for text, systems in by_text.items():
        rows.append((", ".join(systems), "the same" if text == reference else text))
    lines = []
    for label, text in rows:
        first, later = f"  {label:<15} ", " " * 18
        lines += textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=later) or [
            first
        ]
    return [*lines, ""]


def _read(path: str) -> list[str]:
    return [line.decode() for line in read_lines(path)]
