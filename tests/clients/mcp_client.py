"""The official MCP package, unmodified, against a Kindred server: mcp_client.py BASE_URL EXPECTED.json"""

import asyncio
import json
import sys

from checks import check, done
from mcp import Client, MCPError

base_url, expected = sys.argv[1], json.load(open(sys.argv[2]))
PRIMITIVES = {"string", "integer", "number", "boolean"}
TOOLS = {"search", "match_documents", "get_document", "explain_result", "assess_fit", "list_collections"}


async def call(client, tool, **arguments):
    """Text and data of an answer that must be one."""
    result = await client.call_tool(tool, arguments)
    text = result.content[0].text
    check(not result.is_error and len(result.content) == 1, f"{tool} answers: {text}")
    return text, result.structured_content


async def refused(client, words, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    text = result.content[0].text
    check(result.is_error, f"{tool} {arguments} is refused")
    for word in words:
        check(word in text, f"{tool} {arguments}: {text} names {word}")


async def use(client):
    check(client.server_info.name == "kindred" and client.instructions.startswith("Kindred finds"), "who it is")
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    check(set(tools) == TOOLS, f"the tools: {set(tools)}")
    for name, tool in tools.items():
        check(tool.annotations.read_only_hint and "Use it" in tool.description, f"{name} says when to use it")
        schema = tool.input_schema
        check(schema["type"] == "object" and schema["additionalProperties"] is False, f"{name} takes an object")
        for argument, of in schema["properties"].items():
            check(of["type"] in PRIMITIVES and of["description"], f"{name}.{argument} is primitive: {of}")
            check(not {"anyOf", "oneOf", "$ref", "properties"} & set(of), f"{name}.{argument} holds nothing else: {of}")

    text, data = await call(client, "list_collections")
    sizes = {one["name"]: one["n_documents"] for one in data["collections"]}
    check(sizes == {"jobs": 5, "members": 2}, f"the collections: {sizes}")
    check(data["collections"][0]["filter_fields"]["salary.min"] == "number" and "salary.min (number)" in text, "their fields")

    text, data = await call(client, "search", collection="jobs", text="look after patients at night", limit=2)
    check([hit["id"] for hit in data["hits"]] == expected["night"], f"the best hits: {data['hits']}")
    best = data["hits"][0]
    check(best["title"] == "Registered nurse, night shift" and best["fields"]["location.city"] == "Berlin", f"told: {best}")
    check("description" not in best["fields"] and "patients" in best["phrases"][0], f"short: {best}")
    check(data["n_matching"] == 5 and text.splitlines()[1].startswith("1. nurse (") and len(text) < 1200, text)
    every_filter = "location.country = DE; salary.min >= 40,000; posted_at >= 2026-10-15; seniority != senior; remote = false; location near 52.5, 13.4, 50"
    text, data = await call(client, "search", collection="jobs", text="work", filter=every_filter, limit="3")
    check([hit["id"] for hit in data["hits"]] == ["nurse"] and data["n_matching"] == 1, f"filtered: {text}")
    text, data = await call(client, "search", collection="jobs", text="work", filter="company = Nobody")
    check(data["hits"] == [] and "Ease or leave out" in text, text)

    text, data = await call(client, "match_documents", from_collection="members", id="m-nurse", to_collection="jobs", limit=1)
    check([hit["id"] for hit in data["hits"]] == ["nurse"], text)
    text, data = await call(client, "get_document", collection="jobs", id="welder")
    check(data["fields"]["description"].startswith("Join steel parts") and json.loads(text) == data, text)

    text, data = await call(client, "explain_result", collection="jobs", text="look after patients at night", id="nurse")
    check(data["fate"] == "hit" and data["rank"] == 1 and "dot" in data["terms"] and data["phrases"], text)
    text, data = await call(client, "explain_result", collection="jobs", text="nurse", id="rust", filter="remote = false")
    check(data["fate"] == "filtered_out" and data["kept_out_by"][0]["document_has"] is True, f"{text} {data}")
    text, data = await call(client, "assess_fit", member_id="m-nurse", job_id="nurse")
    met = [one["job_says"] for one in data["requirements"] if one["status"] == "met"]
    check("patient care" in met and "no judgment of the person" in text, f"{text} {data}")

    await refused(client, ["cats", "list_collections"], "search", collection="cats", text="x")
    await refused(client, ["nobody", "list_collections"], "get_document", collection="jobs", id="nobody")
    await refused(client, ["salary.min", "remote"], "search", collection="jobs", text="x", filter="wage > 3")
    await refused(client, ["member_id", "nobody"], "assess_fit", member_id="nobody", job_id="nurse")
    await refused(client, ["query.text"], "search", collection="jobs", text=" ")
    await refused(client, ["limit", "1 to 50"], "search", collection="jobs", text="x", limit=500)
    await refused(client, ["text"], "search", collection="jobs")
    await refused(client, ["colour"], "search", collection="jobs", text="x", colour="red")
    try:
        await client.call_tool("delete_everything", {})
        sys.exit("not so: an unknown tool is refused")
    except MCPError as e:
        check("delete_everything" in str(e), f"an unknown tool: {e}")


async def main():
    # The protocol of 2026 needs no handshake; clients of before begin with one.
    for mode, version in [("auto", "2026-07-28"), ("legacy", "2025-11-25")]:
        async with Client(f"{base_url}/mcp", mode=mode) as client:
            check(client.protocol_version == version, f"{mode}: {client.protocol_version}")
            await use(client)


asyncio.run(main())
done()
