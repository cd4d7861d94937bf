"""LangChain's QdrantVectorStore, unmodified, against a Kindred server: langchain_store.py BASE_URL EXPECTED.json"""

import asyncio
import json
import sys

import openai
from checks import check, done
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

base_url, expected = sys.argv[1], json.load(open(sys.argv[2]))
model, texts, vectors = expected["model"], expected["texts"], expected["embeddings"]
cosines = [sum(a * b for a, b in zip(vector, vectors[0])) for vector in vectors]
order = sorted(range(len(texts)), key=lambda i: -cosines[i])


class OfKindred(Embeddings):
    """What langchain_openai's do, in a few lines: the server embeds for its own index."""

    def __init__(self):
        self.client = openai.OpenAI(base_url=f"{base_url}/v1", api_key="unused")

    def embed_documents(self, texts):
        return [one.embedding for one in self.client.embeddings.create(model=model, input=texts).data]

    def embed_query(self, text):
        return self.embed_documents([text])[0]


documents = [Document(page_content=text, metadata={"n": i, "kind": "even" if i % 2 == 0 else "odd"}) for i, text in enumerate(texts)]
client = QdrantClient(url=base_url, prefer_grpc=False, check_compatibility=False)
where = {"url": base_url, "collection_name": "posts", "prefer_grpc": False, "check_compatibility": False}
store = QdrantVectorStore.from_documents(documents, OfKindred(), **where)
texts_of = lambda found: [one.page_content for one in found]

check(texts_of(store.similarity_search(texts[0], k=3)) == [texts[i] for i in order[:3]], "the most similar are found")
for (document, score), i in zip(store.similarity_search_with_score(texts[0], k=3), order):
    check(abs(score - cosines[i]) < 1e-3 and document.metadata["n"] == i, f"with their scores: {score} is {cosines[i]}")
client.create_payload_index("posts", "metadata.kind", field_schema=models.PayloadSchemaType.KEYWORD)
odd = models.Filter(must=[models.FieldCondition(key="metadata.kind", match=models.MatchValue(value="odd"))])
retriever = store.as_retriever(search_kwargs={"k": 2, "filter": odd})
check(texts_of(retriever.invoke(texts[0])) == [texts[i] for i in order if i % 2 == 1][:2], "a retriever finds those that match")
check(texts_of(asyncio.run(retriever.ainvoke(texts[0]))) == texts_of(retriever.invoke(texts[0])), "also when it is not waited for")
different = store.as_retriever(search_type="mmr", search_kwargs={"k": 3, "fetch_k": 6}).invoke(texts[0])
check(len(different) == 3 and different[0].page_content == texts[0], "those that differ")
near = store.as_retriever(search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.99}).invoke(texts[0])
check(texts_of(near) == texts[:1], "those that are near enough")

[added] = store.add_documents([Document(page_content="Lighthouse keeper", metadata={"kind": "odd"})])
again = QdrantVectorStore.from_existing_collection(embedding=OfKindred(), **where)
check(again.get_by_ids([added])[0].page_content == "Lighthouse keeper", "one more is got by its id")
check(texts_of(again.similarity_search("Lighthouse keeper", k=1)) == ["Lighthouse keeper"], "and found")
check(again.delete([added]) and again.get_by_ids([added]) == [], "and deleted")

done()
