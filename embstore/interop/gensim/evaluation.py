"""Evaluations of the view for gensim: word analogies, and human judgements of similarity."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.interop.gensim.compare import CompareMethods
from embstore.interop.gensim.named_files import open_text
from embstore.norms import unit
from embstore.search.metrics import METRICS
from embstore.search.neighbours import Wanted
from embstore.settle import as_count, as_flag

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embstore.interop.gensim.keyed import Keyed

    Four = tuple[str, str, str, str]

# One pass over the table answers as many analogies.
ANALOGIES_AT_ONCE = 4096
# Words from which the answer is taken, as in gensim.
CANDIDATES = 5


@dataclass(slots=True)
class Section:
    """Analogies under one heading, and how they were answered."""

    name: str
    correct: list[Four] = field(default_factory=list)
    incorrect: list[Four] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the dict that gensim returns."""
        return {"section": self.name, "correct": self.correct, "incorrect": self.incorrect}


class EvaluationMethods(CompareMethods):
    """Methods that compare the vectors with files of right answers."""

    def evaluate_word_analogies(
        self,
        analogies: str | os.PathLike[str],
        restrict_vocab: int | None = 300_000,
        case_insensitive: bool = True,
        dummy4unknown: bool = False,
        similarity_function: str = "most_similar",
    ) -> tuple[float, list[dict[str, Any]]]:
        """Return how many analogies of a file the vectors solve.

        "a is to b as c is to d" is solved if d is the word nearest to b - a + c (3CosAdd; Mikolov
        et al., 2013). One pass over the table answers thousands of analogies.

        Parameters
        ----------
        analogies : str or path-like
            A text file of four words a line, with headings that start with ``": "``; other lines
            are skipped. It may be compressed (``.gz``, ``.bz2``, ``.xz``).
        restrict_vocab : int, optional
            Use only the first ``restrict_vocab`` words; None for all.
        case_insensitive : bool
            Whether words are compared in upper case. Of several, the first is used.
        dummy4unknown : bool
            Whether analogies with missing words count as wrong; otherwise they are left out.
        similarity_function : str
            Without a meaning, as in gensim.

        Returns
        -------
        score : float
            The share of analogies that are solved; 0 if there are none.
        sections : list of dict
            For each heading, and for ``"Total accuracy"`` at the end, the lists ``"correct"`` and
            ``"incorrect"`` of four words each, and the heading as ``"section"``.

        Raises
        ------
        ValueError
            If the file has an analogy before its first heading, or no analogies.
        """
        words = Known(self, restrict_vocab, as_flag(case_insensitive, "case_insensitive"))
        dummy4unknown = as_flag(dummy4unknown, "dummy4unknown")
        sections: list[Section] = []
        asked: list[tuple[Section, Four, tuple[int, ...]]] = []
        count = 0
        for heading, four in _read_analogies(Path(analogies), words):
            if four is None:
                sections.append(Section(heading))
                continue
            count += 1
            ids = tuple(words.ids.get(word, -1) for word in four)
            if min(ids) < 0 and not dummy4unknown:
                continue
            asked.append((sections[-1], four, ids))
            if len(asked) == ANALOGIES_AT_ONCE:
                self._answer_analogies(words, asked)
                asked = []
        if not count:
            raise ValueError(f"{analogies} has no analogies: lines of four words below a heading")
        self._answer_analogies(words, asked)
        total = Section("Total accuracy")
        for section in sections:
            total.correct += section.correct
            total.incorrect += section.incorrect
        solved = len(total.correct)
        score = solved / max(solved + len(total.incorrect), 1)
        return score, [section.as_dict() for section in (*sections, total)]

    def _answer_analogies(
        self, words: Known, asked: list[tuple[Section, Four, tuple[int, ...]]]
    ) -> None:
        """Put analogies into the lists of their sections; one with unknown words is not solved."""
        solved = iter(self._solve(words, [one for one in asked if min(one[2]) >= 0]))
        for section, four, of_one in asked:
            right = min(of_one) >= 0 and next(solved)
            (section.correct if right else section.incorrect).append(four)

    def _solve(
        self, words: Known, asked: list[tuple[Section, Four, tuple[int, ...]]]
    ) -> Iterator[bool]:
        """Yield whether analogies are solved, of which all words are known."""
        if not asked:
            return
        ids = np.array([of_one for _, _, of_one in asked], np.int64)
        a, b, c = (unit(self._rows(ids[:, place])) for place in range(3))
        vectors = unit((b + c - a).astype(self._search.dtype))
        without = [np.unique(of_one[:3]) for of_one in ids]
        wanted = Wanted(vectors, CANDIDATES, range(min(words.count, len(self))), without)
        found = self._search.nearest.find(wanted, METRICS["cosine"])
        for (_, four, _), (nearest, _) in zip(asked, found, strict=True):
            names = (words.fold(name) for name in self.store.words(nearest))
            yield next((name == four[3] for name in names if name not in four[:3]), False)

    def evaluate_word_pairs(
        self,
        pairs: str | os.PathLike[str],
        delimiter: str = "\t",
        encoding: str = "utf8",
        restrict_vocab: int | None = 300_000,
        case_insensitive: bool = True,
        dummy4unknown: bool = False,
    ) -> tuple[Any, Any, float]:
        """Return how well similarities of the vectors correlate with human judgements.

        Parameters
        ----------
        pairs : str or path-like
            A text file of two words and a number a line. Lines that start with ``#``, and others
            without three fields, are skipped. It may be compressed.
        delimiter : str
            What separates the fields.
        encoding : str
            Encoding of the file.
        restrict_vocab, case_insensitive
            As for `evaluate_word_analogies`.
        dummy4unknown : bool
            Whether the similarity of missing words counts as 0; otherwise their pairs are left out.

        Returns
        -------
        pearson, spearman
            The correlation and its p-value, as scipy returns them.
        oov_ratio : float
            The percentage of pairs with a missing word.

        Raises
        ------
        ImportError
            If scipy is not installed.
        ValueError
            If the file has no pair that can be judged.
        """
        try:
            from scipy import stats  # noqa: PLC0415
        except ImportError as error:
            raise ImportError(
                'evaluate_word_pairs needs scipy: pip install "embstore[gensim]" (or scipy)'
            ) from error
        words = Known(self, restrict_vocab, as_flag(case_insensitive, "case_insensitive"))
        judged: list[float] = []
        ids: list[tuple[int, int]] = []
        unknown = 0
        with open_text(Path(pairs), encoding) as file:
            for line in file:
                if line.startswith("#"):
                    continue
                try:
                    one, other, number = map(words.fold, line.split(delimiter))
                    judgement = float(number)
                except ValueError:
                    continue
                pair = words.ids.get(one, -1), words.ids.get(other, -1)
                unknown += min(pair) < 0
                if min(pair) >= 0 or dummy4unknown:
                    judged.append(judgement)
                    ids.append(pair)
        if not judged:
            raise ValueError(
                f"{pairs} has no pairs of known words: lines of two words and a number, separated "
                f"by {delimiter!r}"
            )
        both = np.array(ids, np.int64)
        similarities = np.zeros(len(both))
        known = both.min(axis=1) >= 0
        left, right = (unit(self._rows(both[known, place])) for place in range(2))
        similarities[known] = np.einsum("ij,ij->i", left, right).astype(self._search.dtype)
        total = len(judged) if dummy4unknown else len(judged) + unknown
        pearson = stats.pearsonr(judged, similarities)
        return pearson, stats.spearmanr(judged, similarities), unknown / total * 100

    def _rows(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.store.lookup(ids).astype(np.float64)


class Known:
    """The first words of a store by their text, perhaps in upper case.

    Parameters
    ----------
    view : Keyed
        The words.
    restrict_vocab : int or None
        How many of them; None for all.
    folds : bool
        Whether to compare words in upper case.

    Attributes
    ----------
    ids : dict of str to int
        The id of each word; of words that differ in case only, the lowest.
    count : int
        How many words are used.
    """

    def __init__(self, view: Keyed, restrict_vocab: int | None, folds: bool) -> None:
        most = len(view) if restrict_vocab is None else as_count(restrict_vocab, "restrict_vocab")
        self.count = min(most, len(view))
        self._folds = folds
        self.ids: dict[str, int] = {}
        for number, word in enumerate(view.index_to_key[: self.count]):
            self.ids.setdefault(self.fold(word), number)

    def fold(self, word: str) -> str:
        """Return a word as it is compared."""
        return word.upper() if self._folds else word


def _read_analogies(path: Path, words: Known) -> Iterator[tuple[str, Four | None]]:
    """Yield the headings of a file, and under each its analogies."""
    heading = None
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.startswith(": "):
                heading = line.lstrip(": ").strip()
                yield heading, None
                continue
            fields = line.split()
            if heading is None:
                if not fields:
                    continue
                raise ValueError(
                    f"{path}, line {number} stands before the first heading, a line such as "
                    '": capitals"'
                )
            if len(fields) == 4:
                one, two, three, four = map(words.fold, fields)
                yield heading, (one, two, three, four)
