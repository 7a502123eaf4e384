-- Models on a GPU, or on an emulated one, give what they give on the CPU: every point of every golden model, what hooks, probes and
-- patches see and change, gradients, and a step of AdamW; to 1e-4 of each tensor's largest magnitude.
local massact = require "massact"
local optimizers = require "massact.train.optimizer"

local has_gpu, problem = pcall(massact.zeros, { 1 }, { device = "cuda" })
if not has_gpu then
  print("skipped: everything (" .. tostring(problem) .. ")")
  return
end

local home = os.getenv "MASSACT_TESTS" .. "/golden/models/"
local tolerance = 1e-4

local function on_cpu(t) return t:device() == "cpu" and t or t:to { device = "cpu" } end

-- Scores are -inf where hidden, on both devices alike.  What is 0 but for rounding is measured by `least` instead of by itself.
local function error_of(got, expected, least)
  got, expected = on_cpu(got:detach()):float(), on_cpu(expected:detach()):float()
  local finite = expected:isfinite()
  local is_same = got:isfinite() == finite
  if not is_same then return math.huge end
  local largest = math.max(finite:where(expected, 0):abs():max():item(), least or 0)
  local difference = finite:where(got - expected, 0):abs():max():item()
  return difference == 0 and 0 or difference / largest
end

local function same_all(got, expected, least, allowed)
  local n = 0
  for name, tensor in pairs(expected) do
    local e = error_of(got[name], tensor, least)
    assert(e <= (allowed or tolerance), ("%s: relative error %g"):format(name, e))
    n = n + 1
  end
  return n
end

