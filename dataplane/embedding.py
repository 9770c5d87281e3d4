"""Turning text into vectors, behind one small Protocol.

`SIGNALBOX_EMBEDDER` says which model makes new vectors: empty is the one that ships in the wheel of `wordllama` and
needs no network and no key; `model2vec:/a/folder` is a static model in a folder; everything else is a name as
LangChain's `init_embeddings` takes it, for instance `openai:text-embedding-3-small`. Several may stand there, with
commas between: the first makes new vectors, the others answer for versions that they made. A model's name is part of
every version's digest, and a question is embedded by the model of the version that it is asked of, so that vectors of
two models never meet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from console.environment import environment
from dataplane.errors import EmbedderAway, EmbedderChanged, EmbedderInvalid

DIMENSIONS = 256  # of the column dataplane_passage.embedding
LONGEST_NAME: Final = 100  # characters, of the column dataplane_datasetversion.embedder
_MODEL2VEC: Final = "model2vec:"
_MOST_TOKENS: Final = 512  # of a text that a model2vec folder looks at, as its own library has it

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Gives each text a unit vector."""

    @property
    def name(self) -> str:
        """Name the model and its size; part of a version's digest."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one row of `DIMENSIONS` numbers for each text, of length 1 (0 for a text without words).

        Raises EmbedderInvalid when the model makes vectors of another length, EmbedderAway when it does not answer.
        """
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


class FolderEmbedder:
    """A static model in a folder as model2vec writes it: a table of token vectors, and the tokenizer that reads it.

    A text's vector is the mean of its tokens' vectors. Its name holds the folder's and a digest of what is in it.
    """

    def __init__(self, folder: Path) -> None:
        """Load it. Raises EmbedderInvalid when the folder is none, or its vectors have another length."""
        self.name = folder_name(folder)
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        try:
            tensors = load_file(folder / "model.safetensors")
            self._table: NDArray[np.float32] = tensors["embeddings"].astype(np.float32)
            self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))  # Any: it ships no types
        except Exception as exc:
            raise EmbedderInvalid(f"The folder {folder.name} holds no model of model2vec: {exc}") from exc
        _check_length(self.name, self._table.shape[1])
        self._mapping = tensors.get("mapping")  # from a token's number to its row, where several share one
        self._weights = tensors.get("weights")
        self._unknown = self._tokenizer.token_to_id(_unknown_token(folder))

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        for place, read in enumerate(self._tokenizer.encode_batch(list(texts), add_special_tokens=False)):
            tokens = np.array([one for one in read.ids if one != self._unknown][:_MOST_TOKENS], dtype=np.int64)
            if len(tokens) == 0:
                continue
            rows = self._table[self._mapping[tokens] if self._mapping is not None else tokens]
            if self._weights is not None:
                rows = rows * self._weights[tokens][:, None]
            vectors[place] = rows.mean(axis=0)
        return unit(vectors)


class HostedEmbedder:
    """A model that LangChain knows by name. Its provider's package has to be there, and its key in the environment."""

    def __init__(self, name: str) -> None:
        """Raises EmbedderInvalid when there is no such provider, its package is missing, or it wants a key."""
        self.name = name
        asked: dict[str, Any] = {}
        if name.startswith(("openai:", "azure_openai:")):
            # OpenAI's newer models cut their vectors to what is asked for. Passages are short enough: counting their
            # tokens would fetch a file from the internet, and send numbers where other servers want words.
            asked = {"dimensions": DIMENSIONS, "check_embedding_ctx_length": False}
        try:
            from langchain.embeddings import init_embeddings

            self._model: Any = init_embeddings(name, **asked)  # Any: one of a dozen providers' classes
        except Exception as exc:
            raise EmbedderInvalid(f"The embedding model {name} cannot be used: {_first_line(exc)}") from exc

    def embed(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, DIMENSIONS), dtype=np.float32)
        try:
            vectors = np.asarray(self._model.embed_documents(list(texts)), dtype=np.float32)
        except Exception as exc:
            raise EmbedderAway(f"The embedding model {self.name} gave no vectors: {_first_line(exc)}") from exc
        _check_length(self.name, vectors.shape[1] if vectors.ndim == 2 else 0)
        return unit(vectors)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _check_length(name: str, length: int) -> None:
    if length != DIMENSIONS:
        raise EmbedderInvalid(
            f"The embedding model {name} makes vectors of {length} numbers; the column of passages holds {DIMENSIONS}. "
            f"Choose a model with {DIMENSIONS}, or leave SIGNALBOX_EMBEDDER empty."
        )


def unit(vectors: Vectors) -> Vectors:
    """Return the vectors with length 1; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return scaled


def folder_name(folder: Path) -> str:
    """Return what versions call the model in this folder: the same content has the same name, wherever it lies."""
    digest = hashlib.sha256()
    try:
        for name in ("model.safetensors", "tokenizer.json"):
            digest.update((folder / name).read_bytes())
    except OSError as exc:
        raise EmbedderInvalid(
            f"SIGNALBOX_EMBEDDER names the folder {folder}, which has no {Path(exc.filename).name}."
        ) from exc
    return f"{_MODEL2VEC}{folder.name[:60]}@{digest.hexdigest()[:12]}"


def _unknown_token(folder: Path) -> str:
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")).get("model", {})
    return str(model.get("unk_token") or "[UNK]")


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


def _chosen() -> list[str]:
    """Return what SIGNALBOX_EMBEDDER names, in order; the model that ships when it names nothing."""
    return [one.strip() for one in environment().embedder.split(",") if one.strip()] or [WordLlamaEmbedder.name]


@cache
def _made(choice: str) -> Embedder:
    if choice in ("wordllama", WordLlamaEmbedder.name):
        return WordLlamaEmbedder()
    if choice.startswith(_MODEL2VEC):
        return FolderEmbedder(Path(choice.removeprefix(_MODEL2VEC)).expanduser())
    if ":" not in choice or len(choice) > LONGEST_NAME:
        raise EmbedderInvalid(
            f"SIGNALBOX_EMBEDDER names {choice!r}. Write wordllama, model2vec:/a/folder, or provider:model."
        )
    return HostedEmbedder(choice)


def embedder() -> Embedder:
    """Return the model that makes new vectors, loaded on first use. Raises EmbedderInvalid."""
    return _made(_chosen()[0])


def names_a_hosted_one(setting: str) -> bool:
    """Return whether SIGNALBOX_EMBEDDER names a model that is reached over the network."""
    return any(_is_hosted(name.strip()) for name in setting.split(","))


def _is_hosted(name: str) -> bool:
    return ":" in name and not name.startswith(_MODEL2VEC)


def embedder_named(name: str, *, whose: str) -> Embedder:
    """Return the model of this name, as a version has kept it; `whose`: that version, for the sentence.

    Raises EmbedderChanged when this process cannot load it.
    """
    if name == WordLlamaEmbedder.name:
        return _made(name)
    here = _chosen()
    try:
        for choice in here:
            if choice == name or (choice.startswith(_MODEL2VEC) and _made(choice).name == name):
                return _made(choice)
        if _is_hosted(name):
            return _made(name)  # a hosted model is reached by its name alone
    except EmbedderInvalid as exc:
        raise EmbedderChanged(f"{whose} was embedded with {name}, which cannot be used here: {exc}") from exc
    raise EmbedderChanged(
        f"{whose} was embedded with {name}, this process has {', '.join(here)}. Refresh the dataset, or name that "
        "model's folder in SIGNALBOX_EMBEDDER as well."
    )
