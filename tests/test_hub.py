"""Checkpoints by name: from huggingface_hub's cache, and to and from a server on the loopback address."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants

import slakit
from slakit.models.checkpoints import read_description
from slakit.models.hub import find_checkpoint, hub_card
from slakit.records import CheckpointError

COMMIT = "c" * 40


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as a small repository needs: create, preupload, commit, resolve. No file goes to LFS."""

    files: dict[str, bytes]
    commits: list[list[str]]

    def log_message(self, *arguments):
        pass

    def answer(self, content: dict | bytes = b"", status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.headers.get("Authorization") != "Bearer good":
            return self.answer({"error": "Invalid username or password."}, 401)
        if self.path == "/api/repos/create":
            return self.answer({"url": "http://127.0.0.1/me/signs", "name": "me/signs"})
        if "/preupload/" in self.path:
            wanted = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(text)["files"]]
            return self.answer({"files": wanted})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        rows = [json.loads(line) for line in text.splitlines()]
        found = {row["value"]["path"]: row["value"]["content"] for row in rows if row["key"] == "file"}
        self.files.update({name: base64.b64decode(content) for name, content in found.items()})
        self.commits.append(sorted(found))
        return self.answer({"commitUrl": "http://127.0.0.1/me/signs/commit/x", "commitOid": COMMIT, "hookOutput": ""})

    def do_GET(self):
        user, name, _, revision, file = self.path.strip("/").split("/", 4) if "/resolve/" in self.path else [""] * 5
        if (user, name) != ("me", "signs"):
            return self.answer({}, 404, X_Error_Code="RepoNotFound")
        if revision not in ("main", "v1", COMMIT):
            return self.answer({}, 404, X_Error_Code="RevisionNotFound")
        if file not in self.files:
            return self.answer({}, 404, X_Error_Code="EntryNotFound")
        etag = hashlib.sha256(self.files[file]).hexdigest()
        return self.answer(self.files[file], ETag=f'"{etag}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """(files, commits) of an empty Hub that huggingface_hub takes for the real one; its cache is in tmp_path."""
    Hub.files, Hub.commits = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name, value in {"HF_TOKEN": "good", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    yield Hub.files, Hub.commits
    server.shutdown()
    server.server_close()


def checkpoint(folder: Path, method: str = "frozen", **about) -> Path:
    torch.manual_seed(0)
    model = slakit.create_model(method, ["HELLO", "YOU"], "tiny-clip", hidden_size=16)
    return slakit.save_checkpoint(model, folder / "best", **about)


def test_a_checkpoint_goes_to_the_hub_and_comes_back(hub, tmp_path):
    files, commits = hub
    path = checkpoint(tmp_path, "sla-lora", corpus="minisign", metrics={"dev_wer": 50.0})
    model = slakit.load_checkpoint(path)
    wer = {"test": (7.2, 5.4, 9.3)}
    assert slakit.push_to_hub(path, "me/signs", license="mit", wer=wer) == "hf://me/signs"
    assert commits == [["README.md", "model.safetensors"]]
    front, body = files["README.md"].decode().split("---\n")[1:]
    assert yaml.safe_load(front)["license"] == "mit" and "sla-lora" in yaml.safe_load(front)["tags"]
    for words in ("| test | 7.2 | 5.4 to 9.3 |", "2 glosses", "HELLO, YOU", "prefix beam search", "does not know"):
        assert words in body, words
    for name in ("hf://me/signs", "hf://me/signs@v1", Path("hf://me/signs")):
        fetched = slakit.load_checkpoint(name)
        assert fetched.about["metrics"]["wer"] == {"test": 7.2} and fetched.vocabulary == model.vocabulary
        for key, value in model.state_dict().items():
            assert torch.equal(value, fetched.state_dict()[key]), key
    assert find_checkpoint("hf://me/signs").is_relative_to(tmp_path / "cache")


@pytest.mark.parametrize(("name", "said"), [
    ("hf://me/sings", "does not exist, or is private"),
    ("hf://me/signs@v9", "has no such revision"),
    ("hf://me/signs", "has no model.safetensors"),
    ("hf://one/two/three", "cannot be read"),
])  # fmt: skip
def test_what_the_hub_does_not_have_is_said_in_a_sentence(hub, tmp_path, name, said):
    hub[0]["pytorch_model.bin"] = b"never read"
    with pytest.raises(CheckpointError) as error:
        slakit.load_checkpoint(name)
    assert str(error.value).startswith(f"{name} {said}") and len(str(error.value).splitlines()) == 1
    assert not list(tmp_path.rglob("*.bin"))


def test_a_token_that_may_not_write(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "bad")
    with pytest.raises(
        CheckpointError, match=r"^me/signs cannot be written on the Hub: .*token that may write"
    ) as error:
        slakit.push_to_hub(checkpoint(tmp_path), "me/signs")
    assert "\n" not in str(error.value) and not hub[0]


def test_offline_the_cache_is_used_and_what_it_lacks_is_said(hub, tmp_path, monkeypatch):
    path = checkpoint(tmp_path)
    hub[0]["model.safetensors"] = path.read_bytes()
    fetched = find_checkpoint("hf://me/signs")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_checkpoint("hf://me/signs") == fetched
    for name in ("hf://me/other", "hf://me/signs@v1"):
        with pytest.raises(
            CheckpointError, match=f"^{name} is not in the cache, and the Hub cannot be reached"
        ) as error:
            find_checkpoint(name)
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match=r"^me/signs cannot be written on the Hub") as error:
        slakit.push_to_hub(path, "me/signs")
    assert "\n" not in str(error.value)


def test_a_card_says_what_is_not_known():
    description = read_description(find_checkpoint("frozen")) | {"metrics": None, "corpus": None}
    card = hub_card(description, "me/signs")
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "unknown"
    assert "does not say: measure it" in card and "a corpus that the checkpoint does not name" in card
    assert "not stated" in card and "31 glosses" in card


def test_a_demo_model_has_a_name_and_a_file_goes_first(tmp_path, monkeypatch):
    assert slakit.load_checkpoint("sla-lora").config.method == "sla-lora"
    monkeypatch.chdir(tmp_path)
    slakit.save_checkpoint(slakit.create_model("frozen", ["A"], "tiny-clip", hidden_size=8), "sla-lora")
    assert slakit.load_checkpoint("sla-lora").config.method == "frozen"
    with pytest.raises(CheckpointError, match="nothing holds no checkpoint"):
        slakit.load_checkpoint("nothing")
