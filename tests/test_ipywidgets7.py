"""The widgets with ipywidgets 7, as Colab and older JupyterLab have it. Installs it aside: run with -m slow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.widgets7 import ipywidgets7

ROOT = Path(__file__).resolve().parents[1]
BUILD = """
import sys
import ipywidgets, numpy as np, pandas as pd
assert ipywidgets.__version__.startswith("7."), ipywidgets.__version__
import slakit
from slakit.show import MapExplorer, VideoApp, clip_player, run_explorer
from slakit.sweeps.spec import load_spec
from slakit.sweeps.tables import Results

corpus = slakit.load_corpus("minisign", root=sys.argv[1], train=1, dev=1, test=2, progress=False)
model = slakit.create_model("sla-lora", corpus.glosses, "tiny-clip", hidden_size=32, rank=4)
clip = corpus.test[0]
app = VideoApp(model, {"clip": clip.source})
app.example.value = str(clip.source)
assert app.run() is not None and bytes(app.picture.value[:4]) == b"\\x89PNG" and "Save:" in app.files.value
content = clip.source.read_bytes()
app._take({"own.mp4": {"metadata": {"name": "own.mp4", "type": "video/mp4", "size": len(content)}, "content": content}})
assert app.source.name == "own.mp4" and not app.recognise.disabled
explorer = MapExplorer({"sla-lora": model}, corpus.test)
before = bytes(explorer.picture.value)
explorer.slider.value = 5
explorer.kind.value = "rollout"
assert bytes(explorer.picture.value) != before
player = clip_player(slakit.read_frames(clip.source), clip.spans)
player.slider.value = 3
assert "0.12 s" in player.caption.value
spec = load_spec(sys.argv[2], "minisign")
rows = [{"run": p.name, "blocks": p.value("blocks"), "rank": p.value("rank"), "seed": p.seed, "test_wer": 9.0 + p.seed}
        for p in spec.points()]
view = run_explorer(pd.DataFrame(rows), Results(spec, pd.DataFrame(rows), pd.DataFrame(), {}).varied)
view.children[1].children[2].value = (0,)
kept = sum(row["seed"] == 0 for row in rows)
assert view.children[3].value == f"{kept} of {len(rows)} runs"
print("ipywidgets", ipywidgets.__version__, "built VideoApp, MapExplorer, clip_player, run_explorer")
"""


@pytest.mark.slow
def test_every_widget_with_ipywidgets_7(tmp_path):
    aside = ipywidgets7()
    spec = ROOT / "papermill_runs" / "specs" / "clip_sla_table3.yaml"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(aside), str(ROOT)]), "MPLBACKEND": "agg"}
    built = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path / "minisign"), str(spec)], capture_output=True, text=True,
        timeout=500, env=environment,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[-3000:]
    print(built.stdout.strip().splitlines()[-1])
    assert "ipywidgets 7." in built.stdout
