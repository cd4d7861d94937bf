"""The openai package, unmodified, against a Kindred server: openai_client.py BASE_URL EXPECTED.json"""

import json
import sys

import numpy
import openai
from checks import check, done

base_url, expected = sys.argv[1], json.load(open(sys.argv[2]))
model, texts, tokens = expected["model"], expected["texts"], expected["tokens"]
embeddings = numpy.array(expected["embeddings"])
client = openai.OpenAI(base_url=f"{base_url}/v1", api_key="unused", max_retries=0)


def same(answer, wanted, what):
    check([one.index for one in answer.data] == list(range(len(wanted))), f"{what}: positions")
    difference = numpy.abs(numpy.array([one.embedding for one in answer.data]) - wanted).max()
    check(difference < 1e-5, f"{what} are Kindred's own embeddings; the largest difference is {difference}")
    check(answer.model == model and answer.object == "list", f"{what}: model and object")


def refused(error, wanted, what, **arguments):
    try:
        client.embeddings.create(**{"model": model, "input": texts, **arguments})
    except error as e:
        got = {name: getattr(e, name) for name in wanted}
        check(got == wanted, f"{what}: {got} is {wanted}")
        check(e.request_id, f"{what}: the request's id is told")
        return str(e)
    sys.exit(f"not so: {what} is refused")


# The package asks for base64 unless it is told otherwise, and makes numbers of it.
one = client.embeddings.create(model=model, input=texts[0])
same(one, embeddings[:1], "a text")
check(one.usage.prompt_tokens == len(tokens[0]) + 2 == one.usage.total_tokens, "tokens are counted, special ones too")
same(client.embeddings.create(model=model, input=texts), embeddings, "texts")
floats = client.embeddings.create(model=model, input=texts, encoding_format="float", user="someone")
same(floats, embeddings, "texts as floats")
coded = client.embeddings.create(model=model, input=texts, encoding_format="base64")
decoded = [numpy.frombuffer(__import__("base64").b64decode(one.embedding), dtype="<f4") for one in coded.data]
check(numpy.array_equal(decoded, numpy.array([one.embedding for one in floats.data], dtype="f4")), "base64 holds the same floats")
same(client.embeddings.create(model=model, input=tokens[0]), embeddings[:1], "token ids")
same(client.embeddings.create(model=model, input=tokens), embeddings, "lists of token ids")
same(client.embeddings.create(model=model, input=texts, dimensions=len(embeddings[0])), embeddings, "all dimensions")

message = refused(openai.NotFoundError, {"code": "model_not_found", "param": "model", "type": "invalid_request_error"}, "another model", model="text-embedding-3-small")
check(model in message, "the loaded model is named")
of_input = {"code": None, "param": "input", "type": "invalid_request_error"}
refused(openai.BadRequestError, of_input, "an empty text", input="")
refused(openai.BadRequestError, of_input, "no text", input=[])
refused(openai.BadRequestError, of_input, "too many texts", input=["nurse"] * 2049)
refused(openai.BadRequestError, of_input, "an unknown token", input=[[2023, 999_999]])
message = refused(openai.BadRequestError, {**of_input, "code": "context_length_exceeded"}, "a long text", input=["nurse", "nurse " * 300])
check("256" in message and "302" in message, "limit and length are named")
refused(openai.BadRequestError, {**of_input, "param": "dimensions"}, "dimensions that the model does not have", dimensions=100)

check([one.id for one in client.models.list()] == [model], "the loaded model is listed")
check(client.models.retrieve(model).owned_by == "kindred", "the loaded model is told")
try:
    client.models.retrieve("sentence-transformers/another")
    sys.exit("not so: another model is not there")
except openai.NotFoundError as e:
    check(e.code == "model_not_found", "another model is not there")

done()
