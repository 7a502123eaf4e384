-- Comparing a model with what transformers gives for it: shared by the specs and by the table of tests/README.md.
-- Errors are relative: the largest difference over the largest magnitude of the expected tensor.
local massact = require "massact"

local M = {}

---Largest difference over the largest magnitude; NaN where anything is.
function M.relative_error(got, expected)
  return (got - expected):abs():max():item() / expected:abs():max():item()
end

-- The worse of two errors; NaN wins.
local function worse(a, b) return a ~= a and a or b ~= b and b or math.max(a, b) end
M.worse = worse

-- Row q of packed lower triangles holds keys 0..q; of whole ones, [T, T] or [T, 1 + T].
local function row_of(expected, head, q)
  if expected:dim() == 2 then return expected[head]:narrow(0, q * (q + 1) // 2, q + 1) end
  return expected[head][q]:narrow(0, 0, q + 1)
end

---Error of probabilities or scores [H, T, T] where they are visible.  Hidden entries must be `hidden` (0 or -inf); so must
---visible ones be -inf where, and only where, the expected are (or, in files that write no infinities, below -1e30).
function M.attention_error(got, expected, hidden)
  local heads, t = got:size(0), got:size(1)
  local largest, magnitude = 0, 0
  for h = 0, heads - 1 do
    for q = 0, t - 1 do
      local here, there = got[h][q]:narrow(0, 0, q + 1):totable(), row_of(expected, h, q):totable()
      for k = 1, q + 1 do
        local is_hidden = there[k] < -1e30
        if is_hidden ~= (here[k] == -math.huge) then return math.huge end
        if not is_hidden then
          largest = worse(largest, math.abs(here[k] - there[k]))
          magnitude = math.max(magnitude, math.abs(there[k]))
        end
      end
      for k = q + 1, t - 1 do if got:get(h, q, k) ~= hidden then return math.huge end end
    end
  end
  return largest / magnitude
end

-- The two layouts of golden data: arrays over layers, or a key a layer.
local function lookup(expected, which)
  local function get(key) return expected[which .. "." .. key] end
  local layers = get "scores_layers"
  local scores_at = {}
  if layers then for i, l in ipairs(layers:totable()) do scores_at[l] = i - 1 end end
  return {
    ids = get "input_ids", logits = get "logits", loss = get "loss", final = get "final",
    input = function(l)
      if get "hidden" then return get "hidden"[l] end
      return get(("layers.%d.in"):format(l))
    end,
    output = function(l)
      if get "hidden" then return get "hidden"[l + 1] end
      return get(("layers.%d.out"):format(l))
    end,
    attn = function(l) return get "attn_out" and get "attn_out"[l] or get(("layers.%d.attn_module.out"):format(l)) end,
    mlp = function(l) return get "mlp_out" and get "mlp_out"[l] or get(("layers.%d.mlp_module.out"):format(l)) end,
    probs = function(l) return get "probs" and get "probs"[l] or get(("layers.%d.attn.probs"):format(l)) end,
    scores = function(l)
      local all = get "scores"
      if all and layers then return scores_at[l] and all[scores_at[l]] end
      return all and all[l] or get(("layers.%d.attn.scores"):format(l))
    end,
    router = function(l) return get "router_logits" and get "router_logits"[l] end,
    shares = function(l)
      if get "router_weights" then return get "router_weights"[l], get "router_experts"[l] end
    end,
  }
end

-- Shares [T, X], from the chosen experts' [T, k].
local function spread(weights, experts, n_experts)
  local rows = {}
  for t = 0, weights:size(0) - 1 do
    rows[t + 1] = {}
    for e = 1, n_experts do rows[t + 1][e] = 0 end
    for i = 0, weights:size(1) - 1 do rows[t + 1][experts:get(t, i) + 1] = weights:get(t, i) end
  end
  return massact.tensor(rows)
end

---Every comparison that `expected` (the tensors of an expected.safetensors) allows for the sequence `which` ("long",
---"short"), as {{kind, name, error}, ...}; kinds are logits, loss, hidden, modules, attention, router.
function M.errors(model, expected, which)
  local e, found = lookup(expected, which), {}
  local function add(kind, name, err) found[#found + 1] = { kind, which .. " " .. name, err } end
  local function compare(kind, name, got, wanted)
    if wanted then add(kind, name, M.relative_error(got, wanted)) end
  end
  local capture = { "embed", "layers.*.in", "layers.*.out", "layers.*.attn.proj", "layers.*.mlp.proj", "layers.*.attn.probs",
    "layers.*.attn.scores", "final.norm" }
  local has_experts = (model.spec.n_experts or 0) > 0
  if has_experts then capture[#capture + 1] = "layers.*.mlp.router"; capture[#capture + 1] = "layers.*.mlp.experts" end
  local out = model:forward(e.ids, { logits = true, loss = true, capture = capture })
  if e.logits then compare("logits", "logits", out.logits[0], e.logits) end
  if e.loss then add("loss", "loss", math.abs(out.loss - e.loss:get(0)) / math.abs(e.loss:get(0))) end
  compare("hidden", "embed", out.embed[0], e.input(0))
  if e.final then compare("hidden", "final.norm", out["final.norm"][0], e.final) end
  for l = 0, model.n_layers - 1 do
    local layer = ("layers.%d."):format(l)
    compare("hidden", layer .. "in", out[layer .. "in"][0], e.input(l))
    compare("hidden", layer .. "out", out[layer .. "out"][0], e.output(l))
    compare("modules", layer .. "attn.proj", out[layer .. "attn.proj"][0], e.attn(l))
    compare("modules", layer .. "mlp.proj", out[layer .. "mlp.proj"][0], e.mlp(l))
    for _, what in ipairs { { "probs", 0 }, { "scores", -math.huge } } do
      local wanted = e[what[1]](l)
      if wanted then
        add("attention", layer .. "attn." .. what[1], M.attention_error(out[layer .. "attn." .. what[1]][0], wanted, what[2]))
      end
    end
    if has_experts then
      compare("router", layer .. "mlp.router", out[layer .. "mlp.router"][0], e.router(l))
      local weights, experts = e.shares(l)
      if weights then compare("router", layer .. "mlp.experts", out[layer .. "mlp.experts"][0], spread(weights, experts, model.spec.n_experts)) end
    end
  end
  return found
end

---The folders of golden models: the project's own, and those of MASSACT_SHARED where it is set.
---@return {name: string, path: string}[]
function M.folders()
  local shared, found = os.getenv "MASSACT_SHARED", {}
  local function walk(folder, label)
    if not massact.system.exists(folder) then return end
    local names = massact.system.list(folder)
    table.sort(names)
    for _, name in ipairs(names) do
      local path = folder .. "/" .. name
      if massact.system.exists(path .. "/expected.safetensors") then found[#found + 1] = { name = label .. name, path = path } end
    end
  end
  walk(os.getenv "MASSACT_TESTS" .. "/golden/models", "")
  if shared then
    walk(shared .. "/golden/models", "shared ")
    walk(shared .. "/golden/more", "more ")
  end
  return found
end

return M
