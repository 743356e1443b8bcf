"""Writers of small files in the published forms of data sets: idx, wav, and the four files of MNIST."""

import gzip
import io
import struct
import wave

import numpy as np


def idx_bytes(array: np.ndarray) -> bytes:
    """Content of an idx file of unsigned bytes."""
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def mnist_files(rows: dict[str, int], seed: int = 0) -> tuple[dict[str, bytes], dict[str, np.ndarray]]:
    """A random MNIST of `rows` (of train and test): name -> content of its four packed files, and the decoded arrays."""
    random = np.random.default_rng(seed)
    contents, arrays = {}, {}
    for split, stem in (("train", "train"), ("test", "t10k")):
        x = random.integers(0, 256, (rows[split], 28, 28)).astype(np.uint8)
        label = random.integers(0, 10, rows[split]).astype(np.uint8)
        contents[f"{stem}-images-idx3-ubyte.gz"] = gzip.compress(idx_bytes(x), mtime=0)
        contents[f"{stem}-labels-idx1-ubyte.gz"] = gzip.compress(idx_bytes(label), mtime=0)
        arrays |= {f"{split}/x": x[..., None], f"{split}/label": label.astype(np.int32)}
    return contents, arrays


def write_files(folder, contents: dict[str, bytes]) -> None:
    """Write files (name -> content) into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def wav_bytes(samples: np.ndarray, rate: int = 8000) -> bytes:
    """Content of a wav file, mono, of 16-bit samples."""
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(samples.astype("<i2").tobytes())
    return out.getvalue()
