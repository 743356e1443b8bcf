"""`load`: a data config to a `Dataset`: verified rows, split, and the function that observes them inside a training step."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.data import draws, own, registry, store
from dgmzoo.data.config import Data
from dgmzoo.data.registry import Entry

MAPPED = 1 << 30
"""Bytes above which the rows of a split stay on disk and are gathered as they are asked for."""


class Rows:
    """Some rows of an array that stays where it is: `rows[indices]` gathers; for sets larger than memory."""

    def __init__(self, base: np.ndarray, numbers: np.ndarray):
        self.base, self.numbers = base, numbers
        self.dtype, self.ndim, self.shape = base.dtype, base.ndim, (len(numbers), *base.shape[1:])
        self.nbytes = int(np.prod(self.shape)) * base.dtype.itemsize

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self.base[self.numbers[index]]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self.base[self.numbers], dtype)


@dataclass(frozen=True)
class Observe:
    """Rows as stored to a batch as modelled: pure, part of the protocol, called inside the training step."""

    binarization: str | None
    maximum: int | None
    kind: str

    def __call__(self, key: jax.Array, rows: Mapping[str, Any]) -> dict[str, jax.Array]:
        """A float32 batch (int32 for tokens) from rows `x` [B, ...]; `label` and `mask` pass through."""
        x = jnp.asarray(rows["x"])
        return {**{name: jnp.asarray(a) for name, a in rows.items()}, "x": self._values(key, x)}

    def _values(self, key: jax.Array, x: jax.Array) -> jax.Array:
        if self.binarization == "dynamic":
            return (_uniform16(key, x.shape) < _threshold(x, self.maximum)).astype(jnp.float32)
        if self.binarization == "threshold":
            return _above_half(x, self.maximum, jnp).astype(jnp.float32)
        if self.binarization == "gray" and self.maximum is not None:
            return x.astype(jnp.float32) / self.maximum
        return x.astype(jnp.int32 if self.kind == "tokens" else jnp.float32)


def _uniform16(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform whole numbers 0..65535, uint32, two from each 32-bit word: half the cost of the draw."""
    size = int(np.prod(shape))
    words = jax.random.bits(key, ((size + 1) // 2,), jnp.uint32)
    halves = jnp.concatenate([words & jnp.uint32(0xFFFF), words >> jnp.uint32(16)])
    return halves[:size].reshape(shape)


def _threshold(x: jax.Array, maximum: int | None) -> jax.Array:
    """`draws.threshold` on the device: uint32 in 0..65536, off by at most 2^-17 of the probability."""
    if maximum is None:
        return jnp.round(x.astype(jnp.float32) * 65536).astype(jnp.uint32)
    return (x.astype(jnp.uint32) * jnp.uint32(65536) + jnp.uint32(maximum // 2)) // jnp.uint32(maximum)


def _above_half(x: Any, maximum: int | None, xp: Any) -> Any:
    """x / maximum > 1/2; exactly one half is 0."""
    return x > 0.5 if maximum is None else x.astype(xp.int32) * 2 > maximum


@dataclass(frozen=True, eq=False)
class Dataset:
    """A set as loaded: named splits of rows, what a row is, and how it is observed."""

    name: str
    sha256: str
    """Digest of the decoded content, before splitting."""
    splits: Mapping[str, Mapping[str, Any]]
    """split -> {"x": [N, *shape], "label": int32 [N], "mask": bool [N, ...]}; arrays, mapped arrays or `Rows`."""
    shape: tuple[int, ...]
    """Shape of one example; images are [H, W, C]."""
    binarization: str | None
    """As resolved: dynamic, static, threshold, gray, or None where rows are taken as they are."""
    observe: Observe
    """(key, rows) -> batch: pure, for use inside the training step."""
    numbers: Mapping[str, np.ndarray]
    """split -> [N] the rows' places in the whole set."""
    seed: int
    num_classes: int | None
    entry: Entry

    def fixed(self, split: str, num: int | None = None) -> dict[str, np.ndarray]:
        """The first `num` (all) rows of a split as evaluation reads them: observed once, by `data.seed`, on the host.

        A dynamic set is binarized by a draw that depends on the seed and the row alone, the same on every platform.
        """
        if split not in self.splits:
            raise ValueError(
                f"expected a split of {self.name}, one of {', '.join(self.splits)}, got {split!r}"
            )
        rows = {name: np.asarray(a[:num]) for name, a in self.splits[split].items()}
        x, maximum = rows["x"], self.entry.maximum
        if self.binarization == "dynamic":
            x = draws.binarize(x, self.numbers[split][:num], maximum, self.seed)
        elif self.binarization == "threshold":
            x = _above_half(x, maximum, np)
        elif self.binarization == "gray" and maximum is not None:
            x = x.astype(np.float32) / np.float32(maximum)
        rows["x"] = x.astype(np.int32 if self.observe.kind == "tokens" else np.float32)
        return rows


def load(config: Data) -> Dataset:
    """The data set that a config names: found, verified, split, binarized.

    Raises:
      ValueError: content, values or protocol are not what they should be.
      FileNotFoundError: the set or file is nowhere to be found.
    """
    if config.arrays is not None:
        known, arrays = own.describe(config.name, own.in_memory(config.arrays))
        sha256 = store.digest(arrays)
    elif config.name in registry.catalogue():
        known = registry.entry(config.name)
        arrays, sha256 = store.arrays(config.name)
    elif (path := Path(config.name).expanduser()).exists():
        known, arrays = own.describe(path.name, own.read(path))
        sha256 = store.digest(arrays)
    elif path.suffix or len(path.parts) > 1:
        raise FileNotFoundError(f"expected a file or folder of data, found nothing at {path}")
    else:
        registry.entry(config.name)  # raises, with the nearest names
    binarization = _binarization(config, known, arrays)
    numbers = split(config, known)
    starts = dict(zip(known.splits, np.cumsum([0, *known.splits.values()]).tolist(), strict=False))
    splits = {
        name: {
            field: _gather(arrays, pools, field, starts)
            for field in ("x", "label", "mask")
            if f"{next(iter(known.splits))}/{field}" in arrays
        }
        for name, pools in numbers.items()
    }
    if binarization == "static" and known.binarization != "static":
        for name, rows in splits.items():
            rows["x"] = draws.binarize(np.asarray(rows["x"]), numbers[name], known.maximum, config.seed)
    return Dataset(
        name=known.name,
        sha256=sha256,
        splits=splits,
        shape=tuple(next(iter(splits.values()))["x"].shape[1:]),
        binarization=binarization,
        observe=Observe(binarization, known.maximum, known.kind),
        numbers=numbers,
        seed=config.seed,
        num_classes=known.num_classes,
        entry=known,
    )


def _binarization(config: Data, known: Entry, arrays: Mapping[str, np.ndarray]) -> str | None:
    """The binarization that a config and a set resolve to, refused where it has no meaning."""
    chosen = config.binarization or known.binarization
    if chosen is None:
        return None
    if known.maximum == 1 and chosen != known.binarization:
        raise ValueError(
            f"expected data.binarization None for {known.name}, whose values are 0 or 1, got {chosen!r}"
        )
    if known.maximum is None:
        for key, a in arrays.items():
            if key.endswith("/x") and (known.dtype != "float32" or a.min() < 0 or a.max() > 1):
                raise ValueError(
                    f"expected values in [0, 1] or 8-bit intensities for data.binarization={chosen!r}, got {a.dtype} "
                    f"from {a.min()} to {a.max()} in {known.name}; rescale them, or leave data.binarization None"
                )
    return chosen


def split(config: Data, known: Entry) -> dict[str, np.ndarray]:
    """split -> [N] row numbers in the whole set, ascending; what the set does not publish is drawn by the seed."""
    start, pools = 0, {}
    for name, count in known.splits.items():
        pools[name] = np.arange(start, start + count)
        start += count
    out = {}
    if "all" in pools:
        shuffled = draws.order(config.seed, 0, start, "split")
        num_test = known.drawn["test"]
        out["test"], rest = np.sort(shuffled[:num_test]), shuffled[num_test:]
        num_valid = known.drawn["valid"] if config.num_validation is None else config.num_validation
    else:
        if "test" in pools:
            out["test"] = pools["test"]
        rest = pools["train"]
        num_valid = config.num_validation
        if num_valid is None:
            if "valid" in pools:
                return {"train": rest, "valid": pools["valid"], **out}
            num_valid = 0
        rest = np.concatenate([rest, pools.get("valid", rest[:0])])
        if num_valid:
            rest = rest[draws.order(config.seed, 0, len(rest), "split")]
    if num_valid >= len(rest):
        raise ValueError(
            f"expected data.num_validation below the {len(rest)} training rows of {known.name}, got {num_valid}"
        )
    valid = {"valid": np.sort(rest[:num_valid])} if num_valid else {}
    return {"train": np.sort(rest[num_valid:]), **valid, **out}


def _gather(
    arrays: Mapping[str, np.ndarray], numbers: np.ndarray, field: str, starts: Mapping[str, int]
) -> Any:
    """The rows `numbers` of one field; a whole published split is handed on as it is."""
    for name, start in starts.items():
        a = arrays[f"{name}/{field}"]
        if len(numbers) == len(a) and numbers[0] == start:
            return a
    sources = [
        name
        for name, start in starts.items()
        if numbers[-1] >= start and numbers[0] < start + len(arrays[f"{name}/{field}"])
    ]
    if len(sources) == 1:
        base, local = arrays[f"{sources[0]}/{field}"], numbers - starts[sources[0]]
        return Rows(base, local) if base.nbytes > MAPPED else base[local]
    joined = np.concatenate([arrays[f"{name}/{field}"] for name in sources])
    return joined[numbers - starts[sources[0]]]
