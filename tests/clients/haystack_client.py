"""Haystack's ranker for text-embeddings-inference, unmodified, against a Kindred server: haystack_client.py BASE_URL EXPECTED.json"""

import json
import math
import sys
import warnings

from checks import check, done

warnings.filterwarnings("ignore", category=FutureWarning)
from haystack import Document
from haystack.components.rankers.hugging_face_tei import HuggingFaceTEIRanker, TruncationDirection

base_url, expected = sys.argv[1], json.load(open(sys.argv[2]))
query, texts, logits = expected["query"], expected["texts"], expected["logits"]
documents = [Document(content=text) for text in texts]
order = sorted(range(len(texts)), key=lambda i: -logits[i])


def same(answer, wanted, score, what):
    check([one.content for one in answer["documents"]] == [texts[i] for i in wanted], f"{what}: the order")
    for one, i in zip(answer["documents"], wanted):
        check(abs(one.score - score(logits[i])) < 1e-3, f"{what}: {one.score} is {score(logits[i])}")


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


ranker = HuggingFaceTEIRanker(url=base_url, token=None)
same(ranker.run(query=query, documents=documents), order, sigmoid, "texts")
same(ranker.run(query=query, documents=documents, top_k=2), order[:2], sigmoid, "the best texts")
same(ranker.run(query=query, documents=documents, truncation_direction=TruncationDirection.LEFT), order, sigmoid, "texts that may be cut")
raw = HuggingFaceTEIRanker(url=base_url, token=None, raw_scores=True)
same(raw.run(query=query, documents=documents), order, float, "raw scores")

long = [Document(content="nurse " * 500)]
try:
    ranker.run(query=query, documents=long)
    sys.exit("not so: a long text is refused")
except RuntimeError as e:
    check("Validation" in str(e) and "64 tokens" in str(e), f"a long text: {e}")
check(len(ranker.run(query=query, documents=long, truncation_direction=TruncationDirection.RIGHT)["documents"]) == 1, "a long text may be cut")

done()
