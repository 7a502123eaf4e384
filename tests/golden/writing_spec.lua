-- Writing at any point of any family changes what is computed from it, as a recomputation from there does, and nothing
-- before it: after a write every other point still follows from those before it (decoder.lua).
package.path = os.getenv "MASSACT_TESTS" .. "/golden/?.lua;" .. package.path
local massact = require "massact"
local golden, decoder = require "compare", require "decoder"

-- Largest difference over the largest finite magnitude; infinities have to be the same.
local function error_of(got, expected)
  local infinite = expected:isinf():float()
  if got:isinf():float() ~= infinite then return math.huge end
  local zero = massact.zeros(1)
  got, expected = infinite:where(zero, got), infinite:where(zero, expected)
  return golden.relative_error(got, expected)
end

local function run(model, ids)
  local names = model:point_names()
  local out = model:forward(ids, { capture = names, logits = true })
  return function(name) return out[name][0] end, names
end

local function position_of(list, value)
  for i, each in ipairs(list) do if each == value then return i end end
end

for _, folder in ipairs(golden.folders()) do
  describe("writing in golden model " .. folder.name, function()
    local model = massact.load(folder.path)
    local ids = massact.safetensors.load(folder.path .. "/expected.safetensors")["short.input_ids"]

    it("has every point as the formulas have it", function()
      local see, names = run(model, ids)
      local steps = decoder.steps(model, see)
      assert.equal(#names, #steps + 1) -- all but embed
      for _, step in ipairs(steps) do
        local e = error_of(see(step[1]), step[2]())
        assert(e <= 1e-4, ("%s: %g"):format(step[1], e))
      end
    end)

    it("goes on from what is written, at every point", function()
      local plain, names = run(model, ids)
      for _, name in ipairs(names) do
        if not name:match "^layers" or name:match "^layers%.1%." then
          local noise = plain(name):isinf():float():where(massact.zeros(1), massact.randn(plain(name):shape(), { seed = 7 }))
          local handle <close> = model:point(name):hook(function(x) x:add_(noise) end)
          local see = run(model, ids)
          local written = position_of(names, name)
          for i, earlier in ipairs(names) do
            if i < written then assert.is_true(see(earlier) == plain(earlier), earlier .. " comes before " .. name) end
          end
          assert(error_of(see(name), plain(name) + noise) <= 1e-5, name)
          for _, step in ipairs(decoder.steps(model, see)) do
            if step[1] ~= name then
              local e = error_of(see(step[1]), step[2]())
              assert(e <= 1e-4, ("written at %s, %s: %g"):format(name, step[1], e))
            end
          end
          -- Sums over the probabilities are there to be read.
          local is_tally = name:match "attn%.received$" or name:match "attn%.entropy$"
          if name ~= "logits" then assert.equal(is_tally ~= nil, see "logits" == plain "logits", name) end
        end
      end
    end)
  end)
end
