-- Pictures: each kind of mark, a grid and tokens against a stored PNG of 3 x 2 inches (pictures/).  Other versions of fonts,
-- Pango and cairo place and smooth letters differently, so that blocks of 6 x 6 pixels are compared by their means: of
-- no more than 1 % of the blocks may a mean differ by more than 40 of 255, and by no more than 1.5 over the whole picture.
-- MASSACT_PICTURES=write stores what is drawn now; look at it before it is committed.
local plot = require "massact.plot"

local folder = os.getenv "MASSACT_TESTS" .. "/lua/pictures/"
local block, most_of_a_block, part_of_blocks, most_of_all = 6, 40, 0.01, 1.5

local function with(options)
  options.width, options.height = 3, 2
  return options
end

local layers, largest, median, low, high = {}, { 98, 615, 2480, 2656, 2800, 2896, 2960, 2992, 3008, 3024, 3024, 364 }, {}, {}, {}
for l = 1, #largest do
  layers[l], median[l], low[l], high[l] = l - 1, 1 + l / 2, 0.5 * largest[l], 2 * largest[l]
end

-- Numbers that are the same everywhere.
local function scattered(n, seed)
  local out, state = {}, seed
  for i = 1, n do
    state = (state * 1103515245 + 12345) % 2147483648
    out[i] = state / 2147483648
  end
  return out
end

local function attention(seed)
  local noise, rows = scattered(36, seed), {}
  for q = 1, 6 do
    rows[q] = {}
    for k = 1, 6 do rows[q][k] = k > q and 0 / 0 or k == 1 and 1 or 0.6 * noise[6 * q + k - 6] end
  end
  return rows
end

local tokens, plain = {}, {}
for i, text in ipairs { "Summer", " is", " warm", ".", "\n", "<0xE4>" } do
  tokens[i], plain[i] = plot.token(text, { massive = i == 1 }), plot.token(text)
end

local function activations(dims, massive)
  local noise, rows = scattered(6 * dims, 7), {}
  for t = 1, 6 do
    rows[t] = {}
    for d = 1, dims do rows[t][d] = 100 * noise[dims * t + d - dims] ^ 6 end
  end
  if massive then rows[1][12], rows[1][40] = 700, 2480 end
  return rows
end

local cases = {
  line = function()
    local fig = plot.figure(with { title = "gpt2", x_label = "Layer Number", y_label = "Magnitude", integers = true })
    fig:line { x = layers, y = largest, label = "top-1", color = "blue", marker = true }
    return fig:line { x = layers, y = median, label = "median", color = "gray", marker = true }
  end,
  log = function()
    local fig = plot.figure(with { x_label = "Layer", y_scale = "log", integers = true })
    fig:line { x = layers, y = largest, low = low, high = high, label = "largest" }:line { x = layers, y = median, label = "median", style = "dashed" }
    return fig:hline { y = 100 }:vline { x = 2, color = "red", style = "dotted" }:note { x = 2.3, y = 20, text = "massive", color = "red" }
  end,
  symlog = function()
    local at, noise, x, y = scattered(150, 3), scattered(150, 4), {}, {}
    for i = 1, 150 do
      x[i] = (i % 2 == 0 and 1 or -1) * 10 ^ (6 * at[i] - 3)
      y[i] = x[i] * (0.3 + noise[i])
    end
    return plot.figure(with { x_scale = "symlog", y_scale = "symlog", x_label = "before", y_label = "after" }):scatter { x = x, y = y, label = "dims" }
  end,
  bars = function()
    return plot.figure(with { y_label = "Perplexity", y_scale = "log" }):bars { labels = { "original", "set_to_zero", "set_to_mean" },
      groups = { { label = "wikitext", values = { 29.12, 8976.9, 29.3 } }, { label = "c4", values = { 33.1, 2.77e14, 33 }, errors = { 5, 1e14, 5 } } } }
  end,
  ["bars-negative"] = function()
    local labels, values = {}, {}
    for i = 1, 12 do labels[i], values[i] = "layer " .. i - 1, 40 * math.sin(i) end
    return plot.figure(with { title = "Change (%)" }):bars { labels = labels, values = values, color = "orange" }
  end,
  histogram = function()
    local noise, values = scattered(6000, 11), {}
    for i = 1, 2000 do values[i] = (noise[3 * i] + noise[3 * i - 1] + noise[3 * i - 2] - 1.5) * (i % 50 == 0 and 4 or 1) end
    return plot.figure(with { x_label = "Activation", y_label = "Count", y_scale = "log" }):histogram { values = values, bins = 25, label = "layer 3" }
  end,
  heatmap = function()
    return plot.figure(with { title = "Layer 1" }):heatmap { values = attention(1), x_labels = tokens, y_labels = plain, colorbar = "score" }
  end,
  coolwarm = function()
    local rows = {}
    for r = 1, 5 do
      rows[r] = {}
      for c = 1, 9 do rows[r][c] = math.sin(r * c) * r end
    end
    return plot.figure(with { x_label = "x", y_label = "y" }):heatmap { values = rows, map = "coolwarm" }
  end,
  bars3d = function()
    return plot.figure(with { title = "Layer 2" }):bars3d { values = activations(60, true), x_labels = tokens, y_labels = { { 39, { text = "39", bold = true } } } }
  end,
  ["bars3d-even"] = function() return plot.figure(with { title = "Layer 0" }):bars3d { values = activations(9), x_labels = plain, z_label = "|a|" } end,
  grid = function()
    local figures = {}
    for i = 1, 4 do figures[i] = plot.figure { title = "Layer " .. i - 1 }:line { x = layers, y = i % 2 == 0 and largest or high, label = "top-1" } end
    return plot.grid(figures, with { columns = 2, share_x = true, share_y = true, legend = "shared", x_label = "Layer", y_label = "Magnitude" })
  end,
}

