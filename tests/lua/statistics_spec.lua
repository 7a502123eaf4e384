-- Each statistic against plain loops over doubles, and against numbers that its definition gives without any.
local massact = require "massact"
local statistics = massact.statistics

local function near(got, expected, tolerance, what)
  assert(math.abs(got - expected) <= (tolerance or 1e-5) * math.max(1, math.abs(expected)), ("%s: %.9g instead of %.9g"):format(
    what or "", got, expected))
end

local function mean(list, f)
  local sum = 0
  for _, v in ipairs(list) do sum = sum + (f and f(v) or v) end
  return sum / #list
end

local function column(rows, d)
  local values = {}
  for i, row in ipairs(rows) do values[i] = row[d] end
  return values
end

-- Rows with one dim far out, as layers with massive activations have them.
local rows = massact.randn(40, 12, { seed = 3 })
rows:set(0, 5, 900)
for t = 0, 39 do rows:set(t, 7, 20 + t / 10) end
local plain = rows:totable()

describe("kurtosis", function()
  it("of tokens is each row's, as Bondarenko's code has it", function()
    local got = statistics.token_kurtosis(rows):totable()
    for i, row in ipairs(plain) do
      local mu, n = mean(row), #row
      local fourth = mean(row, function(v) return (v - mu) ^ 4 end)
      local variance = mean(row, function(v) return (v - mu) ^ 2 end) * n / (n - 1)
      near(got[i], fourth / (variance ^ 2 + 1e-6), 1e-5, "row " .. i)
    end
    assert.same({ 2, 3 }, statistics.token_kurtosis(massact.randn(2, 3, 8)):shape())
    near(statistics.token_kurtosis(massact.randn(1, 200000, { seed = 5 })):item(), 3, 0.03, "normal numbers")
    near(statistics.token_kurtosis(massact.zeros(1, 8)):item(), 0)
  end)

  it("of neurons' root mean squares runs from 1 to d", function()
    local function of(x) return statistics.neuron_rms_kurtosis(x:square():mean(0)) end
    local squares = {}
    for d = 1, 12 do squares[d] = mean(column(plain, d), function(v) return v * v end) end
    near(of(rows), mean(squares, function(v) return v * v end) / mean(squares) ^ 2)
    near(of(massact.ones(5, 16)), 1)
    local alone = massact.zeros(5, 16)
    alone:select(1, 3):fill_(7)
    near(of(alone), 16)
  end)

  it("of a tensor's mean activation is in excess of 3, as llama-imatrix has it", function()
    local means = {}
    for d = 1, 12 do means[d] = mean(column(plain, d)) end
    local mu = mean(means)
    local variance = mean(means, function(v) return (v - mu) ^ 2 end)
    near(statistics.mean_activation_kurtosis(rows:mean(0)), mean(means, function(v) return (v - mu) ^ 4 end) / variance ^ 2 - 3)
    near(statistics.mean_activation_kurtosis(massact.tensor { -1, 1, -1, 1 }), -2)
  end)
end)

