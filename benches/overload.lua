-- Searches that no cache knows, for wrk: see "Too many searches" in README.md.
local words = {"nurse", "night", "patients", "engineer", "software", "teacher", "children", "welder", "steel", "chef", "bread", "driver",
  "truck", "accountant", "ledger", "clinic", "school", "factory", "garden", "animals", "repair", "machines", "sell", "cars", "law", "news"}
math.randomseed(os.time())
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

request = function()
  local text = {}
  for i = 1, 6 do text[i] = words[math.random(#words)] end
  text[7] = math.random(1e9)
  return wrk.format(nil, nil, nil, '{"query": {"text": "' .. table.concat(text, " ") .. '"}, "limit": 10}')
end
