"""Decoders of the text sets, on generated files of the published form."""

import pytest

from dgmzoo.data import lookup
from dgmzoo.data.readers.text import decode_vocabulary


def test_newsgroups_counts_labels_and_vocabulary(folder, registered):
    path = folder("20news")
    (path / "train.feat").write_text("1 1:3 2000:1\n20 7:2\n3 5:1\n")
    (path / "test.feat").write_text("2 6:4\n")
    (path / "vocab.new").write_text("".join(f"word{i} {i}\n" for i in range(2000)))
    registered("20news", splits={"train": 3, "test": 1})
    arrays, _ = lookup.load_arrays("20news")
    counts = arrays["train/x"]
    assert counts.sum(1).tolist() == [4, 2, 1] and counts[0, [0, 1999]].tolist() == [3, 1]
    assert arrays["train/label"].tolist() == [0, 19, 2]
    assert decode_vocabulary(arrays["meta/words"])[5] == "word5"


def test_treebank_sentences_end_in_eos_and_unknown_words_are_refused(folder, registered):
    texts = {"train": " the cat \n the <unk> sat \n", "valid": " cat \n", "test": " the the cat \n"}
    for split, text in texts.items():
        (folder("ptb") / f"ptb.{split}.txt").write_text(text)
    registered("ptb", splits={"train": 2, "valid": 1, "test": 1})
    arrays, _ = lookup.load_arrays("ptb")
    words = decode_vocabulary(arrays["meta/words"])
    assert words[:2] == ("<eos>", "the")  # two of each in train, in alphabetical order
    (tokens,), (mask,) = arrays["test/x"], arrays["test/mask"]
    assert [" ".join(words[token] for token in tokens[mask])] == ["the the cat <eos>"]
    (folder("ptb") / "ptb.test.txt").write_text(" dog \n")
    registered("ptb", splits={"train": 2, "valid": 1, "test": 1}, sha256="0")
    with pytest.raises(ValueError, match="'dog' in line 1"):
        lookup.load_arrays("ptb")
