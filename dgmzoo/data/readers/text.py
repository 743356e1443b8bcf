"""Decoders of the text sets: word counts, and sentences as tokens padded to the longest, with a mask."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dgmzoo.data.entry import Entry
from dgmzoo.data.readers import files
from dgmzoo.data.readers.binary import sparse
from dgmzoo.data.readers.sequences import pad

END = "<eos>"
Arrays = dict[str, np.ndarray]


def encode_words(words: list[str]) -> np.ndarray:
    """A vocabulary as an array of bytes, one word a line, so that it is kept and verified with the rest."""
    return np.frombuffer("\n".join(words).encode(), np.uint8)


def decode_words(array: np.ndarray) -> tuple[str, ...]:
    """The vocabulary that `encode_words` stored."""
    return tuple(array.tobytes().decode().split("\n"))


def newsgroups(paths: Mapping[str, Path], entry: Entry) -> Arrays:
    """NVDM's bags of words: counts uint16 [N, 2000], labels 0 to 19."""
    arrays = {}
    for split in ("train", "test"):
        path = paths[f"{split}.feat"]
        lines = files.unpack(path, entry.limit).decode("ascii", "replace").splitlines()
        counts, labels = sparse(lines, entry.shape[0], entry.splits[split], str(path))
        if counts.min() < 0 or counts.max() > np.iinfo(np.uint16).max:
            raise ValueError(f"expected counts from 0 to 65535, got {counts.min()} to {counts.max()} in {path}")
        arrays[f"{split}/x"] = counts.astype(np.uint16)
        arrays[f"{split}/label"] = labels.astype(np.int32) - 1
    words = [
        line.split()[0] for line in files.unpack(paths["vocab.new"], 1 << 20).decode().splitlines() if line.strip()
    ]
    if len(words) != entry.shape[0]:
        raise ValueError(f"expected {entry.shape[0]} words, got {len(words)} in {paths['vocab.new']}")
    return arrays | {"meta/words": encode_words(words)}


def treebank(paths: Mapping[str, Path], entry: Entry) -> Arrays:
    """Mikolov's Penn Treebank: a line a sentence, closed by `<eos>`; words numbered by frequency."""
    sentences = {}
    for split in ("train", "valid", "test"):
        text = files.unpack(paths[f"ptb.{split}.txt"], entry.limit).decode("utf-8", "replace")
        sentences[split] = [[*line.split(), END] for line in text.split("\n") if line.strip()]
    counts = Counter(word for sentence in sentences["train"] for word in sentence)
    words = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    number = {word: at for at, word in enumerate(words)}
    if len(words) > 1 << 16:
        raise ValueError(f"expected at most {1 << 16} words, got {len(words)} in {paths['ptb.train.txt']}")
    tokens = {}
    for split, rows in sentences.items():
        tokens[split] = []
        for row, sentence in enumerate(rows):
            if unknown := [word for word in sentence if word not in number]:
                raise ValueError(f"expected the words of train, got {unknown[0]!r} in line {row + 1} of {split}")
            tokens[split].append(np.array([number[word] for word in sentence], np.uint16))
    return pad(tokens, entry) | {"meta/words": encode_words(words)}
