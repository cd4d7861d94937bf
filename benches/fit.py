"""How often /v1/fit tells rightly whether a member's document shows a skill.

python3 benches/fit.py http://127.0.0.1:7700 skillextract_house skillextract_tech …

Tasks whose queries are sentences of job ads and whose documents are skills: a requirement is a skill, a member's document twelve sentences
that do not show it, and, the second time, one that does. The embeddings are the server's; the cosines are those of src/pipeline/fit.rs.
"""

import json
import random
import sys
import urllib.request
from pathlib import Path

SAME, ALIKE, N_OTHERS = 0.60, 0.45, 12


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def embed(server, model, texts):
    embeddings = []
    for start in range(0, len(texts), 256):
        body = json.dumps({"model": model, "input": texts[start : start + 256]}).encode()
        with urllib.request.urlopen(urllib.request.Request(server + "/v1/embeddings", data=body)) as answer:
            embeddings += [item["embedding"] for item in json.load(answer)["data"]]
    return embeddings


def shares(cosines):
    n = len(cosines)
    met = sum(cosine >= SAME for cosine in cosines)
    partial = sum(ALIKE <= cosine < SAME for cosine in cosines)
    return f"{met / n:.3f} | {partial / n:.3f} | {(n - met - partial) / n:.3f}"


def main(server, *tasks):
    with urllib.request.urlopen(server + "/v1/models") as answer:
        model = json.load(answer)["data"][0]["id"]
    print("| task | pairs | said: met | partial | missing | not said: met | partial | missing |\n|---|---|---|---|---|---|---|---|")
    for task in map(Path, tasks):
        skills = {document["_id"]: document["title"] or document["text"] for document in lines(task / "corpus.jsonl")}
        said = {query["_id"]: query["text"] for query in lines(task / "queries.jsonl")}
        judged = [line.split() for line in (task / "qrels.tsv").read_text().splitlines()]
        pairs = [(query, skill) for query, _, skill, grade in judged if int(grade) > 0 and query in said and skill in skills]
        shown = {}
        for query, skill in pairs:
            shown.setdefault(skill, set()).add(query)
        of_said = dict(zip(said, embed(server, model, list(said.values()))))
        of_skill = dict(zip(shown, embed(server, model, [skills[skill] for skill in shown])))
        choice, with_it, without = random.Random(1), [], []
        for query, skill in pairs:
            cosine = lambda said_by: sum(a * b for a, b in zip(of_skill[skill], of_said[said_by]))
            best = max(map(cosine, choice.sample([other for other in said if other not in shown[skill]], N_OTHERS)))
            without.append(best)
            with_it.append(max(best, cosine(query)))
        print(f"| {task.name} | {len(pairs)} | {shares(with_it)} | {shares(without)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
