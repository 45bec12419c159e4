"""Serves exported models: JSON over HTTP, and a page for translation, latents and images.

    t2t-server --models=exported/nat,exported/vqvae --port=8080

Then open http://127.0.0.1:8080/ in a browser, or send requests from a program:

    curl http://127.0.0.1:8080/v1/translate -d '{"text": "Two dogs are running."}'

/openapi.json describes all endpoints. The name of a model is that of its folder. Runs on LiteRT,
without TensorFlow; needs the optional dependencies "server": pip install 't2t-vqem[server]'

The flags below limit everything that a client controls. After SIGTERM, the server answers all
accepted requests and then ends. With --token_file, clients must send the token in the file; the
environment variable T2T_SERVER_TOKEN can hold the token instead.
"""

import logging
import os
import time
from typing import NoReturn

from absl import flags

from t2t_vqem.bin import _main
from t2t_vqem.constants import UsageError
from t2t_vqem.extras import import_extra

TOKEN_VARIABLE = "T2T_SERVER_TOKEN"

FLAGS = flags.FlagValues()
flags.DEFINE_list(
    "models",
    None,
    "Folders that t2t-exporter --format=litert wrote.",
    flag_values=FLAGS,
    allow_overwrite=False,
)
flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "Address to listen on; 0.0.0.0: all addresses of this machine.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "port",
    8080,
    "Port to listen on; 0: any free port.",
    lower_bound=0,
    upper_bound=65535,
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "allowed_hosts",
    None,
    "Host names under which clients may address the server; default: localhost, 127.0.0.1 and ::1 "
    "if --host is one of these, otherwise any.",
    flag_values=FLAGS,
    allow_overwrite=False,
)
flags.DEFINE_string(
    "token_file", None, "File with the token that clients must send.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "threads",
    None,
    "Number of threads of an operation; default: depends on the size of the model.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "interpreters",
    None,
    "Number of batches of each model that are computed at the same time; default: the number of "
    "cores.",
    lower_bound=1,
    upper_bound=256,
    flag_values=FLAGS,
)
for _name, _default, _help in (
    ("max_body_bytes", 4 << 20, "Largest size of a request's body, in bytes."),
    ("max_lines", 256, "Largest number of texts in a request."),
    ("max_line_chars", 10_000, "Largest number of characters in a text."),
    ("max_images", 64, "Largest number of images in a request."),
    ("max_pixels", 20_000_000, "Largest number of pixels in an uploaded image."),
    ("max_batch", 8, "Largest number of texts or images in a batch."),
    (
        "max_batch_tokens",
        512,
        "Largest number of tokens in a batch, including padding; a longer text is computed alone.",
    ),
    ("max_queue", 2048, "Largest number of texts or images that wait for one model."),
    ("max_connections", 512, "Largest number of open connections."),
):
    flags.DEFINE_integer(_name, _default, _help, lower_bound=1, flag_values=FLAGS)
for _name, _default, _help in (
    ("request_seconds", 30.0, "Longest time from the end of a request to its answer."),
    ("body_seconds", 10.0, "Longest time for a client to send the headers, and to send the body."),
    ("idle_seconds", 15.0, "Longest time that a connection stays open without a request."),
    ("drain_seconds", 40.0, "Longest time for answering accepted requests after SIGTERM."),
):
    flags.DEFINE_float(_name, _default, _help, lower_bound=0.1, flag_values=FLAGS)

_logger = logging.getLogger(__name__)


def main(argv: list[str]) -> None:
    """Loads --models and serves them."""
    del argv
    if not FLAGS.models:
        raise UsageError(
            "--models is missing: expected folders that t2t-exporter wrote, separated by commas"
        )
    for module in ("starlette", "uvicorn", "httptools", "PIL.Image"):
        import_extra(module, "server")  # before anything is loaded
    from t2t_vqem.server import app, metrics, models, serving

    begin = time.monotonic()
    token, limits, counted = _token(), _limits(), metrics.Metrics()
    opened = serving.listen(FLAGS.host, FLAGS.port)
    port = opened.getsockname()[1]
    services = models.load_services(
        FLAGS.models, limits, counted, threads=FLAGS.threads, interpreters=FLAGS.interpreters
    )
    hosts = FLAGS.allowed_hosts
    if hosts is None:
        hosts = serving.LOOPBACK if FLAGS.host in serving.LOOPBACK else ()
    application = app.make_app(services, limits, counted, token=token, hosts=hosts)

    def ready() -> None:
        shown = f"[{FLAGS.host}]" if ":" in FLAGS.host else FLAGS.host
        _logger.info(
            "serving %s at http://%s:%d/ after %.1f seconds",
            ", ".join(service.name for service in services),
            shown,
            port,
            time.monotonic() - begin,
        )

    serving.serve(application, limits, opened, ready)
    for service in services:
        service.close()
    _logger.info("all accepted requests are answered")


def _token() -> str | None:
    """Returns the token that clients must send."""
    if FLAGS.token_file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    path = os.path.expanduser(FLAGS.token_file)
    try:
        with open(path, encoding="utf-8") as file:
            token = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token_file={path} cannot be read: {error}") from error
    if not token or not token.isascii() or any(char.isspace() for char in token):
        raise UsageError(
            f"--token_file={path}: expected a token of ASCII characters without spaces"
        )
    return token


def _limits():
    from t2t_vqem.server.limits import Limits

    return Limits(
        body_bytes=FLAGS.max_body_bytes,
        lines=FLAGS.max_lines,
        line_chars=FLAGS.max_line_chars,
        images=FLAGS.max_images,
        pixels=FLAGS.max_pixels,
        batch_rows=FLAGS.max_batch,
        batch_tokens=FLAGS.max_batch_tokens,
        queue_rows=FLAGS.max_queue,
        connections=FLAGS.max_connections,
        request_seconds=FLAGS.request_seconds,
        body_seconds=FLAGS.body_seconds,
        idle_seconds=FLAGS.idle_seconds,
        drain_seconds=FLAGS.drain_seconds,
    )


def entry_point(argv: list[str] | None = None) -> NoReturn:
    """Runs the command; `argv` is as in `_main.run`."""
    _main.run(main, FLAGS, argv)


if __name__ == "__main__":
    entry_point()
