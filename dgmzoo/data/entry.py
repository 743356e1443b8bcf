"""A data set as published: sources, licence, shape, splits, protocol."""

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
    encoding: str | None = None
    """What `encoding=None` means for this set."""
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
