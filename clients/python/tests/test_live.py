"""Against a live server, whose address is the environment's KINDRED_URL."""

from __future__ import annotations

import asyncio
import inspect
import os
import uuid
from collections.abc import Iterator

import httpx
import pytest

import kindred
from kindred import AsyncKindred, Kindred, Retry
from kindred.types import CollectionDefinition, Document, JudgedQuery, Task

JOBS = [
    {"id": "nurse", "title": "Night nurse", "city": "Bonn", "pay": 40},
    {"id": "welder", "title": "Welder of ships and bridges", "city": "Brest", "pay": 30},
    {"id": "rust", "title": "Backend engineer", "city": "Bonn", "pay": 70},
]
DEFINITION: CollectionDefinition = {
    "template": "{title}",
    "fields": {"title": {"type": "text"}, "city": {"type": "keyword", "index": True}, "pay": {"type": "number"}},
}
IN_BONN = {"must": [{"key": "city", "match": {"value": "Bonn"}}]}


@pytest.fixture
def client() -> Iterator[Kindred]:
    with Kindred() as client:
        yield client


@pytest.fixture
def name(client: Kindred) -> Iterator[str]:
    name = f"posts-{uuid.uuid4().hex[:8]}"
    client.put_collection(name, DEFINITION)
    assert not client.put_documents(name, JOBS).refused
    yield name
    client.delete_collection(name)


def test_searches(client: Kindred, name: str) -> None:
    found = client.search(name, "keep patients safe at night", limit=2, fields=["title"])
    assert found["hits"][0]["id"] == "nurse"
    assert found["hits"][0]["fields"] == {"title": "Night nurse"}
    assert found["plan"]["n_matching"] == 3
    cities = client.search(name, "nurse", facets=["city"]).get("facets", {})["city"]
    assert [(one["value"], one["count"]) for one in cities] == [("Bonn", 2), ("Brest", 1)]
    assert [hit["id"] for hit in client.search(name, {"id": "nurse"}, filter=IN_BONN)["hits"]] == ["rust"]
    [vector] = client.embed(["Welder of ships and bridges"])
    nearest = client.search(name, {"vector": vector}, limit=1, profile={"weights": {"dot": 1}}, explain=True)["hits"][0]
    assert nearest["id"] == "welder"
    assert abs(nearest["score"] - 1) < 1e-3
    assert [hit["id"] for hit in client.match((name, "nurse"), name, filter=IN_BONN)["hits"]] == ["rust"]
    placement = client.explain(name, "nurse", "welder", filter=IN_BONN)
    assert placement["fate"] == "filtered_out"
    recall = client.recall(name, num=3, k=1)
    assert recall["recall"] == 1.0
    assert client.recall_history(name)["alarm"] is False


def test_documents(client: Kindred, name: str) -> None:
    document = client.get_document(name, "rust")
    assert document["fields"] == {key: value for key, value in JOBS[2].items() if key != "id"}
    assert client.put_document(name, {**JOBS[2], "pay": 75})["result"] == "updated"
    patched = client.patch_document(name, "rust", {"pay": 80}, refresh="none")
    with pytest.raises(kindred.Conflict):
        client.put_document(name, JOBS[2], if_seqno=document["seqno"])
    assert client.patch_document(name, "rust", {"pay": 90}, if_seqno=patched["seqno"])["seqno"] > patched["seqno"]
    # An id may hold what stands for something in paths.
    odd = {"id": "a/b c?d=1", "title": "Porter"}
    assert client.put_document(name, odd, create_only=True)["id"] == odd["id"]
    assert client.get_document(name, odd["id"])["fields"] == {"title": "Porter"}
    assert client.delete_document(name, odd["id"])["deleted"] == odd["id"]
    assert client.delete_documents(name, ids=["nurse", "nobody"])["deleted"] == 1
    assert client.delete_documents(name, matching=IN_BONN)["deleted"] == 1
    with pytest.raises(kindred.InvalidRequest, match="names no condition"):
        client.delete_documents(name, matching={"must": []})
    assert client.get_collection(name)["n_documents"] == 1
    assert client.delete_documents(name, every=True)["deleted"] == 1


def test_many_documents_go_in_batches_and_come_back_item_by_item(client: Kindred, name: str) -> None:
    many: list[Document] = [{"id": f"n{i}", "title": f"Nurse {i % 3}"} for i in range(10)]
    many[4] = {"id": "n4", "city": 7}
    seen: list[int] = []
    result = client.put_documents(name, iter(many), batch_size=4, on_batch=lambda result: seen.append(len(result.items)))
    assert seen == [4, 8, 10]
    assert [item["status"] for item in result.items] == [201] * 4 + [422] + [201] * 5
    [(position, refused)] = result.refused
    assert (position, refused["error"].get("field")) == (4, "city")
    assert result.n_encoded >= 3
    assert len(client.put_documents(name, many, batch_bytes=1, create_only=True).refused) == 10
    assert [item.get("result") for item in client.patch_documents(name, [{"id": "n1", "pay": 1}]).items] == ["updated"]
    assert client.put_documents(name, []).items == []


