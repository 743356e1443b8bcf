"""`Exported`: a trained model in one file, as `dgmzoo export` writes it; `export`: write such a file.

The file is an uncompressed zip archive of the configuration, the description of the data, the parameters as safetensors,
the metrics, the result, and the user's code under `source/`. Reading it runs no code.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from dgmzoo.config.experiment import Experiment
from dgmzoo.files import write_bytes
from dgmzoo.training.run_code import load_experiment_of
from dgmzoo.training.run_config import check_config

_CONFIG, _DATA, _PARAMETERS, _MODEL = "config.json", "data.json", "parameters.safetensors", "model.json"
_MAX_BYTES = 4 << 30  # of one member


class Exported:
    """A trained model in one file.

    Raises:
      ValueError: not such a file, or a damaged one.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    if member.compress_type != zipfile.ZIP_STORED or member.file_size > _MAX_BYTES:
                        raise ValueError(f"{member.filename} is compressed, or larger than {_MAX_BYTES:,} bytes")
                self._members = {member.filename: archive.read(member) for member in archive.infolist()}
            for name in (_CONFIG, _DATA, _PARAMETERS, _MODEL):
                if name not in self._members:
                    raise ValueError(f"{name} is missing")
            self._model = json.loads(self._members[_MODEL])
            self.step = int(self._model["step"])
        except (zipfile.BadZipFile, ValueError, KeyError, TypeError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"expected a file that `dgmzoo export` wrote, got {path} ({error})") from error

    def config(self) -> dict[str, Any]:
        """The configuration of the run."""
        return check_config(self._json(_CONFIG), f"{self.path}")

    def description(self) -> dict[str, Any]:
        """The description of the data that the model was trained on."""
        return self._json(_DATA)

    def experiment(self, trust_code: bool = False) -> Experiment:
        """The experiment, loaded by name or from the code in the file, and overridden.

        Raises:
          ValueError: as `RunDirectory.experiment`.
        """
        return load_experiment_of(self.config(), self._members.__getitem__, str(self.path), trust_code)

    def result(self) -> dict[str, Any] | None:
        """The record of the run, if it was measured."""
        return self._model.get("result")

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of metrics."""
        return self._model.get("metrics") or []

    def variables(self, shapes: Any) -> Any:
        """The selected variables, as arrays of the structure, shapes and dtypes of `shapes`.

        Raises:
          ValueError: the file holds other arrays.
        """
        try:
            arrays = safetensors.numpy.load(self._members[_PARAMETERS])
        except Exception as error:  # safetensors' own error type is not public
            raise ValueError(f"expected intact parameters in {self.path}, got damaged ones ({error})") from error
        named, structure = jax.tree.flatten_with_path(shapes)
        expected = {_name(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in named}
        stored = {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()}
        if stored != expected:
            names = sorted(name for name in {*stored, *expected} if stored.get(name) != expected.get(name))
            differences = "; ".join(f"{name}: {expected.get(name)}, got {stored.get(name)}" for name in names[:3])
            raise ValueError(f"expected {self.path} to hold this experiment's arrays ({differences})")
        return jax.tree.unflatten(structure, [arrays[name] for name in expected])

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self._members[name])
        except ValueError as error:
            raise ValueError(f"expected JSON in {name} of {self.path}, got {error}") from error


def export(
    path: Path,
    config: Mapping[str, Any],
    description: Mapping[str, Any],
    code: Mapping[str, bytes],
    variables: Any,
    step: int,
    metrics: list[dict[str, Any]],
    result: Mapping[str, Any] | None,
) -> None:
    """Write a trained model as one file, atomically.

    Args:
      code: name in the archive -> content, of the user's code.
      variables: the selected variables.

    Raises:
      CannotWrite: the disk is full, or the folder cannot be written.
    """
    leaves = jax.tree.leaves_with_path(jax.device_get(variables))
    arrays = {_name(path): np.ascontiguousarray(leaf) for path, leaf in leaves}
    model = {"step": step, "metrics": metrics, "result": result}
    texts = {_CONFIG: config, _DATA: description, _MODEL: model}
    members = {name: json.dumps(text, indent=1).encode() for name, text in texts.items()}
    members |= {_PARAMETERS: safetensors.numpy.save(arrays), **code}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # without the time, so that equal models are equal files
    write_bytes(path, buffer.getvalue())


def _name(path: Any) -> str:
    return "/".join(str(getattr(part, "key", getattr(part, "name", getattr(part, "idx", part)))) for part in path)
