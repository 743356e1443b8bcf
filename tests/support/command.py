"""Running the command: in a process of its own, as a user does, or in this one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SMALL = ("--model.encoder.hidden", "8", "--model.decoder.hidden", "8", "--evaluation.num-samples", "10")
QUICK = (*SMALL, "--training.epochs", "2", "--training.validate-epochs", "1")


def environment(**extra: str) -> dict[str, str]:
    """The tests' environment on one device."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("XLA_FLAGS", "DGMZOO_TRACEBACK", "DGMZOO_DEVICES")
    }
    return {**kept, "JAX_PLATFORMS": "cpu", "COLUMNS": "200", **extra}


def dgmzoo(*words: str, cwd: Path, **extra: str) -> subprocess.CompletedProcess:
    """`dgmzoo words...` to its end."""
    line = [sys.executable, "-m", "dgmzoo", *words]
    return subprocess.run(line, cwd=cwd, env=environment(**extra), capture_output=True, text=True, timeout=300)


def run(*words: str) -> int:
    """Run the command in this process, which has paid for the imports; return the exit status."""
    from dgmzoo.command import main

    with pytest.raises(SystemExit) as stopped:
        main.main(words)
    return stopped.value.code or 0
