-- Megabytes of text per second and thread that a tokenizer encodes and decodes:
-- massact run tests/bench/tokenize.lua TOKENIZER TEXT
local massact = require "massact"
local path, file = arg[1], arg[2]
assert(path and file, "usage: massact run tests/bench/tokenize.lua TOKENIZER TEXT")
local tokenizer = massact.tokenizer.load(path)
local text = assert(assert(io.open(file, "rb")):read "a")
local megabytes = #text / 1e6

-- Median seconds of seven runs.
local function seconds(work)
  local times = {}
  work()
  for i = 1, 7 do
    local before = massact.system.clock()
    work()
    times[i] = massact.system.clock() - before
  end
  table.sort(times)
  return times[4]
end

local ids = tokenizer:encode(text)
print(("%s: %d bytes, %d ids, %.2f bytes an id"):format(tostring(tokenizer), #text, #ids, #text / #ids))
print(("encode: %.1f MB/s"):format(megabytes / seconds(function() tokenizer:encode(text) end)))
print(("decode: %.1f MB/s"):format(megabytes / seconds(function() tokenizer:decode(ids) end)))