describe("outlier dims", function()
  it("of LLM.int8 are in 25 % of the layers and at 6 % of all positions", function()
    -- Of 100 positions in each of 8 layers: how many reach 6 in dims 0 to 4.
    local counts = {}
    for l = 1, 8 do counts[l] = massact.zeros(5) end
    local function put(dim, layers, n) for l = 1, layers do counts[l]:set(dim, n) end end
    put(0, 2, 24) -- 25 % of the layers, 6 % of 800 positions
    put(1, 1, 100) -- too few layers
    put(2, 2, 23) -- too few positions
    put(3, 8, 100)
    local found = statistics.int8_outliers(counts, 100)
    assert.equal(2, #found)
    assert.same({ 0, 3 }, { found[1].dim, found[2].dim })
    near(found[1].layers, 0.25)
    near(found[1].positions, 0.06)
    near(found[2].positions, 1)
    assert.equal(3, #statistics.int8_outliers(counts, 100, { layers = 0.125, positions = 0.06 }))
  end)

  it("count magnitudes of 6 and more", function()
    local x = massact.tensor { { { 6, -6, 5.99 }, { 7, 0, -100 } }, { { 1, -6.5, 0 }, { 0, 0, 0 } } }
    assert.same({ 2, 2, 1 }, statistics.count_large(x):totable())
    assert.same({ 0, 0, 1 }, statistics.count_large(x, 50):totable())
  end)

  it("of Macocco et al. have their median among the largest magnitudes of all", function()
    local x = massact.randn(101, 50, { seed = 9 })
    x:select(1, 11):fill_(-9)
    x:set(0, 30, 1e4) -- one position is no median
    local all, medians = {}, {}
    for _, row in ipairs(x:totable()) do for _, v in ipairs(row) do all[#all + 1] = math.abs(v) end end
    table.sort(all)
    for d = 1, 50 do
      local values = column(x:abs():totable(), d)
      table.sort(values)
      medians[d] = values[51]
    end
    local found, threshold = statistics.median_outliers(x, 0.03)
    assert.equal(all[math.floor(0.97 * (#all - 1)) + 1], threshold)
    assert.same({ { dim = 11, median = 9 } }, found)
    local _, none = statistics.median_outliers(x) -- 2 % of the elements are at -9: none is above the top 1 %
    assert.equal(9, none)
    assert.equal(9, medians[12])
  end)
end)

describe("attention sinks", function()
  -- Probabilities of two heads over four tokens.
  local probs = massact.tensor { { { 1, 0, 0, 0 }, { .5, .5, 0, 0 }, { .2, .3, .5, 0 }, { .1, .2, .3, .4 } },
    { { 1, 0, 0, 0 }, { 0, 1, 0, 0 }, { 0, 0, 1, 0 }, { 0, 0, 0, 1 } } }

  it("are keys with a large mean attention over the queries that see them", function()
    local attention = statistics.mean_attention(probs:sum(1))
    local expected = { { 1.8 / 4, 1 / 3, .8 / 2, .4 }, { 1 / 4, 1 / 3, 1 / 2, 1 } }
    for h, head in ipairs(expected) do
      for k, value in ipairs(head) do near(attention:get(h - 1, k - 1), value, 1e-6, "alpha") end
    end
    assert.equal(0.5, statistics.sink_rate(attention))
    assert.equal(1, statistics.sink_rate(attention, 0, 0.2))
    assert.equal(1, statistics.sink_rate(attention, 1))
    assert.equal(0.5, statistics.sink_rate(attention, 3, 0.4 + 1e-6))
  end)

  it("have values of a norm relative to the others'", function()
    local v = massact.randn(2, 5, 3, 4, { seed = 2 })
    local ratio = statistics.value_norm_ratio(v:norm(-1), 2)
    assert.same({ 2, 3 }, ratio:shape())
    for b = 0, 1 do
      for g = 0, 2 do
        local function norm(t)
          local sum = 0
          for d = 0, 3 do sum = sum + v:get(b, t, g, d) ^ 2 end
          return math.sqrt(sum)
        end
        near(ratio:get(b, g), norm(2) / ((norm(0) + norm(1) + norm(3) + norm(4)) / 4))
      end
    end
  end)
end)

it("what f16 turns into infinity is counted, and agrees with a conversion", function()
  local x = massact.tensor { 65504, 65519.9, 65520, -65520, 1e30, math.huge, 0 / 0, -3, 0 }
  assert.equal(3, statistics.overflows_f16(x))
  local after = x:to { dtype = "f16" }:isinf():float():sum():item()
  assert.equal(after - 1, statistics.overflows_f16(x))
  assert.equal(statistics.f16.largest, massact.tensor({ 65519 }):to({ dtype = "f16" }):float():get(0))
end)