def test_errors_tell_what_the_server_says(client: Kindred, name: str) -> None:
    with pytest.raises(kindred.NotFound) as missing:
        client.get_document(name, "nobody")
    assert missing.value.code == "not_found"
    assert missing.value.request_id
    with pytest.raises(kindred.InvalidRequest) as invalid:
        client.search(name, "nurse", filter={"must": [{"key": "pay", "match": {"value": 1}}]})
    assert invalid.value.field == "filter.must[0].key"
    assert "not indexed" in invalid.value.message
    with pytest.raises(kindred.InvalidRequest, match="tokens"):
        client.embed(["nurse " * 1_000])
    assert len(client.embed(["nurse " * 1_000], truncate=True)) == 1
    with Kindred("http://127.0.0.1:9", retry=Retry(attempts=1)) as nobody:
        assert not nobody.ready()
        with pytest.raises(kindred.ConnectionFailed):
            nobody.info()


def test_profiles_generations_and_tasks(client: Kindred, name: str) -> None:
    profile = {"directions": {"text": {"weights": {"dot": 1}}}}
    assert client.put_profile(name, "plain", profile)["version"] == 1
    assert client.get_profile(name, "plain").get("profile") == profile
    assert "plain" in [one["name"] for one in client.profiles(name)]
    assert client.delete_profile(name, "plain")["deleted"] == "plain"

    looks: list[Task] = []
    first = client.wait(client.rebuild(name), on_progress=looks.append)
    assert first["result"]["n_documents"] == 3
    assert looks[-1]["status"] == "done"
    client.wait(client.rebuild(name, activate="manual"), timeout=600)
    newest, served = client.generations(name)
    assert (newest["status"], served["status"]) == ("ready", "current")
    assert client.activate(name, newest["id"])["generation"] == newest["id"]
    assert client.rollback(name)["generation"] == served["id"]
    started = client.rebuild(name, gates={"min_documents": 100})
    with pytest.raises(kindred.TaskFailed, match="min_documents"):
        client.wait(started)
    assert client.cancel_task(started["task"])["status"] == "failed"
    assert started["task"] in [task["id"] for task in client.tasks()]


def test_evaluations(client: Kindred, name: str) -> None:
    queries: list[JudgedQuery] = [{"id": "q1", "text": "nurse"}, {"id": "q2", "text": "welding"}]
    variants = [{"name": "as it is"}, {"name": "words", "retrieval": "lexical"}]
    judgments = {"q1": {"nurse": 3}, "q2": {"welder": 3}}
    started = client.evaluate(name, queries, judgments, variants=variants)
    client.wait(started)
    report = client.evaluation(started)
    assert report["n_queries"] == 2
    assert report["variants"][0]["measures"]["ndcg_at_10"] == 1.0


def test_members_are_held_against_postings(client: Kindred) -> None:
    client.put_document("jobs", {"id": "j1", "title": "Nurse", "skills": ["triage"], "seniority": "mid"})
    client.put_document("members", {"id": "m1", "headline": "Nurse", "skills": ["triage"], "seniority": "mid"})
    answer = client.fit("m1", "j1")
    assert {one["status"] for one in answer["requirements"]} == {"met"}
    assert client.match(("members", "m1"), "jobs")["hits"][0]["id"] == "j1"


def test_the_server_is_told(client: Kindred, name: str) -> None:
    assert client.ready()
    assert name in client.info()["collections"]
    assert name in [one["name"] for one in client.collections()]


def test_asyncio(name: str) -> None:
    async def both() -> None:
        async with AsyncKindred(os.environ["KINDRED_URL"]) as client:
            answers = await asyncio.gather(*(client.search(name, text) for text in ["nurse", "welder"]))
            assert [answer["hits"][0]["id"] for answer in answers] == ["nurse", "welder"]
            result = await client.put_documents(name, ({"id": str(i), "title": "Nurse"} for i in range(5)), batch_size=2)
            assert len(result.items) == 5
            with pytest.raises(kindred.NotFound):
                await client.get_document(name, "nobody")
            task = await client.wait(await client.rebuild(name))
            assert task["result"]["n_documents"] == 8
            assert len(await client.embed(["a", "b"])) == 2
            assert await client.ready()

    asyncio.run(both())


def test_both_clients_have_the_same_methods() -> None:
    def methods(of: type) -> dict[str, tuple[str, ...]]:
        public = {name: it for name, it in vars(of).items() if not name.startswith("_")}
        return {name: tuple(inspect.signature(it).parameters) for name, it in public.items()}

    assert methods(Kindred) == methods(AsyncKindred)


def test_what_was_not_carried_out_is_tried_again() -> None:
    answers = [
        (503, {}, {}),
        (429, {"retry-after": "0"}, {"error": {"code": "overloaded"}}),
        (200, {}, {"version": "1"}),
    ]
    left = iter(answers)

    def answer(_: httpx.Request) -> httpx.Response:
        status, headers, body = next(left)
        return httpx.Response(status, headers=headers, json=body)

    def client(retry: Retry) -> Kindred:
        return Kindred(retry=retry, http=httpx.Client(transport=httpx.MockTransport(answer), base_url="http://any"))

    quick = Retry(first_delay_s=0.0)
    assert client(quick).info()["version"] == "1"
    left = iter(answers)
    with pytest.raises(kindred.Overloaded) as busy:
        client(Retry(attempts=2, first_delay_s=0.0)).info()
    assert (busy.value.code, busy.value.retry_after) == ("overloaded", 0.0)
    left = iter([(429, {"retry-after": "60"}, {}), (200, {}, {})])
    with pytest.raises(kindred.Overloaded):
        client(quick).info()
    left = iter([(500, {}, {"error": {"code": "internal", "message": "a bug"}}), (200, {}, {})])
    with pytest.raises(kindred.ApiError, match="a bug"):
        client(quick).info()
    left = iter([(200, {}, [])])
    with pytest.raises(kindred.ConnectionFailed, match="no Kindred server"):
        client(quick).collections()
