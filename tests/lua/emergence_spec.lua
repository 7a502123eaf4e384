-- The curve of massive activations over training is found again in numbers made from it.
local emergence = require "massact.emergence"

local function curve(p, t)
  local x = p.gamma * t + p.t0
  return p.A * math.exp(-p.lambda * x) * math.log(x) + p.K
end

local steps = { 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 3000, 5000, 8000, 13000, 20000, 33000, 53000, 80000, 100000, 143000 }

describe("massact.emergence", function()
  for name, p in pairs {
    ["that rise and fall"] = { A = 900, lambda = 0.08, gamma = 1e-3, t0 = 1.2, K = 20 },
    ["that only rise"] = { A = 250, lambda = 1e-3, gamma = 2e-3, t0 = 1, K = 5 },
    ["that fall"] = { A = -40, lambda = 0.02, gamma = 1e-4, t0 = 2, K = 300 },
  } do
    it("finds magnitudes " .. name, function()
      local magnitudes = {}
      for i, t in ipairs(steps) do magnitudes[i] = curve(p, t) end
      local fit = emergence.fit(steps, magnitudes)
      assert(fit.r2 > 0.9999, fit.r2)
      for _, t in ipairs { 100, 10000, 70000 } do assert.near(curve(p, t), fit.value(t), 0.01 * (math.abs(curve(p, t)) + 5)) end
    end)
  end

  it("tells when they are largest", function()
    local magnitudes, p = {}, { A = 900, lambda = 0.08, gamma = 1e-3, t0 = 1.2, K = 20 }
    for i, t in ipairs(steps) do magnitudes[i] = curve(p, t) end
    local fit, best, at = emergence.fit(steps, magnitudes), -math.huge, nil
    for t = 0, 143000, 10 do if curve(p, t) > best then best, at = curve(p, t), t end end
    assert.near(at, fit.peak, 0.02 * at)
    for i, t in ipairs(steps) do magnitudes[i] = 3 + 0.001 * t end
    assert.is_nil(emergence.fit(steps, magnitudes).peak)
  end)

  it("is honest about noise, and about too few points", function()
    local noise = {}
    for i in ipairs(steps) do noise[i] = (i * 7919) % 13 end
    local fit = emergence.fit(steps, noise)
    assert(fit.r2 < 0.5, fit.r2)
    assert.has_error(function() emergence.fit({ 1, 2, 3 }, { 1, 2, 3 }) end, "emergence: five parameters want six points or more, not 3")
    local flat = {}
    for i in ipairs(steps) do flat[i] = 4 end
    assert.equal(1, emergence.fit(steps, flat).r2)
  end)
end)
