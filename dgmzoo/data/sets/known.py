"""`SETS`: the entries of all registered data sets in display order, with the digests of their arrays."""

from dataclasses import replace

from dgmzoo.data.sets.images import IMAGES
from dgmzoo.data.sets.sequences import SEQUENCES
from dgmzoo.data.sets.toy_entries import TOYS
from dgmzoo.data.sets.vectors import TABLES, VECTORS

_SHA256 = {
    "digits": "070b07ff54fa347bc84115d71dfe7906ed3b2a0e0930f44780ab0918bfabf4f0",
    "mnist": "665d881aa14920896d306ff9ad55ab0855b718f06b41887574a6922cf5bd5634",
    "fashion_mnist": "f823bc1e761aaa01888ccd377062973b9e2d7136f73ff959948fbf55539bb211",
    "binarized_mnist": "5dff18216f98f52da94e5d1b7a9f82890007bc288ea73b37329f0a99bf883d7e",
    "caltech101_silhouettes": "c11bb0a28847778f84efb37c433fc352fe5057050acf5512b4f0b2c3b2b42272",
    "freyfaces": "9d0a49d76fd8fd85623504a3711027917fde4f94b8284b963b7df883b54558fb",
    "omniglot_lake": "ed2051ddc10d93e41b399bfcd20847f74655e45813af47f45c76cbcb818d04fc",
    "adult": "db783810876d1e322f699afb9b1d6010d804c204da15473d96be69b89e949b6e",
    "connect4": "66d666908d36815d0e256534c6ed5b7738446c8b137a19dafd55d25be9093c9d",
    "dna": "c8b5c22d6f6a4d08e66cd1ac2892d98765a0067b9dbde96530fdb640f2325587",
    "mushrooms": "bc0b96ba00a9a8d40f1dfc33f874aa9101b3d5f9690a2ad3d6a8726f01d6e342",
    "nips": "d625614ecfc4096ac34c8baf2d4f1dfa2638c1dd9db1b56a6cf86fb399b8b46c",
    "ocr_letters": "6c1f2ffec3e1865278d4700529c4eb5d2c0950077862b09c4d53225ac0341819",
    "nltcs": "1ed49185323e1972418489786975dbb7b21d548939c3e16d8c72c269a4010f8b",
    "winequality_red": "0d2708aa8f275d09499082a2e1c2bd1452dcb7fd67859be20cae7b725284f298",
    "winequality_white": "839d4e43cdc8ffed28c646ccc37ada35ae117805713a88892714df275cb0c1a9",
    "parkinsons": "ccfad825d5407b863c46e5484f76ba77b4b0dab6bbd69a39951994275f12d9d6",
    "ionosphere": "b6d28a0e0e0e5abd2a3c571767968f3c92cc7088cefffc451c7bd7a28f7dbdbb",
    "ptb": "0af28623f333a7e718317beb0931270932e6ea5a160880a02010750460cbd6c9",
    "20news": "ffa42e557918dd3d5c56e402ed4281d4e9843510040a8579fc5e2f9011d3bab0",
    "fsdd": "ec18cf8501994ba32cb671581af630d9624e0303dddbce46198755237a189d2d",
    "jsb_chorales": "e1411e0d0d7f9050368a8276bff2199e6dea5528083b857edf781daee28a216f",
    "nottingham": "a9b9819db3cf13ab09af3b6b2f5dc09d1c449cc52705fbcb55f78cbaf92655b3",
}

SETS = tuple(
    replace(entry, sha256=_SHA256.get(entry.name)) for entry in (*IMAGES, *VECTORS, *TABLES, *SEQUENCES, *TOYS)
)
