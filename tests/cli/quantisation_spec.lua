-- Eight bits, simulated: against plain loops over Lua numbers, and the script from outside.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local quantisation = require "massact.quantisation"
local shell = require "shell"
local golden = os.getenv "MASSACT_TESTS" .. "/golden/models/"
local script = massact.home .. "/experiments/quantisation.lua"

local ids = { { 5, 17, 3, 200, 41, 8, 99 }, { 9, 9, 80, 12, 7, 301, 4 } }

local function f32(x) return (string.unpack("<f", string.pack("<f", x))) end

local function nearest(x) -- ties to even
  local low = math.floor(x)
  return (x - low > 0.5 or (x - low == 0.5 and low % 2 == 1)) and low + 1 or low
end

local function largest(rows, from)
  local most = 0
  for i = from or 1, #rows do for _, x in ipairs(rows[i]) do most = math.max(most, math.abs(x)) end end
  return most
end

-- Rows rounded to whole multiples of most / 127, from row `from` on.
local function rounded(rows, most, from)
  local out, scale = {}, f32(most / 127)
  for i, row in ipairs(rows) do
    out[i] = {}
    for j, x in ipairs(row) do
      out[i][j] = i < (from or 1) and x or f32(scale * math.max(-127, math.min(127, nearest(f32(x / scale)))))
    end
  end
  return out
end

-- x w^T
local function product(x, w)
  local out = {}
  for i = 1, #x do
    out[i] = {}
    for j = 1, #w do
      local sum = 0
      for k = 1, #w[j] do sum = sum + x[i][k] * w[j][k] end
      out[i][j] = sum
    end
  end
  return out
end

local function check(got, expected, tolerance)
  local most = largest(expected)
  for i, row in ipairs(expected) do
    for j, x in ipairs(row) do
      assert(math.abs(got[i][j] - x) <= tolerance * most, ("[%d][%d] is %.9g, expected %.9g"):format(i, j, got[i][j], x))
    end
  end
end

