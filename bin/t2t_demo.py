"""Runs the whole toolkit in minutes, without a download: data, training, translation, images.

    t2t-demo --output_dir=demo

Trains an autoregressive Transformer, a latent Transformer that is distilled from it and decodes all
words in parallel, and a VQ-VAE of handwritten digits, and samples new digits from it. Runs the
other commands and prints each one as you would type it. Commands that do not depend on each other
run at the same time, because a command uses only one core while it compiles. After a stop, the same
command continues. Needs the optional dependencies "demo": pip install 't2t-vqem[demo]'

    t2t-demo --output_dir=demo --serve

exports the three models and serves them with a page; needs "server" as well.
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
    data_of,
    digits_chapter,
    latent_chapter,
    transformer_chapter,
)
from t2t_vqem.bin._demo_report import Command, TestFiles, milliseconds, report
from t2t_vqem.bin._demo_serving import export_commands, server_command
from t2t_vqem.constants import MAX_SAMPLING_SEED, UsageError
from t2t_vqem.extras import import_extra

FLAGS = flags.FlagValues()
flags.DEFINE_string("output_dir", "demo", "Folder for data, runs and results.", flag_values=FLAGS)
flags.DEFINE_integer(
    "seed",
    1,
    "Seed of the data, of training and of sampling.",
    lower_bound=0,
    upper_bound=MAX_SAMPLING_SEED,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "train_size", 10_000, "Number of training sentences.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_integer(
    "train_steps", 950, "Training steps of the Transformer.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_integer(
    "latent_train_steps",
    450,
    "Training steps of the latent Transformer.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "image_train_steps",
    600,
    "Training steps of the VQ-VAE of digits.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_integer("num_examples", 8, "Translations to show.", lower_bound=0, flag_values=FLAGS)


flags.DEFINE_bool(
    "serve",
    False,
    "Export the models that the demo trained and serve them with a page, instead of training.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "port",
    8080,
    "Port for --serve; 0: any free port.",
    lower_bound=0,
    upper_bound=65535,
    flag_values=FLAGS,
)


def main(argv: list[str]) -> None:
    """Runs all chapters, then prints a comparison of translations and the paths of images."""
    del argv
    folder = os.path.expanduser(FLAGS.output_dir)
    if FLAGS.serve:
        serve(folder, FLAGS.port)
    for module in ("babel", "sklearn.datasets"):
        import_extra(module, "demo")  # before anything is written
    test = TestFiles(
        *(os.path.join(data_of(folder), PROBLEM, f"test.{code}") for code in ("en", "de"))
    )
    data = data_chapter(folder, FLAGS.seed, FLAGS.train_size)
    transformer = transformer_chapter(folder, test, FLAGS.seed, FLAGS.train_steps)
    latent = latent_chapter(folder, test, FLAGS.seed, FLAGS.latent_train_steps)
    digits = digits_chapter(folder, FLAGS.seed, FLAGS.image_train_steps)
    signal.signal(signal.SIGTERM, _exit_on_signal)
    begin = time.monotonic()
    parts = [data.commands + transformer.commands, digits.commands]
    parts += [latent.commands, transformer.decodings(), latent.decodings()]
    data_and_training, digits_part, latent_part, decoding_part, last = numbered(parts)
    with in_background(digits_part):
        run_all(data_and_training)
    with in_background(decoding_part):
        run_all(latent_part)
    run_all(last)
    translations = [*transformer.translations, *latent.translations]
    times = {found.system: milliseconds(found, test) for found in translations}
    print(f"\n{report(test, translations, times, FLAGS.num_examples)}\n")
    for picture in digits.pictures:
        print(f"{picture.title}:\n  {picture.path}")
    print()
    print(f"Total time: {time.monotonic() - begin:.0f} seconds. To translate your own lines:\n")
    run_dir = os.path.join(folder, "transformer")
    interactive = {"output_dir": run_dir, "decode_interactive": True}
    print(f"$ {Command('', 't2t-decoder', interactive).typed()}")
    print("\nTo open a page that shows the three models, with their latents, in a browser:\n")
    print(f"$ {Command('', 't2t-demo', {'output_dir': folder, 'serve': True}).typed()}")


def serve(folder: str, port: int) -> NoReturn:
    """Exports the models that are not exported yet, and replaces this process by their server."""
    import_extra("uvicorn", "server")  # before anything is exported
    signal.signal(signal.SIGTERM, _exit_on_signal)
    run_all(export_commands(folder))
    command = server_command(folder, port)
    print(f"\n{command.title}\n\n$ {command.typed()}\n", flush=True)
    os.execv(sys.executable, [sys.executable, "-m", command.module(), *command.words()])


def numbered(parts: list[list[Command]]) -> list[list[Command]]:
    """Returns the commands, with their number and the number of all commands in the titles."""
    numbers = itertools.count(1)
    total = sum(map(len, parts))
    return [
        [command._replace(title=f"[{next(numbers)}/{total}] {command.title}") for command in part]
        for part in parts
    ]


@contextlib.contextmanager
def in_background(commands: list[Command]) -> Iterator[None]:
    """Runs commands at the same time as the body of `with`, and prints their output afterwards.

    Raises:
        UsageError: a command failed. Its own output says why.
    """
    titles = "".join(f"\n  {command.title}" for command in commands)
    print(f"\nRunning in the background, with the output shown later:{titles}", flush=True)
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as output:
        with process(run_to_file, commands, output.name) as running:
            yield
            running.join()
        print(output.read(), end="", flush=True)
    if running.exitcode:
        raise UsageError(
            f"a command in the background ended with status {running.exitcode}, see above."
        )


def run_to_file(commands: list[Command], path: str) -> None:
    """Runs commands one after another in this process, with their output in a file."""
    signal.signal(signal.SIGTERM, _exit_on_signal)
    with open(path, "w", encoding="utf-8") as output:
        for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(output.fileno(), descriptor)
    _main.run(lambda argv: run_all(commands), flags.FlagValues(), ["t2t-demo"])


def run_all(commands: list[Command]) -> None:
    """Runs commands one after another.

    Raises:
        UsageError: a command failed. Its own output says why.
    """
    for command in commands:
        print(f"\n{command.title}\n\n$ {command.typed()}\n", flush=True)
        run(command)


def run(command: Command) -> None:
    """Runs a command and waits for its end.

    A signal that stops the demo also stops the command, which then saves its work.

    Raises:
        UsageError: the command failed. Its own output says why.
    """
    begin = time.monotonic()
    with process(run_here, command) as running:
        running.join()
    if running.exitcode:
        raise UsageError(
            f"{command.program} ended with status {running.exitcode}, see above. Fix the cause "
            "and run t2t-demo again: it continues from there."
        )
    print(f"({time.monotonic() - begin:.0f} seconds)", flush=True)


@contextlib.contextmanager
def process(call: Callable[..., None], *args: object) -> Iterator[multiprocessing.Process]:
    """Calls a function in another process, which is terminated if the body of `with` fails."""
    # Importing TensorFlow takes seconds. So a fork server imports it once and is then forked for
    # each command. A child process that runs commands itself is forked too.
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
    """Runs a command in this process and exits with its status."""
    module = importlib.import_module(command.module())
    module.entry_point([command.program, *command.words()])


def _exit_on_signal(number: int, frame: object) -> NoReturn:
    del frame
    sys.exit(128 + number)


def entry_point(argv: list[str] | None = None) -> NoReturn:
    """Runs the command; `argv` is as in `_main.run`."""
    _main.run(main, FLAGS, argv, after_interrupt="The same command continues from finished parts")


if __name__ == "__main__":
    entry_point()
