"""What the zoo knows of each data set, without NumPy or JAX: `catalogue()`, `find(name)`, `describe(name)`.

An `Entry` says where a set comes from, under which licence, how it looks once decoded, how it is split and
what papers do with it. The table itself is `sets.py`. Content is identified by `sha256`, the digest of the
*decoded* arrays (see `store.digest`), so that the same set may come as idx, npz, mat or text. `sha256=None`
says that no digest is known to this version: shapes, dtypes and split sizes are checked then.
"""

import difflib

from dgmzoo.data.entry import Entry


def catalogue() -> dict[str, Entry]:
    """Every registered set by name, in reading order."""
    from dgmzoo.data.sets.known import SETS

    return {entry.name: entry for entry in SETS}


def find(name: str) -> Entry:
    """The entry of a registered set.

    Raises:
      ValueError: no such set; names the nearest ones.
    """
    known = catalogue()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}" if near else "`dgmzoo data list` names them"
        raise ValueError(
            f"expected the name of a data set or the path of a .npy, .npz, .csv or folder of images, "
            f"got {name!r}; {hint}"
        )
    return known[name]


def describe(name: str) -> str:
    """What is known of a set, as text to read; light: nothing is loaded."""
    e = find(name)
    split = ", ".join(f"{split} {rows:,}" for split, rows in e.splits.items())
    if e.drawn or e.folds:
        drawn = {"test": f"a tenth ({e.folds} folds)"} if e.folds else {}
        drawn |= {split: f"{rows:,}" for split, rows in e.drawn.items()}
        split += "; drawn by data.seed: " + ", ".join(f"{split} {rows}" for split, rows in drawn.items())
    shape = " x ".join("length" if size == 0 else str(size) for size in e.shape)
    lines = {
        "": e.title,
        "paper": e.paper,
        "licence": e.licence,
        "example": f"{shape}, {e.dtype}, {e.kind}",
        "rows": split,
        "encoding": e.encoding,
        "classes": e.num_classes,
        "use": e.use,
        "files": f"{e.folder}/ {', '.join(e.files)}, about {e.size / 1e6:.1f} MB" if e.files else None,
        "sources": "; ".join(f"{source.where} ({source.kind})" for source in e.sources) or None,
        "sha256": e.sha256 or ("unknown: shapes and split sizes are checked" if e.files else None),
    }
    return "\n".join([e.name, *(f"  {key:13}{value}" for key, value in lines.items() if value)])
