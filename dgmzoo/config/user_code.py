"""`UserCode`: the files of a user's experiment or plugin as a run keeps them; `trusted_path`: find a copy that may be run.

Code that comes with a run directory or an exported file is foreign until its digest is in the list of this person, who
has trained or trusted it. Neither a name nor anything else that comes with the run counts as proof.
"""

import atexit
import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dgmzoo.config import experiment_file
from dgmzoo.data.cache import root

_MAX_BYTES = 10_000_000  # of one file
_COPIES: dict[str, "UserCode"] = {}
"""Path of a copy in a temporary folder -> the code that it is a copy of."""


class UserCode(NamedTuple):
    """A file of a user with the other files that it needs.

    >>> UserCode("/home/me/mine.py", "mine.py", {"mine.py": "0a1b"}).sha256
    '0a1b'
    """

    path: str
    """Path of the file when the run began."""
    main: str
    """Name of the file among `files`."""
    files: dict[str, str]
    """Name, relative to the folder that holds all files -> sha256."""

    @property
    def sha256(self) -> str:
        """The digest of all files, as `experiment_file.digest` computes it."""
        return experiment_file.digest_of(self.files)

    @classmethod
    def of(cls, path: str, sha256: str) -> tuple["UserCode", dict[str, bytes]]:
        """The code of an experiment file or plugin that has run, and its files as they were when it ran."""
        contents = experiment_file.contents(sha256)
        code = cls(path, next(iter(contents)), {name: _sha256(content) for name, content in contents.items()})
        return _COPIES.get(path, code), contents

    def trust(self) -> None:
        """Add the code, which this person has run, to the list of trusted code."""
        add_trusted(self.sha256, "" if self in _COPIES.values() else self.path)

    @classmethod
    def from_json(cls, value: Any, where: str) -> "UserCode":
        """The code of a configuration, `where`.

        Raises:
          ValueError: the configuration does not describe code, or a name leads out of its folder.
        """
        is_code = isinstance(value, dict) and value.keys() == {"path", "main", "files"}
        if not is_code or not isinstance(value["path"], str) or not isinstance(value["files"], dict):
            raise ValueError(f"expected code with path, main and files in {where}, got {value!r:.100}")
        files = value["files"]
        for name, sha256 in files.items():
            parts = PurePosixPath(name).parts
            if not parts or ".." in parts or PurePosixPath(name).is_absolute() or not isinstance(sha256, str):
                raise ValueError(
                    f"expected names of files below one folder, and their sha256, in {where}, got {name!r}"
                )
        if value["main"] not in files:
            raise ValueError(f"expected {value['main']!r} among the files of {where}, got {', '.join(files)}")
        return cls(value["path"], value["main"], files)


def trusted_path(code: UserCode, read: Callable[[str], bytes], where: str, trust: bool) -> Path:
    """The path of a file that can be run: the original if it is unchanged, else a fresh copy of what the run keeps.

    Args:
      read: the content of a file of the run, by its name.
      where: the run, for messages.
      trust: run the code although its digest is not in the list of this person; the digest is added.

    Raises:
      ValueError: the code is not trusted, or the copy is incomplete or changed.
    """
    trusted = _trusted()
    if not trust and code.sha256 not in trusted:
        raise ValueError(
            f"expected code that you have trained or trusted before, got {', '.join(code.files)} of {where} (sha256 "
            f"{code.sha256[:12]}), which is run to build the model; read it, then add --trust-code "
            "(dgmzoo.load(..., trust_code=True)), or name your own file by --experiment"
        )
    if code.path in trusted.get(code.sha256, ()):  # this person ran it there: its folder is none that came with the run
        original = Path(code.path)
        with contextlib.suppress(OSError, IndexError):
            folder = original.parents[len(PurePosixPath(code.main).parts) - 1]
            if all(_sha256((folder / name).read_bytes()) == sha256 for name, sha256 in code.files.items()):
                return original
    if trust:
        add_trusted(code.sha256)
    # In a new folder nothing is importable but the files that are checked here.
    folder = Path(tempfile.mkdtemp(prefix="dgmzoo-code-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, sha256 in code.files.items():
        try:
            content = read(name)
        except (OSError, KeyError) as error:
            raise ValueError(f"expected the file {name!r} of the model's code in {where}, got none") from error
        if len(content) > _MAX_BYTES or _sha256(content) != sha256:
            raise ValueError(f"expected the file {name!r} of {where} as it was when the run began, got a changed one")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    copy = (folder / code.main).resolve()
    _COPIES[str(copy)] = code
    return copy


def add_trusted(sha256: str, path: str = "") -> None:
    """Add a digest to the list of this person, which is kept in the cache; without a writable cache there is none.

    Args:
      path: where this person ran the file; empty for code that came with a run.
    """
    if path in _trusted().get(sha256, ()):
        return
    with contextlib.suppress(OSError):
        _list_path().parent.mkdir(parents=True, exist_ok=True)
        with _list_path().open("a") as file:
            file.write(f"{sha256} {path}\n")


def _trusted() -> dict[str, set[str]]:
    """Digest -> the paths where this person ran the file."""
    trusted: dict[str, set[str]] = {}
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in _list_path().read_text().splitlines():
            sha256, _, path = line.partition(" ")
            trusted.setdefault(sha256, set()).add(path)
    return trusted


def _list_path() -> Path:
    return root() / "trusted-code.txt"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
