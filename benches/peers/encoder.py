"""One query at a time on one thread, and documents on all: Kindred beside Python's onnxruntime, sentence-transformers and fastembed.

All embed the same texts with the same weights; every round goes through all of them, and what is told are medians of the rounds.
"""

import argparse
import importlib.metadata
import json
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

BATCHES = (1, 8, 16, 32, 64)


class OnnxRuntime:
    """The graph that Kindred runs, by onnxruntime's and tokenizers' Python packages."""

    package = "onnxruntime"

    def __init__(self, model_dir, file, threads):
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(model_dir / file), options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        self.tokenizer.enable_truncation(256)
        self.tokenizer.enable_padding()

    def encode(self, texts):
        encoded = self.tokenizer.encode_batch(texts)
        ids = np.array([e.ids for e in encoded], np.int64)
        mask = np.array([e.attention_mask for e in encoded], np.int64)
        hidden = self.session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        weights = mask[..., None].astype(np.float32)
        pooled = (hidden * weights).sum(1) / weights.sum(1)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


class SentenceTransformers:
    package = "sentence-transformers"

    def __init__(self, source, threads):
        import torch
        from sentence_transformers import SentenceTransformer

        self.torch, self.threads = torch, threads
        self.model = SentenceTransformer(str(source), device="cpu")

    def encode(self, texts):
        self.torch.set_num_threads(self.threads)
        return self.model.encode(texts, batch_size=len(texts), normalize_embeddings=True, show_progress_bar=False)


class FastEmbed:
    package = "fastembed"

    def __init__(self, source, threads):
        from fastembed import TextEmbedding

        name = "sentence-transformers/all-MiniLM-L6-v2"
        self.model = TextEmbedding(name, specific_model_path=str(source), threads=threads)

    def encode(self, texts):
        return np.array(list(self.model.embed(texts, batch_size=len(texts))))


def one_at_a_time(engine, queries, seconds):
    for query in queries[:5]:
        engine.encode([query])
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        engine.encode([queries[len(times) % len(queries)]])
        times.append((time.perf_counter() - started) * 1e3)
    return {"p10_ms": np.percentile(times, 10), "p50_ms": np.percentile(times, 50), "p99_ms": np.percentile(times, 99)}


def in_batches(engine, documents, batch, seconds):
    engine.encode(documents[:batch])
    n, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        at = n % (len(documents) - batch + 1)
        engine.encode(documents[at : at + batch])
        n += batch
    return n / (time.perf_counter() - started)


def kindred(args, part, texts):
    command = [args.kindred, "bench", "encoder", "--only", part, "--rounds", "1", "--seconds", str(args.seconds), "--json", "-"]
    command += ["--queries", texts / "queries.txt", "--texts", texts / "documents.txt", "--model-dir", args.model_dir, "--set", "encoder.device=cpu"]
    if args.ort_library:
        command += ["--set", f"encoder.ort_library={args.ort_library}"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)[part]


