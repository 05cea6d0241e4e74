"""The wheel alone, outside of the checkout: a recognition, a training, a sweep, and every notebook in an empty folder.

The wheel is built from the source distribution and installed into an environment of its own, which takes everything
else from this one. SLAKIT_WHEEL_PYTHON names another Python that has the wheel installed already (CI: an empty
environment); then nothing is built.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.test_notebooks import QUICK
from tests.widgets7 import ipywidgets7

ROOT = Path(__file__).resolve().parents[1]
SMALL = "--corpus-options.train 6 --corpus-options.dev 2 --corpus-options.test 2".split()
NAMES = [*sorted(QUICK), "solutions"]  # the last one has no parameters
BUILD = "import sys, setuptools.build_meta as backend; print(backend.build_{}(sys.argv[1]))"
WITHOUT_MINE = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}


def run(*command: object, cwd: Path, **variables: str) -> str:
    """What the command prints; the test fails with its last words where it fails."""
    environment = WITHOUT_MINE | {"SLAKIT_PROGRESS": "0", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"} | variables
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from the unpacked source distribution."""
    pytest.importorskip("setuptools", minversion="77", reason="setuptools builds the wheel: pip install setuptools")
    folder = tmp_path_factory.mktemp("built")
    copy = folder / "checkout"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    if not any(tracked):
        pytest.skip("this is no git checkout: what belongs into a source distribution is not known")
    for name in filter(None, tracked):  # as somebody clones it: nothing that was drawn or run here
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    archive = run(sys.executable, "-c", BUILD.format("sdist"), folder, cwd=copy).split()[-1]
    with tarfile.open(folder / archive) as file:
        file.extractall(folder, filter="data")
    unpacked = folder / archive.removesuffix(".tar.gz")
    assert (unpacked / "tests" / "test_wheel.py").is_file() and (unpacked / "data" / "README.md").is_file()
    return folder / run(sys.executable, "-c", BUILD.format("wheel"), folder, cwd=unpacked).split()[-1]


def test_a_wheel_built_from_the_source_distribution_is_small_and_has_all_that_is_shipped(wheel):
    assert wheel.stat().st_size < 20e6, f"the wheel has {wheel.stat().st_size / 1e6:.1f} MB"
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name.removeprefix("slakit/_shipped/") for name in names if name.startswith("slakit/_shipped/")}
    wanted = {f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    wanted |= {"notebooks/glossary.ipynb", "notebooks/solutions.ipynb"}
    wanted |= {f"specs/{path.name}" for path in (ROOT / "papermill_runs" / "specs").glob("*.yaml")}
    wanted |= {"tiny_clip/tiny-clip.safetensors", "tiny_resnet/tiny-resnet.safetensors", "tiny_resnet/card.json"}
    wanted |= {"results/demo_spread/runs.csv", "measured/streaming.json"}
    wanted |= {f"demo_models/{method}.safetensors" for method in ("adaptsign", "frozen", "sla-adapter", "sla-lora")}
    assert wanted <= inside
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "setup"))]
    packages = {str(path.parent.relative_to(ROOT)) for path in (ROOT / "slakit").rglob("__init__.py")}
    assert packages <= {name.rpartition("/")[0] for name in names}


