-- The same search with the best phrase of each hit, for wrk: as an agent's tool (`-- mcp`) or over /v1 (`-- search`). See "Phrases, and agents" in README.md.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json, text/event-stream"
local path, body
local n = 0

init = function(args)
  if args[1] == "mcp" then
    path = "/mcp"
    body = '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search", "arguments": {"collection": "jobs", "text": "night nurse %d", "limit": 5}}}'
  else
    path = "/v1/collections/jobs/search"
    body = '{"query": {"text": "night nurse %d"}, "limit": 5, "phrases": 1}'
  end
end

request = function()
  n = n + 1
  return wrk.format(nil, path, nil, body:format(n % 50))
end
