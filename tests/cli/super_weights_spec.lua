-- Super weights: a planted one is found, its triple is what it says, and the script from outside.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local shell = require "shell"
local super_weights = require "massact.super_weights"
local golden = os.getenv "MASSACT_TESTS" .. "/golden/models/"
local script = massact.home .. "/experiments/super_weights.lua"

local ids = { 5, 17, 3, 200, 41, 8, 99 }

describe("a super weight", function()
  it("that is planted is found, with what it makes", function()
    for _, family in ipairs { "llama-3", "gpt2", "falcon-11b" } do
      local model = massact.load(golden .. family)
      local clean = super_weights.find(model, ids)[1]
      assert.is_false(clean.layer == 2 and clean.row == 7 and clean.column == 3)
      local row <close> = model:edit("layers.2.mlp.up.weight", function(w) w[3]:mul_(60) end)
      local one <close> = model:edit("layers.2.mlp.proj.weight", function(w) w:set(7, 3, 25) end)
      local sorted, by_layer = super_weights.find(model, ids)
      assert.equal(model.n_layers, #by_layer)
      local found = sorted[1]
      assert.same({ 2, 7, 3, 25 }, { found.layer, found.row, found.column, found.weight }, family)
      assert.equal(found, by_layer[3])
      local out = model:forward(ids, { capture = "layers.2.mlp.*" })
      assert.near(found.input, out["layers.2.mlp.act"]:get(0, found.input_position, 3), 1e-6 * math.abs(found.input))
      assert.near(found.output, out["layers.2.mlp.proj"]:get(0, found.position, 7), 1e-6 * math.abs(found.output))
      assert.near(25 * found.input / found.output, found.share, 1e-9)
      assert(found.share > 0.9 and found.share < 1.1, found.share)
      assert(row and one)
    end
  end)

  it("is tested by zero, its row's mean, and a control of nearly its size elsewhere", function()
    local model = massact.load(golden .. "gpt2")
    local candidate = super_weights.find(model, ids)[1]
    local rows = model:weight(super_weights.slot(candidate)):float():totable()
    local sum, sizes = 0, {}
    for i, row in ipairs(rows) do
      for j, x in ipairs(row) do
        if i == candidate.row + 1 then sum = sum + x
        elseif j ~= candidate.column + 1 then sizes[#sizes + 1] = math.abs(math.abs(x) - math.abs(candidate.weight)) end
      end
    end
    table.sort(sizes)
    local drawn = {}
    for seed = 1, 40 do
      local zero, mean, control = table.unpack(super_weights.triple(model, candidate, seed))
      assert.same({ candidate.row, candidate.column, candidate.weight, 0 }, { zero.row, zero.column, zero.was, zero.to })
      assert.near(sum / #rows[1], mean.to, 1e-7)
      assert(control.row ~= candidate.row and control.column ~= candidate.column)
      assert.equal(rows[control.row + 1][control.column + 1], control.was)
      assert(math.abs(math.abs(control.was) - math.abs(candidate.weight)) <= sizes[16] + 1e-7)
      assert.equal(0, control.to)
      drawn[control.row .. "," .. control.column] = true
    end
    local n = 0
    for _ in pairs(drawn) do n = n + 1 end
    assert(n > 8 and n <= 16, n)
  end)

  it("cannot be looked for among experts", function()
    assert.error_matches(function() super_weights.find(massact.load(golden .. "mixtral"), ids) end,
      "experts have no single down projection: mixtral cannot be searched")
  end)
end)

describe("experiments/super_weights.lua", function()
  local folder = shell.folder()
  teardown(function() os.execute("rm -r " .. folder) end)
  local base = folder .. "/model/model_layer_model.layers_self_attn_256_True_True_42/"

  it("finds the default model's, and shows that it matters and a control does not", function()
    local status, out, err = shell.massact(("run %s --windows 4 --candidates 2 --save_dir %s"):format(script, folder))
    assert.same({ 0, "" }, { status, err })
    local r = massact.json.load(base .. "super_weights.json")
    assert.equal("<s>", r.sentence.tokens[1])
    assert.equal(2, #r.candidates)
    local planted
    for _, c in ipairs(r.candidates) do if c.layer == 1 then planted = c end end
    assert.same({ 9, 0, 0 }, { planted.row, planted.column, planted.position })
    local p = {}
    for _, e in ipairs(planted.edits) do p[e.name] = e.perplexity.text end
    assert(p.zero > 2 * r.original.text and p.row_mean > 2 * r.original.text)
    assert.near(1, p.control / r.original.text, 0.02)
    -- The number is that of the model without the weight.
    local model = massact.load(massact.home .. "/experiments/default/model")
    local file = shell.slurp(massact.home .. "/experiments/default/text.txt")
    local windows = massact.windows(model.tokenizer, file, { length = 256, bos = true, limit = 4, name = "text" })
    assert.near(r.original.text, (massact.perplexity(model, windows)), 1e-6)
    model:param("model.layers.1.mlp.down_proj.weight"):set(9, 0, 0)
    assert.near(p.zero, (massact.perplexity(model, windows)), 1e-4)
    assert.matches("layer 1, down projection %[9, 0%] = 29.7: input 30.31, output 900 at position 0, 100 %% of it by this weight", out)
    assert.equal(1 + 2 * 3, select(2, shell.slurp(base .. "super_weights_perplexity.csv"):gsub("\n", "")))
    assert.equal(1 + 4, select(2, shell.slurp(base .. "super_weights.csv"):gsub("\n", "")))
    local picture = shell.slurp(base .. "super_weights.png")
    os.remove(base .. "super_weights.png")
    assert.equal(0, (shell.massact(("run %s --redraw %s"):format(script, base))))
    assert.is_true(picture == shell.slurp(base .. "super_weights.png"))
  end)

  it("only finds where no candidate is to be tested", function()
    local status, out, err = shell.massact(("run %s --candidates 0 --save_dir %s"):format(script, folder))
    assert.same({ 0, "" }, { status, err })
    assert.same({}, massact.json.load(base .. "super_weights.json").candidates)
    assert.is_nil(out:find "perplexity %d")
  end)
end)
