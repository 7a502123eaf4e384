-- Token files and the loader over them: what is written is what the tokenizer gives, every window comes once an epoch, a state
-- resumes exactly, and files that lie are refused in one line.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local core = require "massact.core"
local permutation = require "massact.permutation"
local helper = require "shell"

local folder = helper.folder()
local tests = os.getenv "MASSACT_TESTS"
local bytes = massact.load(massact.home .. "/experiments/default/model").tokenizer -- a token a byte
local path = folder .. "/tokens.bin"

local function file_of(text, name)
  local at = folder .. "/" .. (name or "text.txt")
  helper.spit(at, text)
  return at
end

-- A token file of `n` ids 0, 1, ..., each modulo the vocabulary, by the description of the format.
local function spit_tokens(at, o)
  local size = o.id_bytes or 4
  local ids = {}
  for i = 1, o.n do ids[i] = (string.pack("<I" .. size, o.id and o.id(i - 1) or i - 1)) end
  helper.spit(at, (o.magic or "MASSACTT") .. string.pack("<I4I4I8I8I4I4I4I4", o.version or 1, size, o.count or o.n, o.documents or 1,
    o.vocab_size or 100000, o.bos or 0xFFFFFFFF, o.eos or 0xFFFFFFFF, 0) .. (o.sha256 or ("\1"):rep(32)) .. ("\0"):rep(47) .. (o.last or "\0")
    .. table.concat(ids))
  return at
end

local function all_ids(at)
  local file <close> = massact.tokens.open(at)
  local n = file:info().n_tokens
  return n == 0 and {} or file:gather({ 0 }, n, "i64"):totable()[1]
end

local function refused(pattern, f, ...)
  local fine, message = pcall(f, ...)
  assert.is_false(fine, pattern)
  message = tostring(message)
  assert.is_nil(message:find "\n")
  assert.matches(pattern, message)
end

