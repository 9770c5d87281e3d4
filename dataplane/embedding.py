"""Turning text into vectors, behind one small Protocol.

The model that ships in the wheel of `wordllama` needs no network and no key. A hosted one would be a second
class here; its name is part of every version's digest, so that vectors of two models never meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 256  # of the column dataplane_passage.embedding

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Gives each text a unit vector."""

    @property
    def name(self) -> str:
        """Name the model and its size; part of a version's digest."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one row of `DIMENSIONS` numbers for each text, of length 1 (0 for a text without words)."""
        ...


class WordLlamaEmbedder:
    """The static model inside the `wordllama` package."""

    name = "wordllama-l2-supercat-256"

    def __init__(self) -> None:
        self._model: Any = _load()  # Any: the package ships no types

    def embed(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, DIMENSIONS), dtype=np.float32)
        vectors: Vectors = np.asarray(self._model.embed(list(texts), norm=True), dtype=np.float32)
        return np.nan_to_num(vectors)


def embed_changed(texts: Sequence[str], known: Mapping[str, Vectors], model: Embedder) -> tuple[Vectors, int]:
    """Return a vector for each text, and how many had to be made. `known`: vectors of the same model, by their text.

    A text that comes twice is embedded once.
    """
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    made = dict(zip(missing, model.embed(missing), strict=True))
    vectors = [known[text] if text in known else made[text] for text in texts]
    return np.array(vectors, dtype=np.float32).reshape(len(texts), DIMENSIONS), len(missing)


def _load() -> Any:
    """Load the model from its own wheel: about 0.7 s.

    Left to itself the loader looks in the wrong folder, then asks a hub: hence the folder (0.4.0).
    """
    import wordllama

    package = Path(wordllama.__file__).parent
    return wordllama.WordLlama.load(cache_dir=package, disable_download=True)


@cache
def embedder() -> Embedder:
    """Return the process's embedder, loaded on first use."""
    return WordLlamaEmbedder()
