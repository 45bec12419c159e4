"""The examples of docs/serving: what can be run of them without Docker and a cluster."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.request

import pytest
import yaml

from t2t_vqem.bin import t2t_server

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "serving"
DOCKERFILE = (EXAMPLES / "Dockerfile").read_text("utf-8")


def instruction(name: str) -> list[str]:
    """Returns what follows an instruction of the Dockerfile, each time that it is there."""
    return re.findall(rf"^{name} (.+)$", DOCKERFILE, re.M)


def check_flags(flags: list[str]) -> None:
    rest = {flag.split("=")[0].removeprefix("--") for flag in flags} - set(t2t_server.FLAGS)
    assert not rest, f"not flags of t2t-server: {rest}"


def test_the_image_is_not_root_and_starts_the_server():
    assert instruction("USER") == ["10001"]
    command, *flags = json.loads(instruction("ENTRYPOINT")[0])
    assert command == "t2t-server"
    check_flags([*flags, *json.loads(instruction("CMD")[-1])])


def test_the_manifests_fit_the_image():
    deployment, service = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text("utf-8"))
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    check_flags(container["args"])
    assert str(container["ports"][0]["containerPort"]) in instruction("EXPOSE")
    assert container["env"][0]["name"] == t2t_server.TOKEN_VARIABLE
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert pod["spec"]["securityContext"]["runAsUser"] == int(instruction("USER")[0])
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    wait = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert grace > wait + t2t_server.FLAGS["drain_seconds"].default


def test_the_manifests_fit_their_schema():
    validate = pytest.importorskip("kubernetes_validate")
    for document in yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text("utf-8")):
        validate.validate(document, "1.33", strict=True)


def test_the_requirements_are_those_of_the_package():
    text = (ROOT / "setup.py").read_text("utf-8")
    lines = (EXAMPLES / "requirements.txt").read_text("utf-8").splitlines()
    for line in filter(None, lines):
        assert line.startswith("#") or f'"{line}"' in text, f"setup.py has no {line}"


@pytest.mark.slow
def test_the_run_lines_make_a_server_without_tensorflow(stored_exports, tmp_path):
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "node_modules", ".*")
    for name in ("t2t_vqem", "problems", "hparams", "bin"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(source)], check=True)
    shutil.copy(EXAMPLES / "requirements.txt", tmp_path)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    environment = {
        "PATH": f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}",
        "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
        "HOME": str(tmp_path),
    }
    environment |= {k: v for k, v in os.environ.items() if k.startswith("PIP_INDEX")}
    for line in instruction("RUN"):
        done = subprocess.run(
            ["sh", "-c", line], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        if "No matching distribution" in done.stderr:
            pytest.skip("no package index can be reached")
        assert done.returncode == 0, done.stderr
    packages = {path.name for path in (tmp_path / "venv").rglob("site-packages/*")}
    assert "t2t_vqem" in packages
    assert not packages & {"tensorflow", "keras", "sacrebleu", "gin"}
    server = subprocess.Popen(
        ["t2t-server", f"--models={stored_exports / 'latent'}", "--port=0"],
        env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        address = next(
            found[0] for line in server.stderr if (found := re.search(r"http://[\d.:]+/", line))
        )
        request = urllib.request.Request(f"{address}v1/translate", b'{"text": "one two"}')
        with urllib.request.urlopen(request, timeout=60) as response:
            assert json.load(response)["translations"]["text"]
    finally:
        server.terminate()
        assert server.wait(60) == 0
        server.stderr.close()
