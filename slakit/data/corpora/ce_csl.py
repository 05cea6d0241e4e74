"""CE-CSL (Zhu et al., arXiv 2409.11960): Chinese sign language before changing backgrounds, twelve signers A to L.

Layout: <root>/label/{train,dev,test}.csv with Number,Translator,Chinese Sentences,Gloss,Note, and the videos in
<root>/video/<split>/<Translator>/<Number>.mp4 (or folders of frames without the ending). Glosses are separated by "/",
punctuation is a gloss.
"""

from __future__ import annotations

import re
from pathlib import Path

from slakit.data.corpora.reading import Row, clean_id, find_root, inside, make_corpus, read_csv, unique
from slakit.records import ConfigError, Corpus, Sample

COLUMNS = ("Number", "Translator", "Gloss")
BRACKETED = re.compile(r"[({\[（].*?(?:[)}\]）]|$)")  # a reference such as 告诉（我）; any bracket closes any other


def load(
    root: str | Path | None, vocabulary: str = "published", glosses: str = "published", allow_outside: bool = False
) -> Corpus:
    """CE-CSL; root holds `label` and `video`.

    glosses: "published" are those that the paper counts and scores (3515 of all splits, see `published_gloss`), "raw"
    those of the files (3862). vocabulary: see make_corpus. Raises CorpusError, and ConfigError for other glosses.
    """
    if glosses not in ("published", "raw"):
        raise ConfigError(f"glosses={glosses!r} is none of published, raw")
    folder = find_root(root, "ce-csl", "label/train.csv", ("CE-CSL", "ce-csl"))
    splits: dict[str, list[Sample]] = {}
    for split in ("train", "dev", "test"):
        rows = unique(read_csv(folder / f"label/{split}.csv", COLUMNS), "Number")
        splits[split] = [_sample(folder, split, row, glosses == "published", allow_outside) for row in rows]
    return make_corpus("ce-csl", folder, splits, vocabulary, [f"glosses {glosses}, see the option glosses"])


def _sample(folder: Path, split: str, row: Row, published: bool, allow_outside: bool) -> Sample:
    name, signer = clean_id(row, "Number"), clean_id(row, "Translator")
    words = [word for part in row.fields["Gloss"].split("/") for word in part.split()]
    if published:
        words = [gloss for word in words if (gloss := published_gloss(word))]
    if not words:
        raise row.error(f"the clip {name} has no glosses; get the official file")
    place = f"video/{split}/{signer}/{name}"
    ending = "" if (folder / place).is_dir() else ".mp4"
    return Sample(name, inside(folder, place + ending, row, allow_outside), tuple(words), signer)


def published_gloss(gloss: str) -> str:
    """A gloss as the paper's code counts it: without what stands in brackets, without a variant's digit.

    >>> [published_gloss(gloss) for gloss in ("更2", "告诉（我）", "（你）给（我）", "2023", "007", "2个", "?")]
    ['更', '告诉', '给', '2023', '7', '2个', '？']
    """
    gloss = BRACKETED.sub("", gloss)
    if gloss and gloss[-1].isdecimal() and not gloss[0].isdecimal():
        gloss = gloss[:-1]
    if gloss[:1] in (",", "?"):
        gloss = {",": "，", "?": "？"}[gloss[0]] + gloss[1:]
    return str(int(gloss)) if gloss.isdecimal() else gloss