def made_up():
    roles = ["nurse", "welder", "backend engineer", "teacher", "pastry chef", "accountant", "truck driver", "architect"]
    skills = ["reads drawings", "speaks three languages", "keeps calm", "plans ahead", "writes clearly", "lifts loads", "teaches others", "sells"]
    work = ["night shifts", "a small team", "an old harbour", "heavy machines", "young people", "a growing company", "public offices", "trains"]
    queries = [f"{r}, {s}, {w}" for r in roles for s in skills for w in work]
    queries = [queries[i * 197 % len(queries)] for i in range(len(queries))]
    documents = [". ".join(f"{q}, reference {i}" for q in (queries * 2)[i : i + 6]) for i in range(400)]
    return queries, documents


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kindred", default="target/release/kindred", help="the program")
    parser.add_argument("--model-dir", type=pathlib.Path, default=pathlib.Path("models/all-MiniLM-L6-v2"), help="Kindred's model folder")
    parser.add_argument("--ort-library", help="setting encoder.ort_library")
    parser.add_argument("--source", type=pathlib.Path, help="the sentence-transformers folder that it was made from; without it only onnxruntime is measured")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="for documents")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("vec/encoder"), help="folder for the texts")
    parser.add_argument("--json", help="write the result to this file")
    args = parser.parse_args()

    args.work.mkdir(parents=True, exist_ok=True)
    queries, documents = made_up()
    (args.work / "queries.txt").write_text("\n".join(queries) + "\n")
    (args.work / "documents.txt").write_text("\n".join(documents) + "\n")

    def engines(threads):
        made = {f"onnxruntime, {p}": OnnxRuntime(args.model_dir, f, threads) for p, f in (("int8", "model.int8.onnx"), ("fp32", "model.onnx"))}
        if args.source:
            made["sentence-transformers"] = SentenceTransformers(args.source, threads)
            fast = args.work / "fastembed"
            fast.mkdir(exist_ok=True)
            for path in [*args.source.glob("*.json"), args.model_dir / "model.onnx"]:
                link = fast / path.name
                link.unlink(missing_ok=True)
                link.symlink_to(path.resolve())
            made["fastembed"] = FastEmbed(fast, threads)
        return made

    alone, bulk = {}, {}
    single = engines(1)
    for round in range(args.rounds):
        print(f"one at a time: round {round + 1} of {args.rounds}", file=sys.stderr)
        for row in kindred(args, "alone", args.work):
            alone.setdefault(f"Kindred, {row['precision']}", []).append(row)
        for name, engine in single.items():
            alone.setdefault(name, []).append(one_at_a_time(engine, queries, args.seconds))
    reference = list(single.values())[-1].encode(queries[:100])
    for name, engine in single.items():
        cosine = (engine.encode(queries[:100]) * reference).sum(1)
        print(f"{name}: cosine to {list(single)[-1]} at least {cosine.min():.5f}", file=sys.stderr)
    del single
    several = engines(args.threads)
    for round in range(args.rounds):
        print(f"documents: round {round + 1} of {args.rounds}", file=sys.stderr)
        for row in kindred(args, "bulk", args.work):
            bulk.setdefault(f"Kindred, {row['precision']}", []).append((row["documents_per_s"], 0))
        for name, engine in several.items():
            rates = [(in_batches(engine, documents, batch, args.seconds / len(BATCHES)), batch) for batch in BATCHES]
            bulk.setdefault(name, []).append(max(rates))

    median = lambda rounds, key: statistics.median(row[key] for row in rounds)
    print("| one query at a time, one thread | p10 / p50 / p99 ms | p50 to Kindred, int8 |\n|---|---|---|")
    best = median(alone["Kindred, int8"], "p50_ms")
    for name, rounds in alone.items():
        p10, p50, p99 = (median(rounds, key) for key in ("p10_ms", "p50_ms", "p99_ms"))
        print(f"| {name} | {p10:.2f} / {p50:.2f} / {p99:.2f} | {p50 / best:.2f} × |")
    print(f"\n| documents, {args.threads} threads | documents/s | best batch | to sentence-transformers |\n|---|---|---|---|")
    base = statistics.median(rate for rate, _ in bulk.get("sentence-transformers", [(float("nan"), 0)]))
    for name, rounds in bulk.items():
        rate = statistics.median(rate for rate, _ in rounds)
        print(f"| {name} | {rate:.1f} | {statistics.mode(batch for _, batch in rounds) or '–'} | {rate / base:.2f} × |")
    versions = {}
    for package in ("onnxruntime", "sentence-transformers", "torch", "fastembed", "tokenizers"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    print("\n" + ", ".join(f"{name} {version}" for name, version in versions.items()))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"alone": alone, "bulk": bulk, "versions": versions}, indent=1, default=float))


if __name__ == "__main__":
    main()
