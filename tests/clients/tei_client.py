"""huggingface_hub's InferenceClient, unmodified, against a Kindred server: tei_client.py BASE_URL EXPECTED.json"""

import json
import sys

import numpy
from checks import check, done
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

base_url, expected = sys.argv[1], json.load(open(sys.argv[2]))
texts, embeddings = expected["texts"], numpy.array(expected["embeddings"])


def same(answer, wanted, what):
    check(answer.shape == wanted.shape and answer.dtype == numpy.float32, f"{what}: {answer.shape} {answer.dtype}")
    difference = numpy.abs(answer - wanted).max()
    check(difference < 1e-5, f"{what} are Kindred's own embeddings; the largest difference is {difference}")


def refused(status, word, what, **arguments):
    try:
        InferenceClient(model=f"{base_url}/embed").feature_extraction(**arguments)
    except HfHubHTTPError as e:
        check(e.response.status_code == status, f"{what}: {e.response.status_code} is {status}")
        check(word in str(e) or word in e.response.text, f"{what}: {e} names {word}")
        return
    sys.exit(f"not so: {what} is refused")


for url in [base_url, f"{base_url}/embed"]:
    client = InferenceClient(model=url)
    same(client.feature_extraction(texts[0]), embeddings[:1], "a text")
    same(client.feature_extraction(texts), embeddings, "texts")
    same(client.feature_extraction(texts, normalize=True, truncate=True, truncation_direction="left"), embeddings, "texts with parameters")
    same(client.feature_extraction(texts, dimensions=len(embeddings[0])), embeddings, "texts with dimensions")

scores = InferenceClient(model=f"{base_url}/similarity").sentence_similarity(texts[0], other_sentences=texts[1:])
difference = numpy.abs(numpy.array(scores) - embeddings[1:] @ embeddings[0]).max()
check(len(scores) == len(texts) - 1 and difference < 1e-5, f"similarities are dot products: {scores}")

refused(413, "302", "a long text", text="nurse " * 300)
refused(400, "empty", "an empty text", text="")
refused(413, "normalize", "embeddings of another length", text="nurse", normalize=False)
refused(413, "prompt_name", "a prompt that is not there", text="nurse", prompt_name="query")
refused(413, "384", "dimensions that the model does not have", text="nurse", dimensions=100)

done()
