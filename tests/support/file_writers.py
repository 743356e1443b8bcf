"""Writers of small files in the published forms of data sets: idx, wav, 16-bit images, the four files of MNIST."""

import gzip
import io
import struct
import wave
import zlib

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


def png16_bytes(x: np.ndarray) -> bytes:
    """Content of a PNG of 16 bits a value: x uint16 [H, W, 2, 3 or 4] is gray with alpha, RGB, or RGBA."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, channels = x.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in x)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff16_bytes(x: np.ndarray) -> bytes:
    """Content of an uncompressed TIFF of 16 bits a value: x uint16 [H, W, 3]."""
    height, width, channels = x.shape
    pixels = x.astype("<u2").tobytes()
    depths = struct.pack("<3H", 16, 16, 16)
    tags = [  # number, type (3: short, 4: long), count, value or position
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, 8 + len(pixels)),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, 1, len(pixels)),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + b"\0" * 4
    return b"II*\0" + struct.pack("<I", 8 + len(pixels) + len(depths)) + pixels + depths + directory
