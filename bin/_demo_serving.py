"""The commands of `t2t-demo --serve`: they export the demo's models and serve them."""

from __future__ import annotations

import os

from t2t_vqem.bin._demo_report import Command
from t2t_vqem.constants import UsageError
from t2t_vqem.runtime.manifest import MANIFEST

# Export flags of each run. The page shows the hypotheses of a beam side by side.
_EXPORTS = {
    "latent": {"quantize": "int8"},
    "transformer": {"decode_hparams": "beam_size=4,num_best=4"},
    "digits": {},
}


def export_commands(folder: str) -> list[Command]:
    """Returns a command for each model that is not exported yet.

    Args:
        folder: the folder of the demo.

    Raises:
        UsageError: the demo was not run, or did not finish.
    """
    missing = [name for name in _EXPORTS if not os.path.isdir(os.path.join(folder, name))]
    if missing:
        raise UsageError(
            f"{folder} has no {missing[0]!r}: run t2t-demo --output_dir={folder} without --serve "
            "first, which trains the models"
        )
    return [
        Command(
            f"Exporting the model {name!r}",
            "t2t-exporter",
            {
                "output_dir": os.path.join(folder, name),
                "export_dir": _export_dir(folder, name),
                **settings,
            },
        )
        for name, settings in _EXPORTS.items()
        if not os.path.exists(os.path.join(_export_dir(folder, name), MANIFEST))
    ]


def server_command(folder: str, port: int) -> Command:
    """Returns the command that serves the exports."""
    models = ",".join(_export_dir(folder, name) for name in _EXPORTS)
    return Command("Serving them", "t2t-server", {"models": models, "port": port})


def _export_dir(folder: str, name: str) -> str:
    return os.path.join(folder, "exported", name)
