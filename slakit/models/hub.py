"""Checkpoints by name: hf://user/name@revision on the Hugging Face Hub, and the demo models that slakit ships."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slakit.machine import shipped
from slakit.models.description import checksum, describe, file_content, read_description
from slakit.records import CheckpointError

FILE = "model.safetensors"  # the only file that is fetched: no pickled code is executed


def find_checkpoint(path: str | Path) -> Path:
    """Where a checkpoint lies that is given by its path (returned as it is), as hf://user/name (or @revision behind it;
    fetched into huggingface_hub's cache, once), or by the name of a demo model, such as sla-lora.

    CheckpointError for what the Hub does not have, or where it cannot be asked.
    """
    address = re.fullmatch(r"hf:/+([^@]+)(?:@(.+))?", Path(path).as_posix())  # a Path has made one "/" of two
    if address:
        return _fetch(*address.groups())
    named = Path(path)
    if named.name == str(path) and not os.path.exists(path) and not os.path.exists(f"{path}.safetensors"):
        demo = shipped("demo_models") / named
        if os.path.isfile(demo / "model.json") or os.path.isfile(f"{demo}.safetensors"):
            return demo
    return named


def _fetch(name: str, revision: str | None) -> Path:
    from huggingface_hub import errors as hub
    from huggingface_hub import hf_hub_download

    where = f"hf://{name}" + (f"@{revision}" if revision else "")
    try:
        return Path(hf_hub_download(name, FILE, revision=revision))
    except hub.LocalEntryNotFoundError:
        reason = "is not in the cache, and the Hub cannot be reached; try again online, or give the file's path"
    except hub.GatedRepoError:
        reason = "is open to those only whom its owner lets in; ask on its page, then `hf auth login`"
    except hub.RepositoryNotFoundError:
        reason = "does not exist, or is private; check the name, or `hf auth login`"
    except hub.RevisionNotFoundError:
        reason = "has no such revision; give a branch, a tag or a commit of it"
    except hub.EntryNotFoundError:
        reason = f"has no {FILE}: it was not made by push_to_hub(), and nothing else is read"
    except (hub.HFValidationError, *_no_connection()) as error:
        reason = f"cannot be read: {_first_line(error)}"
    raise CheckpointError(f"{where} {reason}")


def push_to_hub(
    checkpoint: str | Path,
    name: str,
    license: str | None = None,
    wer: Mapping[str, Sequence[float]] | None = None,
    private: bool = False,
) -> str:
    """Put a checkpoint on the Hub as user/name, with a model card; returns its address, for load_checkpoint().

    The repository is made where it is missing. license: the Hub's word for it, such as "cc-by-nc-4.0"; the corpus'
    licence may decide. wer: {"test": (7.2, 5.4, 9.3)}, in percent with the 95 % interval, as evaluate() and
    scoring.bootstrap_interval() give them; None: what the checkpoint says. CheckpointError where it cannot be done.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub import errors as hub

    from slakit.models.checkpoints import load_tensors

    checkpoint = find_checkpoint(checkpoint)
    description, tensors = read_description(checkpoint), load_tensors(checkpoint)
    if description.get("checksum") not in (None, checksum(description, tensors)):
        raise CheckpointError(f"{checkpoint}: its checksum is wrong, so it is damaged or was edited; copy it again")
    if wer is not None:
        description["metrics"] = {
            **(description.get("metrics") or {}),
            "wer": {split: values[0] for split, values in wer.items()},
            "interval": {split: list(values[1:3]) for split, values in wer.items()},
        }
    content = file_content(description, tensors)
    card = hub_card(description, name, license)
    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        files = {FILE: content, "README.md": card.encode()}
        added = [CommitOperationAdd(path_in_repo=file, path_or_fileobj=data) for file, data in files.items()]
        api.create_commit(name, added, commit_message="Checkpoint written by slakit")
    except (hub.HfHubHTTPError, hub.HFValidationError, hub.LocalTokenNotFoundError, *_no_connection()) as error:
        raise CheckpointError(
            f"{name} cannot be written on the Hub: {_first_line(error)}; `hf auth login` with a token that may write, "
            "and be online"
        ) from None
    return f"hf://{name}"


def hub_card(description: Mapping[str, Any], name: str, license: str | None = None) -> str:
    """The Hub's README.md of a checkpoint, made of what it says of itself: what it is, what it scored, its limits."""
    config, glosses = description["config"], list(description["glosses"])
    corpus = description.get("corpus") or "a corpus that the checkpoint does not name"
    corpus = "videos of its owner" if corpus == "folder" else corpus
    tags = ["sign-language", "continuous-sign-language-recognition", "video", "ctc", config["method"]]
    licence = license or "not stated; the licences of the corpus and of the image encoder apply, ask the owner"
    head = ["---", "library_name: slakit", f"license: {license or 'unknown'}", "tags:", *(f"- {tag}" for tag in tags)]
    facts = describe(description, name).split("\n")[1:]
    return "\n".join([
        *head, "---", f"# {name.rpartition('/')[2]}",
        "", f"Continuous sign language recognition: a video goes in, glosses (one written word a sign) come out. "
        f"{config['method']} on {config['backbone']}, trained on {corpus} with slakit.",
        "", "```python", "import slakit", "", f'model = slakit.load_checkpoint("hf://{name}")',
        'print(slakit.recognize(model, "clip.mp4"))', "```",
        "", "## What it is", "", "```", *facts, "```",
        "", "## How well it does", "", *_scores(description),
        "", "## What it does not know", "",
        f"- It knows {len(glosses)} glosses and answers every video with some of them, also one that shows none.",
        f"- Signers, cameras and rooms unlike those of {corpus}: its error rate there was not measured.",
        "- Glosses are no translation; mouthing, questions, negation by the face and grammar are lost.",
        "", "<details><summary>Its glosses</summary>", "", ", ".join(glosses), "", "</details>",
        "", f"Licence: {licence}.", "",
    ])  # fmt: skip


def _scores(description: Mapping[str, Any]) -> list[str]:
    metrics = description.get("metrics") or {}
    wer = metrics.get("wer", metrics.get("dev_wer"))
    rates = wer if isinstance(wer, Mapping) else {} if wer is None else {"dev": wer}
    intervals = metrics.get("interval") or {}
    if not rates:
        return ["The checkpoint does not say: measure it with `python -m slakit evaluate` before you rely on it."]
    rows = ["| split | WER % | 95 % interval |", "|---|---|---|"]
    for split, value in rates.items():
        low, high = intervals.get(split) or (None, None)
        rows.append(f"| {split} | {value:.1f} | {'not measured' if low is None else f'{low:.1f} to {high:.1f}'} |")
    return rows


def _no_connection() -> tuple[type[Exception], ...]:
    """What is raised offline: an OSError, or an error of the web client that this huggingface_hub stands on (requests,
    httpx, …), which is a base of its own HTTP error."""
    from huggingface_hub.errors import HfHubHTTPError

    return OSError, *HfHubHTTPError.__bases__


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")[:200]
