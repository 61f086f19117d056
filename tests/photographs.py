"""Photographs of known colors, stored in the ways of cameras and editors.

What is stored is computed here by the formulas of the color spaces, with neither Pillow nor a color library.
"""

import struct
import zlib

import numpy as np

# Red, green and blue of a color space in XYZ of D50 (the columns of its matrix), and its gamma.
SPACES = {
    "Adobe RGB": ([(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)], 2.19921875),
    "ProPhoto": ([(0.79767, 0.28804, 0), (0.13519, 0.71188, 0), (0.03135, 0.00008, 0.82510)], 1.8),
    "wide gamut": ([(0.71607, 0.25820, 0), (0.10093, 0.72493, 0.05178), (0.14715, 0.01687, 0.77344)], 2.2),
}
SRGB = np.array([(0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)]).T


def stored_in(space: str, color) -> list[int]:
    """The numbers (0 … 255) with which a file of a color space says what sRGB says with `color`."""
    rows, gamma = SPACES[space]
    v = np.asarray(color) / 255
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    return (
        (255 * np.clip(np.linalg.solve(np.array(rows).T, SRGB @ linear), 0, 1) ** (1 / gamma))
        .round()
        .astype(int)
        .tolist()
    )


def icc_profile(space: str) -> bytes:
    """The profile of a color space: a matrix and a gamma, version 2."""
    rows, gamma = SPACES[space]
    fixed = lambda *values: b"".join(struct.pack(">i", round(v * 65536)) for v in values)
    tags = {
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249),
        b"cprt": b"text\0\0\0\0none\0",
        b"desc": b"desc\0\0\0\0\0\0\0\5test\0" + bytes(78),
    }
    for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), rows):
        tags[name] = b"XYZ \0\0\0\0" + fixed(*xyz)
    for name in (b"rTRC", b"gTRC", b"bTRC"):
        tags[name] = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    table, body = b"", b""
    for name, value in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = (
        bytes(4)
        + struct.pack(">I", 0x02400000)
        + b"mntrRGB XYZ "
        + bytes(12)
        + b"acsp"
        + bytes(28)
        + fixed(0.9642, 1, 0.8249)
        + bytes(48)
    )
    return struct.pack(">I", 132 + len(table + body)) + head + struct.pack(">I", len(tags)) + table + body


def exif(orientation: int, *others: bytes) -> bytes:
    """EXIF data with an orientation, and other entries of twelve bytes each, however odd."""
    entries = [struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0), *others]
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + b"".join(entries) + bytes(4)


def lying(x: np.ndarray, orientation: int) -> np.ndarray:
    """The picture that looks like `x` once it is turned as EXIF's `orientation` says."""
    return {
        1: x,
        2: x[:, ::-1],
        3: x[::-1, ::-1],
        4: x[::-1],
        5: x.swapaxes(0, 1),
        6: np.rot90(x, 1),
        7: x[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(x, -1),
    }[orientation]


def png_with_key(levels: np.ndarray, bits: int, key: int) -> bytes:
    """A gray PNG of 1 to 16 bits, of which one level stands for nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    h, w = levels.shape
    if bits == 16:
        rows = levels.astype(">u2").view(np.uint8).reshape(h, -1)
    else:
        rows = np.packbits(
            ((levels[..., None] >> np.arange(bits - 1, -1, -1)) & 1).reshape(h, -1).astype(np.uint8), axis=1
        )
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, bits, 0, 0, 0, 0))
        + chunk(b"tRNS", struct.pack(">H", key))
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def quarters(colors, width: int, height: int) -> np.ndarray:
    """uint8 (height, width, channels): upper left, upper right, lower left and lower right in a color each."""
    x = np.empty((height, width, len(colors[0])), np.uint8)
    for k, color in enumerate(colors):
        x[
            (k // 2) * (height // 2) : height if k > 1 else height // 2,
            (k % 2) * (width // 2) : width if k % 2 else width // 2,
        ] = color
    return x
