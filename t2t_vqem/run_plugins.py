"""The plug-in that a run was trained with, imported only where that is safe.

A run records its --t2t_usr_dir, and importing that folder runs the code in it. A run from somebody
else could name any folder. So the recorded folder is never imported because the run names it, but
because the user names it again, or because t2t-trainer wrote this run here for this user: then a
file outside of the run has the folder. The name of the file is a hash of the run's path and its
flags, so that neither another run at that path nor a copy elsewhere is taken for it. This holds for
machines that share a home, too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os

from t2t_vqem import registry
from t2t_vqem.constants import UsageError
from t2t_vqem.files import write_json

_logger = logging.getLogger(__name__)


def remember(run: str, flags: str, usr_dir: str | None) -> None:
    """Remembers that this user's trainer wrote a run.

    If the user's folder cannot be written, later commands need --t2t_usr_dir; a warning says so.

    Args:
        run: the folder of the run.
        flags: the path of its flags, which are written.
        usr_dir: the plug-in that it was trained with; None: there is nothing to remember.
    """
    if not usr_dir:
        return
    path = _memory(run, flags)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_json(path, {"run": os.path.realpath(run), "t2t_usr_dir": _absolute(usr_dir)})
    except OSError as error:
        _logger.warning(
            "%s cannot be written (%s): later commands for %s need --t2t_usr_dir=%s",
            path,
            error.strerror,
            run,
            usr_dir,
        )


def load(run: str, flags: str, recorded: str | None, *, problem: str, model: str) -> None:
    """Imports installed plug-ins, and the plug-in that a run was trained with, if it is trusted.

    A folder that the user has named in this process replaces a recorded one of the same name, which
    may have been moved.

    Args:
        run: the folder of the run.
        flags: the path of its flags.
        recorded: the plug-in that the flags name; None for none.
        problem: the problem of the run.
        model: the model of the run.

    Raises:
        UsageError: the plug-in is needed, and is not trusted.
    """
    registry.load_plugins()
    named = registry.named_usr_dirs()
    if not recorded or os.path.basename(_absolute(recorded)) in map(os.path.basename, named):
        return
    if remembered := _remembered(run, flags):
        registry.load_plugins(remembered)
        return
    # The user may have named a folder of another name.
    if named and problem in registry.problems.names() and model in registry.model_hparams.names():
        return
    raise UsageError(
        f"the run in {run} was trained with the plug-in {recorded}. To import it would run its "
        "code, and it is not known that you trained this run here. If you trust the plug-in, name "
        f"its folder: --t2t_usr_dir={recorded} (in Python, t2t_usr_dir={recorded!r})"
    )


def _remembered(run: str, flags: str) -> str | None:
    """Returns the plug-in of a run that this user's trainer wrote; None if it is not known."""
    try:
        with open(_memory(run, flags), encoding="utf-8") as file:
            return json.load(file)["t2t_usr_dir"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _memory(run: str, flags: str) -> str:
    """Returns the path of the file that remembers a run."""
    with open(flags, "rb") as file:
        key = hashlib.sha256(os.fsencode(os.path.realpath(run)) + b"\0" + file.read()).hexdigest()
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(home, "t2t-vqem", "runs", f"{key}.json")


def _absolute(path: str) -> str:
    return os.path.realpath(os.path.expanduser(path))
