-- Seconds that training a byte-level BPE tokenizer takes on a text of MEGABYTES, made from TEXTS by changing a letter in every
-- 25th word, so that new words keep coming; train_tokenizer.py trains Hugging Face's on the same file and compares the merges:
-- massact run tests/bench/train_tokenizer.lua FOLDER MEGABYTES VOCAB_SIZE TEXT...
local massact = require "massact"
local folder, megabytes, vocab_size = arg[1], tonumber(arg[2]), math.tointeger(arg[3])
assert(folder and megabytes and vocab_size and arg[4], "usage: massact run tests/bench/train_tokenizer.lua FOLDER MEGABYTES VOCAB_SIZE TEXT...")
massact.system.make_folder(folder)
local text = folder .. "/text.txt"

if not massact.system.exists(text) then
  math.randomseed(1)
  local parts, bytes = {}, 0
  local out <close> = assert(io.open(text, "wb"))
  for i = 4, #arg do parts[#parts + 1] = assert(io.open(arg[i], "rb")):read "a" end
  while bytes < megabytes * 1e6 do
    local changed = table.concat(parts):gsub("%a+", function(word)
      if math.random(25) > 1 then return nil end
      local at = math.random(#word)
      return word:sub(1, at - 1) .. string.char(96 + math.random(26)) .. word:sub(at + 1)
    end)
    bytes = bytes + #changed
    out:write(changed)
  end
end

local begun = massact.system.clock()
local tokenizer = massact.tokenizer.train(text, { vocab_size = vocab_size, out = folder })
local seconds = massact.system.clock() - begun
local bytes = massact.system.stamp(text)
print(("massact: %d tokens from %.1f MB in %.2f s, %.1f MB/s, %d threads, %.0f MB of memory at the peak"):format(tokenizer:size(), bytes / 1e6, seconds,
  bytes / 1e6 / seconds, massact.system.machine().threads, massact.system.peak_memory() / 1e6))
