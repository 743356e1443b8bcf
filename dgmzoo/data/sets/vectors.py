"""`VECTORS`: the entries of the data sets of binary vectors; `TABLES`: the entries of the real-valued data sets."""

from dgmzoo.data.entry import Entry, Source

_TORONTO = "http://www.cs.toronto.edu/~larocheh/public/datasets/"
_UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/"
_GITHUB = "https://raw.githubusercontent.com/"
_NADE = "Larochelle & Murray 2011, The neural autoregressive distribution estimator, AISTATS"
_FOREST = "Larochelle, Bengio & Turian 2010, Tractable multivariate binary density estimation, Neural Computation 22"
_MAF = "Papamakarios, Pavlakou & Murray 2017, Masked autoregressive flow for density estimation, NeurIPS"
_RNADE = "Uria, Murray & Larochelle 2013, RNADE: the real-valued neural autoregressive density-estimator, NeurIPS"


def _binary(
    name: str,
    size: int,
    rows: tuple[int, int, int],
    title: str,
    use: str,
    download_bytes: int,
    text_files: str = "",
    *,
    toronto_folder: str = "",
    location: str = "",
    file: str = "",
    paper: str = f"{_FOREST}; {_NADE}",
    licence: str = "CC BY 4.0 (UCI)",
    display_shape: tuple[int, ...] = (),
) -> Entry:
    """The entry of a set of binary vectors.

    Args:
      rows: of train, valid and test.
      text_files: their names, with {} for the split; empty: no public source.
      toronto_folder: folder at Toronto, if not `name`.
      location: address of the files, if not at Toronto.
      file: the npz, if not NAME.npz.
    """
    names = tuple(text_files.format(split) for split in ("train", "valid", "test")) if text_files else ()
    location = location or f"{_TORONTO}{toronto_folder or name}/"
    return Entry(
        name=name,
        title=title,
        paper=paper,
        licence=licence,
        shape=(size,),
        splits=dict(zip(("train", "valid", "test"), rows, strict=True)),
        use=use + " Rows are sorted and shuffled by dgmzoo, since copies in two orders circulate.",
        decoder="readers.binary.vectors",
        folder="binary",
        files=(file or f"{name}.npz",),
        alternatives=(names,) if names else (),
        download_bytes=download_bytes,
        sources=(Source("web", location, {name: name for name in names}),) if names else (),
        kind="binary",
        maximum=1,
        display_shape=display_shape,
    )


VECTORS = (
    _binary(
        "adult",
        123,
        (5000, 1414, 26147),
        "Census records as indicators (a5a)",
        "NADE and MADE tables.",
        2_300_000,
    ),
    _binary(
        "connect4",
        126,
        (16000, 4000, 47557),
        "Positions of Connect Four as indicators",
        "NADE and MADE tables.",
        15_000_000,
        "connect-4_{}.libsvm",
        toronto_folder="connect-4",
    ),
    _binary(
        "dna",
        180,
        (1400, 600, 1186),
        "Splice junctions as indicators",
        "NADE and MADE tables: the 180 columns of the papers.",
        1_000_000,
        "dna_scale_{}.libsvm",
        file="dna_nade.npz",
    ),
    _binary(
        "mushrooms",
        112,
        (2000, 500, 5624),
        "Descriptions of mushrooms as indicators",
        "NADE and MADE tables.",
        1_200_000,
        "mushrooms_{}.libsvm",
    ),
    _binary(
        "nips",
        500,
        (400, 100, 1240),
        "Words in papers of NIPS 0 to 12",
        "NADE and MADE tables (NIPS-0-12).",
        1_800_000,
        "nips-0-12_all_shuffled_bidon_target_{}.amat",
        toronto_folder="nips-0-12",
        licence="none stated",
    ),
    _binary(
        "ocr_letters",
        128,
        (32152, 10000, 10000),
        "Handwritten letters, 16x8, as vectors",
        "NADE and MADE tables.",
        14_000_000,
        licence="none stated",
        display_shape=(16, 8, 1),
    ),
    _binary(
        "rcv1",
        150,
        (40000, 10000, 150000),
        "Words in Reuters news",
        "NADE and MADE tables.",
        61_000_000,
        "rcv1_all_subset.binary_{}_voc_150.amat",
        licence="Reuters' agreement",
    ),
    _binary(
        "web",
        300,
        (14000, 3188, 32561),
        "Key words of web pages as indicators (w6a)",
        "NADE and MADE tables.",
        4_000_000,
        "w6a_{}.libsvm",
        licence="none stated",
    ),
    _binary(
        "nltcs",
        16,
        (16181, 2157, 3236),
        "Disabilities of the elderly: 16 answers",
        "Sum-product networks and other tractable models.",
        700_000,
        "nltcs.{}.data",
        location=_GITHUB + "UCLA-StarAI/Density-Estimation-Datasets/master/datasets/nltcs/",
        paper="Lowd & Davis 2010, Learning Markov network structure with decision trees, ICDM",
        licence="none stated",
    ),
)


