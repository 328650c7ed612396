"""Names of gensim's class that change vectors or words, and names that gensim has dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from embstore.interop.gensim.keyed import Keyed

if TYPE_CHECKING:
    from collections.abc import Callable

_APPEND = "use embstore.append(path, {word: vector}) or embstore.upsert, then vectors.reload()"
_REPLACE = "use embstore.update(path, words, rows), then vectors.reload()"
_SET = "use embstore.update(path, words, attributes={name: values}), then vectors.reload()"
_BUILD = "build a store of the rows in the wanted order, with embstore.build"


def _refusing(name: str, remedy: str) -> Callable[..., NoReturn]:
    def refuse(self: Unchanging, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            f"{name} would change the vectors, and a store that is open never changes; {remedy}"
        )

    refuse.__name__ = name
    refuse.__qualname__ = f"KeyedVectors.{name}"
    refuse.__doc__ = f"Raise TypeError: a store that is open never changes; {remedy}."
    return refuse


class Unchanging(Keyed):
    """Methods that raise, and say what to do instead."""

    add_vector = _refusing("add_vector", _APPEND)
    add_vectors = _refusing("add_vectors", _APPEND)
    _set_vectors = _refusing("vectors =", _REPLACE)
    __setitem__ = _refusing("__setitem__", f"{_REPLACE}; for new words, {_APPEND}")
    set_vecattr = _refusing("set_vecattr", _SET)
    allocate_vecattrs = _refusing("allocate_vecattrs", "give attributes= to embstore.build")
    resize_vectors = _refusing("resize_vectors", _APPEND)
    unit_normalize_all = _refusing("unit_normalize_all", "use get_normed_vectors() or norm=True")
    sort_by_descending_frequency = _refusing("sort_by_descending_frequency", _BUILD)
    intersect_word2vec_format = _refusing("intersect_word2vec_format", _REPLACE)

    def init_sims(self, replace: bool = False) -> None:
        """Do nothing, as norms are computed when they are needed; refuse to scale the vectors."""
        if replace:
            self.unit_normalize_all()

    def save(self, *_: Any, **__: Any) -> NoReturn:
        """Raise TypeError: the vectors are on disk already."""
        raise TypeError(
            f"the vectors are on disk already, in the store {self.store.location}; copy it with "
            "embstore.snapshot(path, target), write a file with save_word2vec_format, or save "
            "gensim's own object: store.to_gensim().save(path)"
        )

    def similarity_unseen_docs(self, *_: Any, **__: Any) -> NoReturn:
        """Raise NotImplementedError, as gensim does: only a Doc2Vec model has it."""
        raise NotImplementedError("call similarity_unseen_docs on a Doc2Vec model")

    @property
    def vectors_norm(self) -> NoReturn:
        """Dropped by gensim 4."""
        raise _dropped("vectors_norm", "get_normed_vectors()")

    @property
    def index2word(self) -> NoReturn:
        """Dropped by gensim 4."""
        raise _dropped("index2word", "index_to_key")

    @property
    def index2entity(self) -> NoReturn:
        """Dropped by gensim 4."""
        raise _dropped("index2entity", "index_to_key")

    @property
    def vocab(self) -> NoReturn:
        """Dropped by gensim 4."""
        raise _dropped("vocab", "key_to_index, and get_vecattr(key, attr) for counts")


def _dropped(name: str, instead: str) -> AttributeError:
    return AttributeError(f"gensim 4 has no {name}, nor has this view; use {instead}")
