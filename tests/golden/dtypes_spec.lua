-- bf16 and f16 models give what transformers gives in these dtypes (tests/tools/make_dtypes.py).  Sums come in another
-- order here, so now and then a value lies on the other side of a rounding; from there on its row differs.  So each layer
-- starts from the reference's input, and nearly all of what it gives must be equal bit for bit.
local massact = require "massact"
local golden, shared = os.getenv "MASSACT_TESTS" .. "/golden/", os.getenv "MASSACT_SHARED"

-- A model's folder: here, or where the larger suites take theirs from.
local function folder_of(name)
  for _, root in ipairs { golden, shared and shared .. "/golden/" or nil } do
    if massact.system.is_folder(root .. "models/" .. name) then return root .. "models/" .. name end
  end
end

-- Least share of equal values over all layers of a model, largest difference in steps of the dtype at the row's largest
-- value, and relative error of the whole pass's loss.  Without any one rounding, a share falls below (see the commit).
local limits = {
  bf16 = { share = 0.99, steps = 2, loss = 5e-3, epsilon = 2 ^ -8 },
  f16 = { share = 0.96, steps = 4, loss = 1e-3, epsilon = 2 ^ -11 },
}

local function f32(t) return t:to { dtype = "f32" } end

local function share_of_equal(got, expected) return f32(got:eq(expected)):mean():item() end

-- Largest difference over epsilon times the largest magnitude of its row.
local function steps(got, expected, epsilon)
  local difference, scale = (got - expected):abs(), expected:abs():max(-1, { keep = true })
  return (difference / (scale * epsilon)):max():item()
end

local Tally = {}
Tally.__index = Tally

function Tally:add(got, expected, epsilon)
  self.sum, self.n = self.sum + share_of_equal(got, expected), self.n + 1
  self.steps = math.max(self.steps, steps(got, expected, epsilon))
end

function Tally:check(limit, what)
  local share = self.sum / self.n
  assert(share >= limit.share, ("%s: only %.4f are equal"):format(what, share))
  assert(self.steps <= limit.steps, ("%s: %.2f steps"):format(what, self.steps))
end

local function tally() return setmetatable({ sum = 0, n = 0, steps = 0 }, Tally) end

-- Models of which the test has no folder are left out.
local function each_model(visit)
  for _, file in ipairs(massact.system.list(golden .. "dtypes")) do
    local name = file:gsub("%.safetensors$", "")
    local path = folder_of(name)
    if path then visit(name, path, massact.safetensors.load(golden .. "dtypes/" .. file)) end
  end
end

