-- Going back through the decoder: gradients at every point, hooks that see and change them, what hooks write, layers that run
-- again, and what all this leaves behind.
local massact = require "massact"
local gradient = require "massact.gradient"
local golden = os.getenv "MASSACT_TESTS" .. "/golden/models/"

local ids = { 300, 5, 9, 77, 120, 4, 33, 8 }

local function load(name, options) return massact.load(golden .. (name or "gpt2"), options) end

-- name -> gradient, as clones
local function gradients(model, options)
  gradient.zero(model:parameters())
  local loss, out = model:loss(ids, options)
  loss:backward()
  local grads = {}
  for name, p in pairs(model:parameters()) do grads[name] = p.grad and p.grad:clone() end
  return grads, out, loss
end

local function same(a, b)
  for name, grad in pairs(a) do if b[name] ~= grad then return false, name end end
  return true
end

local function relative(got, expected) return (got - expected):abs():max():item() / expected:abs():max():item() end

describe("a gradient at a point", function()
  -- Against finite differences: a hook that adds a little to one element.
  for _, name in ipairs { "gpt2", "llama-3", "pythia", "mixtral", "opt-350m" } do
    it("is what the loss changes by, at every point of " .. name, function()
      local model = load(name)
      local names = {}
      for _, point in ipairs(model:point_names()) do
        local layer, what = point:match "^layers%.(%d+)%.(.*)$"
        local is_tally = what == "attn.received" or what == "attn.entropy"
        -- The router chooses by its logits, so that few of them matter; one layer will do.
        if not is_tally and (not layer or layer == "1") and what ~= "mlp.router" then names[#names + 1] = point end
      end
      local out = model:forward(ids, { loss = true, grad = "points", capture = names })
      out.loss:backward()
      for _, point in ipairs(names) do
        local grad, x = assert(out[point].grad, point), out[point]
        local largest, at = grad:abs():reshape(-1):max(0)
        local element = at:item()
        local slope = math.huge
        for _, h in ipairs { 1e-3, 1e-2, 1e-1 } do
          local step = h / largest:item()
          local function loss(by)
            local hook <close> = model:point(point):hook(function(live)
              local flat = live:reshape(-1)
              flat:set(element, flat:get(element) + by)
            end)
            return model:forward(ids, { loss = true }).loss
          end
          local found = (loss(step) - loss(-step)) / (2 * step)
          local expected = grad:reshape(-1):get(element)
          if math.abs(found / expected - 1) < math.abs(slope - 1) then slope = found / expected end
        end
        assert(math.abs(slope - 1) < 0.02, ("%s: gradient is off by %.3g"):format(point, slope - 1))
        assert.same(x:shape(), grad:shape())
      end
    end)
  end

  it("is the same whether weights are followed or not, and costs no gradient of weights", function()
    local model = load()
    local out = model:forward(ids, { loss = true, grad = "points", capture = { "layers.1.out", "embed" } })
    out.loss:backward()
    assert.is_nil(model:param("h.0.mlp.c_fc.weight").grad)
    local _, both = gradients(model, { capture = { "layers.1.out", "embed" } })
    for _, point in ipairs { "layers.1.out", "embed" } do assert.is_true(out[point].grad == both[point].grad) end
    model:forward(ids, { loss = true, grad = "points", capture = "embed" }).loss:backward()
  end)

  it("goes on through what a script computes from captured tensors", function()
    local model = load()
    local out = model:forward(ids, { grad = "points", capture = { "layers.1.out", "layers.2.out" } })
    out["layers.2.out"]:narrow(2, 3, 1):sum():backward()
    local attribution = out["layers.1.out"] * out["layers.1.out"].grad
    assert(attribution:abs():max():item() > 0)
    assert.same({ 1, 8, model.d_model }, attribution:shape())
  end)
end)

describe("a gradient hook", function()
  it("sees the gradient, and what it writes flows on", function()
    local model, seen = load(), {}
    local before, out = gradients(model, { capture = "layers.1.out" })
    do
      local hook <close> = model:point("layers.*.out"):hook(function(g, at)
        seen[#seen + 1] = at.layer
        if at.layer == 1 then
          assert.is_true(g == out["layers.1.out"].grad)
          g:mul_(2)
        end
      end, { grad = true })
      model:forward(ids, { loss = true }) -- not recorded: nothing to see
      assert.same({}, seen)
      local after = gradients(model)
      assert.same({ 3, 2, 1, 0 }, seen)
      assert.is_true(after["h.3.mlp.c_fc.weight"] == before["h.3.mlp.c_fc.weight"])
      assert.is_true(after["h.1.mlp.c_fc.weight"] == before["h.1.mlp.c_fc.weight"] * 2)
      assert.is_true(after["h.0.ln_1.weight"] == before["h.0.ln_1.weight"] * 2)
    end
    assert.is_true(same(before, gradients(model)))
    assert.equal(4, #seen)
  end)

  it("is gone when it is removed between the pass and the way back", function()
    local model, count = load(), 0
    local hook = model:point("layers.1.mlp.act"):hook(function() count = count + 1 end, { grad = true })
    local loss = model:loss(ids)
    hook:remove()
    loss:backward()
    assert.equal(0, count)
    loss = model:loss(ids)
    loss:backward()
    assert.equal(0, count)
  end)

  it("fails the way back with its own error, and nothing else is broken", function()
    local model = load()
    local before = gradients(model)
    do
      local hook <close> = model:point("layers.1.out"):hook(function(g) return g .. 1 end, { grad = true })
      local fine, problem = pcall(function() model:loss(ids):backward() end)
      assert.is_false(fine)
      assert.matches("gradient at layers%.1%.out: .*attempt to concatenate", problem)
    end
    do
      local object = {}
      local hook <close> = model:point("layers.1.out"):hook(function() error(object) end, { grad = true })
      local loss = model:loss(ids)
      local fine, problem = pcall(loss.backward, loss)
      assert.is_false(fine)
      assert.equal(object, problem)
    end
    assert.is_true(same(before, gradients(model)))
  end)
end)

describe("what a hook does in a recorded pass", function()
  it("changes nothing when it only looks", function()
    local model = load "llama-3"
    local before = gradients(model)
    for _, point in ipairs(model:point_names()) do
      local hook <close> = model:point(point):hook(function(x) return x:abs():max() end)
      for name, grad in pairs(gradients(model)) do
        assert(relative(grad, before[name]) < 1e-5, point .. " changes the gradient of " .. name)
      end
    end
  end)

  it("goes back too: writes to all, to parts, from what it computed", function()
    local model = load()
    local weight = model:parameters()["h.1.mlp.c_fc.weight"]
    local other = massact.tensor({ 0.5 }):requires_grad(true)
    local writes = {
      function(x) x:mul_(0.5) end,
      function(x) x:narrow(-1, 3, 2):mul_(3):add_(1) end,
      function(x) x:select(1, 2):fill_(0) x[0][4]:reshape(-1):set(5, 1.5) end,
      function(x) x:copy_(x:tanh() * other) end,
      function(x) local old = x:clone() x:narrow(1, 1, 3):add_(old:narrow(1, 0, 3):exp() * other) end,
    }
    for i, write in ipairs(writes) do
      for _, point in ipairs { "layers.1.mlp.act", "layers.1.attn.probs", "layers.2.out", "layers.1.attn.q", "embed" } do
        if not (point:find "probs" and i >= 2) then
          local hook <close> = model:point(point):hook(write)
          local grads = gradients(model)
          local g = grads["h.1.mlp.c_fc.weight"]
          local norm, before = g:norm():item(), weight:detach():clone()
          local best = math.huge
          local _ <close> = massact.no_grad()
          for _, change in ipairs { 0.02, 0.1, 0.005 } do
            local function loss(step)
              weight:copy_(before + g * (step * change / norm / norm))
              return model:loss(ids):item()
            end
            best = math.min(best, math.abs((loss(1) - loss(-1)) / (2 * change) - 1))
          end
          weight:copy_(before)
          assert(best < 0.01, ("write %d at %s: off by %.2g"):format(i, point, best))
        end
      end
    end
    assert(other.grad:abs():max():item() > 0)
  end)

  it("holds for patches as well", function()
    local model = load()
    local out
    do
      local patch <close> = model:point("layers.1.out"):patch { dims = { 3, 5 }, to = 0 }
      local _ <close> = model:point("layers.2.out"):patch { scale = 2 }
      out = model:forward(ids, { loss = true, grad = "points", capture = { "layers.1.mlp.out", "layers.2.mlp.out" } })
      out.loss:backward()
    end
    local one, two = out["layers.1.mlp.out"].grad, out["layers.2.mlp.out"].grad
    assert.equal(0, one:select(2, 3):abs():max():item())
    assert.equal(0, one:select(2, 5):abs():max():item())
    assert(one:select(2, 4):abs():max():item() > 0)
    assert(two:abs():max():item() > 0)
  end)

  it("may keep the tensor, run other passes, and go back in these", function()
    local model, kept = load(), nil
    local plain = gradients(model)
    local inner = 0
    local hook = model:point("layers.1.out"):hook(function(x)
      kept = x
      inner = model:forward(ids, { loss = true }).loss
      local out = model:forward({ 1, 2, 3 }, { loss = true, grad = "points", capture = "embed" })
      out.loss:backward()
      assert(out.embed.grad)
    end)
    local again = gradients(model)
    hook:remove()
    assert.is_true(same(plain, again))
    assert.same({ 1, 8, model.d_model }, kept:shape())
    assert(inner > 0)
    assert(kept:abs():max():item() > 0)
  end)

  it("is an error on the way back where it writes off the tape what is needed", function()
    local model = load()
    local hook <close> = model:point("layers.1.attn.probs"):hook(function(x) massact.no_grad(function() x:mul_(0.5) end) end)
    assert.error_matches(function() model:loss(ids):backward() end, "backward of %w+: a tensor that it needs was written to since")
  end)
end)

describe("layers that run again", function()
  for _, name in ipairs { "gpt2", "mixtral", "pythia" } do
    it("give the same gradients, bit for bit, with " .. name, function()
      local model = load(name)
      local plain, plain_out = gradients(model)
      local again, again_out = gradients(model, { checkpoint = true })
      assert.equal(plain_out.loss:item(), again_out.loss:item())
      assert.is_true(same(plain, again))
    end)
  end

  it("show nobody anything twice, and keep what was written", function()
    local model, visits = load(), {}
    local hook <close> = model:point("layers.{1,2}.mlp.act"):hook(function(x, at)
      visits[at.name] = (visits[at.name] or 0) + 1
      x:mul_(0.5)
    end)
    local _ <close> = model:point("layers.*.out"):hook(function(x, at)
      visits[at.name] = (visits[at.name] or 0) + 1
      x:mul_(1.25)
    end)
    local plain = gradients(model)
    visits = {}
    local again, out = gradients(model, { checkpoint = true, capture = "layers.3.out" })
    assert.is_true(same(plain, again))
    assert.same({ ["layers.0.out"] = 1, ["layers.1.mlp.act"] = 1, ["layers.1.out"] = 1, ["layers.2.mlp.act"] = 1, ["layers.2.out"] = 1,
      ["layers.3.out"] = 1 }, visits)
    assert(out["layers.3.out"].grad)
  end)

  it("work where only weights inside require a gradient, and only points", function()
    local model = load()
    local plain = gradients(model)
    for name, p in pairs(model:parameters()) do if not name:find "^h%.2" then p:requires_grad(false) end end
    local again = gradients(model, { checkpoint = true })
    assert.is_true(again["h.2.mlp.c_fc.weight"] == plain["h.2.mlp.c_fc.weight"])
    assert.is_nil(again["h.1.mlp.c_fc.weight"])
    local points = {}
    for i, checkpoint in ipairs { false, true } do
      local out = model:forward(ids, { loss = true, grad = "points", capture = "embed", checkpoint = checkpoint })
      out.loss:backward()
      points[i] = out.embed.grad
    end
    assert.is_true(points[1] == points[2])
  end)

  it("notice weights that were written to in between", function()
    local model = load()
    local loss = model:loss(ids, { checkpoint = true })
    massact.no_grad(function() model:param("h.2.mlp.c_fc.weight"):mul_(1.1) end)
    assert.error_matches(function() loss:backward() end, "weights were written to since")
  end)

  it("keep the model alive, and going back twice works", function()
    local function make()
      local model = load()
      return model:loss(ids, { checkpoint = true }), model:param "h.0.ln_1.weight"
    end
    local loss, weight = make()
    collectgarbage()
    collectgarbage()
    loss:backward { keep = true }
    local once = weight.grad:clone()
    loss:backward()
    assert.is_true(weight.grad == once * 2)
  end)
end)

describe("training", function()
  it("is off within no_grad", function()
    local model = load()
    local loss = massact.no_grad(function() return model:loss(ids) end)
    assert.is_false(loss:requires_grad())
    assert.near(model:forward(ids, { loss = true }).loss, loss:item(), 1e-6)
    model:loss(ids):backward()
  end)

  it("adds up the gradients of several losses", function()
    local model = load()
    local plain = gradients(model)
    gradient.zero(model:parameters())
    for _ = 1, 2 do (model:loss(ids) / 2):backward() end
    for name, p in pairs(model:parameters()) do assert(relative(p.grad, plain[name]) < 1e-6, name) end
    -- A batch is its sequences.
    local others = { 9, 8, 7, 6, 5, 4, 3, 2 }
    gradient.zero(model:parameters())
    model:loss({ ids, others }):backward()
    local batch = {}
    for name, p in pairs(model:parameters()) do batch[name] = p.grad:clone() end
    gradient.zero(model:parameters())
    for _, each in ipairs { ids, others } do (model:loss(each) * 0.5):backward() end
    for name, p in pairs(model:parameters()) do
      if not name:find "c_attn.bias" then assert(relative(p.grad, batch[name]) < 1e-4, name) end
    end
  end)

  it("clips gradients to a norm", function()
    local model = load()
    gradients(model)
    local parameters, squares = model:parameters(), 0
    for _, p in pairs(parameters) do
      for _, x in ipairs(p.grad:reshape(-1):totable()) do squares = squares + x * x end
    end
    local norm = gradient.norm(parameters)
    assert.near(1, norm / math.sqrt(squares), 1e-6)
    local before = model:param("h.0.ln_1.weight").grad:clone()
    assert.equal(norm, gradient.clip(parameters, 1e9))
    assert.is_true(before == model:param("h.0.ln_1.weight").grad)
    assert.equal(norm, gradient.clip(parameters, 0.25))
    assert.near(0.25, gradient.norm(parameters), 1e-6)
    assert(relative(model:param("h.0.ln_1.weight").grad, before * (0.25 / norm)) < 1e-6)
  end)

  it("goes back from logits and single losses, through a head of any kind", function()
    for _, name in ipairs { "gpt2", "gemma-3", "opt-350m" } do
      local model = load(name)
      local plain = gradients(model)
      gradient.zero(model:parameters())
      local _, out = model:loss(ids, { token_losses = true, logits = true })
      out.token_losses:mean():backward { keep = true }
      for each, p in pairs(model:parameters()) do
        assert(relative(p.grad, plain[each]) < 1e-3, name .. " " .. each)
      end
      out.logits:select(1, 3):sum():backward()
    end
  end)

  it("computes gradients of 16-bit models in f32, near those of f32", function()
    local plain = gradients(load())
    for dtype, tolerance in pairs { bf16 = 0.1, f16 = 0.02 } do
      local grads = gradients(load("gpt2", { dtype = dtype }))
      for name, grad in pairs(grads) do
        assert.equal("f32", grad:dtype())
        if not name:find "c_attn.bias" then assert(relative(grad, plain[name]) < tolerance, dtype .. " " .. name) end
      end
    end
  end)

  it("goes through packed weights to points, though these have no gradient", function()
    local file = os.tmpname() .. ".gguf"
    require("massact.convert").convert(golden .. "gpt2", file, "q8_0")
    local model = massact.load(file)
    os.remove(file)
    local out = model:forward(ids, { loss = true, grad = true, capture = "layers.0.out" })
    out.loss:backward()
    assert(out["layers.0.out"].grad:abs():max():item() > 0)
    local _, followed = model:loss(ids, { capture = "layers.0.out" })
    followed.loss:backward()
    assert.is_true(followed["layers.0.out"].grad == out["layers.0.out"].grad)
    for name, p in pairs(model:parameters()) do assert.equal("f32", p:dtype(), name) end
  end)

  it("needs no more memory in any number of steps, gone back or not", function()
    local model = load()
    local long = {}
    for i = 1, 64 do long[i] = i * 3 end
    local function step(back)
      local loss = model:loss(long, { capture = "layers.*.out" })
      if back then loss:backward() end
      gradient.zero(model:parameters())
    end
    local n = os.getenv "MASSACT_DEVICE" and 10 or 100 -- steps are slow on an emulated device
    for _ = 1, 30 do step(true) step(false) end
    local before = massact.system.peak_memory()
    for _ = 1, n do step(true) step(false) end
    local grown = massact.system.peak_memory() - before
    assert(grown < 4 * 2 ^ 20, ("grew by %d MiB"):format(grown // 2 ^ 20))
  end)

  it("refuses what has no gradient", function()
    local model = load()
    assert.error_matches(function() model:forward(ids, { loss = true, grad = true, cache = model:cache(20) }) end, "cache has no gradient")
    assert.error_matches(function() model:forward(ids, { loss = true, grad = "weights" }) end, 'grad is true, false or "points"')
  end)
end)
