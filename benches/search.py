"""Recall of the graph against the exact path, and the stages of a search, of a running server.

    python3 benches/search.py --collection jobs --queries queries.jsonl [--address 127.0.0.1:7700] [--n 500]

Queries are lines of JSON with a "text". One request at a time, over one connection; needs nothing but Python.
"""

import argparse
import http.client
import json
import statistics
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--address", default="127.0.0.1:7700")
parser.add_argument("--collection", default="jobs")
parser.add_argument("--queries", required=True)
parser.add_argument("--n", type=int, default=500)
args = parser.parse_args()

connection = http.client.HTTPConnection(args.address)


def search(text, **options):
    body = json.dumps({"query": {"text": text}, "fields": [], **options})
    started = time.perf_counter()
    connection.request("POST", f"/v1/collections/{args.collection}/search", body)
    answer = json.loads(connection.getresponse().read())
    return answer, (time.perf_counter() - started) * 1e6


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


with open(args.queries, encoding="utf-8") as lines:
    texts = [json.loads(line)["text"] for line in lines if line.strip()]
texts = texts[:: max(1, len(texts) // args.n)][: args.n]
for text in texts[:20]:
    search(text)

# All candidates are asked for and put in the order of retrieval, so that re-scoring neither hides nor adds anything.
print(f"{len(texts)} queries, collection {args.collection}\n")
print("| ef_search | candidates | strategy | distances | recall@10 | recall@100 |\n|---|---|---|---|---|---|")


def best(answer, k):
    return {hit["id"] for hit in sorted(answer["hits"], key=lambda hit: -hit["retrieval_score"])[:k]}


truth = [search(text, strategy="exact", limit=100, candidates=100)[0] for text in texts]
for ef_search, candidates in [("default", 200), (128, 100), (100, 100), (64, 10)]:
    options = {} if ef_search == "default" else {"ef_search": ef_search, "candidates": candidates}
    answers = [search(text, limit=candidates, **options)[0] for text in texts]
    recall = [
        f"{statistics.mean(len(best(answer, k) & best(exact, k)) / k for answer, exact in zip(answers, truth)):.4f}" if k <= candidates else "-"
        for k in (10, 100)
    ]
    strategies = ", ".join(sorted({answer["plan"]["strategy"] for answer in answers}))
    distances = statistics.mean(answer["plan"]["n_distances"] for answer in answers)
    print(f"| {ef_search} | {candidates} | {strategies} | {distances:.0f} | {recall[0]} | {recall[1]} |")

print("\n| stage | p50 µs | p99 µs |\n|---|---|---|")
timed = [search(text) for text in texts]
for stage in timed[0][0]["timings"]:
    values = [answer["timings"][stage] for answer, _ in timed]
    print(f"| {stage.removesuffix('_us')} | {statistics.median(values):.0f} | {percentile(values, 0.99):.0f} |")
walls = [wall for _, wall in timed]
print(f"| over HTTP, as the client sees it | {statistics.median(walls):.0f} | {percentile(walls, 0.99):.0f} |")