each_model(function(name, path, expected)
  local ids, positions = expected.input_ids, expected.positions

  for dtype, limit in pairs(limits) do
    if expected[dtype .. ".hidden"] then describe(("model %s in %s"):format(name, dtype), function()
      local model = massact.load(path, { dtype = dtype })
      local hidden = f32(expected[dtype .. ".hidden"])
      local n = model.n_layers
      local function from(point, value, options)
        options.start_at = { point = point, value = value:reshape(1, ids:size(0), -1) }
        return model:forward(ids, options)
      end

      it("has the embedding", function()
        assert.is_true(model:forward(ids, { capture = "embed", stop_at = "embed" }).embed[0] == hidden[0])
      end)

      it("has the probabilities and the output of each layer", function()
        local probabilities, outputs = tally(), tally()
        for l = 0, n - 1 do
          local layer = "layers." .. l
          local out = from(layer .. ".in", hidden[l], { capture = { layer .. ".attn.probs", layer .. ".out" }, stop_at = layer .. ".out" })
          probabilities:add(out[layer .. ".attn.probs"][0]:gather(1, positions), f32(expected[dtype .. ".probs"][l]), limit.epsilon)
          outputs:add(out[layer .. ".out"][0], hidden[l + 1], limit.epsilon)
        end
        probabilities:check(limit, ("%s %s probabilities"):format(name, dtype))
        outputs:check(limit, ("%s %s outputs"):format(name, dtype))
      end)

      it("has the logits", function()
        local logits = tally()
        local out = from(("layers.%d.out"):format(n - 1), hidden[n], { logits = true })
        logits:add(out.logits[0]:gather(0, positions), f32(expected[dtype .. ".logits"]), limit.epsilon)
        logits:check(limit, ("%s %s logits"):format(name, dtype))
      end)

      it("has the loss of the whole pass, with and without logits", function()
        local loss = model:forward(ids, { loss = true }).loss
        local want = expected[dtype .. ".loss"]:get(0)
        assert(math.abs(loss / want - 1) <= limit.loss, ("loss %g instead of %g"):format(loss, want))
        assert.near(loss, model:forward(ids, { loss = true, logits = true }).loss, 1e-6)
      end)

      it("shows values that the dtype holds, however they are looked at", function()
        local plain = model:forward(ids, { logits = true }).logits
        local all = model:forward(ids, { capture = "**" })
        for _, point in ipairs(model:point_names()) do
          assert.equal("f32", all[point]:dtype())
          -- Transformers keeps the experts' shares and scores with an ALiBi bias in f32; sums over probabilities are ours.
          local is_f32 = point:match "mlp%.experts$" or point:match "attn%.received$" or point:match "attn%.entropy$" or (model.spec.position == "alibi" and point:match "attn%.scores$")
          assert.equal(not is_f32, f32(all[point]:to { dtype = dtype }) == all[point], point)
        end
        assert.is_true(all.logits == plain)
        for _, point in ipairs { "layers.*.attn.scores", "layers.*.attn.probs" } do
          assert.is_true(model:forward(ids, { capture = point, logits = true }).logits == plain, point)
        end
      end)

      it("gives the same where copies of weights have no room", function()
        local small = massact.load(path, { dtype = dtype, cache = 0 })
        assert.is_true(small:forward(ids, { logits = true }).logits == model:forward(ids, { logits = true }).logits)
        -- A GPU computes with the 16 bits themselves: what is copied there is no wider, room or not.
        if model:device() == "cpu" then assert(small:wide_bytes() < model:wide_bytes()) end
      end)
    end) end
  end
end)

describe("a dtype", function()
  local path = golden .. "models/llama-3"
  local ids = { 1, 2, 3, 4 }
  local function logits(dtype) return massact.load(path, { dtype = dtype }):forward(ids, { logits = true }).logits end

  it("has the paper's names", function()
    for dtype, names in pairs { f32 = { "f32", "float32", "torch.float32" }, bf16 = { "bf16", "bfloat16", "torch.bfloat16" },
      f16 = { "f16", "float16", "half", "torch.float16" } } do
      for _, name in ipairs(names) do assert.equal(dtype, massact.load(path, { dtype = name }).dtype) end
    end
    assert.equal("f32", massact.load(path).dtype)
  end)

  it("changes nothing when it is f32", function()
    assert.is_true(logits "float32" == logits(nil))
    assert.is_false(logits "bf16" == logits(nil))
  end)

  it("that does not exist gives one line", function()
    local fine, problem = pcall(massact.load, path, { dtype = "int8" })
    assert.is_false(fine)
    assert.equal("there is no dtype 'int8'; there are f32 (float32), bf16 (bfloat16) and f16 (float16, half)", problem)
  end)

  it("rounds what is written at a point and what a pass starts from", function()
    local model = massact.load(path, { dtype = "bf16" })
    local patch <close> = model:point("layers.0.out"):patch { positions = { 1 }, dims = { 3 }, to = 2481 }
    local out = model:forward(ids, { capture = { "layers.1.in" } })["layers.1.in"]
    assert.equal(2480, out:get(0, 1, 3)) -- 8 bits: multiples of 16 between 2048 and 4096
    local start = { point = "layers.1.in", value = out * 0 + 2481 }
    assert.equal(2480, model:forward(ids, { capture = "layers.1.in", start_at = start })["layers.1.in"]:get(0, 0, 0))
  end)

  it("of f16 becomes infinite where it overflows", function()
    local model = massact.load(path, { dtype = "f16" })
    for value, becomes in pairs { [65519] = 65504, [65520] = math.huge, [-1e6] = -math.huge } do
      local patch <close> = model:point("layers.0.out"):patch { positions = { 0 }, dims = { 0 }, to = value }
      assert.equal(becomes, model:forward(ids, { capture = "layers.1.in" })["layers.1.in"]:get(0, 0, 0))
    end
  end)
end)
