"""Shows the whole way in minutes, without a download: data, training, translations, pictures.

    t2t-demo --output_dir=demo

Trains a translator, a latent one that learns from it and says a sentence at once, and a model of
handwritten digits that draws new ones. Runs the other commands and prints each as you would type
it; what need not wait for another runs beside it, since a command that compiles uses one core
only. Started again after a stop, it goes on where it was. Needs the optional dependencies "demo":
pip install 't2t-vqem[demo]'
"""

import contextlib
import importlib
import itertools
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from absl import flags

from t2t_vqem.bin import _main
from t2t_vqem.bin._demo_chapters import (
    PROBLEM,
    data_chapter,
    digits_chapter,
    latent_chapter,
    transformer_chapter,
)
from t2t_vqem.bin._demo_report import Command, TestFiles, milliseconds, report
from t2t_vqem.constants import UsageError
from t2t_vqem.extras import import_extra

FLAGS = flags.FlagValues()
flags.DEFINE_string("output_dir", "demo", "Where everything goes.", flag_values=FLAGS)
flags.DEFINE_integer(
    "seed", 1, "Seed of the data and of training.", lower_bound=0, flag_values=FLAGS
)
flags.DEFINE_integer(
    "train_size", 10_000, "Sentences to train on.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_integer(
    "train_steps", 950, "Updates of the translator's weights.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_integer(
    "latent_train_steps",
    450,
    "Updates of the weights of the latent translator.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "image_train_steps",
    600,
    "Updates of the weights of the model of digits.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_integer("num_examples", 8, "Translations to show.", lower_bound=0, flag_values=FLAGS)


def main(argv: list[str]) -> None:
    """Runs all chapters, then compares their translations and names their pictures."""
    del argv
    for module in ("babel", "sklearn.datasets"):
        import_extra(module, "demo")  # before anything is written
    folder = os.path.expanduser(FLAGS.output_dir)
    data_dir = os.path.join(folder, "data")
    test = TestFiles(*(os.path.join(data_dir, PROBLEM, f"test.{code}") for code in ("en", "de")))
    data = data_chapter(data_dir, FLAGS.seed, FLAGS.train_size)
    transformer = transformer_chapter(folder, data_dir, test, FLAGS.seed, FLAGS.train_steps)
    latent = latent_chapter(folder, data_dir, test, FLAGS.seed, FLAGS.latent_train_steps)
    digits = digits_chapter(folder, data_dir, FLAGS.seed, FLAGS.image_train_steps)
    signal.signal(signal.SIGTERM, _exit_on_signal)
    begin = time.monotonic()
    parts = [data.commands + transformer.commands, digits.commands]
    parts += [latent.commands, transformer.decodings(), latent.decodings()]
    first, unseen_first, second, unseen_second, last = numbered(parts)
    with beside(unseen_first):
        run_all(first)
    with beside(unseen_second):
        run_all(second)
    run_all(last)
    translations = [*transformer.translations, *latent.translations]
    times = {found.system: milliseconds(found, test) for found in translations}
    print(f"\n{report(test, translations, times, FLAGS.num_examples)}\n")
    for picture in digits.pictures:
        print(f"{picture.title}:\n  {picture.path}")
    print()
    print(f"All of it took {time.monotonic() - begin:.0f} seconds. To translate your own lines:\n")
    run_dir = os.path.join(folder, "transformer")
    interactive = {"output_dir": run_dir, "decode_interactive": True}
    print(f"$ {Command('', 't2t-decoder', interactive).typed()}")


def numbered(parts: list[list[Command]]) -> list[list[Command]]:
    """Returns the commands with their place among all of them in the title."""
    numbers = itertools.count(1)
    total = sum(map(len, parts))
    return [
        [command._replace(title=f"[{next(numbers)}/{total}] {command.title}") for command in part]
        for part in parts
    ]


@contextlib.contextmanager
def beside(commands: list[Command]) -> Iterator[None]:
    """Runs commands while the block of `with` runs others; then prints what they have printed.

    Raises:
        UsageError: one of them failed; it has said why.
    """
    titles = "".join(f"\n  {command.title}" for command in commands)
    print(f"\nBeside what follows, and shown after it:{titles}", flush=True)
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as output:
        with process(run_unseen, commands, output.name) as running:
            yield
            running.join()
        print(output.read(), end="", flush=True)
    if running.exitcode:
        raise UsageError(f"what ran beside ended with status {running.exitcode}, see above.")


def run_unseen(commands: list[Command], path: str) -> None:
    """Runs commands one after another in this process, and lets them print to a file."""
    signal.signal(signal.SIGTERM, _exit_on_signal)
    with open(path, "w", encoding="utf-8") as output:
        for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(output.fileno(), descriptor)
    _main.run(lambda argv: run_all(commands), flags.FlagValues(), ["t2t-demo"])


def run_all(commands: list[Command]) -> None:
    """Runs commands one after another.

    Raises:
        UsageError: one of them failed; it has said why.
    """
    for command in commands:
        print(f"\n{command.title}\n\n$ {command.typed()}\n", flush=True)
        run(command)


def run(command: Command) -> None:
    """Runs a command to its end; a stop of the demo stops it too, and lets it save.

    Raises:
        UsageError: the command failed; it has said why.
    """
    begin = time.monotonic()
    with process(run_here, command) as running:
        running.join()
    if running.exitcode:
        raise UsageError(
            f"{command.program} ended with status {running.exitcode}, see above. When that is "
            "mended, t2t-demo goes on from there."
        )
    print(f"({time.monotonic() - begin:.0f} seconds)", flush=True)


@contextlib.contextmanager
def process(call: Callable[..., None], *args: object) -> Iterator[multiprocessing.Process]:
    """Calls a function in another process, and stops that if the block of `with` is left early."""
    # Importing TensorFlow takes seconds for each command: a server does it once, and divides into
    # one process after the other. One that itself runs commands divides further.
    method = "fork" if multiprocessing.parent_process() else "forkserver"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(["t2t_vqem.bin._preload", "tensorflow"])
    running = context.Process(target=call, args=args)
    running.start()
    try:
        yield running
    except BaseException:
        running.terminate()
        running.join()
        raise


def run_here(command: Command) -> NoReturn:
    """Runs a command in this process, and exits with its status."""
    module = importlib.import_module(command.module())
    module.entry_point([command.program, *command.words()])


def _exit_on_signal(number: int, frame: object) -> NoReturn:
    del frame
    sys.exit(128 + number)


def entry_point(argv: list[str] | None = None) -> NoReturn:
    """Runs the command; `argv` is as in `_main.run`."""
    _main.run(main, FLAGS, argv, after_interrupt="The same command goes on from what is finished")


if __name__ == "__main__":
    entry_point()
