"""requirements-runtime.txt is enough: an environment that sees nothing else runs an export."""

import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]


def required(name: str, found: set[str]) -> set[str]:
    """Returns the distributions that one needs, itself among them."""
    if name not in found:
        found.add(name)
        for line in importlib.metadata.requires(name) or ():
            if "extra ==" not in line:
                try:
                    required(re.match(r"[\w.-]+", line)[0].lower().replace("_", "-"), found)
                except importlib.metadata.PackageNotFoundError:
                    continue  # for another platform or Python
    return found


def test_the_requirements_are_enough(stored_exports, tmp_path):
    lines = (ROOT / "requirements-runtime.txt").read_text().splitlines()
    names = [re.match(r"[\w-]+", line)[0] for line in lines if line and not line.startswith("#")]
    distributions = set().union(*(required(name, set()) for name in names))
    assert "tensorflow" not in distributions
    for name in distributions:
        files = importlib.metadata.files(name)
        tops = {file.parts[0] for file in files if file.parts[0] != ".."}
        for top in tops:
            source, target = importlib.metadata.distribution(name).locate_file(top), tmp_path / top
            if not target.exists():
                target.symlink_to(source)
    (tmp_path / "t2t_vqem").symlink_to(ROOT / "t2t_vqem")
    program = (
        "from t2t_vqem import runtime\n"
        f"model = runtime.load({str(stored_exports / 'exact')!r})\n"
        "print(len(list(model.translate(['one two', '']))))\n"
    )
    # -I and -S: nothing but the standard library and the folder of links.
    start = f"import sys; sys.path.append({str(tmp_path)!r})\n"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", start + program],
        capture_output=True, text=True, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "2"