def _uci(
    name: str, title: str, size: int, rows: int, file: str, folder: str, download_bytes: int, decoder: str
) -> Entry:
    """The entry of a UCI table in RNADE's protocol; `rows` in total, `folder` in the repository."""
    return Entry(
        name=name,
        title=title,
        paper=f"{_RNADE}; UCI machine learning repository",
        licence="CC BY 4.0 (UCI)",
        shape=(size,),
        splits={"all": rows},
        random_splits={"valid": rows // 10},
        folds=10,
        use="RNADE's protocol: ten 90/10 splits (data.fold, chosen by data.seed), discrete columns and one "
        "of each pair that correlates above .98 dropped, columns normalised by the training rows.",
        decoder=f"readers.tables.{decoder}",
        folder="uci",
        files=(file,),
        download_bytes=download_bytes,
        sources=(Source("web", f"{_UCI}{folder}/"),),
        kind="table",
        dtype="float32",
    )


def _maf(name: str, title: str, size: int, rows: tuple[int, int, int], members: dict[str, str], use: str = "") -> Entry:
    """The entry of a table of the MAF paper.

    Args:
      rows: of train, valid and test.
      members: file that the decoder reads -> its path in the paper's archive.
      use: a reason why the set has no public source; empty: it is in the archive.
    """
    return Entry(
        name=name,
        title=title,
        paper=_MAF,
        licence="CC BY 4.0 (Zenodo 1161203)",
        shape=(size,),
        splits=dict(zip(("train", "valid", "test"), rows, strict=True)),
        use=use or "The MAF paper's preprocessing, splits and normalisation.",
        decoder=f"readers.tables.{name}",
        folder="maf",
        files=tuple(members),
        download_bytes=840_000_000,
        sources=() if use else (Source("archive", "https://zenodo.org/record/1161203/files/data.tar.gz", members),),
        kind="table",
        dtype="float32",
    )


TABLES = (
    _uci(
        "winequality_red",
        "Red wines, 11 measurements",
        11,
        1599,
        "winequality-red.csv",
        "wine-quality",
        84_199,
        "wine",
    ),
    _uci(
        "winequality_white",
        "White wines, 11 measurements",
        11,
        4898,
        "winequality-white.csv",
        "wine-quality",
        264_426,
        "wine",
    ),
    _uci(
        "parkinsons",
        "Voices of people with Parkinson's disease, 15 measurements",
        15,
        5875,
        "parkinsons_updrs.data",
        "parkinsons/telemonitoring",
        906_868,
        "parkinsons",
    ),
    _uci(
        "ionosphere",
        "Radar returns, 32 measurements",
        32,
        351,
        "ionosphere.data",
        "ionosphere",
        76_467,
        "ionosphere",
    ),
    _maf(
        "power",
        "Electric power in one household, 6 measurements",
        6,
        (1659917, 184435, 204928),
        {"power.npy": "data/power/data.npy"},
    ),
    _maf(
        "gas",
        "Gas sensors, 8 measurements",
        8,
        (852174, 94685, 105206),
        {"gas.npy": "data/gas/ethylene_CO.pickle"},
        "Published as a pickle, which dgmzoo never reads: save its sensor columns (all but Time, Meth, Eth) "
        "as gas.npy.",
    ),
    _maf(
        "hepmass",
        "Particle collisions, 21 measurements",
        21,
        (315123, 35013, 174987),
        {"1000_train.csv": "data/hepmass/1000_train.csv", "1000_test.csv": "data/hepmass/1000_test.csv"},
    ),
    _maf(
        "miniboone",
        "Neutrino experiment, 43 measurements",
        43,
        (29556, 3284, 3648),
        {"miniboone.npy": "data/miniboone/data.npy"},
    ),
    _maf(
        "bsds300",
        "Natural image patches, 63 values",
        63,
        (1000000, 50000, 250000),
        {"BSDS300.hdf5": "data/BSDS300/BSDS300.hdf5"},
    ),
)