-- Means of blocks, a list for each colour in turn.
local function means(picture)
  local out = {}
  for top = 0, picture.height - block, block do
    for left = 0, picture.width - block, block do
      local sums = { 0, 0, 0 }
      for y = top, top + block - 1 do
        local row = { picture.bytes:byte(3 * (y * picture.width + left) + 1, 3 * (y * picture.width + left + block)) }
        for i, value in ipairs(row) do sums[(i - 1) % 3 + 1] = sums[(i - 1) % 3 + 1] + value end
      end
      for c = 1, 3 do out[#out + 1] = sums[c] / block ^ 2 end
    end
  end
  return out
end

-- Whether two pictures are the same as far as that can be asked; and what differs.
local function same(a, b)
  if a.width ~= b.width or a.height ~= b.height then return false, "sizes differ" end
  local x, y, far, sum = means(a), means(b), 0, 0
  for i = 1, #x do
    local difference = math.abs(x[i] - y[i])
    if difference > most_of_a_block then far = far + 1 end
    sum = sum + difference
  end
  local text = ("%.2f %% of the blocks differ by more than %d, all by %.2f"):format(100 * far / #x, most_of_a_block, sum / #x)
  return far <= part_of_blocks * #x and sum <= most_of_all * #x, text
end

describe("pictures", function()
  local path = os.tmpname() .. ".png"
  teardown(function() os.remove(path) end)

  for name, make in pairs(cases) do
    it("look as stored: " .. name, function()
      local stored = folder .. name .. ".png"
      local figure = make()
      if os.getenv "MASSACT_PICTURES" == "write" then figure:save(stored, { dpi = 72 }) end
      figure:save(path, { dpi = 72 })
      local ok, text = same(plot.read(path), plot.read(stored))
      assert(ok, name .. ": " .. text)
      local file <close> = assert(io.open(stored, "rb"))
      assert(file:seek "end" < 12000, "a stored picture is small")
    end)
  end

  it("are told apart by the comparison, the kinds from each other and small changes too", function()
    local names = {}
    for name in pairs(cases) do names[#names + 1] = name end
    table.sort(names)
    for i = 2, #names do
      assert(not same(plot.read(folder .. names[i] .. ".png"), plot.read(folder .. names[i - 1] .. ".png")), names[i] .. " and " .. names[i - 1])
    end
    local changes = {
      bars = function()
        return plot.figure(with { y_label = "Perplexity", y_scale = "log" }):bars { labels = { "original", "set_to_zero", "set_to_mean" },
          groups = { { label = "wikitext", values = { 29.12, 8976.9, 29.3 } }, { label = "c4", values = { 33.1, 2.77e9, 33 } } } }
      end,
      heatmap = function()
        return plot.figure(with { title = "Layer 1" }):heatmap { values = attention(2), x_labels = tokens, y_labels = plain, colorbar = "score" }
      end,
      bars3d = function()
        local rows = activations(60, true)
        for t = 2, 6 do rows[t][9 * t] = 2000 end
        return plot.figure(with { title = "Layer 2" }):bars3d { values = rows, x_labels = tokens, y_labels = { { 39, { text = "39", bold = true } } } }
      end,
      line = function() return plot.figure(with { title = "gpt2", x_label = "Layer Number", y_label = "Magnitude", integers = true }):line { x = layers, y = high } end,
    }
    for name, make in pairs(changes) do
      make():save(path, { dpi = 72 })
      local ok, text = same(plot.read(path), plot.read(folder .. name .. ".png"))
      assert(not ok, name .. ": " .. text)
    end
  end)
end)
