"""Kindred's index beside others, on the same vectors, the same cores, in the same minutes.

    python3 benches/peers/peers.py --data vec/wordnet384 --work peers/wordnet384 --kindred target/release/kindred
    python3 benches/peers/peers.py … --k 100 --threads 2 --rounds 5 --engines hnswlib,symphonyqg --json result.json --svg result.svg
    python3 benches/peers/peers.py … --variant kindred --variant kindred-m32:index.max_connections=32

--data is a folder with base.fvecs and queries.fvecs. Indexes that are not in --work yet are built first (--build-threads), each in a
process of its own; CPU seconds are those of all its threads and include writing the file. Then each round measures every engine's whole
sweep of beam widths in turn, each in a process of its own that is held to as many cores as it has threads; the order turns from
round to round. Recall counts by score against one file of exact neighbours, which Kindred writes and NumPy checks here.

The table gives queries a second at equal recall: between two measured widths, the logarithm of the speed is taken to be linear in
recall. "≥" stands where even the narrowest beam finds more, "-" where the widest does not find as much.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from engines import ENGINES, version
from files import map_vecs, read_fvecs
from plot import svg

EFS = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768]
TARGETS = [0.90, 0.95, 0.99]
DEFAULT_ENGINES = ["hnswlib", "faiss-hnsw", "faiss-hnsw-sq8", "usearch", "usearch-bf16", "symphonyqg"]
REFERENCE = "hnswlib"
TIE = 1e-6  # as in kindred bench ann


def say(text):
    print(text, file=sys.stderr, flush=True)


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident_bytes():
    with open("/proc/self/smaps_rollup", encoding="ascii") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Rss:"))


# In a process of its own: build, or measure, one of the other engines.


def build(args, name):
    base = read_fvecs(args.data / "base.fvecs")
    engine, path = ENGINES[name](), args.work / f"{name}.index"
    cpu, started = cpu_seconds(), time.perf_counter()
    engine.build(base, args.build_threads)
    engine.save(str(path) + ".unfinished")
    told = {"build_s": time.perf_counter() - started, "build_cpu_s": cpu_seconds() - cpu, "build_threads": args.build_threads}
    os.replace(str(path) + ".unfinished", path)
    told |= {"version": version(name), "n_rows": len(base), "dims": base.shape[1], "file_bytes": path.stat().st_size}
    (args.work / f"{name}.json").write_text(json.dumps(told, indent=1))


def measure(args, name):
    queries = read_fvecs(args.data / "queries.fvecs")
    before = resident_bytes()
    engine = ENGINES[name]()
    engine.load(str(args.work / f"{name}.index"), queries.shape[1])
    engine.search(queries, args.k, args.ef[-1], args.threads)  # pages and working memory are there before anything is timed
    resident = resident_bytes() - before
    found, rows = [], []
    for ef in args.ef:
        started = time.perf_counter()
        hits = engine.search(queries, args.k, ef, args.threads)
        rows.append({"ef_search": ef, "qps": len(queries) / (time.perf_counter() - started)})
        found.append(np.asarray(hits).astype(np.int64))
    base, truth = map_vecs(args.data / "base.fvecs"), map_vecs(args.work / "truth.ivecs", "<i4")[:, : args.k]
    worst = np.einsum("qd,qd->q", base[truth[:, -1]], queries) - TIE
    for row, hits in zip(rows, found):
        row["recall"] = float(np.mean([recall(base, query, of_query, limit) for query, of_query, limit in zip(queries, hits, worst)]))
    print(json.dumps({"rows": rows, "resident_bytes": resident}))


def recall(base, query, hits, worst):
    real = np.unique(hits[(hits >= 0) & (hits < len(base))])
    return np.count_nonzero(base[real] @ query >= worst) / len(hits)


# In the process that leads.


def run_self(args, what, name, cores):
    command = [sys.executable, __file__, "--data", args.data, "--work", args.work, "--k", args.k, "--threads", args.threads]
    command += ["--build-threads", args.build_threads, "--ef", ",".join(map(str, args.ef)), "--only", f"{what}:{name}"]
    return run(command, cores)


def run(command, cores):
    hold = lambda: os.sched_setaffinity(0, cores)  # noqa: E731
    # OpenMP would make a thread per core of the machine wherever an engine is not told otherwise.
    environment = {**os.environ, "OMP_NUM_THREADS": str(len(cores))}
    done = subprocess.run([str(part) for part in command], preexec_fn=hold, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}")
    return done.stdout


def kindred(args, variant, cores, *more):
    """One run of kindred bench ann; builds if need be. A variant is a name, then settings after a colon."""
    name, _, settings = variant.partition(":")
    command = [args.kindred, "bench", "ann", "--base", args.data / "base.fvecs", "--queries", args.data / "queries.fvecs"]
    command += ["--index", args.work / name, "--k", args.k, "--threads", args.threads, "--rounds", 1, "--json", "-"]
    command += ["--set", f"index.threads={args.build_threads}"]
    for setting in filter(None, settings.split(",")):
        command += ["--set", setting]
    return json.loads(run([*command, *more], cores))


def check_truth(args):
    """A sample of the neighbours, by NumPy."""
    base, queries = read_fvecs(args.data / "base.fvecs"), read_fvecs(args.data / "queries.fvecs")
    truth = map_vecs(args.work / "truth.ivecs", "<i4")
    assert len(truth) == len(queries), f"{args.work / 'truth.ivecs'} belongs to other queries: delete it"
    for row in np.random.default_rng(1).choice(len(queries), 20, replace=False):
        scores = base @ queries[row]
        exact = np.sort(scores)[::-1][: args.k]
        assert np.allclose(scores[truth[row, : args.k]], exact, atol=1e-5), f"the neighbours of query {row} are not exact"


def prepare(args, every_core):
    """Builds what is not there. Gives what each engine's building took."""
    args.work.mkdir(parents=True, exist_ok=True)
    n_rows, dims = map_vecs(args.data / "base.fvecs").shape
    costs = {}
    for name in args.engines:
        path = args.work / f"{name}.json"
        if not path.exists():
            say(f"building {name}")
            run_self(args, "build", name, every_core)
        costs[name] = json.loads(path.read_text())
        assert (costs[name]["n_rows"], costs[name]["dims"]) == (n_rows, dims), f"{path} is of other vectors: name another --work"
    if args.build_only:
        return costs
    truth = args.work / "truth.ivecs"
    for variant in args.variant:
        name, told = variant.partition(":")[0], args.work / f"{variant.partition(':')[0]}.json"
        if not told.exists() or not truth.exists():
            say(f"building {name}")
            more = ["--ground-truth" if truth.exists() else "--write-ground-truth", truth]
            result = kindred(args, variant, every_core, "--ef", max(args.k, 64), *more)
            kept = {key: result[key] for key in ("build_s", "build_cpu_s", "n_rows", "dims", "file_bytes", "files")}
            of_kindred = run([args.kindred, "--version"], every_core).split()[-1]
            told.write_text(json.dumps(kept | {"version": of_kindred, "build_threads": args.build_threads}, indent=1))
        costs[name] = json.loads(told.read_text())
    check_truth(args)
    return costs


