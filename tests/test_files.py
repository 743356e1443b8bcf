"""Small files are replaced as a whole, or keep their content."""

import errno
import os

import pytest

from dgmzoo import files


def test_file_that_cannot_be_written_keeps_its_content(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    files.write_json(path, {"a": 1})

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    message = r"could not write .*result.json \(No space left on device\); .*make room"
    for write in (files.write_text, files.append_text):
        with pytest.raises(files.CannotWrite, match=message):
            write(path, "new")
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"], "no temporary file is left"
    assert path.read_text().startswith('{\n "a": 1\n}')
