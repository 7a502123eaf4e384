-- Multiple choice by likelihood: scores against log-softmax of whole passes, one text at a time; files of each form, and bad ones.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local choices = require "massact.choices"
local helper = require "shell"

local folder = helper.folder()
local sets = massact.home .. "/experiments/default/choices/"
local bytes = massact.load(massact.home .. "/experiments/default/model")

local function file_of(...)
  local path = folder .. "/items.jsonl"
  helper.spit(path, table.concat({ ... }, "\n") .. "\n")
  return path
end

-- Log-likelihood of ids[from ..] given those before, and whether each is the likeliest: from the logits of one plain pass.
local function plain(model, ids, from)
  local logits, sum, likeliest = model:forward(ids, { logits = true }).logits[0]:totable(), 0, true
  for i = from, #ids do
    local row, top, total = logits[i - 1], -math.huge, 0
    for _, z in ipairs(row) do top = math.max(top, z) end
    for _, z in ipairs(row) do total = total + math.exp(z - top) end
    sum = sum + row[ids[i] + 1] - top - math.log(total)
    likeliest = likeliest and row[ids[i] + 1] == top
  end
  return sum, likeliest
end

-- A model whose tokenizer has words.
local function with_words()
  massact.tokenizer.train(massact.home .. "/experiments/default/text.txt", { vocab_size = 500, out = folder .. "/tokenizer" })
  return massact.create({ model_type = "llama", architectures = { "LlamaForCausalLM" }, vocab_size = 500, hidden_size = 32, intermediate_size = 64,
    num_hidden_layers = 2, num_attention_heads = 4, num_key_value_heads = 2, rms_norm_eps = 1e-5, max_position_embeddings = 64,
    rope_theta = 10000.0, hidden_act = "silu", tie_word_embeddings = false }, { tokenizer = folder .. "/tokenizer", std = 0.4 })
end