def one_round(args, at, cores):
    """Every engine's curve."""
    contestants = [(name, None) for name in args.engines] + [(variant.partition(":")[0], variant) for variant in args.variant]
    turn = at % len(contestants)
    curves = {}
    for name, variant in contestants[turn:] + contestants[:turn]:
        say(f"round {at + 1} of {args.rounds}: {name}")
        if variant:
            more = ["--ground-truth", args.work / "truth.ivecs", "--ef", ",".join(map(str, args.ef))]
            curves[name] = kindred(args, variant, cores, *more)
        else:
            curves[name] = json.loads(run_self(args, "measure", name, cores))
    return curves


def speed_at(rows, target):
    """(mark, queries a second) at a recall; only points that no other beats in both count."""
    best, front = 0.0, []
    for row in sorted(rows, key=lambda row: (-row["recall"], -row["qps"])):
        if row["qps"] > best:
            best = row["qps"]
            front.append(row)
    front.reverse()  # from fast to exact
    if front[-1]["recall"] < target:
        return "-", None
    if front[0]["recall"] >= target:
        return "≥", front[0]["qps"]
    above = next(at for at, row in enumerate(front) if row["recall"] >= target)
    low, high = front[above - 1], front[above]
    share = (target - low["recall"]) / (high["recall"] - low["recall"])
    return "", math.exp((1 - share) * math.log(low["qps"]) + share * math.log(high["qps"]))


