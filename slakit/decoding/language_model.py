"""n-gram language models over glosses for shallow fusion: read from an ARPA file or counted from training glosses."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from slakit.records import ConfigError, CorpusError, Vocabulary, read_text

LN10 = math.log(10.0)
MAX_ARPA_BYTES = 256 * 2**20  # five million n-grams
Ngrams = dict[tuple[int, ...], tuple[float, float]]  # tokens -> ln probability of the last one, ln back-off weight

NO_LANGUAGE_MODEL = (
    *(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64)),
    0,
)


class NgramLanguageModel:
    """A back-off n-gram model over class indices (Katz 1987, the model of ARPA files).

    P(w | h) is the n-gram's own probability where it is listed, else backoff(h) * P(w | h without its first word).
    Build it with `from_arpa` or `from_glosses`. classes: number of classes of the recognizer, blank included; index
    `classes` stands for the end of the sentence, `classes + 1` for its start.
    arrays: the model as an automaton for the search: sorted keys state * (classes + 1) + token, ln P, the state that
    follows, and for each state its ln back-off weight and the shorter state; the state of the start comes last.
    """

    def __init__(self, ngrams: Ngrams, classes: int, order: int):
        self.classes, self.order, self.ngrams = classes, order, ngrams
        self.end, self.start = classes, classes + 1
        contexts: dict[tuple[int, ...], int] = {(): 0}
        for gram in sorted(ngrams, key=lambda g: (len(g), g)):
            if len(gram) < order and gram[-1] != self.end:
                contexts.setdefault(gram, len(contexts))

        def state(history: tuple[int, ...]) -> int:
            while history not in contexts:
                history = history[1:]
            return contexts[history]

        arcs = []
        for gram, (log_prob, _) in ngrams.items():
            *history, token = gram
            if token == self.start:
                continue
            if tuple(history) not in contexts:
                raise CorpusError(f"an n-gram of {len(gram)} words lacks its context of {len(history)}; mend the model")
            follow = 0 if token == self.end else state(gram[-(order - 1) :] if order > 1 else ())
            arcs.append((contexts[tuple(history)] * (classes + 1) + token, log_prob, follow))
        arcs.sort()
        missing = classes - sum(key < classes + 1 for key, _, _ in arcs)
        if missing:  # tokens 1 .. classes-1 and the end: as many as classes
            raise CorpusError(f"the language model lacks a unigram for {missing} of its words; give each a probability")
        keys, log_probs, follows = (np.array(column) for column in zip(*arcs, strict=True))
        backoffs = np.array([ngrams[h][1] if h in ngrams else 0.0 for h in contexts])
        parents = np.array([state(h[1:]) if h else 0 for h in contexts], np.int64)
        start = state((self.start,)) if order > 1 else 0
        self.arrays = (
            keys.astype(np.int64),
            log_probs.astype(float),
            follows.astype(np.int64),
            backoffs,
            parents,
            start,
        )

    def log_prob(self, tokens: Sequence[int]) -> float:
        """Natural log probability of a whole sentence of class indices, its end included."""
        total, history = 0.0, (self.start,)
        for token in (*tokens, self.end):
            total += self.conditional(token, history)
            history = (*history, token)
        return total

    def conditional(self, token: int, history: Sequence[int]) -> float:
        """ln P(token | history), by the definition of back-off."""
        history = tuple(history)[-(self.order - 1) :] if self.order > 1 else ()
        if (*history, token) in self.ngrams:
            return self.ngrams[*history, token][0]
        if not history:
            raise ConfigError(f"token {token} is no class of this language model of {self.classes} classes")
        backoff = self.ngrams[history][1] if history in self.ngrams else 0.0
        return backoff + self.conditional(token, history[1:])

    @classmethod
    def from_glosses(
        cls, sentences: Iterable[Sequence[str]], vocabulary: Vocabulary, order: int = 3
    ) -> NgramLanguageModel:
        """Count the n-grams of the training glosses; Witten-Bell smoothing, down to a uniform distribution.

        P(w | h) = (count(h w) + kinds(h) P(w | h')) / (count(h) + kinds(h)), kinds(h): distinct words seen after h
        (Witten and Bell 1991, in the interpolated form of Chen and Goodman 1998). Every gloss of the vocabulary gets a
        probability. A gloss outside the vocabulary is a CorpusError.
        """
        if order < 1:
            raise ConfigError(f"the order of an n-gram model is {order}; it must be 1 or more")
        classes = len(vocabulary)
        end, start = classes, classes + 1
        counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for sentence in sentences:
            tokens = [start, *vocabulary.encode(sentence), end]
            for i in range(1, len(tokens)):
                for n in range(min(order, i + 1)):
                    counts[tuple(tokens[i - n : i])][tokens[i]] += 1
        if not counts:
            raise CorpusError("a language model cannot be counted from no sentences; pass the training glosses")
        words = [*range(1, classes), end]
        probability: dict[tuple[int, ...], float] = {}
        for history in sorted(counts, key=len):
            seen, total, kinds = counts[history], counts[history].total(), len(counts[history])
            for token in words if not history else seen:
                shorter = probability[*history[1:], token] if history else 1.0 / len(words)
                probability[*history, token] = (seen[token] + kinds * shorter) / (total + kinds)
        ngrams = {gram: (math.log(p), 0.0) for gram, p in probability.items()}
        ngrams[(start,)] = (-99 * LN10, 0.0)
        for history, seen in counts.items():
            if history:
                weight = len(seen) / (seen.total() + len(seen))
                ngrams[history] = (ngrams[history][0], math.log(weight))
        return cls(ngrams, classes, order)

    @classmethod
    def from_arpa(cls, path: str | Path, vocabulary: Vocabulary) -> NgramLanguageModel:
        """Read an ARPA file (KenLM, SRILM). Words outside the vocabulary are left out.

        A gloss that the file lacks gets the probability of <unk>; without <unk> that is a CorpusError, as is any line
        that cannot be read (file and line are named).
        """
        path = Path(path)
        classes = len(vocabulary)
        special = {"</s>": classes, "<s>": classes + 1}
        ngrams: Ngrams = {}
        unknown: tuple[float, float] | None = None
        section, order = 0, 0
        for number, line in enumerate(read_text(path, limit=MAX_ARPA_BYTES).splitlines(), 1):
            line = line.strip()
            if line == "\\end\\":
                section = -1
                break
            if line.startswith("\\") and line.endswith("-grams:"):
                section = _whole(line[1 : -len("-grams:")], path, number)
                order = max(order, section)
                continue
            if section < 1 or not line:
                continue
            fields = line.split()
            if len(fields) not in (section + 1, section + 2):
                raise CorpusError(f"{path}:{number}: {line!r} is no {section}-gram with its log10 probability; mend it")
            try:
                log_prob = float(fields[0]) * LN10
                backoff = float(fields[section + 1]) * LN10 if len(fields) == section + 2 else 0.0
            except ValueError:
                raise CorpusError(f"{path}:{number}: {line!r} has a number that cannot be read; mend it") from None
            if not (math.isfinite(log_prob) and math.isfinite(backoff) and log_prob <= 1e-3):
                raise CorpusError(f"{path}:{number}: {line!r} has a log10 probability above 0 or not finite; mend it")
            words = fields[1 : section + 1]
            if words == ["<unk>"] or words == ["<UNK>"]:
                unknown = (log_prob, 0.0)
            if all(word in vocabulary or word in special for word in words):
                gram = tuple(special[w] if w in special else vocabulary.encode([w])[0] for w in words)
                ngrams[gram] = (log_prob, backoff)
        if section != -1 or not order:
            raise CorpusError(
                f"{path}: no complete ARPA file (\\1-grams: ... \\end\\); write it again with the LM tool"
            )
        missing = [g for g, gloss in enumerate(vocabulary, 1) if (g,) not in ngrams]
        if unknown is not None:
            ngrams |= dict.fromkeys(((g,) for g in missing), unknown)
        elif missing:
            names = ", ".join(vocabulary.decode(missing[:5]))
            raise CorpusError(
                f"{path}: {len(missing)} glosses of the vocabulary have no unigram and there is no <unk> ({names}); "
                "estimate the model with <unk> or from all glosses"
            )
        if (classes,) not in ngrams:
            raise CorpusError(f"{path}: no unigram </s>; estimate the model with sentence ends")
        try:
            return cls(ngrams, classes, order)
        except CorpusError as error:
            raise CorpusError(f"{path}: {error}") from error


def _whole(text: str, path: Path, number: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise CorpusError(f"{path}:{number}: {text!r} is no order of an n-gram; expected \\1-grams: and so on")
    return int(text)
