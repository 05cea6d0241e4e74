"""The notebooks in a real browser: headless Chromium drives a real JupyterLab server, as a person would.

With the installed ipywidgets and with version 7, Colab's, whose controls for JupyterLab come with it (widgets7.py).

Skipped, and it says so, where Chromium (Debian: apt-get install chromium) or playwright (pip install playwright; no
browser of its own is needed) is missing. On failure the page is kept as a picture in papermill_runs/out/browser/.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from media import pictures, write_video
from widgets7 import ipywidgets7

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "papermill_runs" / "out" / "browser"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --use-fake-device-for-media-stream --use-fake-ui-for-media-stream""".split()
TOKEN = "slakit"
PATIENCE = 300_000  # milliseconds; on a quiet machine everything takes a tenth of it
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page, not only the seen
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
TINY = {"train_clips": 10, "dev_clips": 3, "test_clips": 3}
QUICK = {
    "00_quickstart": TINY | {"warm_start_epochs": 30, "epochs": 1, "rank": 4},
    "07_gradcam_analysis": {"methods": ["sla-lora"]},
    "08_your_own_videos": {"clips": [6, 2, 2]},
    "09_recognise_your_video": {"test_clips": 4, "clips_joined": 2},
}
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed: apt-get install chromium"),
    pytest.mark.timeout(900),
    pytest.mark.thorough,
]


def small_copy(name: str, folder: Path, until: str = "") -> Path:
    """The notebook with smaller parameters and without outputs, up to the first code cell that has `until` in it."""
    source = ROOT / "notebooks" / f"{name}.ipynb"
    if not source.is_file():
        pytest.skip(f"there is no notebook {name}")
    book = nbformat.read(source, as_version=4)
    cell = next(c for c in book.cells if "parameters" in c.metadata.get("tags", []))
    values = QUICK[name] | {"out_dir": str(folder / "out" / name)}
    cell.source += "\n" + "\n".join(f"{key} = {value!r}" for key, value in values.items())
    book.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for c in book.cells:
        if c.cell_type == "code":
            c.outputs, c.execution_count = [], None
    if until:
        last = next(
            k for k, c in enumerate(book.cells) if c.cell_type == "code" and until in c.source.split("\n\n")[-1]
        )
        book.cells = book.cells[: last + 1]
    path = folder / "notebooks" / source.name
    path.parent.mkdir(exist_ok=True)
    nbformat.write(book, path)
    return path


@pytest.fixture(scope="module", params=[8, 7], ids=["ipywidgets8", "ipywidgets7"])
def server(request, tmp_path_factory):
    """(address, folder, major version of ipywidgets) of a JupyterLab server with settings of its own."""
    aside = ipywidgets7() if request.param == 7 else None  # kernel and page; else both as they are installed
    folder = tmp_path_factory.mktemp("lab")
    for name in ("benchmarks", "papermill_runs", "data"):  # what notebooks read beside themselves
        (folder / name).symlink_to(ROOT / name)
    for name, content in SETTINGS.items():
        path = folder / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    paths = os.pathsep.join(str(path) for path in (aside, ROOT, os.environ.get("PYTHONPATH")) if path)
    environment = os.environ | own | {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "PYTHONPATH": paths}
    environment |= {"JUPYTER_PATH": str(aside / "share" / "jupyter")} if aside else {}
    options = ["--no-browser", "--allow-root", "--ServerApp.port_retries=0", f"--port={port}"]
    options += [f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={TOKEN}"]
    command = [sys.executable, "-m", "jupyterlab", *options]
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            if process.poll() is not None:
                pytest.fail("JupyterLab did not start: " + (folder / "server.log").read_text()[-1500:])
            try:
                urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield address, folder, request.param
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with playwright.sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("chromium")), executable_path=CHROMIUM, headless=True, args=FLAGS,
            viewport={"width": 1300, "height": 1000},
        )  # fmt: skip
        yield context
        context.close()


