-- The decoder once more, as formulas over whole tensors: what each point of a layer is, given the points before it.
-- Slow and plain; tests use it to check that what is written at a point, and only that, is what later points are
-- computed from.  All tensors without the batch dim.
local massact = require "massact"

local M = {}

local function linear(model, x, slot)
  local weight = model:weight(slot .. ".weight"):float()
  weight = weight:reshape(-1, weight:size(-1))
  local y = x:reshape(-1, x:size(-1)):matmul(weight:t())
  local bias = model.weights[slot .. ".bias"]
  if bias then y = y + bias:float():reshape(-1) end
  return y
end

local function norm(model, x, slot)
  local spec = model.spec
  local weight, bias = model.weights[slot .. ".weight"], model.weights[slot .. ".bias"]
  local centered = x
  if spec.norm == "layer" then centered = x - x:mean(-1, { keep = true }) end
  local y = centered / ((centered * centered):mean(-1, { keep = true }) + (spec.norm_eps or 1e-5)):sqrt()
  if weight then y = y * (weight:float() + (spec.norm_offset or 0)) end
  if bias then y = y + bias:float() end
  return y
end

-- [T, heads, d], clipped and normalised.
local function project(model, h, layer, letter, heads)
  local spec, slot = model.spec, layer .. "attn." .. letter
  local x = linear(model, h, slot)
  local clip = spec.qkv_clip or 0
  if clip > 0 then x = x:minimum(clip):maximum(-clip) end
  local normed = letter ~= "v" and spec.qk_norm and spec.qk_norm ~= "none"
  if normed and spec.qk_norm == "row" then x = norm(model, x, slot .. "_norm") end
  x = x:reshape(h:size(0), heads, spec.d_head)
  if normed and spec.qk_norm == "head" then x = norm(model, x, slot .. "_norm") end
  return x
end

-- Dims i and i + n turn by position times frequency i.
local function rotate(spec, x, l)
  if spec.position ~= "rope" then return x end
  local rope = spec.ropes[(spec.rope_of_layer and spec.rope_of_layer[l + 1] or 0) + 1]
  local n, t = #rope.frequencies, x:size(0)
  local cosine, sine = {}, {}
  for p = 1, t do
    cosine[p], sine[p] = {}, {}
    for i = 1, n do
      local angle = (p - 1) * rope.frequencies[i]
      cosine[p][i], sine[p][i] = math.cos(angle) * rope.scale, math.sin(angle) * rope.scale
    end
  end
  local c, s = massact.tensor(cosine):unsqueeze(1), massact.tensor(sine):unsqueeze(1)
  local a, b = x:narrow(-1, 0, n), x:narrow(-1, n, n)
  local parts = { a * c - b * s, b * c + a * s }
  if x:size(-1) > 2 * n then parts[3] = x:narrow(-1, 2 * n, x:size(-1) - 2 * n) end
  return massact.cat(parts, -1)
end

