-- Activation patching: nothing patched is the corrupt pass, everything the clean one, and one position what the pass gives that
-- starts from a stream made by hand; and the script from outside.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local patching = require "massact.patching"
local shell = require "shell"
local golden = os.getenv "MASSACT_TESTS" .. "/golden/models/"
local script = massact.home .. "/experiments/patching.lua"

local clean, corrupt = { 5, 17, 3, 200, 41, 8, 99 }, { 5, 17, 60, 200, 42, 8, 99 }
local everywhere = { 0, 1, 2, 3, 4, 5, 6 }

local function last(model, ids) return model:forward(ids, { logits = true }).logits[0][#ids - 1] end
local function far(a, b) return (a - b):abs():max():item() / b:abs():max():item() end

describe("patching", function()
  for _, family in ipairs { "llama-3", "gpt2", "falcon-11b", "gemma-3", "opt-350m" } do
    local model = massact.load(golden .. family)
    local source = model:forward(clean, { capture = { "layers.*.out", "layers.*.attn.out", "layers.*.mlp.out" } })
    local target = model:forward(corrupt, { capture = { "layers.*.in", "layers.*.out" } })
    local function patched(layer, point, patches)
      return patching.patched(model, corrupt, target[("layers.%d.in"):format(layer)], layer, point,
        source[("layers.%d.%s"):format(layer, point)], patches)
    end

    it("of nothing gives the corrupt prompt's logits, of all positions the clean one's: " .. family, function()
      assert(far(last(model, clean), last(model, corrupt)) > 1e-3)
      for layer = 0, model.n_layers - 1 do
        for _, point in ipairs { "out", "attn.out", "mlp.out" } do
          assert(far(patched(layer, point, { {} })[0], last(model, corrupt)) < 1e-5)
        end
        assert(far(patched(layer, "out", { everywhere })[0], last(model, clean)) < 1e-5)
      end
    end)

    it("of one position is the pass from a stream with that row: " .. family, function()
      for layer = 0, model.n_layers - 1 do
        local name = ("layers.%d.out"):format(layer)
        local logits = patched(layer, "out", { { 2 }, { 3 }, { 2, 4 } })
        for b, rows in ipairs { { 2 }, { 3 }, { 2, 4 } } do
          local stream = target[name][0]:totable()
          for _, p in ipairs(rows) do stream[p + 1] = source[name][0][p]:totable() end
          local expected = model:forward(corrupt, { logits = true, start_at = { point = name, value = massact.tensor { stream } } }).logits[0][6]
          assert(far(logits[b - 1], expected) < 1e-5)
        end
      end
    end)
  end

  it("of a branch is the stream before it, plus the clean branch", function()
    local model = massact.load(golden .. "llama-3")
    local source, target = model:forward(clean, { capture = "**" }), model:forward(corrupt, { capture = "**" })
    for layer = 0, model.n_layers - 1 do
      for _, case in ipairs { { "attn.out", "in", "mid" }, { "mlp.out", "mid", "out" } } do
        local branch, before, after = ("layers.%d."):format(layer) .. case[1], ("layers.%d."):format(layer) .. case[2], ("layers.%d."):format(layer) .. case[3]
        local stream = target[after]:clone()
        stream[0][4]:copy_(target[before][0][4] + source[branch][0][4])
        local expected = model:forward(corrupt, { logits = true, start_at = { point = after, value = stream } }).logits[0][6]
        local logits = patching.patched(model, corrupt, target[("layers.%d.in"):format(layer)], layer, case[1], source[branch], { { 4 } })
        assert(far(logits[0], expected) < 1e-5)
      end
    end
  end)

  it("sweeps all layers and positions, in passes of any size", function()
    local model = massact.load(golden .. "llama-3")
    local function score(logits) return logits:get(7) - logits:get(9) end
    local high, low = score(last(model, clean)), score(last(model, corrupt))
    local scores = patching.sweep(model, clean, corrupt, "out", score)
    for layer, by_position in ipairs(scores) do
      assert.equal(7, #by_position)
      -- Before the prompts differ there is nothing to put in; behind the last layer only the last position counts.
      for p = 1, 2 do assert.near(low, by_position[p], 1e-4) end
      if layer == model.n_layers then
        for p = 1, 6 do assert.near(low, by_position[p], 1e-4) end
        assert.near(high, by_position[7], 1e-4)
      end
    end
    local most = patching.batch_tokens
    patching.batch_tokens = 15 -- two copies a pass
    local again = patching.sweep(model, clean, corrupt, "out", score)
    patching.batch_tokens = most
    for l, by_position in ipairs(scores) do for p, value in ipairs(by_position) do assert.near(value, again[l][p], 1e-4) end end
  end)

  it("scores by a difference of logits, or by a probability", function()
    local logits = massact.tensor { 1, 3, -2 }
    assert.near(5, patching.metrics.logit_difference(logits, 1, 2), 1e-6)
    assert.near(math.exp(3) / (math.exp(1) + math.exp(3) + math.exp(-2)), patching.metrics.probability(logits, 1, 2), 1e-6)
  end)
end)

describe("experiments/patching.lua", function()
  local folder = shell.folder()
  teardown(function() os.execute("rm -r " .. folder) end)
  local base = folder .. "/model/model_layer_model.layers_self_attn_256_True_True_42/"
  local function run(options)
    local status, _, err = shell.massact(("run %s %s --save_dir %s"):format(script, options, folder))
    return status, err
  end

  for _, metric in ipairs { "logit_difference", "probability" } do
    it("brings back everything at the last position of the last layer, nothing where the prompts are alike: " .. metric, function()
      assert.same({ 0, "" }, { run("--clean 'the old king' --corrupt 'the old ring' --answer ' ' --wrong s --metric " .. metric) })
      local r = massact.json.load(base .. "patching.json")
      assert.same({ 9 }, table.move(r.differ, 1, 1, 1, {})) -- behind BOS and 8 bytes
      assert.same({ " ", 35, "s", 118 }, { r.answer.token, r.answer.id, r.wrong.token, r.wrong.id })
      local model = massact.load(massact.home .. "/experiments/default/model")
      local logits = last(model, r.clean.ids)
      assert.near(metric == "probability" and logits:softmax():get(35) or logits:get(35) - logits:get(118), r.clean_score, 1e-4)
      assert.near(1, r.recovered[4][13], 1e-3)
      for l = 1, 4 do for p = 1, 9 do assert.near(0, r.recovered[l][p], 1e-3) end end
      assert.equal(1 + 4 * 13, select(2, shell.slurp(base .. "patching.csv"):gsub("\n", "")))
      for _, file in ipairs { "patching.png", "patching_layers.png" } do
        local picture = shell.slurp(base .. file)
        os.remove(base .. file)
        assert.equal(0, (shell.massact(("run %s --redraw %s"):format(script, base))))
        assert.is_true(picture == shell.slurp(base .. file), file)
      end
    end)
  end

  it("draws tokens of both prompts where they differ", function()
    assert.same({ 0, "" }, { run "--clean 'the old king' --corrupt 'the old ring' --answer ' ' --wrong s" })
    for _, draw in ipairs { "figure", "layers_figure" } do
      local seen = {}
      for _, text in ipairs(massact.plot.texts(patching[draw](massact.json.load(base .. "patching.json")))) do seen[text] = true end
      assert(seen["model, out: \u{2423}, not s"])
      for _, text in ipairs(draw == "figure" and { "k/r", "<s>", "Recovered logit difference" } or { "position 9, k/r", "position 12, g" }) do
        assert(seen[text], text)
      end
    end
  end)

  it("chooses answers by itself, and looks at branches", function()
    for _, point in ipairs { "attn.out", "mlp.out" } do
      assert.same({ 0, "" }, { run("--point " .. point) })
      local r = massact.json.load(base .. "patching.json")
      assert(r.answer.id ~= r.wrong.id and r.clean_score > r.corrupt_score)
      assert.equal(point, r.options.point)
    end
  end)

  it("answers mistakes with one clear line", function()
    for _, case in ipairs {
      { "--clean abc --corrupt ab", "%-%-clean has 4 tokens %['<s>', 'a', 'b', 'c'%], %-%-corrupt has 3 %['<s>', 'a', 'b'%]; patching wants as many in both" },
      { "--clean abc --corrupt abc", "%-%-clean and %-%-corrupt are the same tokens" },
      { "--answer Paris --wrong Poland", "begin with the same token 'P'; name others by %-%-answer and %-%-wrong" },
      { "--answer ''", "%-%-answer holds no token" },
      { "--point mid", "%-%-point is one of out, attn.out, mlp.out, not 'mid'" },
    } do
      local status, err = run(case[1])
      assert.equal(2, status, case[1])
      assert.matches("^massact: [^\n]*" .. case[2] .. "[^\n]*\n$", err)
    end
  end)
end)
