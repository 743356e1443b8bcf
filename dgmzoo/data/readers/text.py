"""`newsgroups`: decode 20 Newsgroups as word counts; `treebank`: decode the Penn Treebank as tokens."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dgmzoo.data.entry import Entry
from dgmzoo.data.readers import files
from dgmzoo.data.readers.binary import parse_libsvm
from dgmzoo.data.readers.sequences import pad

END = "<eos>"
Arrays = dict[str, np.ndarray]


def encode_vocabulary(words: list[str]) -> np.ndarray:
    """Encode a vocabulary as an array of bytes, one word a line, so that it is cached and verified with the arrays.

    >>> encode_vocabulary(["a", "b"]).tolist()
    [97, 10, 98]
    """
    return np.frombuffer("\n".join(words).encode(), np.uint8)


def decode_vocabulary(array: np.ndarray) -> tuple[str, ...]:
    """Decode the vocabulary that `encode_vocabulary` encoded.

    >>> decode_vocabulary(encode_vocabulary(["the", "cat"]))
    ('the', 'cat')
    """
    return tuple(array.tobytes().decode().split("\n"))


def newsgroups(paths: Mapping[str, Path], entry: Entry) -> Arrays:
    """Decode NVDM's bags of words: counts uint16 [N, 2000], labels 0 to 19."""
    arrays = {}
    for split in ("train", "test"):
        path = paths[f"{split}.feat"]
        lines = files.read_unpacked(path, entry.max_bytes).decode("ascii", "replace").splitlines()
        counts, labels = parse_libsvm(lines, entry.shape[0], entry.splits[split], str(path))
        if counts.min() < 0 or counts.max() > np.iinfo(np.uint16).max:
            raise ValueError(f"expected counts from 0 to 65535, got {counts.min()} to {counts.max()} in {path}")
        arrays[f"{split}/x"] = counts.astype(np.uint16)
        arrays[f"{split}/label"] = labels.astype(np.int32) - 1
    words = [
        line.split()[0]
        for line in files.read_unpacked(paths["vocab.new"], 1 << 20).decode().splitlines()
        if line.strip()
    ]
    if len(words) != entry.shape[0]:
        raise ValueError(f"expected {entry.shape[0]} words, got {len(words)} in {paths['vocab.new']}")
    return arrays | {"meta/words": encode_vocabulary(words)}


def treebank(paths: Mapping[str, Path], entry: Entry) -> Arrays:
    """Decode Mikolov's Penn Treebank: a sentence a line, ended by `<eos>`; words are numbered by frequency."""
    sentences = {}
    for split in ("train", "valid", "test"):
        text = files.read_unpacked(paths[f"ptb.{split}.txt"], entry.max_bytes).decode("utf-8", "replace")
        sentences[split] = [[*line.split(), END] for line in text.split("\n") if line.strip()]
    counts = Counter(word for sentence in sentences["train"] for word in sentence)
    words = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    token_of_word = {word: token for token, word in enumerate(words)}
    if len(words) > 1 << 16:
        raise ValueError(f"expected at most {1 << 16} words, got {len(words)} in {paths['ptb.train.txt']}")
    tokens = {}
    for split, rows in sentences.items():
        tokens[split] = []
        for row, sentence in enumerate(rows):
            if unknown := [word for word in sentence if word not in token_of_word]:
                raise ValueError(f"expected the words of train, got {unknown[0]!r} in line {row + 1} of {split}")
            tokens[split].append(np.array([token_of_word[word] for word in sentence], np.uint16))
    return pad(tokens, entry) | {"meta/words": encode_vocabulary(words)}