describe("training data:", function()
  teardown(function() os.execute("rm -r " .. folder) end)

  describe("a token file", function()
    it("holds the ids of every document, BOS before and EOS behind each", function()
      local docs = file_of('{"t": "one two"}\n{"t": ""}\n{"t": "é"}\n', "docs.jsonl")
      local expected = {}
      for _, text in ipairs { "one two", "é" } do
        expected[#expected + 1] = bytes.bos
        table.move(bytes:encode(text), 1, #bytes:encode(text), #expected + 1, expected)
        expected[#expected + 1] = bytes.eos
      end
      local info = massact.tokens.write(path, bytes, docs, { field = "t", eos = true })
      assert.same(expected, all_ids(path))
      assert.same({ n_tokens = #expected, n_documents = 2, vocab_size = bytes:size(), id_bytes = 2, bos = bytes.bos, eos = bytes.eos,
        sha256 = bytes:sha256() }, info)
      assert.equal(128 + 2 * #expected, (massact.system.stamp(path)))
      info = massact.tokens.write(path, bytes, docs, { field = "t", bos = false })
      assert.same({ #expected - 4 }, { info.n_tokens, info.bos, info.eos })
    end)

    it("holds what encoding each text as a whole gives, though long ones are cut", function()
      local text = helper.slurp(massact.home .. "/experiments/default/text.txt")
      -- Lines that begin with blanks, blank lines, line ends of Windows; and past the size at which texts are cut.
      text = (text .. "  indented\r\n\r\n\t\n12345\n. . .\n" .. text):rep(30)
      assert(#text > 550000)
      local long = file_of(text, "long.txt")
      local n_cut = 0
      for _, name in ipairs(massact.system.list(tests .. "/golden/tokenizers")) do
        local at = tests .. "/golden/tokenizers/" .. name
        local fine, tokenizer = pcall(massact.tokenizer.load, at)
        if fine then
          n_cut = n_cut + 1
          massact.tokens.write(path, tokenizer, long, { bos = false })
          local expected, got = tokenizer:encode(text), all_ids(path)
          assert.equal(#expected, #got, name)
          for i, id in ipairs(expected) do if id ~= got[i] then error(("%s: token %d is %d, not %d"):format(name, i, got[i], id)) end end
        end
      end
      assert(n_cut >= 5, n_cut)
    end)

    it("has ids of 4 bytes where 2 are too few", function()
      massact.tokenizer.train(file_of "one two", { vocab_size = 258, out = folder .. "/large" })
      local json = massact.json.load(folder .. "/large/tokenizer.json")
      json.model.ignore_merges = true -- a word that is a token is one
      local function word(i) return ("q" .. ("%05d"):format(i)):gsub("%d", function(d) return string.char(97 + d) end) end
      for i = 1, 66000 do json.model.vocab[word(i)] = 257 + i end
      massact.json.save(folder .. "/large/tokenizer.json", json)
      local tokenizer = massact.tokenizer.load(folder .. "/large")
      local info = massact.tokens.write(path, tokenizer, file_of(word(66000)))
      assert.equal(4, info.id_bytes)
      assert.same({ 0, 66257 }, all_ids(path))
    end)

    it("knows a vocabulary by its ids and spellings", function()
      local sha256 = {}
      for _, name in ipairs { "llama2", "qwen" } do sha256[#sha256 + 1] = massact.tokenizer.load(tests .. "/golden/tokenizers/" .. name):sha256() end
      assert.equal(64, #sha256[1])
      assert.not_equal(sha256[1], sha256[2])
      -- By the definition, for a small one.
      local packed = {}
      for id = 0, bytes:size() - 1 do packed[#packed + 1] = bytes:token(id) and string.pack("<s4", bytes:token(id)) or "\255\255\255\255" end
      assert.equal(core.system.sha256(file_of(table.concat(packed), "vocabulary")), bytes:sha256())
    end)

    it("is refused where it lies", function()
      local function lies(pattern, o) refused(pattern, massact.tokens.open, spit_tokens(path, o)) end
      spit_tokens(path, { n = 3 })
      assert.same({ 0, 1, 2 }, all_ids(path))
      lies("'.-tokens.bin' is no token file", { n = 3, magic = "MASSACTX" })
      lies("version 2, and this massact reads version 1", { n = 3, version = 2 })
      lies("says that it has 4 tokens of 4 bytes, but 12 bytes follow: it is cut off", { n = 3, count = 4 })
      lies("says that it has 2 tokens .*: it is too long", { n = 3, count = 2 })
      lies("cut off", { n = 3, count = 1 << 62 })
      for _, o in ipairs { { vocab_size = 0 }, { bos = 100000 }, { eos = 1 << 31 }, { id_bytes = 2 }, { id_bytes = 3 }, { last = "x" }, { vocab_size = 1 << 31 } } do
        o.n = 3
        lies("its header makes no sense", o)
      end
      refused("is no token file", massact.tokens.open, file_of("", "empty"))
      refused("cannot open", massact.tokens.open, folder .. "/none")
      spit_tokens(path, { n = 300 })
      local whole = helper.slurp(path)
      for length = 0, #whole - 1, 7 do
        helper.spit(path, whole:sub(1, length))
        refused(length < 128 and "is no token file" or "cut off", massact.tokens.open, path)
      end
      local file <close> = massact.tokens.open(spit_tokens(path, { n = 5, vocab_size = 4 }))
      refused("token number 4 is 4, beyond its vocabulary of 4: it is damaged", file.gather, file, { 0 }, 5, "i32")
      refused("has 5 tokens; 3 from number 3 on are too many", file.gather, file, { 3 }, 3, "i32")
      refused("windows begin at whole numbers", file.gather, file, { -1 }, 3, "i32")
      refused("i32 or i64, not f32", file.gather, file, { 0 }, 3, "f32")
      file:close()
      refused("has been closed", file.info, file)
    end)

    it("appears whole or not at all", function()
      local bad = file_of(("x"):rep(70000) .. "\x80", "bad.txt")
      os.remove(path)
      refused("text '.-bad.txt': the text is not UTF%-8: byte 0x80 at offset 70000", massact.tokens.write, path, bytes, bad)
      for _, name in ipairs(massact.system.list(folder)) do assert.is_nil(name:find "tokens.bin") end
      local no_bos = massact.tokenizer.train(file_of "one two", { vocab_size = 256, special = {}, out = folder .. "/small" })
      refused("bos = true, but the tokenizer has no BOS", massact.tokens.write, path, no_bos, bad, { bos = true })
      refused("there is no option 'bso'", massact.tokens.write, path, bytes, bad, { bso = true })
      refused("cannot write '/none/x'", massact.tokens.write, "/none/x", bytes, file_of "text")
      local writer <close> = core.tokens.write(path, bytes, {})
      writer:add("text", true)
      writer:commit()
      assert.equal(4, #all_ids(path))
      refused("has been closed", writer.add, writer, "x")
    end)
  end)

  describe("an order without a table", function()
    it("takes every number to every other once, and depends on the key", function()
      for _, n in ipairs { 1, 2, 3, 4, 5, 16, 17, 100, 1000, 4097 } do
        local seen, order = {}, permutation.of(n, 7)
        for i = 0, n - 1 do
          local to = order(i)
          assert(to >= 0 and to < n and not seen[to], n)
          seen[to] = true
        end
      end
      -- Where each number lands over many keys: every place about as often.
      local counts, n, n_keys = {}, 10, 4000
      for key = 1, n_keys do
        local order = permutation.of(n, permutation.key(5, key))
        for i = 0, n - 1 do
          local cell = i * n + order(i)
          counts[cell] = (counts[cell] or 0) + 1
        end
      end
      local chi2 = 0
      for cell = 0, n * n - 1 do chi2 = chi2 + ((counts[cell] or 0) - n_keys / n) ^ 2 / (n_keys / n) end
      assert(chi2 < 150, chi2) -- 81 degrees of freedom: 150 is exceeded once in 200,000
    end)
  end)

  describe("a loader", function()
    local a, b = folder .. "/a.bin", folder .. "/b.bin"
    spit_tokens(a, { n = 103 })                                              -- 0 .. 102
    spit_tokens(b, { n = 57, id = function(i) return 1000 + i end })         -- 1000 .. 1056

    local function loader(o)
      local options = { files = { a, b }, context = 10, batch = 3 }
      for name, value in pairs(o or {}) do options[name] = value end
      return massact.loader(options)
    end

    -- First ids of the next `n` batches' windows.
    local function firsts(l, n)
      local out = {}
      for _ = 1, n do for _, row in ipairs(l:next():totable()) do out[#out + 1] = row[1] end end
      return out
    end

    local function sorted(list)
      local out = table.move(list, 1, #list, 1, {})
      table.sort(out)
      return out
    end

    it("gives every window of every file once an epoch, in another order each", function()
      local l = loader()
      assert.same({ 15, 160, 100000 }, { l.n_windows, l.n_tokens, l.vocab_size })
      local windows = { 0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 1000, 1010, 1020, 1030, 1040 }
      local first, second = firsts(l, 5), firsts(l, 5)
      assert.equal(2.0, l:epoch())
      assert.same(windows, sorted(first))
      assert.same(windows, sorted(second))
      assert.not_same(windows, first)
      assert.not_same(first, second)
      assert.same(first, firsts(loader(), 5))
      assert.not_same(first, firsts(loader { seed = 43 }, 5))
      assert.same(windows, firsts(loader { shuffle = false }, 5))
      local ids = loader { shuffle = false, dtype = "i32" }:next()
      assert.same({ { 3, 10 }, "i32" }, { ids:shape(), ids:dtype() })
      assert.same({ 20, 21, 22, 23, 24, 25, 26, 27, 28, 29 }, ids:totable()[3])
      -- A batch may reach over an epoch's end.
      local over = loader { batch = 7 }
      local three = firsts(over, 15)
      for epoch = 0, 6 do assert.same(windows, sorted(table.move(three, epoch * 15 + 1, epoch * 15 + 15, 1, {}))) end
    end)

    it("resumes exactly, through JSON", function()
      local l = loader { split = "train" }
      firsts(l, 3)
      local state = massact.json.parse(massact.json.text(l:state()))
      local expected = firsts(l, 9)
      local again = loader { split = "train" }
      again:restore(state)
      assert.same(expected, firsts(again, 9))
      for name, value in pairs { seed = 1, context = 9, split = "eval", targets = true, held_out = 0.2, shuffle = false, files = a } do
        refused("loader: the state is of other data: its [%w_]+ is", function() loader { split = "train", batch = 1, [name] = value }:restore(state) end)
      end
      state.position = -1
      refused("position is no number of windows", again.restore, again, state)
    end)

    it("holds windows out", function()
      for _, held_out in ipairs { 0, 0.05, 0.3, 0.5 } do
        local train, eval = loader { split = "train", held_out = held_out }, loader { split = "eval", held_out = held_out, batch = 1, seed = 9 }
        assert.equal(math.max(1, held_out * 15 // 1), eval.n_windows)
        assert.equal(15, train.n_windows + eval.n_windows)
        local n_batches, all, out = 0, {}, {}
        for ids in train:batches() do
          n_batches = n_batches + 1
          for _, row in ipairs(ids:totable()) do all[#all + 1] = row[1] end
        end
        assert.equal((train.n_windows + 2) // 3, n_batches)
        for ids in eval:batches() do for _, row in ipairs(ids:totable()) do out[#out + 1] = row[1] end end
        assert.same(out, firsts(loader { split = "eval", held_out = held_out, batch = 1, shuffle = false }, eval.n_windows))
        table.move(out, 1, #out, #all + 1, all)
        assert.same({ 0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 1000, 1010, 1020, 1030, 1040 }, sorted(all))
      end
    end)

    it("predicts every token of a file once, with targets and behind BOS", function()
      local function predicted(o)
        local seen = {}
        o.shuffle, o.batch = false, 1
        local l = loader(o)
        for ids in l:batches() do
          local row = ids:totable()[1]
          assert.equal(o.targets and 11 or 10, #row)
          if o.bos then assert.equal(7, row[1]) end
          for i = 2, #row do
            assert.is_nil(seen[row[i]])
            seen[row[i]] = true
          end
        end
        local n = 0
        for _ in pairs(seen) do n = n + 1 end
        return n, l.n_windows
      end
      assert.same({ 135, 15 }, { predicted {} })
      assert.same({ 150, 15 }, { predicted { targets = true } }) -- all but the first and the rest of a window
      spit_tokens(a, { n = 103, bos = 7, id = function(i) return i + 200 end })
      assert.same({ 99 + 54, 11 + 6 }, { predicted { bos = true } })
      assert.same({ 100 + 50, 10 + 5 }, { predicted { bos = true, targets = true } })
      spit_tokens(a, { n = 103, bos = 200, id = function(i) return i + 200 end })
      local rows = loader { bos = true, shuffle = false, batch = 2 }:next():totable()
      assert.same({ 200, 201, 202, 203, 204, 205, 206, 207, 208, 209 }, rows[1]) -- which begins with BOS by itself
      assert.same({ 200, 209, 210, 211, 212, 213, 214, 215, 216, 217 }, rows[2])
      spit_tokens(a, { n = 103 })
    end)

    it("feeds a model", function()
      local model = massact.load(massact.home .. "/experiments/default/model")
      massact.tokens.write(path, model.tokenizer, massact.home .. "/experiments/default/text.txt")
      local l = massact.loader { files = path, context = 32, batch = 2, tokenizer = model.tokenizer, bos = true }
      local ids = l:next()
      local out = model:forward(ids, { loss = true })
      assert.near(model:forward(ids:totable(), { loss = true }).loss, out.loss, 1e-12)
      assert(out.loss > 0 and out.loss < 6)
    end)

    it("feeds training, which goes on with the batches that were next", function()
      local model = massact.load(massact.home .. "/experiments/default/model")
      massact.tokens.write(path, model.tokenizer, massact.home .. "/experiments/default/text.txt")
      local function train(name, callbacks)
        local function batches(split) return massact.loader { files = path, context = 32, batch = 2, split = split, held_out = 0.02, targets = true } end
        return massact.train { model = massact.load(massact.home .. "/experiments/default/model"), loader = batches "train", evaluation = batches "eval",
          steps = 6, folder = folder .. "/" .. name, checkpoint_every = 2, callbacks = callbacks }
      end
      local whole = train "whole"
      assert.equal(6 * 2 * 32, whole.tokens)
      refused("stop here", train, "run", { before_step = function(t) if t.step == 3 then error("stop here", 0) end end })
      local resumed = train "run"
      assert.equal(12, resumed.loader.position)
      assert.equal(whole.loss, resumed.loss)
      assert.equal(whole.evaluation_loss, resumed.evaluation_loss)
    end)

    it("refuses in one line what cannot be", function()
      refused("'.-a.bin' has 103 tokens, which are 2 windows of 50: fewer than one batch of 3", loader, { files = a, context = 50 })
      refused("2 files have 160 tokens, which are 0 windows of 200: fewer", loader, { context = 200 })
      refused("for split 'eval': fewer than one batch of 3", loader, { split = "eval" })
      refused("split is train or eval, not 'test'", loader, { split = "test" })
      refused("context is a whole number of at least 2, not 1", loader, { context = 1 })
      refused("batch is a whole number of at least 1, not 0", loader, { batch = 0 })
      refused("held_out is a number of at least 0 below 1, not 1", loader, { held_out = 1 })
      refused("there is no option 'bach'", loader, { bach = 3 })
      refused("files is missing", massact.loader, { context = 3, batch = 3 })
      refused("no token files are named", loader, { files = {} })
      refused("neither the files nor a tokenizer have a BOS", loader, { bos = true })
      refused("'.-a.bin' was made by another tokenizer %(vocabulary 010101010101...%) than the one that is given %(%x+...%)", loader,
        { tokenizer = bytes })
      spit_tokens(b, { n = 57, sha256 = ("\2"):rep(32) })
      refused("'.-b.bin' was made by another tokenizer %(vocabulary 020202020202...%) than '.-a.bin' %(010101", loader)
      spit_tokens(b, { n = 57, count = 58 })
      refused("'.-b.bin' says that it has 58 tokens", loader)
      spit_tokens(b, { n = 57, vocab_size = 50 })
      refused("'.-b.bin': token number %d+ is %d+, beyond its vocabulary of 50", function() loader { files = b, context = 57, batch = 1 }:next() end)
      -- Data that shrinks while it is in use.
      spit_tokens(b, { n = 50000, vocab_size = 100000 })
      local l = loader { files = b, shuffle = false }
      helper.spit(b, helper.slurp(b):sub(1, 200))
      refused("'.-b.bin' shrank or failed while in use", function() for _ = 1, 2000 do l:next() end end)
    end)
  end)
end)
