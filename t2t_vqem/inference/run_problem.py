"""The problem of a run, found without TensorFlow, whose import takes seconds."""

from __future__ import annotations

import json
import os

from t2t_vqem import registry, run_plugins
from t2t_vqem.problem import Problem


def problem_of_run(folder: str) -> type[Problem]:
    """Returns the problem of a run, and imports the plug-ins that the run needs.

    Imports TensorFlow only if something is wrong with the run.

    Raises:
        UsageError: the folder holds no run, or its plug-in is not trusted.
    """
    folder = os.path.abspath(os.path.expanduser(folder))
    path = os.path.join(folder, "flags.json")
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
        problem, model = settings["problem"], settings["model"]
        usr_dir = settings.get("t2t_usr_dir")
        if not all(isinstance(value, str) for value in (problem, model, usr_dir or "")):
            raise TypeError(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        from t2t_vqem.output_dir import OutputDir

        problem = OutputDir(folder).settings().problem  # says what is wrong
    else:
        run_plugins.load(folder, path, usr_dir, problem=problem, model=model)
    return registry.problems.get(problem)
