"""`Entry`: the shape, splits, licence and sources of a published data set; `Source`: a place to get its files from."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Source:
    """A place that a set's files come from.

    >>> Source("web", "https://example.org/digits/", {"digits.csv": "digits.csv.gz"}).files["digits.csv"]
    'digits.csv.gz'
    """

    kind: str
    """`web` (a base address), `archive` (the address of a tar file), `copy` (a folder where another library or
    distribution leaves files), `npm` (an npm package) or `apt` (a Debian package)."""
    location: str
    files: Mapping[str, str] = field(default_factory=dict)
    """Name that the decoder uses -> path under `location`, or inside the package; empty: the entry's file names."""


@dataclass(frozen=True)
class Entry:
    """A published data set: sources, licence, shape, splits and protocol; each published variant has its own entry.

    >>> from dgmzoo.data import find
    >>> entry = find("digits")
    >>> entry.shape, dict(entry.splits), entry.random_splits, entry.encoding
    ((8, 8, 1), {'all': 1797}, {'test': 360, 'valid': 180}, 'dynamic')
    """

    name: str
    title: str
    paper: str
    licence: str
    shape: tuple[int, ...]
    """Shape of one example; images are [H, W, C]. A leading 0 stands for the length of the longest sequence."""
    splits: Mapping[str, int]
    """Rows of each published split; `all` where the set is published unsplit."""
    use: str
    """Use in papers, and what to mind in a comparison with their numbers."""
    decoder: str = ""
    """`module.function` in `dgmzoo.data` that turns files into arrays."""
    folder: str = ""
    """Folder under DGMZOO_DATA."""
    files: tuple[str, ...] = ()
    """Files that the decoder reads; a name without `.gz` also matches the packed file."""
    alternatives: tuple[tuple[str, ...], ...] = ()
    """Other lists of files that hold the same content in another form."""
    download_bytes: int = 0
    """Bytes to fetch, about."""
    sources: tuple[Source, ...] = ()
    display_shape: tuple[int, ...] = ()
    """[H, W, C] that a vector is shown in, where it is an image."""
    kind: str = "images"
    """images, binary, table, counts, tokens, sound, rolls or points."""
    maximum: int | None = None
    """The stored value of intensity 1: value / maximum is a pixel's intensity. None: the values are not scaled."""
    encoding: str | None = None
    """The encoding that `Data(encoding=None)` stands for; None: rows are used as they are stored."""
    random_splits: Mapping[str, int] = field(default_factory=dict)
    """Rows of the splits that are chosen by the seed where the set has none of its own."""
    folds: int = 0
    """Number of test splits of the protocol: `data.fold` selects one; columns are normalised by its training rows."""
    dtype: str = "uint8"
    num_classes: int | None = None
    columns: tuple[str, ...] = ()
    """Names of the columns of a user's table, where it has any."""
    sha256: str | None = None
    """Digest of the decoded arrays (`cache.digest`), where it is known."""

    @property
    def max_bytes(self) -> int:
        """Limit on the bytes of the set's files as published, all together."""
        return 2 * self.download_bytes + (1 << 20)