@pytest.fixture(scope="module")
def python(request, tmp_path_factory) -> str:
    """A Python that has the wheel and no checkout."""
    if named := os.environ.get("SLAKIT_WHEEL_PYTHON"):
        return named
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    own = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", own, "install", "--quiet", "--no-deps"]
    run(*pip, "--no-index", request.getfixturevalue("wheel"), cwd=folder)
    site = run(own, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    others = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    Path(site, "everything_else.pth").write_text("\n".join(others), encoding="utf-8")
    return str(own)


@pytest.fixture(scope="module")
def home(python, tmp_path_factory) -> str:
    """The folder of drawn clips, SLAKIT_HOME; what is shipped and where things go is checked first."""
    folder = tmp_path_factory.mktemp("home")
    code = (
        "import slakit, pathlib, slakit.machine as m; assert m.checkout() is None; print(slakit.__file__);"
        "assert slakit.output_folder('a') == pathlib.Path.cwd() / 'runs' / 'a';"
        "print(len(slakit.load_corpus('minisign', train=1, dev=1, test=2, progress=False).test[0].source.name));"
        "slakit.create_model('sla-lora', ['A'], 'tiny-clip', rank=2)"
    )
    out = run(python, "-c", code, cwd=folder, SLAKIT_HOME=str(folder / "cache"))
    assert not Path(out.split()[0]).is_relative_to(ROOT) and list(folder.glob("cache/minisign/*/videos"))
    assert sorted(path.name for path in folder.iterdir()) == ["cache"], "nothing is written beside it"
    return str(folder / "cache")


@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_the_wheel_alone_recognises_trains_and_sweeps(python, home, tmp_path):
    clip = next(Path(home).glob("minisign/*/videos/test/*.mp4"))
    slakit = (python, "-m", "slakit")
    out = run(*slakit, "recognize", clip, "--checkpoint", "sla-lora", "--out", "seen", cwd=tmp_path)
    assert "seen" in out and list((tmp_path / "seen").glob("*.eaf"))
    demo = subprocess.run([*slakit, "demo", "-p", "epoch", "3"], cwd=tmp_path, env=WITHOUT_MINE, capture_output=True)
    assert demo.returncode == 2 and b"did you mean 'epochs'" in demo.stderr, "its notebook is found"
    few = ["--train.epochs", 1, "--train.start-from.epochs", 1]
    trained = run(
        *slakit, "train", "sla-lora/minisign", *SMALL, *few, "--out", "runs/mini", cwd=tmp_path, SLAKIT_HOME=home
    )
    assert "best dev WER" in trained and (tmp_path / "runs" / "mini" / "best.safetensors").is_file()
    run(*slakit, "evaluate", "--checkpoint", "runs/mini/best", "-o", "train", 6, "-o", "dev", 2, "-o", "test", 2,
        cwd=tmp_path, SLAKIT_HOME=home)  # fmt: skip
    changes = ["-p", "corpus_options", "{train: 6, dev: 2, test: 2}", "-p", "train.epochs", 1]
    changes += ["-p", "train.start_from.epochs", 1, "-p", "timed_steps", 1, "--limit", 1]
    point = ["sweep", "clip_sla_table3", "--variant", "minisign"]
    swept = run(*slakit, *point, *changes, cwd=tmp_path, SLAKIT_HOME=home)
    assert "1 finished" in swept and list((tmp_path / "runs").glob("clip_sla_table3*/*/metrics.json")), swept


@pytest.fixture(scope="module")
def notebooks(python, tmp_path_factory) -> Path:
    """Where `slakit notebooks` has put them."""
    folder = tmp_path_factory.mktemp("lessons")
    assert "00_quickstart" in run(python, "-m", "slakit", "notebooks", "books", cwd=folder)
    return folder / "books"


@pytest.mark.thorough
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "name",  # half a minute each: two of them in make test-all, every one with -m slow; the glossary has no code
    [pytest.param(name, marks=[] if name[:2] in ("02", "09") else pytest.mark.slow) for name in NAMES],
)
def test_a_notebook_runs_with_the_wheel_alone_in_an_empty_folder(name, python, home, notebooks, tmp_path):
    """And with ipywidgets 7, as Colab has it."""
    aside = str(ipywidgets7())
    (tmp_path / f"{name}.ipynb").write_bytes((notebooks / f"{name}.ipynb").read_bytes())
    code = (
        "import json, sys, ipywidgets, papermill; from slakit.sweeps import run_notebook; path, values = sys.argv[1:];"
        "assert ipywidgets.__version__.startswith('7.'), ipywidgets.__version__;"
        "run_notebook(path, 'executed.ipynb', json.loads(values), log=False) if values != '{}' else "
        "papermill.execute_notebook(path, 'executed.ipynb', kernel_name='python3', progress_bar=False)"
    )
    values = json.dumps(QUICK.get(name, [{}])[0])
    run(python, "-c", code, f"{name}.ipynb", values, cwd=tmp_path, SLAKIT_HOME=home, PYTHONPATH=aside)
    text = (tmp_path / "executed.ipynb").read_text(encoding="utf-8")
    assert "not yet: " not in text if name == "solutions" else list((tmp_path / "runs").rglob("metrics.json"))
