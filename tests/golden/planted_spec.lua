-- Models with planted massive activations: exactly the layers, dims and positions that were planted, and the losses
-- without them.  The project's own is the embedded default model (default_spec.lua); these need MASSACT_SHARED.
local massact = require "massact"
local shared = os.getenv "MASSACT_SHARED"
if not shared or not massact.system.exists(shared .. "/golden/planted") then
  print "skipped: everything (MASSACT_SHARED names no folder with golden/planted)"
  os.exit(0, true)
end

-- {layer -> {"position,dim" -> value}}
local function found_in(model, ids)
  local probe <close> = model:point("layers.*.out"):probe({ "max", "median" }, { entries = { above = 100, ratio = 1000 } })
  model:forward(ids)
  local found, seen = {}, {}
  for l = 0, model.n_layers - 1 do
    found[l], seen[l] = {}, probe[("layers.%d.out"):format(l)][1]
    for _, e in ipairs(seen[l].entries) do found[l][e.position .. "," .. e.dim] = e.value end
  end
  return found, seen
end

local function check_same(expected, got, where)
  for key, value in pairs(expected) do
    assert(got[key], ("%s: %s is missing"):format(where, key))
    assert(math.abs(got[key] - value) <= 1e-4 * math.abs(value), ("%s: %s is %g instead of %g"):format(where, key, got[key], value))
  end
  for key in pairs(got) do assert(expected[key], ("%s: %s is too many"):format(where, key)) end
end

-- Loss and logits with the listed {position, dim} entries of a layer's output set to 0.
local function without(model, ids, layer, entries)
  local handle <close> = model:point(("layers.%d.out"):format(layer)):hook(function(x)
    for _, e in ipairs(entries) do x:set(0, e[1], e[2], 0) end
  end)
  local out = model:forward(ids, { loss = true, logits = true })
  return out.loss, out.logits
end

describe("planted models", function()
  local names = massact.system.list(shared .. "/golden/planted")
  table.sort(names)
  for _, name in ipairs(names) do
    it(name .. " has what was planted, there and nowhere else", function()
      local path = shared .. "/golden/planted/" .. name
      local model = massact.load(path)
      local expected = massact.safetensors.load(path .. "/expected.safetensors")
      local n_massive = 0
      for sequence, about in pairs(massact.json.load(path .. "/planted.json").sequences) do
        local ids = expected[sequence .. ".input_ids"]
        local found, seen = found_in(model, ids)
        assert.near(about.loss, model:forward(ids, { loss = true }).loss, 1e-4 * about.loss)
        for layer, facts in pairs(about.layers) do
          if layer ~= "embedding" then
            local where, l = ("%s, layer %s"):format(sequence, layer), math.tointeger(tonumber(layer))
            local entries = {}
            for dim, positions in pairs(facts.massive) do
              for position, value in pairs(positions) do
                entries[position .. "," .. dim] = value
                n_massive = n_massive + 1
              end
            end
            check_same(entries, found[l], where)
            assert.near(facts.max, seen[l].max, 1e-4 * facts.max)
            assert.near(facts.median_lower, seen[l].median, 1e-4 * facts.median_lower)
          end
        end
      end
      assert(n_massive > 0)
    end)

    it(name .. " changes as the reference does where it is zeroed", function()
      local path = shared .. "/golden/planted/" .. name
      local model, zeroed = massact.load(path), massact.json.load(path .. "/planted.json").zeroed
      local ids = massact.safetensors.load(path .. "/expected.safetensors")["main.input_ids"]
      local plain = model:forward(ids, { loss = true, logits = true })
      local loss, logits = without(model, ids, zeroed.layer, zeroed.entries)
      assert.near(zeroed.loss_unchanged, plain.loss, 1e-4 * plain.loss)
      assert.near(zeroed.loss, loss, 2e-5 * loss)
      assert.near(zeroed.max_logit_change, (logits - plain.logits):abs():max():item(), 1e-3 * zeroed.max_logit_change)
    end)
  end

  it("the llama of more/planted has what was planted", function()
    local path = shared .. "/golden/more/planted/llama"
    local model, about = massact.load(path), massact.json.load(path .. "/planted.json")
    local ids = table.move(about.input_ids, 1, #about.input_ids, 1, {})
    local found = found_in(model, ids)
    for layer, facts in pairs(about.layers) do
      local entries = {}
      for _, e in ipairs(facts.massive) do entries[("%d,%d"):format(e[1], e[2])] = e[3] end
      check_same(entries, found[math.tointeger(tonumber(layer))], "layer " .. layer)
    end
    local zero = without(model, ids, about.first_layer, { { 0, about.dim } })
    assert.near(about.loss.original, model:forward(ids, { loss = true }).loss, 2e-5 * about.loss.original)
    assert.near(about.loss.zero, zero, 2e-5 * zero)
  end)
end)
