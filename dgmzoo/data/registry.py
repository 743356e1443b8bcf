"""What the zoo knows of each data set, without NumPy or JAX: `catalogue()`, `entry(name)`, `describe(name)`.

An `Entry` says where a set comes from, under which licence, how it looks once decoded, how it is split and
what papers do with it. The table itself is `sets.py`. Content is identified by `sha256`, the digest of the
*decoded* arrays (see `store.digest`), so that the same set may come as idx, npz, mat or text. `sha256=None`
says that no digest is known to this version: shapes, dtypes and split sizes are checked then.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Source:
    """A place that a set's files come from.

    `kind` is `web` (a base address), `archive` (the address of a tar file), `copy` (a folder where another library or distribution leaves files),
    `npm` (an npm package) or `apt` (a Debian package). `files` maps the name the decoder knows to the path
    under `where`, or inside the package; empty: the entry's own file names.
    """

    kind: str
    where: str
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One data set as published; every published variant has its own."""

    name: str
    title: str
    paper: str
    licence: str
    shape: tuple[int, ...]
    """Shape of one example; images are [H, W, C]. A leading 0 stands for the longest sequence."""
    splits: Mapping[str, int]
    """Rows of each published split; `all` where the set is published unsplit."""
    use: str
    """What papers do with it, and what to mind."""
    decoder: str = ""
    """`module.function` in this package that turns files into arrays."""
    folder: str = ""
    """Folder under DGMZOO_DATA."""
    files: tuple[str, ...] = ()
    """Files the decoder reads; a name without `.gz` also matches the packed file."""
    also: tuple[tuple[str, ...], ...] = ()
    """Other files that hold the same content in another form."""
    size: int = 0
    """Bytes to fetch, about."""
    sources: tuple[Source, ...] = ()
    look: tuple[int, ...] = ()
    """[H, W, C] that a vector is shown in, where it is a picture."""
    kind: str = "images"
    """images, binary, table, counts, tokens, sound, rolls or points."""
    maximum: int | None = None
    """The value that means 1: value / maximum is a pixel's intensity. None: not intensities."""
    binarization: str | None = None
    """What `binarization=None` means for this set."""
    drawn: Mapping[str, int] = field(default_factory=dict)
    """Rows of the splits that are drawn by the seed where the set has none of its own."""
    folds: int = 0
    """Published test splits: `data.fold` chooses one, and columns are normalised by its training rows."""
    dtype: str = "uint8"
    num_classes: int | None = None
    sha256: str | None = None

    @property
    def limit(self) -> int:
        """Bytes that its files may have as published, all together."""
        return 2 * self.size + (1 << 20)


def catalogue() -> dict[str, Entry]:
    """Every registered set by name, in reading order."""
    from dgmzoo.data.sets import SETS

    return {entry.name: entry for entry in SETS}


def entry(name: str) -> Entry:
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
    e = entry(name)
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
        "binarization": e.binarization,
        "classes": e.num_classes,
        "use": e.use,
        "files": f"{e.folder}/ {', '.join(e.files)}, about {e.size / 1e6:.1f} MB" if e.files else None,
        "sources": "; ".join(f"{source.where} ({source.kind})" for source in e.sources) or None,
        "sha256": e.sha256 or ("unknown: shapes and split sizes are checked" if e.files else None),
    }
    return "\n".join([e.name, *(f"  {key:13}{value}" for key, value in lines.items() if value)])