describe("choices", function()
  local words = with_words()
  teardown(function() os.execute("rm -r " .. folder) end)

  it("are scored by the tokens behind the context", function()
    local items = choices.load(file_of('{"context": "The king had a", "choices": ["daughter.", "b", "great deal of gold and silver"], "answer": 2}',
      '{"context": "The queen said ", "choices": ["it", "nothing at all"], "answer": 0, "group": "g"}',
      '{"ctx": "Once:\\n", "endings": ["upon a time", "Once"], "label": "1", "group": "g"}',
      '{"context": "", "choices": ["The old king", "the king"], "answer": 0}'))
    local contexts = { "The king had a", "The queen said", "Once:", "" } -- blanks go to the choice
    local joints = { " ", " ", "\n", "" }
    for _, model in ipairs { words, bytes } do
      for _, bos in ipairs { true, false } do
        local got = choices.score(model, items, { bos = bos })
        local right, right_norm = 0, 0
        for i, item in ipairs(items) do
          local best, best_norm
          for c, choice in ipairs(item.choices) do
            local t = model.tokenizer
            local ids, from = t:encode(contexts[i] .. joints[i] .. choice), #t:encode(contexts[i]) + 1
            if bos then
              table.insert(ids, 1, t.bos)
              from = from + 1
            end
            local score = plain(model, ids, math.max(2, from))
            assert.near(score, got[i].scores[c], 1e-4 * math.abs(score) + 1e-5)
            assert.equal(#ids - math.max(2, from) + 1, got[i].n_tokens[c])
            if not best or score > best[1] then best = { score, c - 1 } end
            if not best_norm or score / #choice > best_norm[1] then best_norm = { score / #choice, c - 1 } end
          end
          assert.equal(best[2], got[i].chosen)
          assert.equal(best_norm[2], got[i].chosen_norm)
          right = right + (best[2] == item.answer and 1 or 0)
          right_norm = right_norm + (best_norm[2] == item.answer and 1 or 0)
        end
        local result = choices.evaluate(model, items, { bos = bos, batch_tokens = 1 })
        assert.near(right / 4, result.accuracy, 1e-12)
        assert.near(right_norm / 4, result.accuracy_norm, 1e-12)
        assert.near(math.sqrt(right / 4 * (1 - right / 4) / 3), result.accuracy_error, 1e-12)
        assert.near((1 / 3 + 3 / 2) / 4, result.chance, 1e-12)
        assert.equal(2, result.groups.g.n)
        -- Alone or together: the same.
        for i, one in ipairs(result.items) do
          for c, score in ipairs(one.scores) do assert.near(score, got[i].scores[c], 1e-4 * math.abs(score) + 1e-5) end
        end
      end
    end
  end)

  it("of pairs are scored whole, behind BOS unless that is refused", function()
    local items = choices.load(file_of('{"good": "The king was old.", "bad": "The king were old."}',
      '{"sentence_good": "They sat.", "sentence_bad": "They sitted.", "UID": "past"}'))
    assert.same({ kind = "pair", context = "", choices = { "They sat.", "They sitted." }, answer = 0, group = "past" }, items[2])
    for _, bos in ipairs { "default", true, false } do
      local how = { bos = bos ~= "default" and bos or nil }
      if bos == false then how.bos = false end
      local got = choices.score(bytes, items, how)
      for i, item in ipairs(items) do
        for c, choice in ipairs(item.choices) do
          local ids = bytes.tokenizer:encode(choice)
          if bos then table.insert(ids, 1, bytes.tokenizer.bos) end
          assert.near(plain(bytes, ids, 2), got[i].scores[c], 1e-3)
          assert.equal(#ids - 1, got[i].n_tokens[c])
        end
      end
    end
  end)

  it("of last words are right where each token is the likeliest", function()
    local texts = { "She took her by the hand", "One two three", "and so on and so on and so on and so" }
    -- Words that the model itself would say, where it would say one.
    for _, start in ipairs { "The king", "He was", "She", "They", "A man", "It was", "I", "And so", "Once there was", "But" } do
      local ids = words.tokenizer:encode(start, { special = true })
      local word = words.tokenizer:decode { words:forward(ids, { logits = true }).logits[0]:argmax(1):get(#ids - 1) }
      if word:match "^ %a+$" then texts[#texts + 1] = start .. word end
    end
    local lines = {}
    for i, text in ipairs(texts) do lines[i] = massact.json.text({ text = text }):gsub("\n", "") end
    local items = choices.load(file_of(table.unpack(lines)))
    local got, n_right, sum = choices.evaluate(words, items, { bos = true }), 0, 0
    for i, text in ipairs(texts) do
      local context = text:match "^(.*) %S+$"
      local ids = words.tokenizer:encode(text, { special = true })
      local score, likeliest = plain(words, ids, #words.tokenizer:encode(context, { special = true }) + 1)
      assert.near(score, got.items[i].scores[1], 1e-3)
      assert.equal(likeliest, got.items[i].is_right, text)
      n_right, sum = n_right + (likeliest and 1 or 0), sum + score
    end
    assert(n_right > 0 and n_right < #texts, n_right)
    assert.near(n_right / #texts, got.accuracy, 1e-12)
    assert.near(math.exp(-sum / #texts), got.perplexity, 1e-3 * math.exp(-sum / #texts))
    assert.same({ "Hans and", { "Gretel!" } }, { choices.load(file_of '{"text": "Hans and  Gretel!\\n"}')[1].context,
      choices.load(file_of '{"text": "Hans and  Gretel!\\n"}')[1].choices })
    assert.same({ "Gretel" }, choices.load(file_of '{"text": "Hans and", "last_word": "Gretel"}')[1].choices)
  end)

  it("behind a context that is too long see its end", function()
    local context = ("The old king had three sons. "):rep(30)
    local items = choices.load(file_of((massact.json.text({ context = context, choices = { "One", "The" }, answer = 0 }):gsub("\n%s*", " "))))
    local got = choices.score(words, items, { bos = true })[1]
    local t = words.tokenizer
    local whole = t:encode(context:gsub(" $", "") .. " One")
    local n = #whole - #t:encode((context:gsub(" $", "")))
    local ids = table.move(whole, #whole - 62, #whole, 2, { t.bos })
    assert.equal(64, #ids)
    assert.near(plain(words, ids, 65 - n), got.scores[1], 1e-3)
    assert.equal(64, #got.ids)
    items[1].choices[2] = context
    local fine, message = pcall(choices.score, words, items)
    assert.is_false(fine)
    assert.matches("item 1: a choice of %d+ tokens is longer than the model's 64 positions", message)
  end)

  it("feel a patch", function()
    local items = choices.load(sets .. "agreement.jsonl", 6)
    assert.equal(6, #items)
    local before = choices.score(bytes, items)
    do
      local patch <close> = bytes:point "layers.1.out":patch { positions = { 0 }, dims = { 9 }, to = 0 }
      local after = choices.score(bytes, items)
      for i = 1, 6 do assert(after[i].scores[1] < before[i].scores[1] - 1) end
    end
    assert.same(before, choices.score(bytes, items))
  end)

  it("of the project are as their script makes them, whole and without double meaning", function()
    assert.equal(0, (helper.massact(("%s/tools/make_choices.lua %s/made"):format(os.getenv "MASSACT_TESTS", folder))))
    for name, kind in pairs { ["agreement.jsonl"] = "pair", ["endings.jsonl"] = "choices", ["last_words.jsonl"] = "last_word" } do
      assert.equal(helper.slurp(folder .. "/made/" .. name), helper.slurp(sets .. name), name)
      local items, answers = choices.load(sets .. name), {}
      assert(#items > 90, name)
      for _, item in ipairs(items) do
        assert.equal(kind, item.kind)
        answers[item.answer] = (answers[item.answer] or 0) + 1
        local seen = {}
        for _, choice in ipairs(item.choices) do
          assert.is_nil(seen[choice], choice)
          seen[choice] = true
        end
        -- The last word has been named.
        if kind == "last_word" then assert(item.context:find(item.choices[1], 1, true), item.context) end
      end
      if kind == "choices" then for answer = 0, 3 do assert.equal(#items // 4, answers[answer]) end end
    end
  end)

  it("that are none are refused in one line", function()
    local function refused(pattern, ...)
      local fine, message = pcall(choices.load, file_of(...))
      assert.is_false(fine, pattern)
      assert.is_nil(message:find "\n")
      assert.matches("items.jsonl'.*" .. pattern, message)
    end
    local good = '{"context": "a", "choices": ["b", "c"], "answer": 0}'
    refused("line 2: column 2: ", good, "{]")
    refused("line 2 is no JSON object", good, "7")
    refused("line 1 is no item: it has neither 'choices'", '{"question": "why"}')
    refused("line 1: 'choices' are at least two texts", '{"context": "a", "choices": ["b"], "answer": 0}')
    refused("line 1: a choice is empty", '{"context": "a", "choices": ["b", " "], "answer": 0}')
    refused("line 1: a choice is empty or no text", '{"context": "a", "choices": ["b", 7], "answer": 0}')
    refused("line 1: choices without a 'context'", '{"choices": ["b", "c"], "answer": 0}')
    refused("line 1: 'context' is no text", '{"context": 3, "choices": ["b", "c"], "answer": 0}')
    for _, answer in ipairs { "2", "-1", '"x"', "null", "0.5" } do
      refused("line 1: 'answer' is one of 0 to 1", ('{"context": "a", "choices": ["b", "c"], "answer": %s}'):format(answer))
    end
    refused("line 1: a pair is 'good' and 'bad'", '{"good": "a"}')
    refused("line 1: 'text' holds fewer than two words", '{"text": "one"}')
    refused("line 3 is of another kind %(pair%) than the first one %(choices%)", good, good, '{"good": "a", "bad": "b"}')
    refused("holds no items", "")
    assert.has_error(function() choices.score(bytes, {}, { boss = true }) end,
      "choices.score: there is no option 'boss'; there are batch_tokens, bos, journal, label")
  end)
end)