@contextmanager
def opened(server, browser, name: str, until: str = ""):
    """A page with the notebook, all cells run without an error; a picture of it is kept where a check fails."""
    address, folder, _ = server
    small_copy(name, folder, until)
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    try:
        page.goto(f"{address}/lab/workspaces/{name}/tree/notebooks/{name}.ipynb?reset&token={TOKEN}")
        run_all(page, 2 if until else 6)
        yield page
    except BaseException:
        KEPT.mkdir(parents=True, exist_ok=True)
        page.set_viewport_size({"width": 1300, "height": 2400})
        page.screenshot(path=str(KEPT / f"{name}.png"))
        print(f"the page as it was: {KEPT / f'{name}.png'}")
        raise
    finally:
        page.close()
        request = urllib.request.Request(f"{address}/api/kernels?token={TOKEN}")
        for kernel in json.load(urllib.request.urlopen(request)):
            stop = urllib.request.Request(f"{address}/api/kernels/{kernel['id']}?token={TOKEN}", method="DELETE")
            urllib.request.urlopen(stop).close()


def run_all(page, fewest: int = 6) -> None:
    """Run > Run All Cells, and wait until every code cell has a number; fewest: unfolded ones."""
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()  # before that, the menu's request is lost
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    page.wait_for_function(
        """fewest => {
          const shown = [...document.querySelectorAll(".jp-OutputArea-output")];
          const failed = shown.some(output => output.textContent.includes("Traceback"));
          const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputArea-prompt")];
          return failed || (prompts.length >= fewest && prompts.every(p => /\\[\\d+\\]/.test(p.textContent)));
        }""",
        arg=fewest,
    )
    errors = page.locator(".jp-OutputArea-output").filter(has_text="Traceback").all_inner_texts()
    assert not errors, errors[0][-1500:]


def changes(page, locator, act) -> None:
    """`act`, then wait until the picture is another one."""
    before = locator.get_attribute("src")
    act()
    page.wait_for_function("([node, before]) => node.src !== before", arg=[locator.element_handle(), before])


def pictures_in(page) -> int:
    """Pictures that have loaded and are not empty."""
    return page.evaluate("[...document.querySelectorAll('.jp-OutputArea img')].filter(i => i.naturalWidth > 50).length")


def control(page, kind: str, name: str):
    """An ipywidgets control by its description."""
    label = page.locator("label").filter(has_text=re.compile(f"^{re.escape(name)}$"))
    return page.locator(f".jupyter-widgets.{kind}").filter(has=label).first


HANDLE, TRACK = ".noUi-handle, .ui-slider-handle", ".noUi-target, .ui-slider"  # of ipywidgets 8, of 7
LAPTOP = {"width": 1366, "height": 768}  # its side bar is open, as JupyterLab opens it


def on_one_screen(page, *parts) -> None:
    """The parts lie in the notebook's column, side by side or one under the other, and fit the screen together."""
    page.set_viewport_size(LAPTOP)
    parts[0].scroll_into_view_if_needed()
    assert page.locator("#jp-left-stack").is_visible(), "the side bar is open"
    column = page.locator(".jp-NotebookPanel").first.bounding_box()
    boxes = [part.bounding_box() for part in parts]
    top, bottom = min(box["y"] for box in boxes), max(box["y"] + box["height"] for box in boxes)
    tools = page.locator(".jp-NotebookPanel-toolbar").first.bounding_box()["height"]
    assert bottom - top <= column["height"] - tools, f"{bottom - top:.0f} pixels high, {column['height']:.0f} are there"
    for box in boxes:
        assert column["x"] <= box["x"] and box["x"] + box["width"] <= column["x"] + column["width"] + 1, "cut off"
    one, other = zip(*((box["x"], box["y"]) for box in boxes), strict=True)
    assert len({*zip(one, other, strict=True)}) == len(boxes), "one lies on another"


def no_broken_pictures(page) -> None:
    """Whatever picture is seen has loaded."""
    broken = "[...document.querySelectorAll('img.widget-image')].filter(i => i.offsetWidth && !i.naturalWidth).length"
    assert page.evaluate(broken) == 0


