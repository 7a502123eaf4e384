-- What keys receive and how spread out each query's attention is: the same as from captured probabilities, in every golden family,
-- without looking at them, in pieces with a cache, and from edited ones.
package.path = os.getenv "MASSACT_TESTS" .. "/golden/?.lua;" .. package.path
local massact = require "massact"
local golden = require "compare"

local points = { "layers.*.attn.received", "layers.*.attn.entropy" }

-- Sums over one head's probabilities, as Lua's doubles have them.
local function by_hand(rows)
  local received, entropy = {}, {}
  for q, row in ipairs(rows) do
    entropy[q] = 0
    for k, p in ipairs(row) do
      received[k] = (received[k] or 0) + p
      if p > 0 then entropy[q] = entropy[q] - p * math.log(p) end
    end
  end
  return received, entropy
end

local function check(got, expected, what)
  assert.equal(#expected, #got)
  for i, value in ipairs(expected) do
    local e = math.abs(got[i] - value) / math.max(1, math.abs(value))
    assert(e <= 1e-6, ("%s, element %d: %.9g instead of %.9g"):format(what, i - 1, got[i], value))
  end
end

local function check_layer(out, l, probs)
  local layer = ("layers.%d.attn."):format(l)
  for h, head in ipairs(probs[0]:totable()) do
    local received, entropy = by_hand(head)
    check(out[layer .. "received"][0][h - 1]:totable(), received, ("%sreceived, head %d"):format(layer, h - 1))
    check(out[layer .. "entropy"][0][h - 1]:totable(), entropy, ("%sentropy, head %d"):format(layer, h - 1))
  end
end

-- Enough ids for several blocks of the kernel, where the model takes that many.
local function many(model)
  local ids = {}
  for i = 1, math.min(150, model.max_positions) do ids[i] = i * 7919 % model.vocab_size end
  return ids
end

for _, folder in ipairs(golden.folders()) do
  describe("tallies of attention in golden model " .. folder.name, function()
    local model = massact.load(folder.path)
    local ids = many(model)

    it("are the sums over the probabilities, whoever looks at those", function()
      local alone = model:forward(ids, { capture = points })
      local probs = model:forward(ids, { capture = "layers.*.attn.probs" })
      local all = model:forward(ids, { capture = { points[1], points[2], "layers.*.attn.probs" } })
      for l = 0, model.n_layers - 1 do
        local layer = ("layers.%d.attn."):format(l)
        check_layer(alone, l, probs[layer .. "probs"])
        for _, name in ipairs { "received", "entropy" } do assert.is_true(alone[layer .. name] == all[layer .. name], layer .. name) end
      end
    end)

    it("go on behind a cache", function()
      local cache <close> = model:cache(#ids)
      local half = #ids // 2
      model:forward(table.move(ids, 1, half, 1, {}), { cache = cache })
      local rest = table.move(ids, half + 1, #ids, 1, {})
      local out = model:forward(rest, { cache = cache, capture = points })
      cache:rewind(half)
      local probs = model:forward(rest, { cache = cache, capture = "layers.*.attn.probs" })
      for l = 0, model.n_layers - 1 do check_layer(out, l, probs[("layers.%d.attn.probs"):format(l)]) end
    end)
  end)
end

describe("tallies of attention", function()
  local model = massact.load(massact.home .. "/experiments/default/model")
  local ids = many(model)

  it("count what a hook wrote to the probabilities, and nothing follows from what is written to them", function()
    local plain = model:forward(ids, { logits = true }).logits
    do
      local edit <close> = model:point("layers.0.attn.probs"):patch { scale = 0.5 }
      local out = model:forward(ids, { capture = { "layers.0.attn.probs", points[1], points[2] } })
      check_layer(out, 0, out["layers.0.attn.probs"])
      assert.near(0.5 * #ids, out["layers.0.attn.received"][0][0]:sum():item(), 1e-3)
    end
    local patch <close> = model:point("layers.0.attn.{received,entropy}"):patch { to = 1 }
    assert.is_true(model:forward(ids, { logits = true }).logits == plain)
  end)

  it("can be the last thing that a pass computes", function()
    for _, name in ipairs { "layers.1.attn.received", "layers.1.attn.entropy" } do
      local reached = {}
      local hook <close> = model:point("**"):hook(function(_, at) reached[#reached + 1] = at.name end)
      local out = model:forward(ids, { capture = name, stop_at = name })
      assert.equal(name, reached[#reached])
      assert.equal(4, #out[name][0]:totable())
    end
  end)

  it("wait for the next pass where somebody comes while the layer shows its scores", function()
    local seen, late = 0, nil
    local hook <close> = model:point("layers.0.attn.scores"):hook(function()
      late = late or model:point("layers.0.attn.received"):hook(function() seen = seen + 1 end)
    end)
    model:forward(ids)
    assert.equal(0, seen)
    model:forward(ids)
    assert.equal(1, seen)
    late:remove()
  end)

  it("leave the gradients of a loss alone", function()
    local trained = massact.load(massact.home .. "/experiments/default/model")
    for _, p in trained:params() do p:requires_grad(true) end
    local function gradients(watched)
      local hook <close> = watched and trained:point(watched):hook(function() end) or nil
      trained:loss(ids):backward()
      local found, n = {}, 0
      for name, p in trained:params() do
        found[name], n = p.grad:clone(), n + 1
        p:zero_grad()
      end
      return found, n
    end
    local plain, n = gradients()
    assert(n > 10)
    for name, grad in pairs(gradients "layers.*.attn.{received,entropy}") do assert.is_true(grad == plain[name], name) end
    -- Where probabilities are seen the way back goes over all keys, not block by block: other sums.
    for name, grad in pairs(gradients "layers.*.attn.{received,probs}") do
      assert((grad - plain[name]):abs():max():item() <= 2e-6 * plain[name]:abs():max():item(), name)
    end
  end)

  it("need no memory of T x T", function()
    local script = os.tmpname()
    massact.system.write(script, [[
      local massact = require "massact"
      local model = massact.load(massact.home .. "/experiments/default/model")
      local ids = {}
      for i = 1, 4096 do ids[i] = i * 7919 % model.vocab_size end
      local function run() model:forward(ids, { stop_at = "layers.1.out" }) end
      run()
      local before, taken = massact.system.peak_memory(), model:pass_bytes()
      local hook = model:point("layers.*.attn.{received,entropy}"):hook(function() end)
      run()
      print(massact.system.peak_memory() - before, model:pass_bytes() - taken)]])
    local pipe = assert(io.popen(os.getenv "MASSACT_BIN" .. " " .. script))
    local process, pass = pipe:read("n", "n")
    pipe:close()
    os.remove(script)
    local square = 4096 * 4096 * 4 -- bytes of one head's probabilities
    assert(pass < square / 16, pass)
    assert(process < square / 4, process)
  end)
end)
