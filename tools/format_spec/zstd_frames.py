"""Zstandard frames whose bytes no library decides: built by hand from RFC 8878, or recorded."""

from __future__ import annotations

import base64
import struct

MAGIC = b"\x28\xb5\x2f\xfd"


def raw_block(data: bytes, *, last: bool = True) -> bytes:
    """Return a block with the data as they are."""
    return (len(data) << 3 | last).to_bytes(3, "little") + data


def rle_block(byte: int, count: int, *, last: bool = True) -> bytes:
    """Return a block that stands for one byte, `count` times."""
    return (count << 3 | 1 << 1 | last).to_bytes(3, "little") + bytes([byte])


def frame(
    data: bytes,
    blocks: bytes | None = None,
    *,
    size: int | None = None,
    field: int | None = None,
    checksum: bytes = b"",
) -> bytes:
    """Return a frame with the content `data`, as one raw block unless `blocks` are given.

    Args:
        size: the content size that the frame states, if not the true one.
        field: bytes of Frame_Content_Size: 1, 2, 4 or 8 with a single segment; 0 leaves it out and states a window.
        checksum: the last four bytes of a frame that has one.
    """
    blocks = raw_block(data) if blocks is None else blocks
    size = len(data) if size is None else size
    if field == 0:
        return MAGIC + b"\x00\x58" + blocks
    field = field or (1 if size < 256 else 2 if size < 65536 + 256 else 4)
    flag = {1: 0, 2: 1, 4: 2, 8: 3}[field]
    declared = struct.pack("<Q", size - 256 if field == 2 else size)[:field]
    descriptor = flag << 6 | 0x20 | (0x04 if checksum else 0)
    return MAGIC + bytes([descriptor]) + declared + blocks + checksum


def windowed_frame(data: bytes) -> bytes:
    """Return a frame with a window descriptor (2^19 bytes) and a content size of 4 bytes."""
    return MAGIC + bytes([2 << 6, 9 << 3]) + struct.pack("<I", len(data)) + raw_block(data)


