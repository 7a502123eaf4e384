-- Tokenizers trained on texts: the merges of Hugging Face's BpeTrainer (golden/tokenizer_training.json) and of a plain
-- count of all pairs after every merge; files; what cannot be.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local core = require "massact.core"
local helper = require "shell"

local golden = massact.json.load(os.getenv "MASSACT_TESTS" .. "/golden/tokenizer_training.json")
local folder = helper.folder()

local function file_of(text, name)
  local path = folder .. "/" .. (name or "text.txt")
  helper.spit(path, text)
  return path
end

local function merges_of(text, options)
  local _, trained = massact.tokenizer.train(file_of(text), options)
  return trained.merges, trained.tokens
end

-- Words of letters a to c, of which each is its own token: what follows from the definition, counting everything again each time.
local function plain_merges(words, n)
  local merges, made, is_ambiguous = {}, {}, false
  for _ = 1, n do
    local counts = {}
    for _, word in ipairs(words) do
      for i = 1, #word - 1 do
        local pair = word[i] .. " " .. word[i + 1]
        counts[pair] = (counts[pair] or 0) + 1
      end
    end
    local best
    for pair, count in pairs(counts) do
      local function rank(p)
        local left, right = p:match "(%S+) (%S+)"
        -- Older tokens have smaller ids; letters are in order of the alphabet.
        return (made[left] or left:byte() - 1000) * 10000 + (made[right] or right:byte() - 1000)
      end
      if not best or count > counts[best] or (count == counts[best] and rank(pair) < rank(best)) then best = pair end
    end
    if not best or counts[best] < 2 then break end
    local left, right = best:match "(%S+) (%S+)"
    is_ambiguous = is_ambiguous or made[left .. right] ~= nil
    merges[#merges + 1], made[left .. right] = best, #merges + 1
    for _, word in ipairs(words) do
      local i = 1
      while i < #word do
        if word[i] == left and word[i + 1] == right then
          word[i] = left .. right
          table.remove(word, i + 1)
        end
        i = i + 1
      end
    end
  end
  return merges, is_ambiguous
end

describe("training a tokenizer", function()
  teardown(function() os.execute("rm -r " .. folder) end)

  it("gives Hugging Face's merges and ids", function()
    assert(#golden.cases > 15)
    for i, case in ipairs(golden.cases) do
      local path = case.file ~= massact.null and massact.home .. "/experiments/default/" .. case.file or file_of(case.text)
      local tokenizer, trained = massact.tokenizer.train(path, { vocab_size = case.vocab_size, min_frequency = case.min_frequency,
        special = case.special, pattern = case.pattern, out = folder .. "/out" })
      assert.same(case.merges, trained.merges, "case " .. i)
      assert.equal(case.size, #trained.tokens)
      assert.same(case.ids, tokenizer:encode(golden.sample), "case " .. i)
      assert.equal(golden.sample, tokenizer:decode(case.ids))
    end
  end)

  it("is what counting again after every merge gives", function()
    math.randomseed(7)
    local n_compared = 0
    for _ = 1, 60 do
      local words, texts = {}, {}
      for i = 1, math.random(1, 12) do
        words[i] = {}
        for k = 1, math.random(1, 14) do words[i][k] = ("abc"):sub(1, math.random(1, 3)):sub(-1) end
        texts[i] = table.concat(words[i])
      end
      local expected, is_ambiguous = plain_merges(words, 30)
      if not is_ambiguous then
        n_compared = n_compared + 1
        local text = table.concat(texts, "-")
        local got = merges_of(text, { vocab_size = 286, special = {}, pattern = "-" })
        for i, merge in ipairs(expected) do assert.equal(merge, got[i], text) end
      end
    end
    assert(n_compared > 20, n_compared)
  end)

  it("gives the same on any number of threads, in parts, packed, and as lines of JSON", function()
    local part = helper.slurp(massact.home .. "/experiments/default/text.txt")
    local parts = {}
    math.randomseed(3)
    for i = 1, 150 do
      local from = math.random(#part // 2)
      while part:byte(from) & 0xC0 == 0x80 do from = from - 1 end
      parts[i] = part:sub(from)
    end
    local text = table.concat(parts, "\n\n")
    local long = file_of(text, "long.txt")
    local options = { vocab_size = 1200, min_frequency = 3 }
    local _, one = massact.tokenizer.train(long, options)
    assert.equal(1200, #one.tokens)
    local threads = massact.system.machine().threads
    for _, n in ipairs { 1, 2, 3 } do
      massact.system.set_threads(n)
      local _, again = massact.tokenizer.train(long, options)
      assert.same(one, again)
    end
    massact.system.set_threads(threads)
    -- The whole at once, past the trainer's own cutting.
    local trainer <close> = core.tokenizer.trainer "gpt2"
    trainer:add(text, true)
    local _, merges = trainer:finish(1200, 3, { "<s>", "</s>" })
    assert.same(one.merges, merges)
    os.execute("gzip -k " .. long)
    assert.same(one, select(2, massact.tokenizer.train(long .. ".gz", options)))
    -- A byte at a time, in the middle of characters.
    local slow <close> = core.tokenizer.trainer "gpt2"
    local some = text:sub(1, 20000)
    some = some:sub(1, utf8.len(some) and -1 or select(2, utf8.len(some)) - 1)
    for c in some:gmatch "." do slow:add(c) end
    slow:add(some:sub(0, 0), true)
    local fast <close> = core.tokenizer.trainer "gpt2"
    fast:add(some, true)
    assert.same({ fast:finish(700, 2, {}) }, { slow:finish(700, 2, {}) })
    local lines = {}
    for i, each in ipairs(parts) do lines[i] = massact.json.text({ body = each }):gsub("\n%s*", " ") end
    local _, joined = massact.tokenizer.train(file_of(table.concat(lines, "\n"), "docs.jsonl"),
      { vocab_size = 1200, min_frequency = 3, field = "body" })
    local by_document <close> = core.tokenizer.trainer "gpt2"
    for _, each in ipairs(parts) do by_document:add(each, true) end
    assert.same({ by_document:finish(1200, 3, { "<s>", "</s>" }) }, { joined.tokens, joined.merges })
  end)

  it("writes files that name BOS and EOS", function()
    local text = file_of(("one two three two one. "):rep(20))
    local function trained(options)
      options.vocab_size, options.out = 280, folder .. "/out"
      return massact.tokenizer.train(text, options)
    end
    local t = trained {}
    assert.same({ 0, 1, 280 - t:size() }, { t.bos, t.eos, 280 - t:size() })
    assert.same({ t:id "<s>", t:id "</s>" }, { t.bos, t.eos })
    assert.equal(t.bos, t:encode("two", { special = true })[1])
    assert.equal("one two", t:decode(t:encode("one two", { special = true }), { skip_special = true }))
    assert(t:is_special(1) and not t:is_special(2))
    t = trained { special = { "<|endoftext|>" } }
    assert.same({ 0, 0 }, { t.bos, t.eos })
    t = trained { special = { "<pad>", "[B]", "[E]" }, bos = "[B]", eos = "[E]" }
    assert.same({ 1, 2 }, { t.bos, t.eos })
    t = trained { special = {}, bos = false }
    assert.same({}, { t.bos, t.eos })
    assert.same(t:encode "two", t:encode("two", { special = true }))
    local config = massact.json.load(folder .. "/out/tokenizer_config.json")
    assert.is_nil(config.bos_token)
  end)

  it("stops at Ctrl-C, between merges too, and leaves no half of a tokenizer", function()
    local words = {}
    math.randomseed(11)
    for i = 1, 400000 do words[i] = ("%x"):format(math.random(0)):gsub("%d", { ["0"] = "g", ["1"] = "h", ["2"] = "i" }) end
    local text = file_of(table.concat(words, " "), "hex.txt")
    local out, seen = folder .. "/interrupted", {}
    -- How long it takes depends on the machine: a run that was done before the signal does not count.
    for _, seconds in ipairs { 0.1, 0.3, 0.5, 0.7, 0.9 } do
      local status, _, message = helper.run(("timeout --foreground --preserve-status -s INT %s %s run %s/experiments/train_tokenizer.lua"
        .. " --data %s --vocab_size 400000 --out %s"):format(seconds, helper.bin, massact.home, text, out))
      if status ~= 0 then
        seen[#seen + 1] = { status, message }
        -- The signal may come once the files are there: then they are whole.
        if massact.system.exists(out .. "/tokenizer.json") then massact.tokenizer.load(out) end
      end
      os.execute("rm -rf " .. out)
    end
    assert(#seen >= 1)
    for _, each in ipairs(seen) do assert.same({ 130, "massact: interrupted\n" }, each) end
  end)

  it("refuses in one line what cannot be", function()
    local good = file_of "some text, some text"
    local function refused(pattern, options, path)
      local fine, message = pcall(massact.tokenizer.train, path or good, options)
      assert.is_false(fine, pattern)
      assert.equal("string", type(message))
      assert.is_nil(message:find "\n")
      assert.matches(pattern, message)
    end
    refused("vocab_size is 257, but 256 bytes and 2 special tokens are 258 already", { vocab_size = 257 })
    refused("vocab_size is a whole number of at least 256, not 255", { vocab_size = 255, special = {} })
    refused("vocab_size is missing", {})
    refused("vocab_size is .* not 300.5", { vocab_size = 300.5 })
    refused("pattern is a string, not 7", { vocab_size = 300, pattern = 7 })
    refused("vocab_size 4294967296 is too large", { vocab_size = 1 << 32 })
    refused("min_frequency is .*, not %-1", { vocab_size = 300, min_frequency = -1 })
    refused("no option 'vocabulary'", { vocab_size = 300, vocabulary = 3 })
    refused("special token '<s>' is there twice", { vocab_size = 300, special = { "<s>", "<s>" } })
    refused("special token 'a' is how the vocabulary spells a byte", { vocab_size = 300, special = { "a" } })
    refused("special token is empty", { vocab_size = 300, special = { "" } })
    refused("special token is not UTF%-8", { vocab_size = 300, special = { "\xff" } })
    refused("special token 2 has a NUL byte", { vocab_size = 300, special = { "x1", "a\0b" } })
    refused("special token 1 is not a string", { vocab_size = 300, special = { 7 } })
    refused("bos is '<x>', which is not among the special tokens", { vocab_size = 300, bos = "<x>" })
    refused("regular expression '%(': ", { vocab_size = 300, pattern = "(" })
    refused("pattern is empty", { vocab_size = 300, pattern = "" })
    refused("text '.-empty.txt' is empty", { vocab_size = 300 }, file_of("", "empty.txt"))
    refused("there is no text", { vocab_size = 300 }, {})
    refused("cannot read text '.-/none': No such file", { vocab_size = 300 }, folder .. "/none")
    refused("text '.-bad.txt': the text is not UTF%-8: byte 0x80 at offset 100004", { vocab_size = 300 },
      { good, file_of(("word "):rep(20000) .. "good\x80 text", "bad.txt") })
    refused("text '.-cut.txt': .* byte 0xC3 at offset 4", { vocab_size = 300 }, file_of("good\xC3", "cut.txt"))
    refused("line 2 has no text 'text'", { vocab_size = 300 }, file_of('{"text": "a"}\n{"body": "b"}', "docs.jsonl"))
    assert.is_false(massact.system.exists(folder .. "/never"))
    local used <close> = core.tokenizer.trainer "gpt2"
    used:close()
    assert.has_error(function() used:add "x" end, "this trainer has been closed")
  end)
end)
