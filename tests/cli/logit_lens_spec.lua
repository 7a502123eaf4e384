-- The logit lens: against plain loops over Lua numbers, its last row against the model itself, and the script from outside.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local lens = require "massact.lens"
local shell = require "shell"
local golden = os.getenv "MASSACT_TESTS" .. "/golden/models/"
local script = massact.home .. "/experiments/logit_lens.lua"

local ids = { 5, 17, 3, 200, 41, 8, 99 }

-- A golden model with a tokenizer, of which it needs only the texts.
local function load(family)
  local model = massact.load(golden .. family)
  model.tokenizer = { token = function(_, id) return "t" .. id end, is_special = function() return true end }
  return model
end

-- Head and final norm in plain Lua: RMS for llama, mean and variance for gpt2.
local function head(model, x)
  local function list(name) return model.weights[name] and model:weight(name):float():reshape(-1):totable() end
  local gain, bias = list "final.norm.weight", list "final.norm.bias"
  local mean, square, h, logits = 0, 0, {}, {}
  if bias then for _, v in ipairs(x) do mean = mean + v / #x end end
  for _, v in ipairs(x) do square = square + (v - mean) ^ 2 / #x end
  for i, v in ipairs(x) do h[i] = (v - mean) / math.sqrt(square + model.spec.norm_eps) * gain[i] + (bias and bias[i] or 0) end
  for v, row in ipairs(model:weight("head.weight"):float():totable()) do
    logits[v] = 0
    for i, w in ipairs(row) do logits[v] = logits[v] + w * h[i] end
  end
  return logits
end

-- What is read from logits of one position.
local function predictions(logits, next_id)
  local most, at, total, entropy, rank = -math.huge, nil, 0, 0, 1
  for v, x in ipairs(logits) do if x > most then most, at = x, v - 1 end end
  for _, x in ipairs(logits) do total = total + math.exp(x - most) end
  for _, x in ipairs(logits) do
    local log_p = x - most - math.log(total)
    entropy = entropy - math.exp(log_p) * log_p
    if next_id and x > logits[next_id + 1] then rank = rank + 1 end
  end
  return { top = at, probability = 1 / total, entropy = entropy, rank = rank,
    next_probability = next_id and math.exp(logits[next_id + 1] - most) / total }
end