-- Key/value heads [T, G, d] -> [H, T, d].
local function by_head(x, n_heads)
  local t, g, d = x:size(0), x:size(1), x:size(2)
  return x:unsqueeze(2):expand(t, g, n_heads // g, d):reshape(t, n_heads, d):transpose(0, 1)
end

local function slope(spec, h)
  local power = 1
  while power < spec.n_heads do power = power * 2 end
  local i = h
  if power ~= spec.n_heads then i = 2 * h + 1 < power and 2 * h + 1 or 2 * h - power end
  return 2 ^ (-(spec.alibi_max or 8) * (i + 1) / power)
end

-- What is added to the scores [H, T, T]: distances, and -inf where a key is hidden.
local function mask(spec, l, t)
  local window = spec.windows and spec.windows[l + 1] or 0
  local all = {}
  for h = 0, spec.n_heads - 1 do
    local rows = {}
    for q = 0, t - 1 do
      local row = {}
      for k = 0, t - 1 do
        local hidden = k > q or (window > 0 and k <= q - window)
        row[k + 1] = hidden and -math.huge or spec.position == "alibi" and slope(spec, h) * (k - (t - 1)) or 0
      end
      rows[q + 1] = row
    end
    all[h + 1] = rows
  end
  return massact.tensor(all)
end

local function scores(spec, q, k, l)
  local scale = spec.attn_scale and spec.attn_scale ~= 0 and spec.attn_scale or spec.d_head ^ -0.5
  local s = by_head(q, spec.n_heads):matmul(by_head(k, spec.n_heads):transpose(1, 2)) * scale
  local cap = spec.attn_softcap or 0
  if cap > 0 then s = (s / cap):tanh() * cap end
  return s + mask(spec, l, q:size(0))
end

local function branch_out(model, x, layer, branch)
  if model.spec.norm_after then x = norm(model, x, layer .. branch .. ".norm_after") end
  return x * (model.spec.residual_scale or 1)
end

local function add(model, x, branch, norm_slot)
  local sum = x + branch
  return model.spec.norm_sum and norm(model, sum, norm_slot) or sum
end

local function share_of_experts(spec, logits)
  local rows = logits:softmax():totable()
  for _, row in ipairs(rows) do
    local order, sum = {}, 0
    for e = 1, #row do order[e] = e end
    table.sort(order, function(a, b) return row[a] > row[b] end)
    for rank, e in ipairs(order) do
      if rank <= spec.n_experts_used then sum = sum + row[e] else row[e] = 0 end
    end
    for e = 1, #row do row[e] = row[e] / sum end
  end
  return massact.tensor(rows)
end

local function experts(model, h, shares, layer)
  local sum
  for e = 0, model.spec.n_experts - 1 do
    local slot = ("%smlp.experts.%d."):format(layer, e)
    local gate, up = linear(model, h, slot .. "gate"), linear(model, h, slot .. "up")
    local y = linear(model, gate[model.spec.activation](gate) * up, slot .. "proj") * shares:narrow(1, e, 1)
    sum = sum and sum + y or y
  end
  return sum
end

---What each point is, given a function that gives the tensors of the points before it: {{name, compute}, ...} in order.
function M.steps(model, see)
  local spec, steps = model.spec, {}
  local function step(name, compute) steps[#steps + 1] = { name, compute } end
  for l = 0, spec.n_layers - 1 do
    local layer = ("layers.%d."):format(l)
    local function at(name) return see(layer .. name) end
    local function input_of(x, slot) return spec.norm_before == false and x or norm(model, x, slot) end
    step(layer .. "in", function() return see(l == 0 and "embed" or ("layers.%d.out"):format(l - 1)) end)
    step(layer .. "attn.norm", function() return input_of(at "in", layer .. "attn.norm") end)
    step(layer .. "attn.q", function() return project(model, at "attn.norm", layer, "q", spec.n_heads) end)
    step(layer .. "attn.k", function() return project(model, at "attn.norm", layer, "k", spec.n_kv_heads) end)
    step(layer .. "attn.v", function() return project(model, at "attn.norm", layer, "v", spec.n_kv_heads) end)
    step(layer .. "attn.q_rot", function() return rotate(spec, at "attn.q", l) end)
    step(layer .. "attn.k_rot", function() return rotate(spec, at "attn.k", l) end)
    step(layer .. "attn.scores", function() return scores(spec, at "attn.q_rot", at "attn.k_rot", l) end)
    step(layer .. "attn.probs", function() return at "attn.scores":softmax() end)
    step(layer .. "attn.received", function() return at "attn.probs":sum(1) end)
    step(layer .. "attn.entropy", function()
      local p = at "attn.probs"
      return -p:le(0):where(massact.zeros(1), p * p:maximum(1e-37):log()):sum(-1)
    end)
    step(layer .. "attn.z", function() return at "attn.probs":matmul(by_head(at "attn.v", spec.n_heads)):transpose(0, 1) end)
    step(layer .. "attn.proj", function() return linear(model, at "attn.z":reshape(at "in":size(0), -1), layer .. "attn.proj") end)
    step(layer .. "attn.out", function() return branch_out(model, at "attn.proj", layer, "attn") end)
    if not spec.parallel then
      step(layer .. "mid", function() return add(model, at "in", at "attn.out", layer .. "attn.norm") end)
    end
    step(layer .. "mlp.norm", function()
      if spec.shared_norm then return at "attn.norm" end
      return input_of(at(spec.parallel and "in" or "mid"), layer .. "mlp.norm")
    end)
    if (spec.n_experts or 0) > 0 then
      step(layer .. "mlp.router", function() return linear(model, at "mlp.norm", layer .. "mlp.router") end)
      step(layer .. "mlp.experts", function() return share_of_experts(spec, at "mlp.router") end)
      step(layer .. "mlp.proj", function() return experts(model, at "mlp.norm", at "mlp.experts", layer) end)
    else
      local activation = spec.activation == "gelu_new" and "gelu_tanh" or spec.activation -- in f32 they are the same
      if spec.gated then
        step(layer .. "mlp.gate", function() return linear(model, at "mlp.norm", layer .. "mlp.gate") end)
      end
      step(layer .. "mlp.up", function() return linear(model, at "mlp.norm", layer .. "mlp.up") end)
      step(layer .. "mlp.act", function()
        local gate = spec.gated and at "mlp.gate"
        if gate then return gate[activation](gate) * at "mlp.up" end
        return at "mlp.up"[activation](at "mlp.up")
      end)
      step(layer .. "mlp.proj", function() return linear(model, at "mlp.act", layer .. "mlp.proj") end)
    end
    step(layer .. "mlp.out", function() return branch_out(model, at "mlp.proj", layer, "mlp") end)
    step(layer .. "out", function()
      if spec.parallel then return at "in" + at "attn.out" + at "mlp.out" end
      return add(model, at "mid", at "mlp.out", layer .. "mlp.norm")
    end)
  end
  step("final.norm", function()
    local x = see(("layers.%d.out"):format(spec.n_layers - 1))
    if spec.final_norm ~= false then x = norm(model, x, "final.norm") end
    local projection = model.weights["final.project"]
    return projection and x:matmul(projection:float():t()) or x
  end)
  step("logits", function()
    local y = linear(model, see "final.norm", "head") * (spec.logit_scale or 1)
    local cap = spec.logit_softcap or 0
    return cap > 0 and (y / cap):tanh() * cap or y
  end)
  return steps
end

return M