describe("quantisation", function()
  local model = massact.load(golden .. "llama-3")
  local first = { capture = { "layers.0.attn.norm", "layers.0.mlp.norm", "layers.0.mlp.act", "layers.0.mlp.up", "layers.0.attn.z" } }
  local plain = model:forward(ids, first)

  it("of weights and inputs gives the product of both, rounded", function()
    local x, w = plain["layers.0.attn.norm"], model:weight("layers.0.attn.q.weight"):float():totable()
    local edit <close> = quantisation.weights(model, 127)
    local hook <close> = quantisation.activations(model, { levels = 127 })
    local out = model:forward(ids, { capture = "layers.0.attn.q" })["layers.0.attn.q"]:reshape(2, 7, -1)
    for b = 1, 2 do
      local rows = x[b - 1]:totable()
      check(out[b - 1]:totable(), product(rounded(rows, largest(rows)), rounded(w, largest(w))), 1e-6)
    end
  end)

  it("leaves kept positions as they are, and out of the scale", function()
    local hook <close> = quantisation.activations(model, { levels = 127, kept = { { 0, 1 }, {} } })
    local out = model:forward(ids, { capture = "layers.0.attn.norm" })["layers.0.attn.norm"]
    for b, from in ipairs { 3, 1 } do
      local rows = plain["layers.0.attn.norm"][b - 1]:totable()
      check(out[b - 1]:totable(), rounded(rows, largest(rows, from), from), 0)
    end
  end)

  it("takes static scales by point, and clips what exceeds them", function()
    local hook <close> = quantisation.activations(model, { levels = 127, scales = { ["layers.0.attn.norm"] = 0.5 } })
    local out = model:forward(ids, { capture = "layers.0.attn.norm", stop_at = "layers.0.attn.norm" })["layers.0.attn.norm"]
    check(out[1]:totable(), rounded(plain["layers.0.attn.norm"][1]:totable(), 0.5), 0)
    assert.equal(f32(f32(0.5 / 127) * 127), out:abs():max():item())
  end)

  it("rounds every linear map of every layer, and nothing else", function()
    local names = {}
    for _, slot in ipairs(quantisation.linears(model)) do names[slot:gsub("^layers%.%d+%.", "")] = true end
    assert.same({ ["attn.q.weight"] = true, ["attn.k.weight"] = true, ["attn.v.weight"] = true, ["attn.proj.weight"] = true,
      ["mlp.gate.weight"] = true, ["mlp.up.weight"] = true, ["mlp.proj.weight"] = true }, names)
    assert.equal(7 * model.n_layers, #quantisation.linears(model))
    local mixtral = massact.load(golden .. "mixtral")
    assert.equal((4 + 3 * mixtral.spec.n_experts) * mixtral.n_layers, #quantisation.linears(mixtral))
  end)

  it("gives the loss of a file with rounded weights", function()
    local tensors = massact.safetensors.load(golden .. "gpt2")
    local gpt2 = massact.load(golden .. "gpt2")
    for _, part in ipairs { "mlp.c_fc", "mlp.c_proj", "attn.c_proj" } do -- one slot each
      local name = ("h.1.%s.weight"):format(part)
      local rows = tensors[name]:totable()
      tensors[name] = massact.tensor(rounded(rows, largest(rows)))
    end
    local folder = shell.folder()
    os.execute(("cp %sgpt2/config.json %s"):format(golden, folder))
    massact.safetensors.save(folder .. "/model.safetensors", tensors)
    local expected = massact.load(folder):forward(ids, { loss = true }).loss
    local edit <close> = gpt2:edit({ "layers.1.mlp.up.weight", "layers.1.mlp.proj.weight", "layers.1.attn.proj.weight" }, function(w)
      return w:quantize(w:abs():max():item() / 127)
    end)
    assert.equal(expected, gpt2:forward(ids, { loss = true }).loss)
    os.execute("rm -r " .. folder)
  end)

  it("calibrates with the largest magnitudes that windows show, and without their massive tokens'", function()
    local default = massact.load(massact.home .. "/experiments/default/model")
    local windows = {}
    for w = 1, 3 do
      windows[w] = { 1 }
      for i = 2, 24 do windows[w][i] = 35 + (i * 7 + w * 11) % 80 end
    end
    local scales = quantisation.calibrate(default, windows, { label = "test" })
    for _, input in ipairs(quantisation.inputs) do
      for l = 0, default.n_layers - 1 do
        local name, all, kept_out = ("layers.%d.%s"):format(l, input), 0, 0
        local x = default:forward(windows, { capture = name })[name]:reshape(3, 24, -1)
        for w = 0, 2 do
          local rows = x[w]:totable()
          all, kept_out = math.max(all, largest(rows)), math.max(kept_out, largest(rows, 2)) -- BOS alone is massive
        end
        assert.near(1, scales.all[name] / all, 1e-5) -- other batches: other orders of sums
        assert.near(1, scales.kept_out[name] / kept_out, 1e-5)
      end
    end
    assert(scales.all["layers.1.mlp.act"] > 2 * scales.kept_out["layers.1.mlp.act"])
  end)
end)

describe("experiments/quantisation.lua", function()
  local folder = shell.folder()
  teardown(function() os.execute("rm -r " .. folder) end)
  local base = folder .. "/model/model_layer_model.layers_self_attn_256_True_True_42/"

  it("scores the model in each case, and draws it again from the results", function()
    local status, out, err = shell.massact(("run %s --windows 3 --calibration_windows 2 --save_dir %s"):format(script, folder))
    assert.same({ 0, "" }, { status, err })
    local r = massact.json.load(base .. "quantisation.json")
    local text = r.texts[1]
    assert.equal(3, #text.massive)
    assert.equal(0, text.massive[1][1].position)
    assert.equal(1, text.massive[1][1].id)
    for case, losses in pairs(text.losses) do
      local sum = 0
      for _, loss in ipairs(losses) do sum = sum + loss end
      assert.near(math.exp(sum / 3), text.perplexity[case], 1e-9)
    end
    local p = text.perplexity
    assert(p.activations > p.activations_kept_out and p.activations_kept_out > p.full)
    assert(p.both > p.both_kept_out)
    assert.matches(("A8, massive tokens kept out      perplexity %.4g"):format(p.activations_kept_out):gsub("%.", "%%."), out)
    assert.equal(6 + 1, select(2, shell.slurp(base .. "quantisation.csv"):gsub("\n", "")))
    local pictures = {}
    for _, file in ipairs { "quantisation.png", "quantisation_scales.png" } do
      pictures[file] = shell.slurp(base .. file)
      os.remove(base .. file)
    end
    assert.equal(0, (shell.massact(("run %s --redraw %s"):format(script, base))))
    for file, picture in pairs(pictures) do assert.is_true(shell.slurp(base .. file) == picture, file) end
  end)

  it("has scales of each sequence's own, and fewer bits", function()
    local function perplexities(options)
      local status, _, err = shell.massact(("run %s --windows 2 --calibration_windows 2 %s --save_dir %s"):format(script, options, folder))
      assert.same({ 0, "" }, { status, err })
      return massact.json.load(base .. "quantisation.json").texts[1].perplexity
    end
    local static, dynamic, few = perplexities "", perplexities "--dynamic", perplexities "--bits 4"
    assert.equal(static.full, dynamic.full)
    assert.equal(static.weights, dynamic.weights)
    assert(static.activations ~= dynamic.activations)
    assert(few.both > 2 * static.both)
  end)

  it("answers mistakes with one clear line", function()
    for _, bits in ipairs { "1", "17" } do
      local status, _, err = shell.massact(("run %s --bits %s --save_dir %s"):format(script, bits, folder))
      assert.same({ 2, "massact: --bits must be between 2 and 16\n" }, { status, err })
    end
  end)
end)
