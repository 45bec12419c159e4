"""Packaging. Three folders of the repository are installed below the one name t2t_vqem."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
MAPPED = ("problems", "hparams", "bin")  # folder x is installed as t2t_vqem.x


def version() -> str:
    """Reads the version without importing the package, whose dependencies may be missing."""
    text = (ROOT / "t2t_vqem" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


def packages() -> list[str]:
    engine = find_packages(str(ROOT), include=["t2t_vqem", "t2t_vqem.*"])
    content = find_packages(
        str(ROOT), include=[f"{name}{end}" for name in MAPPED for end in ("", ".*")]
    )
    return engine + [f"t2t_vqem.{name}" for name in content]


# Lower bounds: the oldest versions with wheels for the newest supported Python. Upper bounds: the
# next version that may be incompatible. The versions that are tested are in constraints.txt.
DEPENDENCIES = [
    "absl-py>=2.0",
    "ai-edge-litert>=2.0,<3",
    "array-record>=0.8,<0.9",
    "gin-config>=0.5,<0.6",
    "keras>=3.10,<4",
    "numpy>=1.26,<3",
    "sacrebleu>=2.4,<3",
    "sentencepiece>=0.2.1,<0.3",
    "tensorflow>=2.20,<2.22",
    "tqdm>=4.60",
]

EXTRAS = {
    "demo": ["babel>=2.12,<3", "scikit-learn>=1.6,<2"],  # the built-in sentences and digits
    "images": ["pillow>=11,<14"],  # the user's image files
    "tfds": [  # WMT'14 and CIFAR-10 through TensorFlow Datasets
        "tensorflow-datasets>=4.9.9,<5",
        "importlib_resources",  # TensorFlow Datasets imports it without declaring it
    ],
    "export": [  # SavedModels of text, and models of CTranslate2
        "ctranslate2>=4.5,<5",
        "tensorflow-text>=2.20,<2.22,!=2.21.0",
    ],
    "bleu": ["sacremoses>=0.1,<0.3"],  # Moses tokens, for the compound-split BLEU of the literature
    "zst": ["backports.zstd>=1,<2"],  # text files compressed by zstd
    "mlflow": ["mlflow-skinny>=2.20,<4"],  # t2t-trainer --trackers
    "wandb": ["wandb>=0.19,<1"],
    "sweep": ["optuna>=4,<6"],  # docs/sweeps.md
    "server": [  # t2t-server
        "httptools>=0.6.3,<1",
        "pillow>=11,<14",
        "starlette>=0.46,<2",
        "uvicorn>=0.54,<0.60",  # whose protocol is extended
    ],
}
APART = ("mlflow", "sweep", "wandb")  # with dozens of dependencies, which only their users need
EXTRAS["all"] = sorted(
    {name for extra, names in EXTRAS.items() if extra not in APART for name in names}
)
EXTRAS["dev"] = [
    "httpx>=0.28,<1",
    "hypothesis>=6",
    "jsonschema>=4.20,<5",
    "playwright>=1.50,<2",  # drives the browser of the machine; brings none
    "pytest>=8",
    "pytest-xdist>=3.6",
    "pyyaml>=6,<7",
    "ruff>=0.9",
    "setuptools>=70",  # tests/test_install.py builds a wheel without an isolated environment
    "wheel",
]

COMMANDS = {
    "t2t-datagen": "t2t_datagen",
    "t2t-trainer": "t2t_trainer",
    "t2t-decoder": "t2t_decoder",
    "t2t-exporter": "t2t_exporter",
    "t2t-bleu": "t2t_bleu",
    "t2t-avg-all": "t2t_avg_all",
    "t2t-demo": "t2t_demo",
    "t2t-server": "t2t_server",
    "t2t-make-tf-configs": "t2t_make_tf_configs",
}

setup(
    name="t2t-vqem",
    version=version(),
    description="Sequence models with vector quantised latents, learned by EM, on TensorFlow",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=packages(),
    package_data={
        "t2t_vqem": ["py.typed"],
        "t2t_vqem.server": ["static/*"],
        "t2t_vqem.export": ["page/*", "page/vendor/*"],  # vendor is made by `make web`
    },
    package_dir={f"t2t_vqem.{name}": name for name in MAPPED},
    install_requires=DEPENDENCIES,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            f"{command} = t2t_vqem.bin.{module}:entry_point" for command, module in COMMANDS.items()
        ]
    },
)
