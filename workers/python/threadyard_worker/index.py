"""Finding items by their meaning: the embedding function or model that `store.index` of langgraph.json names."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from langchain_core.embeddings import Embeddings
from langgraph.store.base import PutOp, SearchOp, ensure_embeddings, get_text_at_path

from .encoding import to_json
from .loading import GraphLoadError, load_name, names_python


class Index:
    """Makes vectors of texts."""

    def __init__(self, embeddings: Embeddings, fields: list[str]) -> None:
        self.embeddings = embeddings
        self._fields = fields

    @classmethod
    def load(cls, config: dict[str, Any], project: Path) -> Index:
        """The index that the project configures: a function, an `Embeddings` object, or a provider's model."""
        embed = config["embed"]
        if not names_python(embed):
            return cls(ensure_embeddings(embed), config["fields"])
        loaded = load_name(embed, project)
        if isinstance(loaded, type) or not (callable(loaded) or isinstance(loaded, Embeddings)):
            kind = "class" if isinstance(loaded, type) else type(loaded).__name__
            raise GraphLoadError(f"`{embed}` is a {kind}; expected a function of texts, or an `Embeddings` object")
        return cls(ensure_embeddings(loaded), config["fields"])

    def texts(self, value: dict[str, Any], fields: list[str] | None) -> list[str]:
        """The texts of an item, in the fields given or else in those that the project names."""
        paths = self._fields if fields is None else fields
        return [text for path in paths for text in get_text_at_path(value, path)]

    async def of_texts(self, texts: list[str]) -> list[list[float]]:
        """A vector for each text; texts that occur twice are embedded once."""
        distinct = list(dict.fromkeys(texts))
        if not distinct:
            return []
        vectors = await self.embeddings.aembed_documents(distinct)
        if len(vectors) != len(distinct):
            raise ValueError(f"the embedding function made {len(vectors)} vectors of {len(distinct)} texts")
        known = dict(zip(distinct, vectors, strict=True))
        return [known[text] for text in texts]

    async def of_query(self, query: str) -> list[float]:
        """The vector of what somebody looks for."""
        return await self.embeddings.aembed_query(query)

    async def of_puts(self, puts: Sequence[PutOp]) -> list[list[bytes]]:
        """The vectors of items to be written, as the wire carries them."""
        texts = [self._texts_of(put) for put in puts]
        vectors = iter(await self.of_texts([text for own in texts for text in own]))
        return [[pack(next(vectors)) for _ in own] for own in texts]

    async def of_searches(self, searches: Sequence[SearchOp]) -> list[list[bytes]]:
        """The vectors of queries, as the wire carries them; none for a search without one."""
        queries = list(dict.fromkeys(search.query for search in searches if search.query))
        vectors = await asyncio.gather(*map(self.of_query, queries))
        known = {query: [pack(vector)] for query, vector in zip(queries, vectors, strict=True)}
        return [known.get(search.query or "", []) for search in searches]

    def _texts_of(self, put: PutOp) -> list[str]:
        if put.value is None or put.index is False:
            return []
        # As the host keeps it: what is no JSON by itself is text by then.
        value = orjson.loads(to_json(put.value))
        return self.texts(value, put.index if isinstance(put.index, list) else None)


def pack(vector: Sequence[float]) -> bytes:
    """A vector as the wire carries it: 32-bit floats, little end first."""
    return struct.pack(f"<{len(vector)}f", *vector)
