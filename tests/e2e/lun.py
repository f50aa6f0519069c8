# SPDX-License-Identifier: Apache-2.0
"""What is in the backing files of LUNs: stamped blocks, sparse patterns, comparisons.

A stamped block of 4096 bytes says where it belongs, who wrote it and when, and has a checksum over all of it, so
that a block that is old, mixed or in the wrong place is told apart from one that is right.
"""

import os
import random
import struct
import zlib

BLOCK = 4096
MIB = 1 << 20
_HEAD = struct.Struct("<8sQIQI")  # magic, byte offset, writer, sequence, crc32 of the block with this field 0
_MAGIC = b"smirrorB"
_noise = random.Random(20261121).randbytes(8 * BLOCK + 4096)


def stamp(offset, writer=1, sequence=1):
    """The block for this place."""
    # Different noise in each block, so that none can stand for another: it begins at a place that depends on all of it.
    start = (offset // BLOCK * 37 + writer * 1009 + sequence * 251) % (7 * BLOCK)
    body = _noise[start:start + BLOCK - _HEAD.size]
    crc = zlib.crc32(body, zlib.crc32(_HEAD.pack(_MAGIC, offset, writer, sequence, 0)))
    return _HEAD.pack(_MAGIC, offset, writer, sequence, crc) + body


def read_stamp(block, offset):
    """(writer, sequence) of a block, None when it is all zeros; raises when it is neither."""
    magic, at, writer, sequence, crc = _HEAD.unpack_from(block)
    if magic != _MAGIC:
        if not any(block):
            return None
        raise AssertionError(f"block at {offset} is neither stamped nor zero: {block[:32]!r}")
    if at != offset:
        raise AssertionError(f"block at {offset} belongs to {at}")
    body = block[_HEAD.size:]
    if zlib.crc32(body, zlib.crc32(_HEAD.pack(_MAGIC, at, writer, sequence, 0))) != crc:
        raise AssertionError(f"block at {offset} is damaged (writer {writer}, sequence {sequence})")
    return writer, sequence


def create(path, size):
    """A sparse file."""
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def fill(path, extents, writer=1, sequence=1):
    """Stamps each block of the extents (offset, length), which are multiples of 4096."""
    with open(path, "r+b") as file:
        for offset, length in extents:
            while length > 0:
                piece = min(length, 4 * MIB)
                file.seek(offset)
                file.write(b"".join(stamp(at, writer, sequence) for at in range(offset, offset + piece, BLOCK)))
                offset += piece
                length -= piece


def full(path, size, writer=1, sequence=1):
    """A file that is stamped from end to end."""
    create(path, size)
    fill(path, [(0, size)], writer, sequence)
    return path


def scattered(size, fraction, extent, seed=1):
    """Extents of one length at seeded places that make up this fraction of the size, sorted, never touching."""
    slots = size // (2 * extent)
    chosen = random.Random(seed).sample(range(slots), int(size * fraction) // extent)
    return [(slot * 2 * extent, extent) for slot in sorted(chosen)]


def sparse(path, size, fraction=0.1, extent=64 * 1024, seed=1, writer=1):
    create(path, size)
    extents = scattered(size, fraction, extent, seed)
    fill(path, extents, writer)
    return extents


def dirty(path, size, byte=0xdb):
    """A file full of what must not be there afterwards."""
    pattern = bytes([byte]) * MIB
    with open(path, "wb") as file:
        for offset in range(0, size, MIB):
            file.write(pattern[:min(MIB, size - offset)])
    return path


def allocated(path):
    """Bytes that the file system has given the file."""
    return os.stat(path).st_blocks * 512


def first_difference(one, other, length=None):
    """Byte offset of the first difference of two files over length (default: of the first), None when equal."""
    with open(one, "rb") as file_one, open(other, "rb") as file_other:
        length = os.fstat(file_one.fileno()).st_size if length is None else length
        for offset in range(0, length, 4 * MIB):
            piece_one = file_one.read(min(4 * MIB, length - offset))
            piece_other = file_other.read(min(4 * MIB, length - offset))
            if piece_one != piece_other:
                same = min(len(piece_one), len(piece_other))
                return offset + next((i for i in range(same) if piece_one[i] != piece_other[i]), same)
    return None


def assert_equal(source, target, length=None):
    """The target begins with the source, byte by byte."""
    at = first_difference(source, target, length)
    assert at is None, f"{target} differs from {source} at byte {at}"


def assert_byte(path, byte, offset, length):
    """That range holds this byte and nothing else."""
    with open(path, "rb") as file:
        file.seek(offset)
        while length > 0:
            piece = file.read(min(length, MIB))
            assert piece == bytes([byte]) * len(piece), f"{path} was written to at about byte {file.tell() - len(piece)}"
            length -= len(piece)
