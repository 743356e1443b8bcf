"""`read_arrays`: a user's file (`.npy`, `.npz`, `.csv`) or folder of images, as arrays named `split/field`."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgmzoo.data.readers import files, text_table
from dgmzoo.data.readers.image_folder import read_image_folder
from dgmzoo.data.readers.splits import SPLITS, split_of_name

Arrays = dict[str, np.ndarray]
_OTHER_FIELDS = ("label", "context", "mask")
_ROW_NUMBERS = {"id", "index", "row", "no", "nr", "unnamed: 0"}
"""Names, in lower case, of a column that may number the rows; pandas writes the last where it reads its own index."""


class Content(NamedTuple):
    """Content of a user's file or folder."""

    arrays: Arrays
    """`split/field` -> values, with the split `all` where there are none."""
    columns: tuple[str, ...] = ()
    """Names of the columns of x, where the file has any."""


def read_arrays(path: Path) -> Content:
    """Read a file or folder; suffixes may be in any case.

    Raises:
      ValueError: another kind of file, or one that is damaged; says which are expected.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "t.csv"
    >>> _ = path.write_text("height,width\\n1.5,2\\n3.5,4\\n")
    >>> read_arrays(path).columns
    ('height', 'width')
    """
    if path.is_dir():
        return Content(read_image_folder(path))
    if not path.is_file():
        raise ValueError(f"expected a file or a folder, got {path}, which is a pipe, a socket or a device")
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return Content({"all/x": files.read_npy(path)})
    if suffix == ".npz":
        limit = max(1 << 30, 100 * path.stat().st_size)  # a .npy, which is mapped, may be of any size
        return Content(_rename_members(files.read_npz(path, limit), str(path)))
    if suffix == ".csv":
        return _read_table(path)
    raise ValueError(f"expected a .npy, .npz, .csv or a folder of images, got {path}")


def _read_table(path: Path) -> Content:
    """The columns of a table as `all/x`, a column named `label` as `all/label`, and missing cells as `all/mask`."""
    names, x = text_table.read_table(path, allow_missing=True)
    names = ["label" if name.lower() == "label" else name for name in names]
    _check_names(names, x, path)
    arrays = {}
    if "label" in names:
        label, x = x[:, names.index("label")], np.delete(x, names.index("label"), 1)
        if np.isnan(label).any():
            row = int(np.argmax(np.isnan(label)))
            raise ValueError(f"expected a label in every row of {path}, got a missing one in row {row}; remove the row")
        arrays["all/label"] = label.astype(np.int64) if np.array_equal(label, np.rint(label)) else label
        names = [name for name in names if name != "label"]
    observed = ~np.isnan(x)
    if not observed.any(0).all():
        number = int(np.argmin(observed.any(0)))
        name = f" {names[number]!r}" if names else ""
        raise ValueError(
            f"expected values in column {number}{name} of {path}, got no value in any row; remove the column"
        )
    if not observed.all():
        arrays["all/mask"] = observed
    is_binary = np.isin(x[observed], (0, 1)).all()
    return Content({"all/x": np.where(observed, x, 0).astype(np.uint8) if is_binary else x, **arrays}, tuple(names))


def _check_names(names: list[str], x: np.ndarray, path: Path) -> None:
    """Refuse names that do not stand for one column each."""
    if not names:
        return
    num, quoted = x.shape[1], ", ".join(map(repr, names))
    expected = f"expected a name for each of the {num} columns, got {quoted} in {path}"
    if names[0] == "" and all(names[1:]):
        raise ValueError(f"{expected}; pandas writes its index without a name: use index=False")
    if len(names) == num - 1:
        raise ValueError(f"{expected}, one too few; R writes names of rows without a name: use row.names=FALSE")
    if len(names) != num:
        raise ValueError(f"{expected}, which are {len(names)}; quote names that hold blanks or the separator")
    if "" in names:
        raise ValueError(f"{expected}; name column {names.index('') + 1}, or remove it")
    if names.count("label") > 1:
        raise ValueError(f"{expected}; two columns are named label: rename one")
    if names[0].lower() in _ROW_NUMBERS and len(x) > 1 and (np.diff(x[:, 0]) == 1).all():
        raise ValueError(f"expected columns of values, got {names[0]!r} in {path}, which numbers the rows; remove it")


def _rename_members(members: Mapping[str, np.ndarray], what: str) -> Arrays:
    """Members `x`, or `train`, `valid`, `test`, with `label` or `train_label` (`context`, `mask`), as `split/field`."""
    keys = {member: _key_of_member(member) for member in members}
    splits = {key.partition("/")[0] for key in keys.values() if key and key.endswith("/x")}
    if None in keys.values() or ("all" in splits) == ("train" in splits) or len(set(keys.values())) < len(keys):
        raise ValueError(
            f"expected either x or train (with valid, test) in {what}, and labels as label or train_label, "
            f"got {', '.join(sorted(members)) or 'nothing'}"
        )
    return {keys[member]: array for member, array in members.items()}


def _key_of_member(member: str) -> str | None:
    """`split/field` of a member's name: `x`, `label`, `train`, `train_label`, ...; None for another name."""
    if member in ("x", *_OTHER_FIELDS):
        return f"all/{member}"
    name, _, field = member.partition("_")
    split = split_of_name(name)
    return f"{split}/{field or 'x'}" if split in SPLITS and field in ("", *_OTHER_FIELDS) else None