def skewed(count: int, below: int, seed: int) -> bytes:
    """Return `count` bytes below `below`, most of them near its middle, as in a plane of codes."""
    state, result = seed, []
    for _ in range(count):
        total = 0
        for _ in range(4):
            state = (state * 1103515245 + 12345) % (1 << 31)
            total += (state >> 16) % below
        result.append(total // 4)
    return bytes(result)


# Made by libzstd 1.5.7: Huffman-coded literals of skewed(500, 35, 1) and skewed(500, 35, 2) at level 1; repeated
# sequences of REPEATED at level 19; skewed(100, 16, 3) with a content checksum; the text of `compressed_recorded` at level 19.
REPEATED = b"".join(bytes([i % 7, i % 11, 3, 1, 4, 1, 5, 9, 2, 6]) for i in range(60))
RECORDED = {
    "winding": (
        "KLUv/WD0AHUJAEafSg0wzkEfCqkiWmWuxn5BRgBFAEYAhgshYc9wQvrheaYdXmFmRoGDWSPT8LHa325x5KqRCtrpiLhCYAvrfCI/"
        "R14eFRUVK6GwPIiw7uhWPH+Vya1G0+gR6LncGudI68AfHKl9GhHKmekG45qkJhqUUmCJBmCKEkP6ONi62HQz42vkV43q232/XC7b"
        "9J3D5ip4JVaX6aZPEC+vm6+UExMmMvxqwjlYDT6HkxFLbIyegv+EOE9xUyWtusIWrBZdqvJeHkGyRFGMVQo/hoPiPZUq9yNLd9GX"
        "RbM8rTCqwamE01j011q4Zgkoqb7WjOG77BHGwsoaUsTBeRB9JT1bykZQ/UAYJyGifFQ38Tyz3hGHDf9Hrf3GZKtlg14JbZtxj5mX"
        "VDOJlkaeQgjwhwYA"
    ),
    "phase": (
        "KLUv/WD0AJUJAEafSw0wUN0DyRvn2ivWrAE3RgBHAEYAifuFVxskqnEkFipboIPShiwbx61LfNeEOgm0TXfq3ZjuyJSejnCFazXc"
        "rrU1SCBi3Mn5pYjPeuAvyVPYzfqcG49Mza8KQwShn6U6F/4k1jUaOl2UZlmh7WMrRuHF59vKT1G6iMOH+kKZVJ7Te7Z0us5nUiin"
        "dO7B+uI7QOkaksY+Pt0bMYyoA+OLIacEaInNxUtdQrSp18Gytdu8TcDWTsKXHCeyERvD2lip2plFw7ENbyE7eekIaZx7ESEj7egd"
        "hmEjhyx7/9a1qyMdMSz7yClzFIMuJhzggjIWlY9vONvIctVjk0GMrn8LxIe4eTQrJXPGFku8qpU/V4MJyGcJczOrjudYPQcVULMx"
        "SXm8ZS8+ZSG25Z69oD6FAA=="
    ),
    "repeated": (
        "KLUv/WBYAWUCAAIID4kzMzMxESU3KfmwaCDY5fT0KmZDIuHAr9lRix6PCoYBPX7Njlo0Ih4MenoVs8vpoFgQyG+35CZ9wqqYBDuk"
        "EPJ7B+DXBaB1Uwo="
    ),
    "checksum": ("KLUv/SRkrQEAQkYMjAARI0MzERDTjdjMvpG8M3cRaEWQWxRTt0ZR3DgOv9lYidASLebwLaYDlTY66nvRAwAMT6R1"),
    "header": (
        "KLUv/WDnEH0WABb1jB9gTdosJQi1DaMeeituCsk1RVOIMlraFFpBK0kAAMoDmQCCAHwADP6FBEmSvwMV15IFM0QgcLKc4hDG+Dsu4Wcs"
        "FBSQ5I4zR+AiFjeHYeAD5Y5bDgwW/xCAAUoCQxQ6+YjGHSwMAf6eIOyTBWYEPEsaEOUmFMcLOy+/0DhX3LPFsrDCHao4xYCxcMbi4Y4N"
        "QMW9L5Q7CA4MwE8WxrObGFCckoAg/Y6wO05h7wDAnkEpWHghQdopLkEWTp7xBjcRBI1DRiHjNp0Wp7ZFDZl1ouamSlXVSCWEmD/aVd2e"
        "E5pd6PTuavYrfMBwNA7Rr/1nKQ+m5Y2eEiZXBrlnc/W21BqWqkbbJmRQO6qSbjMtj+8pDq3JTBCCTEbDgVGcv99xvigSzBmLhAX+ZFHu"
        "aGwAHsW1FyQM5Q60CsELdxyTiEpzQWt5+lEtqdbUSostppXpuCLl5MRMnkWvNCVEp9lhipsyZmGzbPrrHIM4X1EZS8RS02dtzaiVp1G5"
        "K9fVqge9elasTDr/JrMpXGap88otpYNOM8SGkGLqtNjazTbMmL618xtfm5llpie32XNU+QYFdriFMcT/wYKgVHjRRyMNggZB41TZ159m"
        "8JxkCxOi0vPorf67ymDTdsPa0nOqz+VsfdMZ4i625fw8a74xom32nUcZx6MU60SLlyPWtHPbXVeT8W+UiTXvqmpzXShNdkp6to0vw848"
        "yL2PmgmpdPVGRzXziplCyaSFi69YO+icR1d9dqQBPSCgAhEbOg8oJfgN6tBRGfAXGymGXhWAz2ymBF31gN/ZQAn66gF+ZxMoQR+XesB/"
        "MGTu5NhdIVTcB9XveRuu64R2GVS8yzOuLF9ySUX6hzkNJ7RB13a4QCjBFYFTmcOkDASIR49Rb3fLOAyLdRlgA7hqIMIlc0ZI9oGGYtb4"
        "DEMEQ5dnkNcMA4eSLmjxwCA+2fsBBAuMEOh5"
    ),
}


def recorded(name: str) -> bytes:
    """Return a frame of `RECORDED`."""
    return base64.b64decode(RECORDED[name])
