-- Points: what stands on them sees the live tensor, may write to it, and leaves nothing behind.
local massact = require "massact"
local golden = os.getenv "MASSACT_TESTS" .. "/golden/models/"

describe("a point", function()
  local model = massact.load(golden .. "llama-3")
  local ids = { 300, 5, 9, 77, 120, 4, 33, 8 }

  it("is named by patterns and by the checkpoint's module paths", function()
    assert.equal(4, #model:point "layers.*.out")
    assert.same({ "layers.1.out", "layers.2.out" }, model:point("layers.{1..2}.out"):names())
    assert.same({ "layers.0.attn.proj", "layers.3.attn.proj" }, model:point("layers.{0,3}.attn.proj"):names())
    assert.same({ "layers.2.attn.proj" }, model:point("model.layers.2.self_attn"):names())
    assert.same({ "layers.3.out" }, model:point("model.layers.3"):names())
  end)

  it("that does not exist is an error that names its neighbours", function()
    for name, hint in pairs { ["layers.9.out"] = "layers 0 to 3", ["layers.1.ouut"] = "layers%.1%.out" } do
      local fine, message = pcall(model.point, model, name)
      assert.is_false(fine)
      assert.matches(hint, message)
    end
    local gpt2 = massact.load(golden .. "gpt2")
    local fine, message = pcall(gpt2.point, gpt2, "layers.1.mlp.gate")
    assert.is_false(fine)
    assert.matches("layers%.1%.mlp%.up", message)
  end)

  it("lets a hook write what a patch writes", function()
    local plain = model:forward(ids, { logits = true }).logits
    local hook = model:point("layers.1.out"):hook(function(x, at)
      assert.equal("layers.1.out", at.name)
      assert.equal(1, at.layer)
      assert.same({ 1, 8, 32 }, x:shape())
      x:set(0, 3, 7, 2.5)
    end)
    local hooked = model:forward(ids, { logits = true }).logits
    hook:remove()
    local patch = model:point("layers.1.out"):patch { positions = { 3 }, dims = { 7 }, to = 2.5 }
    local patched = model:forward(ids, { logits = true }).logits
    patch:remove()
    assert.is_true(hooked == patched)
    assert.is_false(hooked == plain)
    assert.is_true(model:forward(ids, { logits = true }).logits == plain)
  end)

  it("patches heads, adds and scales", function()
    do
      local patch <close> = model:point("layers.0.attn.z"):patch { heads = { 1 }, to = 0 }
      local z = model:forward(ids, { capture = "layers.0.attn.z" })["layers.0.attn.z"]
      assert.equal(0, z:select(2, 1):abs():max():item())
      assert(z:select(2, 0):abs():max():item() > 0)
    end
    local before = model:forward(ids, { capture = "embed" }).embed
    local patch <close> = model:point("embed"):patch { scale = 2 }
    assert.is_true(model:forward(ids, { capture = "embed" }).embed == before * 2)
  end)

  it("probes what sorting would find", function()
    local probe <close> = model:point("layers.*.out"):probe({ "top3", "median", "mean", "std", "l2", "min" },
      { entries = { above = 1, ratio = 2 } })
    local out = model:forward({ ids, ids }, { capture = "layers.2.out" })["layers.2.out"]
    local seen = probe["layers.2.out"]
    assert.equal(2, #seen)
    local flat = out[1]:reshape(-1)
    local values, index = flat:abs():sort(0, { descending = true })
    for i = 1, 3 do
      assert.equal(values:get(i - 1), math.abs(seen[2].top[i].value))
      assert.equal(index:get(i - 1), seen[2].top[i].position * 32 + seen[2].top[i].dim)
    end
    assert.equal(flat:abs():median():item(), seen[2].median)
    assert.near(flat:mean():item(), seen[2].mean, 1e-6)
    assert.near(flat:norm():item(), seen[2].l2, 1e-3)
    assert.equal(flat:min():item(), seen[2].min)
    local n = flat:abs():gt(math.max(1, 2 * seen[2].median)):sum():item()
    assert.equal(n, #seen[2].entries)
    assert(n > 0)
  end)

  it("lets a pass start and stop anywhere in the residual stream", function()
    local whole = model:forward(ids, { logits = true, capture = { "embed", "layers.1.out", "layers.2.mid", "final.norm" } })
    for _, point in ipairs { "embed", "layers.1.out", "layers.2.mid", "final.norm" } do
      local rest = model:forward(ids, { logits = true, start_at = { point = point, value = whole[point] } })
      assert.is_true(rest.logits == whole.logits, point)
    end
    local reached = {}
    local hook <close> = model:point("**"):hook(function(_, at) reached[#reached + 1] = at.name end)
    model:forward(ids, { stop_at = "layers.0.attn.probs" })
    assert.equal("layers.0.attn.probs", reached[#reached])
  end)

  it("hands out tensors that die with the visit, views included", function()
    local kept, view
    do
      local hook <close> = model:point("layers.0.out"):hook(function(x) kept, view = x, x:select(1, 0) end)
      model:forward(ids)
    end
    for _, dead in ipairs { kept, view } do
      local fine, message = pcall(dead.item, dead)
      assert.is_false(fine)
      assert.matches("layers%.0%.out.*clone", message)
    end
  end)

  it("surfaces an error of a hook as the script's own and stays usable", function()
    local plain = model:forward(ids, { logits = true }).logits
    for _, problem in ipairs { "no good", setmetatable({}, { __name = "mine" }) } do
      local hook <close> = model:point("layers.2.mid"):hook(function() error(problem) end)
      local fine, message = pcall(model.forward, model, ids)
      assert.is_false(fine)
      if type(problem) == "string" then assert.matches("layers%.2%.mid: .*point_spec%.lua:%d+: no good", message)
      else assert.equal(problem, message) end
    end
    assert.is_true(model:forward(ids, { logits = true }).logits == plain)
  end)

  it("may be used inside a hook: a nested pass does not call the hook that runs it", function()
    local plain, inner, calls = model:forward(ids, { logits = true }).logits, nil, 0
    local hook <close> = model:point("layers.1.in"):hook(function()
      calls = calls + 1
      inner = model:forward(ids, { logits = true }).logits
    end)
    assert.is_true(model:forward(ids, { logits = true }).logits == plain)
    assert.is_true(inner == plain)
    assert.equal(1, calls)
  end)

  it("can be left from inside its own hook", function()
    local calls, hook = 0, nil
    hook = model:point("layers.0.in"):hook(function()
      calls = calls + 1
      hook:remove()
      hook = nil
      collectgarbage()
    end)
    model:forward(ids)
    model:forward(ids)
    assert.equal(1, calls)
  end)
end)

describe("a pass", function()
  local model = massact.load(golden .. "gpt2")

  it("refuses ids and options that make no sense", function()
    local cases = { [{ { 1, 2, 99999 } }] = "outside the vocabulary", [{ {} }] = "at least one token",
      [{ { 1, 2 }, { los = true } }] = "unknown option 'los'", [{ { { 1, 2 }, { 1 } } }] = "rectangular",
      [{ { 1 }, { loss = true } }] = "two tokens" }
    for arguments, expected in pairs(cases) do
      local fine, message = pcall(model.forward, model, table.unpack(arguments))
      assert.is_false(fine)
      assert.matches(expected, message)
    end
  end)

  it("refuses more positions than the model has", function()
    local ids = {}
    for i = 1, 129 do ids[i] = 1 end
    local fine, message = pcall(model.forward, model, ids)
    assert.is_false(fine)
    assert.matches("position table ends at 128", message)
  end)

  it("sees what is written to the checkpoint's tensors, widened ones too; the file stays", function()
    for _, name in ipairs { "gpt2", "llama-3" } do
      local own = massact.load(golden .. name)
      local weight = name == "gpt2" and "h.1.mlp.c_fc.weight" or "model.layers.1.mlp.up_proj.weight"
      local ids = { 1, 2, 3, 4 }
      local before = own:forward(ids, { logits = true }).logits
      own:param(weight):set(3, 5, 7)
      local after = own:forward(ids, { logits = true }).logits
      assert.is_false(after == before)
      assert.equal(7, own:param(weight):get(3, 5))
      assert.is_true(massact.load(golden .. name):forward(ids, { logits = true }).logits == before)
    end
  end)

  it("treats the sequences of a batch alone", function()
    local a, b = { 1, 2, 3, 4 }, { 9, 8, 7, 6 }
    local both = model:forward({ a, b }, { logits = true }).logits
    local one = model:forward({ b }, { logits = true }).logits
    assert((both[1] - one[0]):abs():max():item() < 1e-4)
  end)
end)