def table(rounds, costs):
    """Markdown, and the same as data."""
    head = ["engine", "version", "build CPU s", "points per CPU s", "file MB"]
    head += [f"QPS at {target:.2f}" for target in TARGETS] + [f"× {REFERENCE} at {target:.2f}" for target in TARGETS]
    lines, data = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)], {}
    for name in rounds[0]:
        cost, cells, ratios, data[name] = costs[name], [], [], {"qps": {}, "ratio": {}}
        for target in TARGETS:
            speeds = [speed_at(of_round[name]["rows"], target) for of_round in rounds]
            against = [speed_at(of_round[REFERENCE]["rows"], target) for of_round in rounds] if REFERENCE in rounds[0] else []
            known = [speed for _, speed in speeds if speed]
            mark = "≥ " if any(mark == "≥" for mark, _ in speeds) else ""
            cells.append(f"{mark}{statistics.median(known):,.0f}" if len(known) == len(speeds) else "-")
            data[name]["qps"][target] = [speed for _, speed in speeds]
            times = [speed / other for (_, speed), (_, other) in zip(speeds, against) if speed and other]
            data[name]["ratio"][target] = times
            is_bound = mark or any(mark == "≥" for mark, _ in against)
            spread = f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})" if times and not is_bound else "-"
            ratios.append("1" if name == REFERENCE else spread)
        front = [name, cost["version"], f"{cost['build_cpu_s']:.1f}", f"{cost['n_rows'] / cost['build_cpu_s']:,.0f}"]
        lines.append("| " + " | ".join([*front, f"{cost['file_bytes'] / 1e6:.1f}", *cells, *ratios]) + " |")
    return "\n".join(lines), data


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: sorted(int(part) for part in text.split(","))  # noqa: E731
    parser.add_argument("--data", type=Path, required=True, help="folder with base.fvecs and queries.fvecs")
    parser.add_argument("--work", type=Path, required=True, help="folder where indexes are kept")
    parser.add_argument("--kindred", default="target/release/kindred", help="the program")
    parser.add_argument("--variant", action="append", help="name[:section.key=value,…] of a Kindred index, may be repeated [kindred]")
    parser.add_argument("--engines", type=lambda text: [part for part in text.split(",") if part], default=DEFAULT_ENGINES, help=", ".join(ENGINES))
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ef", type=numbers, default=EFS)
    parser.add_argument("--build-threads", type=int, default=os.cpu_count())
    parser.add_argument("--build-only", action="store_true", help="build the other engines' indexes and stop")
    parser.add_argument("--json", type=Path, help="write costs and all curves to this file")
    parser.add_argument("--svg", type=Path, help="write a plot of the last round to this file")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.variant = args.variant or ["kindred"]
    args.ef = sorted({max(ef, args.k) for ef in args.ef})
    if args.only:
        what, name = args.only.split(":")
        {"build": build, "measure": measure}[what](args, name)
        return
    available = sorted(os.sched_getaffinity(0))
    costs = prepare(args, set(available))
    if args.build_only:
        return
    # The last cores: the first is where a machine does its housekeeping.
    rounds = [one_round(args, at, set(available[-args.threads :])) for at in range(args.rounds)]
    names = [*args.engines, *(variant.partition(":")[0] for variant in args.variant)]
    rounds = [{name: of_round[name] for name in names} for of_round in rounds]
    markdown, at_targets = table(rounds, costs)
    shape = next(iter(costs.values()))
    setup = f"{args.data.name}: {shape['n_rows']:,} × {shape['dims']}, k {args.k}, {args.threads} thread(s), {args.rounds} round(s)"
    print(f"{setup}\n\n{markdown}")
    if args.json:
        told = {"setup": setup, "k": args.k, "threads": args.threads, "costs": costs, "at_recall": at_targets, "rounds": rounds}
        args.json.write_text(json.dumps(told, indent=1))
    if args.svg:
        args.svg.write_text(svg(setup, args.k, {name: rounds[-1][name]["rows"] for name in names}))


main()
