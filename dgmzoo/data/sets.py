"""The table of sets that `registry` reads. Facts only: what was published, where it lies, what papers do with it."""

from dgmzoo.data.registry import Entry

_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

_IMAGES = (
    Entry(
        name="digits",
        title="Handwritten digits, 8x8, 17 gray levels (the test part of UCI's optdigits)",
        paper="Alpaydin & Kaynak 1998, Cascading classifiers, Kybernetika 34; scikit-learn load_digits",
        licence="CC BY 4.0 (UCI)",
        shape=(8, 8, 1),
        splits={"all": 1797},
        drawn={"test": 360, "valid": 180},
        use="A set for quick tries that ships with scikit-learn. Pixel / 16 as Bernoulli probability.",
        decoder="images.digits",
        maximum=16,
        binarization="dynamic",
        num_classes=10,
    ),
    Entry(
        name="mnist",
        title="Handwritten digits, 28x28, 256 gray levels",
        paper="LeCun, Bottou, Bengio & Haffner 1998, Gradient-based learning applied to document recognition",
        licence="CC BY-SA 3.0",
        shape=(28, 28, 1),
        splits={"train": 60000, "test": 10000},
        use="Burda et al. 2016 train on all 60,000 rows, binarized afresh each time they are read; papers that select "
        "models hold the validation rows out of train (data.num_validation=10000). Never compare with binarized_mnist.",
        decoder="images.mnist",
        folder="mnist",
        files=_IDX,
        size=11_594_722,
        maximum=255,
        binarization="dynamic",
        num_classes=10,
    ),
    Entry(
        name="binarized_mnist",
        title="MNIST binarized once by Larochelle, 28x28, 0 or 1",
        paper="Larochelle & Murray 2011, The neural autoregressive distribution estimator; Salakhutdinov & Murray 2008",
        licence="CC BY-SA 3.0 (MNIST)",
        shape=(28, 28, 1),
        splits={"train": 50000, "valid": 10000, "test": 10000},
        use="The static binarization of the NADE, MADE and DARN papers. Its rows are not in MNIST's order; no labels.",
        decoder="images.binarized_mnist",
        folder="binarized_mnist",
        files=tuple(f"binarized_mnist_{split}.amat" for split in ("train", "valid", "test")),
        size=109_760_000,
        maximum=1,
        binarization="static",
    ),
)

SETS = _IMAGES
