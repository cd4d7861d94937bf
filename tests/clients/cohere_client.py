"""The cohere package, unmodified, against a Kindred server: cohere_client.py BASE_URL EXPECTED.json"""

import json
import math
import sys

import cohere
from checks import check, done

base_url, expected = sys.argv[1], json.load(open(sys.argv[2]))
model, query, texts, logits = (expected[key] for key in ["model", "query", "texts", "logits"])
order = sorted(range(len(texts)), key=lambda i: -logits[i])
check(order != list(range(len(texts))), "the texts are not in order")
first, second = cohere.Client(api_key="unused", base_url=base_url), cohere.ClientV2(api_key="unused", base_url=base_url)


def same(answer, wanted, version, what):
    check([one.index for one in answer.results] == wanted, f"{what}: the order")
    for one in answer.results:
        probability = 1 / (1 + math.exp(-logits[one.index]))
        check(abs(one.relevance_score - probability) < 1e-4, f"{what}: {one.relevance_score} is {probability}")
    check(answer.id and answer.meta.api_version.version == version, f"{what}: id and version")
    check(answer.meta.tokens.input_tokens > 0, f"{what}: tokens")


def refused(error, word, what, **arguments):
    for client in [first, second]:
        try:
            client.rerank(**{"model": model, "query": query, "documents": texts, **arguments})
        except error as e:
            check(word in e.body["message"], f"{what}: {e.body} names {word}")
            continue
        sys.exit(f"not so: {what} is refused")


same(second.rerank(model=model, query=query, documents=texts), order, "2", "texts")
same(second.rerank(model=model, query=query, documents=texts, top_n=2, max_tokens_per_doc=1000), order[:2], "2", "the best texts")
same(first.rerank(query=query, documents=texts), order, "1", "texts, without a model's name")
objects = [{"text": text} for text in texts]
answer = first.rerank(model=model, query=query, documents=objects, rank_fields=["text"], return_documents=True, top_n=3)
same(answer, order[:3], "1", "objects")
check([one.document.text for one in answer.results] == [texts[i] for i in order[:3]], "the documents come back")

refused(cohere.NotFoundError, model, "another model", model="rerank-v3.5")
refused(cohere.BadRequestError, "query is empty", "an empty query", query="")
refused(cohere.BadRequestError, "no document", "no document", documents=[])
refused(cohere.core.ApiError, "2049", "too many documents", documents=["nurse"] * 2049)
refused(cohere.BadRequestError, "top_n", "none of the best", top_n=0)

done()
