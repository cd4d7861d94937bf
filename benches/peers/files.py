"""Reads and writes .fvecs and .ivecs: each row is its length as an i32, then its numbers, all of four bytes, little-endian."""

import os

import numpy as np


class Fvecs:
    """Writes .fvecs piece by piece; the name appears when all is there."""

    def __init__(self, path):
        self.path, self.unfinished = path, path.with_suffix(".unfinished")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.unfinished, "wb")

    def write(self, vectors):
        dims = np.full((len(vectors), 1), vectors.shape[1], dtype="<i4").view("<f4")
        self.file.write(np.hstack([dims, vectors.astype("<f4")]).tobytes())

    def finish(self):
        self.file.close()
        os.replace(self.unfinished, self.path)


def write_fvecs(path, vectors):
    file = Fvecs(path)
    file.write(vectors)
    file.finish()


def map_vecs(path, kind="<f4"):
    """The rows of a file, read as they are touched."""
    numbers = np.memmap(path, dtype=kind, mode="r")
    dims = int(numbers[:1].view("<i4")[0])
    return numbers.reshape(-1, dims + 1)[:, 1:]


def read_fvecs(path):
    return np.ascontiguousarray(map_vecs(path))
