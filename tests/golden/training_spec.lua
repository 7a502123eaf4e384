-- Gradients and AdamW steps of whole models against transformers (1e-4 of each tensor's largest magnitude; AdamW 1e-3), and the
-- gradients of every family's golden model against finite differences.  More models come from MASSACT_SHARED.
local massact = require "massact"
package.path = os.getenv "MASSACT_TESTS" .. "/golden/?.lua;" .. package.path
local compare = require "compare"

local here, shared = os.getenv "MASSACT_TESTS" .. "/golden/", os.getenv "MASSACT_SHARED"
local exists, list = massact.system.exists, massact.system.list

local function tensors(path) return massact.safetensors.load(path) end

-- ---- what there is: {name, model folder, ids, gradients by name, AdamW's data} ----

-- {"grad.h.0.weight" = t} -> {"h.0.weight" = t}
local function with_prefix(all, prefix)
  local found = {}
  for name, tensor in pairs(all) do
    if name:sub(1, #prefix) == prefix then found[name:sub(#prefix + 1)] = tensor end
  end
  return found
end

local trained = {}

local function add_training(root)
  for _, name in ipairs(exists(root .. "training") and list(root .. "training") or {}) do
    local folder, model = ("%straining/%s"):format(root, name), root .. "models/" .. name
    trained[#trained + 1] = { name = name, model = model, load = function()
      local settings, grads = massact.json.load(folder .. "/training.json"), tensors(folder .. "/grads.safetensors")
      grads.input_ids = nil
      return { ids = tensors(model .. "/expected.safetensors")["long.input_ids"], grads = grads,
        after = tensors(folder .. "/adamw.safetensors"), losses = settings.losses, norms = settings.gradient_norms,
        unstable = settings.unstable }
    end }
  end
end

local function add_more(root)
  for _, name in ipairs(exists(root) and list(root) or {}) do
    local model = root .. name
    if exists(model .. "/training.safetensors") then
      trained[#trained + 1] = { name = "more " .. name, model = model, load = function()
        local all = tensors(model .. "/training.safetensors")
        local numbers, after = all["adamw.losses_and_gradient_norms"]:totable(), with_prefix(all, "adamw.")
        after.losses_and_gradient_norms = nil
        local losses, norms = {}, {}
        for i, row in ipairs(numbers) do losses[i], norms[i] = row[1], i < 4 and row[2] or nil end
        return { ids = all.input_ids, grads = with_prefix(all, "grad."), after = after, losses = losses, norms = norms, unstable = {} }
      end }
    end
  end
end

local function add_mitigations(root)
  for _, name in ipairs(exists(root) and list(root) or {}) do
    trained[#trained + 1] = { name = "mitigated " .. name, model = root .. name, load = function()
      local all = tensors(root .. name .. "/expected.safetensors")
      return { ids = all["long.input_ids"] or all.input_ids, grads = with_prefix(all, "grad.") }
    end }
  end
end

add_training(here)
add_mitigations(here .. "mitigations/")
if shared then
  add_training(shared .. "/golden/")
  add_more(shared .. "/golden/more/")
  add_mitigations(shared .. "/golden/mitigations/")
  add_mitigations(shared .. "/golden/more/mitigations/")
end

-- ---- transformers' module names, where the checkpoint has others ----

-- Where the gradient of what they call `name` is: {{our name, its part of theirs}, ...}.
local function ours(model, name, expected)
  local layer, what = name:match "^model%.layers%.(%d+)%.mlp%.(.*)$"
  local moe = layer and ("model.layers.%s.block_sparse_moe."):format(layer)
  if name == "lm_head.weight" and model.family == "gpt_neox" then return { { "embed_out.weight", expected } } end
  if what == "gate.weight" and model.family == "mixtral" then return { { moe .. "gate.weight", expected } } end
  if not layer or not what:find "^experts%." then return { { name, expected } } end
  local parts = {}
  for e = 0, expected:size(0) - 1 do
    local expert = ("%sexperts.%d."):format(moe, e)
    if what == "experts.down_proj" then
      parts[#parts + 1] = { expert .. "w2.weight", expected[e] }
    else
      local half = expected:size(1) // 2
      parts[#parts + 1] = { expert .. "w1.weight", expected[e]:narrow(0, 0, half) }
      parts[#parts + 1] = { expert .. "w3.weight", expected[e]:narrow(0, half, half) }
    end
  end
  return parts
end

-- ---- comparisons ----

local function check_gradients(model, grads)
  local n = 0
  for their_name, tensor in pairs(grads) do
    for _, part in ipairs(ours(model, their_name, tensor)) do
      local name, expected = part[1], part[2]
      local got = assert(model:param(name).grad, name .. " has no gradient")
      local largest = tensor:abs():max():item()
      local off = (got:reshape(expected:shape()) - expected):abs():max():item() / largest
      assert(off <= 1e-4, ("%s: off by %.2g"):format(name, off))
      n = n + 1
    end
  end
  assert(n > 0)
end

local function global_norm(parameters)
  local squares = 0
  for _, p in pairs(parameters) do if p.grad then squares = squares + p.grad:norm():item() ^ 2 end end
  return math.sqrt(squares)
end

-- Largest difference over the largest magnitude, leaving out what is not determined: the flat indices listed, and where the
-- gradient is rounding noise, which Adam turns into whole steps.
local function parameter_error(got, expected, unstable, gradient)
  local difference = (got:reshape(-1) - expected:reshape(-1)):abs()
  if gradient then difference:mul_(gradient:abs():reshape(-1):gt(gradient:abs():max():item() * 1e-6):float()) end
  for _, i in ipairs(unstable or {}) do difference:set(i, 0) end
  return difference:max():item() / expected:abs():max():item()
end

local function near(expected, got, tolerance, what)
  assert(math.abs(got - expected) <= tolerance * math.abs(expected), ("%s: %.9g, expected %.9g"):format(what, got, expected))
end

for _, each in ipairs(trained) do
  describe("training " .. each.name, function()
    it("has the gradients", function()
      local model, data = massact.load(each.model), each.load()
      local loss = model:loss(data.ids)
      if data.losses then near(data.losses[1], loss:item(), 1e-5, "loss") end
      loss:backward()
      check_gradients(model, data.grads)
    end)

    it("has the parameters after three steps of AdamW", function()
      local data = each.load()
      if not data.losses then return end
      local model, state = massact.load(each.model), {}
      local parameters = model:parameters()
      for step = 1, 3 do
        local loss = model:loss(data.ids)
        near(data.losses[step], loss:item(), 1e-4, "loss before step " .. step)
        loss:backward()
        near(data.norms[step], global_norm(parameters), 1e-4, "gradient norm before step " .. step)
        local _ <close> = massact.no_grad()
        for name, p in pairs(parameters) do
          state[name] = state[name] or { massact.zeros(p:shape()), massact.zeros(p:shape()) }
          p:adamw_(p.grad, state[name][1], state[name][2], { rate = 1e-3, beta1 = 0.9, beta2 = 0.95, eps = 1e-8,
            weight_decay = p:dim() >= 2 and 0.1 or 0, step = step })
          p:zero_grad()
        end
      end
      near(data.losses[4], model:loss(data.ids):item(), 1e-4, "loss after")
      for name, expected in pairs(data.after) do
        local unstable = data.unstable[name]
        if name:find "c_attn%.bias$" then -- GPT-2's key biases: their true gradient is 0
          unstable = table.move(unstable or {}, 1, #(unstable or {}), 1, {})
          local d = expected:size(0) // 3
          for i = d, 2 * d - 1 do unstable[#unstable + 1] = i end
        end
        local off = parameter_error(model:param(name):detach(), expected, unstable, data.grads[name])
        assert(off <= 1e-3, ("%s: off by %.2g"):format(name, off))
      end
    end)
  end)
end

-- Every parameter of every golden model: the loss, a step along and against its gradient, changes by that.
describe("finite differences of", function()
  for _, folder in ipairs(compare.folders()) do
    if not folder.name:find "^shared" and not folder.name:find "^more" then
      it(folder.name, function()
        local model = massact.load(folder.path)
        local ids = tensors(folder.path .. "/expected.safetensors")["short.input_ids"]
        model:loss(ids):backward()
        local _ <close> = massact.no_grad()
        for name, p in pairs(model:parameters()) do
          local g = p.grad and p.grad:clone() or massact.zeros(1) -- an expert may have no token
          local norm = g:norm():item()
          if norm > 1e-3 then
            local before, best = p:clone(), math.huge
            -- Long steps meet curvature, short ones rounding; of 16-bit weights also that of the step itself.
            for _, change in ipairs { 0.02, 0.005, 0.1, 0.3, 0.002, 0.05 } do
              local function at(step)
                p:copy_(before:float() + g * (step / norm / norm))
                return model:loss(ids):item(), p:float()
              end
              local up, there = at(change)
              local down, here_again = at(-change)
              best = math.min(best, math.abs((up - down) / ((there - here_again) * g):sum():item() - 1))
              if best < 0.01 then break end
            end
            p:copy_(before)
            assert(best < 0.05, ("%s: finite differences are off by %.2g"):format(name, best))
          end
        end
      end)
    end
  end
end)