def test_a_clip_and_the_runs_of_a_sweep_fit_a_laptops_screen(server, browser):
    """The two widgets that no other test opens, each in a cell of its own."""
    address, folder, _ = server
    cells = [
        "import numpy as np, pandas as pd\nfrom slakit.records import Span\n"
        "from slakit.show import clip_player, run_explorer\n"
        "clip_player(np.random.default_rng(0).integers(0, 256, (37, 96, 96, 3), np.uint8), [Span('GIVE', 0, 37)])",
        "runs = pd.DataFrame({'rank': [4, 16, 32, 8], 'seed': [0, 0, 0, 0], 'test_wer': [20.0, 19.0, 18.0, 17.0]})\n"
        "run_explorer(runs, ['rank'])",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    book.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    (folder / "notebooks").mkdir(exist_ok=True)
    nbformat.write(book, folder / "notebooks" / "widgets.ipynb")
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}/lab/workspaces/widgets/tree/notebooks/widgets.ipynb?reset&token={TOKEN}")
    run_all(page, len(cells))
    picture, runs = (page.locator(".jp-OutputArea img.widget-image").nth(k) for k in (0, 1))
    slider = control(page, "widget-slider", "frame")
    on_one_screen(page, slider, picture)
    assert slider.locator(TRACK).bounding_box()["width"] > 2 * 37, "a frame is at least two pixels"
    slider.locator(HANDLE).first.focus()
    changes(page, picture, lambda: page.keyboard.press("End"))
    assert slider.inner_text().strip().endswith("36"), "as long as the clip"
    on_one_screen(page, control(page, "widget-dropdown", "up"), runs)
    changes(page, runs, lambda: control(page, "widget-select-multiple", "rank").locator("select").select_option(["4"]))
    page.locator(".widget-html").filter(has_text="1 of 4 runs").wait_for()
    no_broken_pictures(page)
    page.close()


@pytest.mark.parametrize("server", [8], ids=["ipywidgets8"], indirect=True)  # it has no control of ipywidgets
def test_00_runs_from_top_to_bottom(server, browser):
    with opened(server, browser, "00_quickstart") as page:
        text = page.locator(".jp-Notebook").inner_text()
        assert "glosses in 3 videos" in text and "log probability" in text
        assert pictures_in(page) >= 5


def test_07_scrubs_and_changes_gloss(server, browser):
    with opened(server, browser, "07_gradcam_analysis") as page:
        picture, curve, energy = (page.locator(".jp-OutputArea img.widget-image").nth(k) for k in range(3))
        slider, glosses = control(page, "widget-slider", "frame"), control(page, "widget-dropdown", "recognised")
        on_one_screen(page, control(page, "widget-dropdown", "clip"), slider, picture, curve, energy)
        no_broken_pictures(page)
        slider.locator(HANDLE).first.focus()
        changes(page, picture, lambda: page.keyboard.press("ArrowRight"))
        times = []
        for _ in range(6):
            begin = time.perf_counter()
            changes(page, picture, lambda: page.keyboard.press("ArrowRight"))
            times.append(time.perf_counter() - begin)
        print(f"from the slider to the picture: {1000 * min(times):.0f} to {1000 * max(times):.0f} ms")
        assert min(times) < 1, "scrubbing must be fluent: a frame takes no map and no curve anew"
        glosses = glosses.locator("select")
        assert glosses.locator("option").count() > 1, "a clip of several glosses"
        before = slider.inner_text()
        changes(page, curve, lambda: glosses.select_option(index=glosses.locator("option").count() - 1))
        page.wait_for_function("([node, before]) => node.innerText !== before", arg=[slider.element_handle(), before])
        assert pictures_in(page) >= 5


def record(page) -> None:
    page.get_by_role("button", name="Start the camera").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1500)
    page.get_by_role("button", name="Stop", exact=True).click()