describe("a GPU", function()
  it("is named by what a run records", function()
    local machine = massact.system.machine "cuda"
    assert.equal("cuda:0", machine.device)
    assert(#machine.device_hardware > 0 and machine.device_memory_bytes > 0)
    assert.equal("cpu", massact.system.machine().device)
  end)

  it("is said to be too small before anything is computed there", function()
    local memory = require "massact.memory"
    local model <close> = massact.load(home .. "gpt2", { device = "cuda" })
    assert.has_error(function() memory.check_pass(model, 1 << 40) end)
    local huge = { names = function() return { "w" } end, bytes = function() return 1 << 50 end }
    local _, message = pcall(memory.check_weights, huge, "cuda:0", "big")
    assert.matches("^big: weights: %d+%.%d+ GB, but cuda:0 has .* left; use device cpu", message)
    memory.check_weights(huge, "cpu", "big") -- mapped, not read
  end)

  it("is asked for half the memory by a model of 16 bits", function()
    local memory, ids = require "massact.memory", { {} }
    for t = 1, 64 do ids[1][t] = t end
    for _ = 2, 100 do ids[#ids + 1] = ids[1] end
    local taken = {}
    for _, dtype in ipairs { "f32", "bf16" } do
      local model <close> = massact.load(home .. "gpt2", { device = "cuda", dtype = dtype })
      for _ = 1, 2 do model:forward(ids, { stop_at = "final.norm" }) end
      taken[dtype] = model:pass_bytes()
      local estimate = memory.estimate(model, 6400).pass
      assert(taken[dtype] > 0.75 * estimate and taken[dtype] < 2 * estimate, ("%d of %d"):format(taken[dtype], estimate))
    end
    assert(taken.bf16 < 0.6 * taken.f32)
  end)

  it("keeps the past of a 16-bit model in 16 bits", function()
    for _, name in ipairs { "gpt2", "gemma-3" } do
      local model <close> = massact.load(home .. name, { device = "cuda", dtype = "bf16" })
      local ids, cache = {}, model:cache(24, 1)
      for t = 1, 24 do ids[t] = t + 3 end
      local whole = model:forward({ ids }, { logits = true }).logits
      model:forward({ table.move(ids, 1, 20, 1, {}) }, { cache = cache })
      local last = model:forward({ table.move(ids, 21, 24, 1, {}) }, { cache = cache, logits = true }).logits
      assert(error_of(last, whole:narrow(1, 20, 4)) <= 0.02, name)
    end
  end)

  it("does not take weights that lie elsewhere", function()
    local model <close> = massact.load(home .. "gpt2", { device = "cuda" })
    local slot = "layers.0.mlp.proj.weight"
    local elsewhere = model:weight(slot):to { device = "cpu" }
    local _, message = pcall(model.bind, model, slot, elsewhere)
    assert.matches("weight 'layers.0.mlp.proj.weight' is on cpu, the model on cuda:0", message)
  end)

  it("multiplies f32 in f32, and in TF32 where that is allowed", function()
    local a, b = massact.randn(33, 65), massact.randn(65, 17)
    local on_gpu_a, on_gpu_b = a:to { device = "cuda" }, b:to { device = "cuda" }
    local function error_of_product() return error_of(on_gpu_a:matmul(on_gpu_b), a:matmul(b)) end
    assert(error_of_product() < 1e-6)
    massact.system.allow_tf32("cuda", true)
    local by_tf32, recorded = error_of_product(), massact.system.machine("cuda").tf32
    massact.system.allow_tf32("cuda", false)
    assert.is_true(recorded)
    assert(by_tf32 > 1e-6 and by_tf32 < 2e-3, by_tf32)
    assert(error_of_product() < 1e-6)
    assert.has_error(function() massact.system.allow_tf32("cpu", true) end, "allow_tf32: the CPU has no TF32; name a GPU")
  end)

  it("is measured by the bench", function()
    local pipe = assert(io.popen(("%s run %s/bench/gpu.lua cuda small 2>&1"):format(os.getenv "MASSACT_BIN", os.getenv "MASSACT_TESTS")))
    local printed = pipe:read "a"
    assert(pipe:close(), printed)
    assert.matches("^cuda:0 %(.-%): bf16 products", printed)
    assert.matches("training, GPT%-2%-124M, .- tokens/s, .- %% of the peak", printed)
    assert.matches("looking, 7B", printed)
  end)

  it("prints its tensors", function()
    assert.equal("f32 [2 x 2] cuda:0\n[[1.0 2.0]\n [3.0 4.0]]", (tostring(massact.tensor({ { 1, 2 }, { 3, 4 } }, "f32", "cuda"))
      :gsub("%[ +", "["):gsub(" +", " ")))
  end)
end)

for _, name in ipairs(massact.system.list(home)) do
  local path = home .. name
  describe("on a GPU, " .. name, function()
    local function both(work, options)
      local results = {}
      for i, device in ipairs { "cpu", "cuda" } do
        local model <close> = massact.load(path, { device = device, dtype = options and options.dtype })
        results[i] = work(model)
      end
      return results[2], results[1]
    end
    local ids = massact.safetensors.load(path .. "/expected.safetensors")["short.input_ids"]

    it("has its weights there, and saves them as they were", function()
      local model <close> = massact.load(path, { device = "cuda" })
      local folder = os.tmpname()
      os.remove(folder)
      for _, tensor in model:params() do assert.equal(model:device(), tensor:device()) end
      model:save(folder)
      local saved = massact.safetensors.load(folder .. "/model.safetensors")
      for tensor_name, tensor in massact.load(path, { device = "cpu" }):params() do
        assert.is_true(saved[tensor_name] == tensor, tensor_name)
      end
      os.execute("rm -r " .. folder)
    end)

    it("has the tensors of every point, logits and losses", function()
      local got, expected = both(function(model)
        local out = model:forward(ids, { capture = "**", logits = true, loss = true, token_losses = true })
        out.loss = massact.tensor(out.loss)
        return out
      end)
      assert(same_all(got, expected) > 8)
    end)

    it("computes in bf16 as the CPU does, but for the order of sums", function()
      local got, expected = both(function(model) return model:forward(ids, { logits = true }).logits end, { dtype = "bf16" })
      assert(error_of(got, expected) <= 0.03)
    end)

    it("shows f32 of a bf16 model, and rounds what is written there", function()
      local function work(model)
        local last = ("layers.%d.out"):format(model.n_layers - 1)
        local hook <close> = model:point("layers.0.out"):hook(function(x)
          assert.equal("f32", x:dtype())
          x:mul_(1.1)
        end)
        local patch <close> = model:point("layers.0.mlp.out"):patch { positions = { 0, 2 }, dims = { 1, 2, 5 }, to = { 3.001, -2, 1 } }
        local probe <close> = model:point(last):probe { "max", "median" }
        local out = model:forward(ids, { capture = { "layers.0.mlp.out", last }, logits = true })
        assert.is_true(out[last]:to { dtype = "bf16" }:float() == out[last])
        assert.equal(out[last][0]:abs():max():item(), probe[last][1].max)
        return { logits = out.logits, patched = out["layers.0.mlp.out"] }
      end
      local got, expected = both(work, { dtype = "bf16" })
      assert.equal(2, same_all(got, expected, nil, 0.03))
    end)

    it("has the gradients of a bf16 model", function()
      local function work(model)
        local seen = {}
        local hook <close> = model:point("layers.0.out"):hook(function(x) x:mul_(1.1) end)
        model:loss(ids):backward()
        for parameter, tensor in pairs(model:parameters()) do
          if tensor.grad then seen[parameter] = on_cpu(tensor.grad) end
        end
        return seen
      end
      local got, expected = both(work, { dtype = "bf16" })
      local largest = 0
      for _, gradient in pairs(expected) do largest = math.max(largest, gradient:abs():max():item()) end
      -- That of a bias of keys is 0 but for rounding: no probability depends on it.
      assert(same_all(got, expected, 0.02 * largest, 0.06) > 8)
    end)

    it("shows hooks and probes the same, and takes what they and patches write", function()
      local function work(model)
        local seen = {}
        local last = ("layers.%d.out"):format(model.n_layers - 1)
        local hook <close> = model:point("layers.0.out"):hook(function(x)
          seen.hooked = x:clone()
          x:mul_(1.5)
        end)
        local patch <close> = model:point("layers.0.mlp.out"):patch { positions = { 0, 2 }, dims = { 1, 2, 5 }, to = { 3, -2, 1 } }
        local probe <close> = model:point(last):probe({ "max", "median", "top3" }, { entries = { above = 0.5, ratio = 0 } })
        seen.logits = model:forward(ids, { logits = true }).logits
        local found = probe[last][1]
        seen.median, seen.max = massact.tensor { found.median }, massact.tensor { found.max }
        local top, entries = {}, {}
        for i, t in ipairs(found.top) do top[i] = { t.value, t.position, t.dim } end
        for i, t in ipairs(found.entries) do entries[i] = { t.value, t.position, t.dim } end
        seen.top, seen.entries = massact.tensor(top), massact.tensor(#entries > 0 and entries or { 0 })
        return seen
      end
      same_all(both(work))
    end)

    it("has the gradients, and steps with AdamW", function()
      local function work(model)
        local seen, optimizer = {}, optimizers.new(model, { rate = 0.1, eps = 1 }) -- a small eps makes noise of gradients large
        model:loss(ids):backward()
        for parameter, tensor in pairs(model:parameters()) do
          if tensor.grad then seen["gradient of " .. parameter] = on_cpu(tensor.grad) end
        end
        optimizer:step(1, optimizer:gradient_norm())
        -- What is stepped: a 16-bit parameter itself may round the other way.
        for _, entry in ipairs(optimizer.entries) do seen[entry.name] = on_cpu(entry.master) end
        return seen
      end
      local got, expected = both(work)
      assert(same_all(got, expected, 1e-3) > 8)
    end)
  end)
end