describe("the logit lens", function()
  for _, family in ipairs { "llama-3", "gpt2" } do
    it("sends each layer's output through norm and head, as loops over numbers do: " .. family, function()
      local model = load(family)
      local out = model:forward(ids, { capture = { "embed", "layers.*.out" } })
      local rows = lens.measure(model, ids)
      assert.equal(model.n_layers + 1, #rows)
      for r, row in ipairs(rows) do
        local x = out[r == 1 and "embed" or ("layers.%d.out"):format(r - 2)][0]:totable()
        assert.equal(r == 1 and "embed" or tostring(r - 2), row.layer)
        local loss = 0
        for t = 1, #ids do
          local expected = predictions(head(model, x[t]), ids[t + 1])
          assert.equal(expected.top, row.top[t])
          assert.equal("t" .. expected.top, row.token[t])
          assert.near(1, row.probability[t] / expected.probability, 1e-4)
          assert.near(expected.entropy, row.entropy[t], 1e-4)
          assert.equal(ids[t + 1] and expected.rank, row.next_rank[t] or nil)
          if ids[t + 1] then
            assert.near(1, row.next_probability[t] / expected.next_probability, 1e-4)
            loss = loss - math.log(expected.next_probability) / (#ids - 1)
          end
        end
        assert.near(loss, row.loss, 1e-4)
      end
    end)
  end

  it("ends with what the model itself says, whatever the family and its head", function()
    for _, family in ipairs(massact.system.list(golden)) do
      local model, last = load(family), nil
      for _, logits in lens.each(model, ids) do last = logits end
      local out = model:forward(ids, { logits = true, loss = true })
      assert.is_true(last == out.logits[0], family)
      local rows = lens.measure(model, ids)
      assert.near(out.loss, rows[#rows].loss, 1e-5)
    end
  end)

  it("is drawn with every prediction in its cell, and massive tokens in red", function()
    local texts = { [" a"] = "\u{2423}a", ["\n"] = "\\n", ["overwhelming"] = "overwhelm\u{2026}", ["tenletters"] = "tenletters", b = "b", c = "c" }
    local results = { model = "m", sentence = { ids = { 1, 2 }, tokens = { "<s>", " x" }, massive = { 0 } }, rows = {
      { layer = "embed", token = { " a", "\n" }, probability = { 0.1, 0.9 }, entropy = { 3, 1 } },
      { layer = "0", token = { "overwhelming", "tenletters" }, probability = { 0.2, 0.3 }, entropy = { 2, 2 } },
      { layer = "1", token = { "b", "c" }, probability = { 0.2, 0.3 }, entropy = { 2, 2 } } } }
    for show, label in pairs { probability = "Probability of the likeliest token", entropy = "Entropy, nats" } do
      local seen = {}
      for _, text in ipairs(massact.plot.texts(lens.figure(results, show))) do seen[text] = true end
      for _, text in pairs(texts) do assert(seen[text], text) end
      for _, text in ipairs { "<s>", "\u{2423}x", "embed", "0", "1", label } do assert(seen[text], text) end
    end
    local labels = require("massact.token_text").labels(results.sentence.tokens, results.sentence.massive)
    assert.same({ "red", true, nil }, { labels[1].color, labels[1].bold, labels[2].color })
    for i = 3, 400 do results.sentence.ids[i], results.sentence.tokens[i] = 3, "y" end -- too long for texts
    for _, row in ipairs(results.rows) do
      for i = 3, 400 do row.token[i], row.probability[i] = "z", 0.5 end
    end
    for _, text in ipairs(massact.plot.texts(lens.figure(results, "probability"))) do assert(text ~= "z") end
  end)

  it("takes a sentence of one token, which nothing follows", function()
    local rows = lens.measure(load "gpt2", { 7 })
    assert.same({ {}, {}, nil }, { rows[1].next_rank, rows[1].next_probability, rows[1].loss })
  end)
end)

describe("experiments/logit_lens.lua", function()
  local folder = shell.folder()
  teardown(function() os.execute("rm -r " .. folder) end)
  local base = folder .. "/model/model_layer_model.layers_self_attn_256_True_True_42/"

  it("keeps tokens, predictions and massive positions, and draws them again", function()
    local status, out, err = shell.massact(("run %s --sentence 'The king said' --save_dir %s"):format(script, folder))
    assert.same({ 0, "" }, { status, err })
    local r = massact.json.load(base .. "logit_lens.json")
    assert.same({ "<s>", "T", "h", "e" }, table.move(r.sentence.tokens, 1, 4, 1, {}))
    assert.same({ 0 }, table.move(r.sentence.massive, 1, #r.sentence.massive, 1, {}))
    local model = massact.load(massact.home .. "/experiments/default/model")
    local last, pass = r.rows[#r.rows], model:forward(r.sentence.ids, { logits = true, loss = true })
    assert.near(pass.loss, last.loss, 1e-5)
    assert.same(pass.logits[0]:argmax(-1):totable(), table.move(last.top, 1, #last.top, 1, {}))
    assert.matches(("  3     loss %-6.4g"):format(last.loss):gsub("%.", "%%."), out)
    assert.equal(1 + 5 * 14, select(2, shell.slurp(base .. "logit_lens.csv"):gsub("\n", "")))
    for _, file in ipairs { "logit_lens_rank.png", "logit_lens.png" } do
      local picture = shell.slurp(base .. file)
      os.remove(base .. file)
      assert.equal(0, (shell.massact(("run %s --redraw %s"):format(script, base))))
      assert.is_true(picture == shell.slurp(base .. file), file)
    end
  end)

  it("answers an empty sentence with one clear line", function()
    local status, _, err = shell.massact(("run %s --sentence '' --add_bos_token false --save_dir %s"):format(script, folder))
    assert.same({ 2, "massact: --sentence holds no token\n" }, { status, err })
  end)
end)