def test_08_keeps_an_upload_and_a_recording_in_the_folder(server, browser, tmp_path):
    own, clips = write_video(tmp_path / "mine.mp4", pictures(30, 120, 200)), server[1] / "out" / "08_your_own_videos"
    with opened(server, browser, "08_your_own_videos", until="upload.observe") as page:
        button = page.get_by_role("button", name="add a video")
        on_one_screen(page, page.locator(".jp-RenderedSVG img").first)  # the drawing on top of every lesson
        on_one_screen(page, page.get_by_role("button", name="Start the camera"), button)
        with page.expect_file_chooser() as chooser:
            button.click()
        chooser.value.set_files(own)
        arrived(page, clips, "mine.mp4")
        record(page)
        arrived(page, clips, "webcam.webm")
        assert next(clips.rglob("mine.mp4")).read_bytes() == own.read_bytes()


def arrived(page, folder: Path, name: str) -> None:
    """Wait for a file that the kernel writes."""
    for _ in range(PATIENCE // 200):
        if any(path.stat().st_size for path in folder.rglob(name)):
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"{name} did not arrive")


def test_09_recognises_examples_uploads_and_the_camera(server, browser, tmp_path):
    own = write_video(tmp_path / "my own.mp4", pictures(30, 120, 200))
    wrong = tmp_path / "notes.mp4"
    wrong.write_text("no video")
    whole = server[2] == 8  # what follows the widget has no controls
    with opened(server, browser, "09_recognise_your_video", until="" if whole else "VideoApp(model") as page:
        assert not whole or "equal" in page.locator(".jp-Notebook").inner_text()
        picture = page.locator(".jp-OutputArea img.widget-image").first
        said = page.locator(".widget-html [role='status']").first
        examples = control(page, "widget-dropdown", "example").locator("select")
        assert pictures_in(page) >= 1, "the first example is open already"
        no_broken_pictures(page)
        changes(page, picture, lambda: examples.select_option(index=2))
        said.filter(has_text="96x96 pixels").wait_for()

        # the keyboard alone: Tab from the path to the slider, an arrow key, Tab to the button, Enter
        page.get_by_placeholder("a file where the kernel runs").focus()
        page.keyboard.press("Tab")
        assert page.evaluate(f"document.activeElement.matches('{HANDLE}')")
        changes(page, picture, lambda: page.keyboard.press("ArrowRight"))
        for _ in range(6):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "Recognise":
                break
        changes(page, picture, lambda: page.keyboard.press("Enter"))
        said.filter(has_text="glosses recognised").wait_for()
        assert page.locator(".widget-html table tbody tr").count() >= 1
        maps = control(page, "widget-dropdown", "map of").locator("select")
        changes(page, picture, lambda: maps.select_option(index=0))
        on_one_screen(page, picture, control(page, "widget-dropdown", "map of"))
        with page.expect_download() as download:
            page.get_by_role("link", name="ELAN").click()
        assert "ALIGNABLE_ANNOTATION" in Path(download.value.path()).read_text(encoding="utf-8")

        for path, answer in ((own, "200x120 pixels, 30 frames"), (wrong, "notes.mp4: cannot be opened as a video")):
            with page.expect_file_chooser() as chooser:
                page.get_by_role("button", name="Upload a video").click()
            chooser.value.set_files(path)
            said.filter(has_text=answer).wait_for()
        assert examples.input_value() == examples.locator("option").first.get_attribute("value"), "no stale name"
        frame = control(page, "widget-slider", "frame")
        crop = [control(page, "widget-slider", name) for name in ("left", "top", "side")]
        recognise = page.get_by_role("button", name="Recognise", exact=True)
        on_one_screen(page, control(page, "widget-dropdown", "example"), frame, picture, *crop, recognise)
        assert len({slider.bounding_box()["y"] for slider in crop}) == 1, "the square's sliders stand side by side"
        no_broken_pictures(page)
        assert recognise.is_enabled(), "the good upload is still there"

        page.get_by_label("find the signer").uncheck()
        left = control(page, "widget-slider", "left")  # the kernel switches it on, a moment later; keys before are lost
        left.locator(".noUi-target:not([disabled]), .ui-slider:not(.ui-slider-disabled)").wait_for()
        left.locator(HANDLE).first.focus()
        page.keyboard.press("Home")
        changes(page, picture, lambda: page.keyboard.press("End"))
        record(page)
        said.filter(has_text=re.compile(r"webcam\.webm: \d+x\d+ pixels, [1-9]\d* frames")).wait_for()
