"""What an installation contains: one name, all files, working commands."""

import configparser
import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from t2t_vqem import __version__, registry

ROOT = pathlib.Path(__file__).resolve().parents[1]
MAPPED = ("problems", "hparams", "bin")
PACKAGES = ("t2t_vqem", *MAPPED)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    """A wheel, built from a copy so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(source)], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> pathlib.Path:
    """A folder with the installed wheel."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*pip, str(folder), str(wheel)], check=True)
    return folder


def run_installed(site: pathlib.Path, *command: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
    }  # takes precedence over an editable install
    return subprocess.run(
        command, env=environment, cwd=site, capture_output=True, text=True, check=True
    ).stdout


def installed_name(path: pathlib.Path) -> str:
    relative = path.relative_to(ROOT).as_posix()
    return relative if relative.startswith("t2t_vqem/") else f"t2t_vqem/{relative}"


def test_one_name_is_installed(wheel):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert names == {"t2t_vqem", f"t2t_vqem-{__version__}.dist-info"}


def test_the_package_is_described_licensed_and_typed(wheel):
    with zipfile.ZipFile(wheel) as archive:
        info = f"t2t_vqem-{__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        names = archive.namelist()
    assert re.search(r"^License(-Expression)?: Apache-2.0$", metadata, re.MULTILINE)
    assert any(name.startswith(info) and name.endswith("/LICENSE") for name in names)
    assert metadata.endswith((ROOT / "README.md").read_text("utf-8"))
    assert "t2t_vqem/py.typed" in names


def test_every_file_is_installed_once(wheel):
    expected = {
        installed_name(path)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = [n for n in zipfile.ZipFile(wheel).namelist() if n.startswith("t2t_vqem/")]
    assert sorted(names) == sorted(expected)


def test_installed_content_registers(site):
    program = (
        "from t2t_vqem import registry, hparams\n"
        "print(hparams.__file__)\n"
        "print(*registry.problems.names())\n"
        "print(*registry.hparams_sets.names())"
    )
    lines = run_installed(site, sys.executable, "-c", program).splitlines()
    assert lines[0].startswith(str(site))
    assert lines[1].split() == registry.problems.names()
    assert lines[2].split() == registry.hparams_sets.names()


def test_every_command_is_installed_and_has_help(site, wheel):
    entry_points = configparser.ConfigParser()
    name = f"t2t_vqem-{__version__}.dist-info/entry_points.txt"
    entry_points.read_string(zipfile.ZipFile(wheel).read(name).decode())
    commands = dict(entry_points["console_scripts"])
    modules = {path.stem for path in (ROOT / "bin").glob("t2t_*.py")}
    assert {value.split(":")[0].split(".")[-1] for value in commands.values()} == modules
    for command in commands:
        output = run_installed(site, sys.executable, str(site / "bin" / command), "--help")
        assert f"Flags of {command}:" in output


def needed_by(name: str, found: set[str]) -> set[str]:
    """Adds the distributions that one needs, itself among them, to `found`; returns `found`."""
    if name not in found:
        found.add(name)
        for line in importlib.metadata.requires(name) or ():
            if "extra ==" not in line:
                try:
                    needed_by(re.match(r"[\w.-]+", line)[0].lower().replace("_", "-"), found)
                except importlib.metadata.PackageNotFoundError:
                    continue  # for another platform or Python
    return found


def test_a_machine_that_only_serves_needs_no_tensorflow(wheel, stored_exports, tmp_path):
    """As in requirements-runtime.txt, in a new environment; packages are linked, not loaded."""
    environment = tmp_path / "environment"
    python = environment / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    lines = (ROOT / "requirements-runtime.txt").read_text().splitlines()
    wanted = [re.match(r"[\w-]+", line)[0] for line in lines if line and not line.startswith("#")]
    for name in set().union(*(needed_by(name, set()) for name in wanted)):
        for top in {file.parts[0] for file in importlib.metadata.files(name)} - {".."}:
            target = packages / top
            if not target.exists():
                target.symlink_to(importlib.metadata.distribution(name).locate_file(top))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index"]
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True)
    program = (
        "import importlib.util, sys\n"
        "assert not any(map(importlib.util.find_spec, ('tensorflow', 'keras', 'absl', 'gin')))\n"
        "import t2t_vqem as t2t\n"
        f"assert t2t.__file__.startswith({str(packages)!r}), t2t.__file__\n"
        f"with t2t.load({str(stored_exports / 'exact')!r}) as translator:\n"
        "    print(len(translator.translate(['one two', ''])))\n"
        f"with t2t.load({str(stored_exports / 'images')!r}) as codec:\n"
        "    print(*codec.sample(3).shape)\n"
        "from t2t_vqem import runtime\n"
        f"print(len(list(runtime.load({str(stored_exports / 'latent')!r}).translate(['one']))))\n"
    )
    result = subprocess.run(
        [str(python), "-I", "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["2", "3 8 8 1", "1"]
    assert result.stderr == ""
