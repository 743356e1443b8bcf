"""`catalogue`: all registered data sets by name; `find`: look one up by its name; `describe`: describe one as text.

The table of entries is `sets/known.py`. Content is identified by `Entry.sha256`, the digest of the *decoded* arrays
(`cache.digest`), so that the same set may come as idx, npz, mat or text. `sha256=None` means that this version knows
no digest: shapes, dtypes and split sizes are checked instead.
"""

import difflib

from dgmzoo.data.entry import Entry

OWN = {
    "my_images": "a folder of images of one size, or a .npy or .npz of images [N, H, W] or [N, H, W, C]",
    "my_table": "a .csv with a row an example, or a .npy or .npz of rows [N, D]",
}
"""Name that stands for a person's own data in the templates of experiments -> what may be given in its place."""


def catalogue() -> dict[str, Entry]:
    """Every registered set by name, in reading order.

    >>> list(catalogue())[:3]
    ['digits', 'mnist', 'fashion_mnist']
    """
    from dgmzoo.data.sets.known import SETS

    return {entry.name: entry for entry in SETS}


def find(name: str) -> Entry:
    """The entry of a registered set.

    Raises:
      ValueError: no such set; names the nearest ones.

    >>> find("mnist").shape
    (28, 28, 1)
    """
    entries = catalogue()
    if name in OWN:
        raise ValueError(f"expected your own data, --data.name PATH: {OWN[name]}; got none")
    if name not in entries:
        nearest = difflib.get_close_matches(name, entries, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(nearest)}" if nearest else "`dgmzoo data list` names them"
        raise ValueError(
            f"expected the name of a data set or the path of a .npy, .npz, .csv or folder of images, "
            f"got {name!r}; {hint}"
        )
    return entries[name]


def describe(name: str) -> str:
    """Text about a registered set: paper, licence, shape, splits, use, files and sources. No data are read.

    Raises:
      ValueError: no such set; names the nearest ones.

    >>> print(*describe("toy_moons").splitlines()[:3], sep="\\n")
    toy_moons
                   Two half circles that interlock
      licence      sampled by dgmzoo
    """
    entry = find(name)
    splits = ", ".join(f"{split} {rows:,}" for split, rows in entry.splits.items())
    if entry.random_splits or entry.folds:
        sizes = {"test": f"a tenth ({entry.folds} folds)"} if entry.folds else {}
        sizes |= {split: f"{rows:,}" for split, rows in entry.random_splits.items()}
        splits += "; chosen by data.seed: " + ", ".join(f"{split} {rows}" for split, rows in sizes.items())
    shape = " x ".join("length" if size == 0 else str(size) for size in entry.shape)
    megabytes = entry.download_bytes / 1e6
    lines = {
        "": entry.title,
        "paper": entry.paper,
        "licence": entry.licence,
        "example": f"{shape}, {entry.dtype}, {entry.kind}",
        "rows": splits,
        "encoding": entry.encoding,
        "classes": entry.num_classes,
        "use": entry.use,
        "files": f"{entry.folder}/ {', '.join(entry.files)}, about {megabytes:.1f} MB" if entry.files else None,
        "sources": "; ".join(f"{source.location} ({source.kind})" for source in entry.sources) or None,
        "sha256": entry.sha256 or ("unknown: shapes and split sizes are checked" if entry.files else None),
    }
    return "\n".join([entry.name, *(f"  {key:13}{value}" for key, value in lines.items() if value)])
