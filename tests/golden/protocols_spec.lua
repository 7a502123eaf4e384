-- Perplexities by protocol on the default model: the windows of llama.cpp and lm-evaluation-harness, the losses of transformers
-- (tests/tools/make_protocols.py, which asks llama.cpp and the harness themselves).
local massact = require "massact"
local perplexity = require "massact.perplexity"
local protocol = require "massact.protocol"
local expected = massact.json.load(os.getenv "MASSACT_TESTS" .. "/golden/protocols.json")
local folder = massact.home .. "/experiments/default/"
local text = massact.data.read(folder .. "text.txt")

local function near(a, b) assert(math.abs(a - b) <= 1e-6 * math.abs(b), ("%.9g instead of %.9g"):format(a, b)) end

describe("perplexity", function()
  local model = massact.load(folder .. "model")

  it("by llama.cpp's chunks", function()
    for length, by_bos in pairs(expected["llama.cpp"]) do
      for name, want in pairs(by_bos) do
        local got = perplexity.of_text(model, text, { protocol = "llama.cpp", context_length = tonumber(length), bos = name == "bos" })
        near(got.perplexity, want.perplexity)
        assert.equal(want.n_scored, got.n_scored)
        assert.equal(name == "bos" and 1 or nil, got.bos)
      end
    end
    -- The tokenizer of this model adds no BOS by itself.
    near(perplexity.of_text(model, text, { protocol = "llama.cpp", context_length = 32 }).perplexity,
      expected["llama.cpp"]["32"].no_bos.perplexity)
  end)

  it("by lm-eval's rolling windows, of tokens, words and bytes", function()
    for length, want in pairs(expected["lm-eval"]) do
      local got = perplexity.of_text(model, text, { protocol = "lm-eval", context_length = tonumber(length) })
      for _, key in ipairs { "perplexity", "byte_perplexity" } do near(got[key], want[key]) end
      near(math.log(got.word_perplexity), math.log(want.word_perplexity))
      for _, key in ipairs { "n_scored", "n_words", "n_bytes" } do assert.equal(want[key], got[key], key) end
    end
  end)

  it("by the paper's windows is what massact.perplexity gives, from ids as well", function()
    local windows = massact.data.windows(model.tokenizer, text, { length = 64, bos = true, limit = 9 })
    local want, losses = massact.perplexity(model, windows)
    local got = perplexity.of_text(model, model.tokenizer:encode(text), { context_length = 64, windows = 9 })
    near(got.perplexity, want)
    assert.same({ "paper", 9, 9 * 63, 64 }, { got.protocol, got.n_windows, got.n_scored, got.context_length })
    for i = 1, 9 do near(got.losses[i], losses[i]) end
  end)

  it("counts patches, by every protocol", function()
    for name in pairs(protocol.protocols) do
      local o = { protocol = name, context_length = 64, windows = 4, bos = true }
      local before = perplexity.of_text(model, text, o).perplexity
      local patch <close> = model:point("layers.1.out"):patch { positions = { 0 }, dims = { 9 }, to = 0 }
      assert(perplexity.of_text(model, text, o).perplexity > 1.5 * before, name)
    end
  end)

  it("names the protocols, and texts that are too short", function()
    assert.has_error(function() perplexity.of_text(model, text, { protocol = "gguf" }) end,
      "no perplexity protocol 'gguf'; there are paper, llama.cpp and lm-eval")
    local fine, message = pcall(perplexity.of_text, model, "abc", { protocol = "llama.cpp", context_length = 64 })
    assert.is_false(fine)
    assert.matches("the text has 3 tokens, fewer than one window of 64", message)
  end)
end)

describe("protocols", function()
  local tokenizer = { bos = 1, encode = function() return { 1 } end }
  local function ids(n) local list = {} for i = 1, n do list[i] = 10 + i end return list end

  it("score every token once (lm-eval)", function()
    for n = 1, 13 do
      for length = 2, 5 do
        local seen = {}
        for _, window in ipairs((protocol.windows(tokenizer, ids(n), { protocol = "lm-eval", length = length }))) do
          assert(#window.ids == length or n < length)
          local all = table.move(window.ids, 1, #window.ids, 1, {})
          all[#all + 1] = window.target
          for i = window.first, #all - 1 do seen[#seen + 1] = all[i + 1] end
        end
        assert.same(ids(n), seen)
      end
    end
  end)

  it("put BOS once, or as forced", function()
    local own = { 1, 11, 12, 13 }
    local function first(name, bos) return protocol.windows(tokenizer, own, { protocol = name, length = 4, bos = bos })[1].ids end
    for _, name in ipairs { "paper", "llama.cpp", "lm-eval" } do
      assert.equal(11, first(name, true)[2], name)
      assert.equal(1, first(name, "force")[2], name)
    end
  end)

  it("count words as Python splits them", function()
    assert.equal(2, protocol.n_words "one two")
    assert.equal(4, protocol.n_words " one\u{3000}\ntwo\u{A0} ")
    assert.equal(1, protocol.n_words "")
    assert.equal(2, protocol.n_words "a\x1Cb")
  end)
end)
