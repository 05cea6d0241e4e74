"""Every reader, with nasty files day by day, and in `make test-all` with 200 mutated and 200 built ones each."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from mutations import CANARY, TOKENS, mutated, nasty
from readers import READERS, Reader, attempt

NASTY = nasty()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Sound files of each reader, made once: name -> (folder, {file: its bytes})."""
    known: dict[str, tuple[Path, dict[str, bytes]]] = {}

    def of(name: str) -> tuple[Path, dict[str, bytes]]:
        if name not in known:
            folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
            files = READERS[name].make(folder)
            known[name] = folder, {file: (folder / file).read_bytes() for file in files}
            attempt(READERS[name], folder, files[0], 600.0)  # what is imported at first is not counted
        return known[name]

    return of


def check(reader: Reader, folder: Path, file: str, content: bytes, sound: bytes) -> None:
    (folder / file).write_bytes(content)
    try:
        outcome, said = attempt(reader, folder, file)
        assert outcome in ("read", "refused"), f"{outcome}: {content[:200]!r}\n{said}"
    finally:
        (folder / file).write_bytes(sound)


@pytest.mark.parametrize("name", READERS)
def test_sound_files_are_read(made, name):
    folder, files = made(name)
    for file in files:
        outcome, said = attempt(READERS[name], folder, file)
        assert outcome == "read" or name == "released weights", said


@pytest.mark.parametrize("name", READERS)
def test_nasty_files_are_read_or_refused_in_a_sentence(made, name):
    folder, files = made(name)
    for file, sound in list(files.items())[:1] if name != "picture" else files.items():
        for content in NASTY.values():
            check(READERS[name], folder, file, content, sound)
    assert not os.path.exists(CANARY), "a file was run"


@pytest.mark.parametrize("name", ["settings", "spec", "stm", "folder", "description", "video", "picture"])
@pytest.mark.parametrize("place", ["x" * 5000, "a\0b", "a" * 255 + "/" * 9 + "b", "\ud800", "../" * 2000])
def test_names_that_no_file_can_have(made, name, place, tmp_path):
    made(name)
    assert attempt(READERS[name], tmp_path, place)[0] in ("read", "refused"), attempt(READERS[name], tmp_path, place)


thorough = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.mark.thorough
@pytest.mark.parametrize("name", READERS)
def test_mutated_files(made, name):
    folder, files = made(name)
    others = list(files.values())

    @thorough
    @given(seed=st.integers(0, 2**32), file=st.sampled_from(sorted(files)))
    def tried(seed: int, file: str) -> None:
        check(READERS[name], folder, file, mutated(files[file], others, seed), files[file])

    tried()


HUGE = [10**30, "x" * 5000]
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from([10**30, "x" * 5000]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)


@st.composite
def changed_json(draw, sound: bytes) -> bytes:
    """The sound document with a value of some depth replaced by anything."""
    document = json.loads(sound)
    place = document
    for _ in range(draw(st.integers(0, 4))):
        if isinstance(place, dict) and place:
            inner = place[draw(st.sampled_from(sorted(place)))]
            place = inner if isinstance(inner, dict) and inner else place
    place[draw(st.sampled_from(sorted(place)) | st.text(max_size=9))] = draw(plain)
    return json.dumps(document).encode()


def built(kind: str, sound: bytes) -> st.SearchStrategy[bytes]:
    """Documents of a kind that are wrong in what they say, more than in how they are written."""
    if kind == "json":
        return changed_json(sound)
    words = [*sound.split(), *(token for token in TOKENS if len(token) < 100)]
    blanks = {
        "yaml": [b" ", b"\n", b"\n  ", b": ", b", ", b" {", b"} ", b" [", b"] "],
        "lines": [b" ", b"\n", b"|", b",", b"\t"],
    }
    pairs = st.tuples(st.sampled_from(words), st.sampled_from(blanks[kind]))
    lines = st.lists(pairs, max_size=40).map(lambda parts: b"".join(map(b"".join, parts)))
    first = sound.split(b"\n", 1)[0] + b"\n"
    return st.one_of(lines, lines.map(lambda rest: first + rest))


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.kind != "bytes"])
def test_documents_that_say_anything(made, name):
    folder, files = made(name)
    (file, sound), *_ = ((f, s) for f, s in files.items() if READERS[name].kind != "json" or f.endswith(".json"))

    @thorough
    @given(content=built(READERS[name].kind, sound))
    def tried(content: bytes) -> None:
        check(READERS[name], folder, file, content, sound)

    tried()


def test_the_long_run_counts_what_it_tries(tmp_path):
    """`make fuzz` for a moment: its counts add up, and a reader that fails is found out."""
    import long_run

    counts = long_run.run(minutes=0.05, only=("stm", "ctm"), out=tmp_path, report=lambda text: None)
    assert sum(counts["stm"].values()) > 50 and not counts["stm"]["raw"]
    broken = Reader(READERS["stm"].make, lambda folder, name: int((folder / name).read_bytes()[:3]))
    folder = tmp_path / "broken"
    folder.mkdir()
    READERS["stm"].make(folder)
    assert attempt(broken, folder, "x.stm")[0] == "raw"
    shutil.rmtree(folder)
