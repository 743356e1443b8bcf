"""Running the command as a user does, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SMALL = ("--model.encoder.hidden", "8", "--model.decoder.hidden", "8", "--evaluation.num-samples", "10")


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
