-- Figures: what is drawn where, told from the texts and from the pixels of what is written.
local massact = require "massact"
local plot = require "massact.plot"
local nan, inf = 0 / 0, 1 / 0

local path = os.tmpname() .. ".png"

-- The figure as a picture, at 72 dots an inch.
local function drawn(figure, options)
  figure:save(path, options or { dpi = 72 })
  return plot.read(path)
end

-- left, top, right, bottom of the pixels that `matches` (or that are near a colour "#rrggbb"), and their number.
local function extent(picture, matches)
  if type(matches) == "string" then
    local wr, wg, wb = matches:match "#(%x%x)(%x%x)(%x%x)"
    wr, wg, wb = tonumber(wr, 16), tonumber(wg, 16), tonumber(wb, 16)
    matches = function(r, g, b) return math.abs(r - wr) + math.abs(g - wg) + math.abs(b - wb) < 6 end
  end
  local left, top, right, bottom, n = math.huge, math.huge, -1, -1, 0
  local bytes, at = picture.bytes, 1
  for y = 0, picture.height - 1 do
    for x = 0, picture.width - 1 do
      local matched = matches(bytes:byte(at, at + 2))
      at = at + 3
      if matched then
        left, right, top, bottom, n = math.min(left, x), math.max(right, x), math.min(top, y), math.max(bottom, y), n + 1
      end
    end
  end
  assert(n > 0, "no pixel has this colour")
  return { left = left, top = top, right = right, bottom = bottom, x = (left + right) / 2, y = (top + bottom) / 2, width = right - left + 1, height = bottom - top + 1, n = n }
end

local function near(expected, actual, tolerance, message)
  assert(math.abs(expected - actual) <= tolerance, ("%s: %g is not %g within %g"):format(message or "value", actual, expected, tolerance))
end

local function has(texts, text)
  for _, t in ipairs(texts) do if t == text then return true end end
  return false
end

local function count(texts, text)
  local n = 0
  for _, t in ipairs(texts) do if t == text then n = n + 1 end end
  return n
end

describe("plot", function()
  teardown(function() os.remove(path) end)

  it("writes labels, numbers and legend, with real minus signs", function()
    local fig = plot.figure { title = "gpt2", x_label = "Layer", y_label = "Change", integers = true }
    fig:line { x = { 0, 1, 2, 3 }, y = { -20, 0, 10, 20 }, label = "top-1" }:note { x = 1, y = 1, text = "here" }
    local texts = plot.texts(fig)
    for _, text in ipairs { "gpt2", "Layer", "Change", "top-1", "here", "0", "1", "2", "3", "−20" } do assert(has(texts, text), text) end
    for _, text in ipairs(texts) do assert(text == "top-1" or not text:find("-", 1, true), text) end
    assert(not has(texts, "0.5"), "x has whole numbers only")
  end)

  it("places values linearly, by logarithm, and by logarithm on both sides of zero", function()
    local function heights(scale, values)
      local fig = plot.figure { y_scale = scale, width = 4, height = 4 }
      local colors = { "#ff0000", "#00ff00", "#0000ff", "#ff00ff" }
      for i, value in ipairs(values) do fig:scatter { x = { i }, y = { value }, color = colors[i], size = 8, alpha = 1 } end
      local picture, at = drawn(fig), {}
      for i in ipairs(values) do at[i] = -extent(picture, colors[i]).y end
      return at
    end
    local linear = heights("linear", { 0, 10, 20, 40 })
    near(2 * (linear[2] - linear[1]), linear[3] - linear[1], 2)
    near(4 * (linear[2] - linear[1]), linear[4] - linear[1], 3)
    local log = heights("log", { 0.01, 1, 10, 1000 })
    near((log[2] - log[1]) / 2, log[3] - log[2], 2)
    near(log[2] - log[1], log[4] - log[3], 2)
    local symlog = heights("symlog", { -1000, -10, 10, 1000 })
    near(symlog[2] - symlog[1], symlog[4] - symlog[3], 2)
    near((symlog[3] - symlog[2]) / 2, (symlog[4] - symlog[3]) / 2, 2, "10 is one unit from 0, 1000 two decades more")
  end)

  it("writes powers of ten", function()
    local texts = plot.texts(plot.figure { y_scale = "log" }:line { x = { 0, 1 }, y = { 1e-6, 1e6 } })
    assert(has(texts, "10⁻⁶") and has(texts, "10⁶"), table.concat(texts, " "))
    texts = plot.texts(plot.figure { y_scale = "symlog" }:line { x = { 0, 1 }, y = { -1e6, 1e6 } })
    assert(has(texts, "−10⁶") and has(texts, "0") and has(texts, "10⁶"), table.concat(texts, " "))
    texts = plot.texts(plot.figure { y_scale = "log" }:line { x = { 0, 1 }, y = { 0.1, 1000 } })
    assert(has(texts, "0.1") and has(texts, "1000"), table.concat(texts, " "))
    texts = plot.texts(plot.figure {}:bars { labels = { "a" }, values = { -2.77e24 } })
    assert(has(texts, "−2.77×10²⁴"), table.concat(texts, " "))
  end)

  it("keeps to a range, and breaks lines at gaps", function()
    local fig = plot.figure { x_range = { 0, 10 }, y_range = { 0, 10 }, width = 4, height = 3 }
    fig:hline { y = 5, color = "#ff0000", style = "solid" }:vline { x = 2.5, color = "#0000ff", style = "solid" }
    fig:line { x = { 0, 1, 2, 4, 5, 6, 8, 9 }, y = { 2, 2, 2, nan, 2, 2, massact.null, 2 }, color = "#00ff00", width = 3 }
    local picture = drawn(fig, { dpi = 144 })
    local across, up = extent(picture, "#ff0000"), extent(picture, "#0000ff")
    near((up.top + up.bottom) / 2, across.y, 2, "5 is in the middle of 0 .. 10")
    near(across.left + across.width / 4, up.x, 2, "2.5 is at a quarter of 0 .. 10")
    local y, on = math.floor(up.top + 0.8 * up.height), {}
    for x = across.left, across.right do
      local r, g, b = picture.pixel(x, y)
      on[#on + 1] = g > 200 and r < 90 and b < 90 and "x" or " "
    end
    local runs = {}
    for run in table.concat(on):gmatch "x+" do runs[#runs + 1] = #run end
    assert.equal(3, #runs)
    near(across.width * 0.2, runs[1], 12, "0 .. 2")
    near(across.width * 0.1, runs[2], 12, "5 .. 6")
    near(6, runs[3], 4, "9 alone is a dot")
  end)

  it("fills the band between low and high", function()
    local fig = plot.figure { y_range = { 0, 10 }, x_range = { 0, 1 }, width = 4, height = 3 }
    fig:line { x = { 0, 1 }, y = { 5, 5 }, low = { 4, 4 }, high = { 8, 8 }, color = "#ff0000" }
    local picture = drawn(fig, { dpi = 144 })
    local line = extent(picture, "#ff0000")
    local band = extent(picture, function(r, g, b) return r > 225 and g > 150 and g < 215 and math.abs(g - b) < 4 end)
    near(3 / 10, (line.y - band.top) / (picture.height * 0.86), 0.04)
    near(3, (line.y - band.top) / (band.bottom - line.y), 0.15, "5 to 8 over 4 to 5")
  end)

  it("draws bars of the right heights, up and down, with numbers, errors and labels", function()
    local colors = { "#ff0000", "#00ff00", "#0000ff" }
    local groups = {}
    for i, values in ipairs { { 4, -2 }, { 8, -4 }, { 2, -1 } } do groups[i] = { label = "group " .. i, values = values, color = colors[i] } end
    local fig = plot.figure { height = 6 }:bars { labels = { "up", { text = "down", color = "red", bold = true } }, groups = groups }
    local picture, boxes = drawn(fig), {}
    for i, color in ipairs(colors) do
      boxes[i] = extent(picture, function(r, g, b)
        local c = { r, g, b }
        return c[i] > 250 and r + g + b < 270 end)
      assert(boxes[i].n > 1000, color)
    end
    -- Above the plot each has its key, which is not as tall; bars up and down of one colour are 6, 12 and 3 units.
    local function run(box)
      local longest, at = 0, nil
      for x = box.left, box.right do
        local n = 0
        for y = box.top, box.bottom do
          local r, g, b = picture.pixel(x, y)
          if (({ r, g, b })[box.i]) > 250 and r + g + b < 270 and y > 45 then n = n + 1 end
        end
        if n > longest then longest, at = n, x end
      end
      return longest, at
    end
    local up = {}
    for i, box in ipairs(boxes) do
      box.i = i
      up[i] = run(box)
    end
    near(2, up[2] / up[1], 0.03)
    near(0.5, up[3] / up[1], 0.03)
    local texts = plot.texts(fig)
    for _, text in ipairs { "4.00", "8.00", "−2.00", "−1.00", "up", "down", "group 1", "group 3" } do assert(has(texts, text), text) end
    assert.has_error(function() plot.figure {}:bars { labels = { "a", "b" }, values = { 1 } } end, "bars: a value for each label is wanted: 2 labels, 1 values")
    texts = plot.texts(plot.figure {}:bars { labels = { "a" }, values = { 3 }, errors = { 1 }, label = "one" })
    assert(has(texts, "3.00"))
  end)

  it("thins out labels of many bars, but keeps marked ones", function()
    local labels, values = {}, {}
    for i = 1, 300 do labels[i], values[i] = "token " .. i, i end
    labels[151] = { text = "token 151", color = "red", bold = true }
    local texts = plot.texts(plot.figure {}:bars { labels = labels, values = values })
    local n = 0
    for _, text in ipairs(texts) do if text:find "^token" then n = n + 1 end end
    assert(n > 20 and n < 150, n)
    assert(has(texts, "token 151"))
  end)

  it("counts a histogram", function()
    local values = massact.tensor { 0.5, 1.5, 1.6, 2.1, 2.2, 2.3, 3, nan, 7, -1 }
    local picture = drawn(plot.figure { width = 4, height = 4 }:histogram { values = values, bins = 3, range = { 0, 3 }, color = "#ff0000" })
    local box, heights = extent(picture, "#ff0000"), {}
    for part = 1, 3 do
      local x, n = math.floor(box.left + (part - 0.5) * box.width / 3), 0
      for y = box.top, box.bottom do if picture.pixel(x, y) == 255 and select(2, picture.pixel(x, y)) < 10 then n = n + 1 end end
      heights[part] = n
    end
    near(2, heights[2] / heights[1], 0.06, "two of 1.5, 1.6")
    near(4, heights[3] / heights[1], 0.2, "2.1 to 3, its upper edge too")
    -- On a log scale bins are even there.
    local wide = drawn(plot.figure { width = 4, height = 4, x_scale = "log" }:histogram { values = { 1, 2, 20, 21, 200 }, bins = 3, range = { 1, 1000 }, color = "#ff0000" })
    local all = extent(wide, "#ff0000")
    local x = math.floor(all.left + all.width / 2)
    assert.same({ 255, 0, 0 }, { wide.pixel(x, all.bottom - 5) })
    near(all.top, extent(wide, function(r, g, b) return r == 255 and g < 10 and b < 10 end).top, 0)
  end)

  it("colours a heat map by ColorBrewer's table, whitesmoke where it is masked", function()
    local YlGnBu = { "#ffffd9", "#edf8b1", "#c7e9b4", "#7fcdbb", "#41b6c4", "#1d91c0", "#225ea8", "#253494", "#081d58" }
    local rows = { { 0, 1, 2, nan }, { 3, 4, 5, -inf }, { 6, 7, 8, nan } }
    local picture = drawn(plot.figure { width = 5, height = 4 }:heatmap { values = rows, colorbar = false, x_labels = { "" }, y_labels = { "" } })
    local cells = {}
    for i, color in ipairs(YlGnBu) do cells[i] = extent(picture, color) end
    local masked = extent(picture, "#f5f5f5")
    for i, cell in ipairs(cells) do
      local r, c = (i - 1) // 3, (i - 1) % 3
      near(cells[1].x + c * masked.width, cell.x, 4)
      near(cells[1].y + r * masked.height / 3, cell.y, 4)
      near(masked.width * masked.height / 3, cell.n, 0.05 * cell.n, "cells are of one size")
    end
    near(cells[3].x + masked.width, masked.x, 4)
    -- A tensor, a range and a log scale: 10 is halfway from 1 to 100.
    local log = drawn(plot.figure {}:heatmap { values = massact.tensor { { 10, 0 } }, range = { 1, 100 }, scale = "log", colorbar = false })
    assert(extent(log, "#41b6c4").n > 1000 and extent(log, "#ffffd9").n > 1000)
  end)

  it("has perceptually uniform maps and one that diverges from zero", function()
    for map, ends in pairs { viridis = { "#440154", "#fde725" }, magma = { "#000004", "#fcfdbf" }, cividis = { "#00224e", "#fee838" } } do
      local picture = drawn(plot.figure { width = 3, height = 2 }:heatmap { values = { { 1, 2 } }, map = map, colorbar = false })
      assert(extent(picture, ends[1]).x < extent(picture, ends[2]).x, map)
    end
    -- The lightness of these never falls.
    for _, map in ipairs { "viridis", "magma", "cividis" } do
      local row, last = {}, -1
      for i = 1, 40 do row[i] = i end
      local picture = drawn(plot.figure { width = 8, height = 1.5 }:heatmap { values = { row }, map = map, colorbar = false, y_labels = {} })
      for i = 0, 39 do
        local r, g, b = picture.pixel(math.floor(picture.width * (0.06 + 0.9 * i / 40)), 60)
        local light = 0.2126 * (r / 255) ^ 2.2 + 0.7152 * (g / 255) ^ 2.2 + 0.0722 * (b / 255) ^ 2.2
        assert(light >= last - 0.004, map .. " " .. i)
        last = light
      end
    end
    local zero = drawn(plot.figure { width = 3, height = 2 }:heatmap { values = { { -1, 0, 10 } }, map = "coolwarm", colorbar = false })
    assert(extent(zero, "#dddddd").n > 500 and extent(zero, "#b40426").n > 500)
  end)

  it("has a colour bar with numbers and a label, and a figure without either", function()
    local rows = { { 0, 250 }, { 500, 1000 } }
    local texts = plot.texts(plot.figure {}:heatmap { values = rows, colorbar = "score", x_labels = { "a", "b" }, y_labels = { "c", "d" } })
    for _, text in ipairs { "score", "0", "200", "1000", "a", "b", "c", "d" } do assert(has(texts, text), text) end
    texts = plot.texts(plot.figure {}:heatmap { values = rows, colorbar = false, x_labels = { "a", "b" }, y_labels = { "c", "d" } })
    assert.same({ "a", "b", "c", "d" }, (function() table.sort(texts) return texts end)())
  end)

  it("never loses a large value to the picture's resolution", function()
    for _, columns in ipairs { 3000, 50000 } do
      local tensor, at = massact.zeros(3, columns), math.floor(0.7 * columns)
      tensor:set(1, at, 1000)
      local picture = drawn(plot.figure { width = 4, height = 2 }:heatmap { values = tensor, colorbar = false })
      local seen = extent(picture, function(r, g, b) return r < 60 and g < 90 and b > 70 end)
      near(0.7, seen.x / picture.width, 0.04)
    end
  end)

  it("draws 3-D bars with marks at 0, half and maximum", function()
    local values = massact.zeros(3, 100)
    values:set(0, 47, 2480)
    local fig = plot.figure { title = "Layer 2", x_label = "Token", y_label = "Dim" }:bars3d { values = values, z_label = "|a|",
      x_labels = { plot.token("Summer", { massive = true }), plot.token " is", plot.token "." }, y_labels = { { 47, { text = "47", bold = true } } } }
    local texts = plot.texts(fig)
    for _, text in ipairs { "Layer 2", "Token", "Dim", "|a|", "Summer", "␣is", ".", "47", "0", "1240", "2480" } do assert(has(texts, text), text) end
    local picture = drawn(fig)
    local red = extent(picture, function(r, g, b) return r > 200 and g < 60 and b < 60 end)
    assert(red.x < picture.width / 2 and red.y > picture.height / 2, "the first token is at the lower left")
    local bar = extent(picture, "#4069e0")
    assert(bar.height > 0.3 * picture.height, "the massive one rises")
    local half = massact.zeros(3, 100)
    half:set(0, 47, 2480)
    half:set(2, 10, 1240)
    local both = extent(drawn(plot.figure { title = "Layer 2", x_label = "Token", y_label = "Dim" }:bars3d { values = half }), "#4069e0")
    assert(both.n > bar.n, "a second bar adds to the first")
    assert.has_error(function() plot.figure {}:bars3d { values = { { 1 } } }:line { x = { 1 }, y = { 1 } } end,
      "line: a figure with bars3d holds nothing else; make a figure for each and a grid of them")
  end)

  it("puts the legend where nothing is drawn", function()
    local label = { text = "LABEL", color = "#ff00ff" }
    local function place(empty, options)
      options = options or {}
      local fig, x, y = plot.figure { legend = options.legend, x_range = { 0, 1 }, y_range = { 0, 1 } }, {}, {}
      for i = 0, 40 do
        for k = 0, 40 do
          if not empty(i / 40, k / 40) then x[#x + 1], y[#y + 1] = i / 40, k / 40 end
        end
      end
      fig:scatter { x = x, y = y, label = label, color = "gray", alpha = 1 }
      local picture = drawn(fig)
      local at = extent(picture, function(r, g, b) return r > 180 and g < 120 and b > 180 end)
      return at.x / picture.width, at.y / picture.height
    end
    for _, corner in ipairs { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 } } do
      local x, y = place(function(px, py) return math.abs(px - corner[1]) < 0.35 and math.abs(py - corner[2]) < 0.3 end)
      assert((x > 0.5) == (corner[1] == 1) and (y < 0.5) == (corner[2] == 1), ("corner %g %g: %g %g"):format(corner[1], corner[2], x, y))
    end
    local _, above = place(function() return false end)
    assert(above < 0.12, "no corner is free: above the plot")
    local x, y = place(function() return false end, { legend = "bottom right" })
    assert(x > 0.6 and y > 0.6)
    assert(not has(plot.texts(plot.figure { legend = "none" }:line { x = { 1 }, y = { 1 }, label = "L" }), "L"))
  end)

  it("lays out a grid: shared axes, one legend, titles of panels", function()
    local figures = {}
    for i = 1, 6 do figures[i] = plot.figure { title = "Layer " .. i - 1 }:line { x = { 0, 1 }, y = { 0, 100 * i }, label = "top" } end
    local function texts(options) return plot.texts(plot.grid(figures, options)) end
    local apart = texts { columns = 3 }
    assert.equal(6, count(apart, "top"))
    assert.equal(6, count(apart, "0.4"))
    assert.equal(0, count(apart, "All"))
    local together = texts { columns = 3, share_x = true, share_y = true, legend = "shared", title = "All", x_label = "X", y_label = "Y" }
    for _, text in ipairs { "All", "X", "Y", "top" } do assert.equal(1, count(together, text), text) end
    assert.equal(3, count(together, "0.4"), "numbers of x below the lowest row")
    assert.equal(2, count(together, "600"), "numbers of y beside the first column")
    for i = 0, 5 do assert.equal(1, count(together, "Layer " .. i)) end
    -- Five in rows of three: the lowest of each column has the numbers.
    figures[6] = nil
    assert.equal(3, count(texts { columns = 3, share_x = true }, "0.4"))
    local picture = drawn(plot.grid(figures, { columns = 5, width = 10, height = 2 }))
    assert.same({ 720, 144 }, { picture.width, picture.height })
  end)

  it("makes tokens visible, and massive ones red and bold", function()
    assert.same({ text = "␣Winter" }, plot.token " Winter")
    assert.same({ text = "\\n\\t␣" }, plot.token "\n\t ")
    assert.same({ text = "a\\x00\\x1b" }, plot.token "a\0\27")
    assert.same({ text = "<empty>" }, plot.token "")
    assert.same({ text = "a<U+200B>" }, plot.token "a\u{200b}")
    assert.same({ text = "你好" }, plot.token "你好")
    assert.same({ text = "A", color = "red", bold = true }, plot.token("A", { massive = true }))
    local function ink(label)
      local picture = drawn(plot.figure { y_label = "y", height = 3 }:bars { labels = { label }, values = { 1 }, color = "#0000ff" })
      return extent(picture, function(r, g, b) return r > 150 and g < 120 and b < 120 end)
    end
    assert(ink({ text = "Summer", color = "red", bold = true }).n > 1.2 * ink({ text = "Summer", color = "red" }).n)
  end)

  it("spells what cannot be shown, never a box", function()
    local texts = plot.texts(plot.figure { title = "\xE4\xBD\7", x_label = "\u{10FFFE}" })
    assert(has(texts, "<0xE4><0xBD><0x07>"), table.concat(texts, "|"))
    assert(has(texts, "<U+10FFFE>"), table.concat(texts, "|"))
    -- The same for tokens that are bytes: as they are spelled.
    assert(has(plot.texts(plot.figure { title = plot.token "<0xE4>" }), "<0xE4>"))
  end)

  it("writes PNG, SVG and PDF, with where it comes from", function()
    local fig = plot.figure { width = 3, height = 2, title = "t" }:line { x = { 1, 2 }, y = { 1, 2 } }
    local picture = drawn(fig, { dpi = 100, metadata = { Source = "results.json", Title = "Überschrift" } })
    assert.same({ 300, 200 }, { picture.width, picture.height })
    assert.same({ Source = "results.json", Title = "Überschrift" }, picture.metadata)
    local function written(ending)
      local name = os.tmpname() .. ending
      fig:save(name, { metadata = { Title = "a title" } })
      local file <close> = assert(io.open(name, "rb"))
      local text = file:read "a"
      os.remove(name)
      return text
    end
    local svg = written ".svg"
    assert.matches("^<%?xml", svg)
    assert.matches("<svg[^>]+width=\"216", svg)
    assert.matches("</svg>%s*$", svg)
    assert(not svg:find "<image", "lines and text are drawn, not pasted")
    local pdf = written ".pdf"
    assert.matches("^%%PDF%-1", pdf)
    assert.matches("%%%%EOF%s*$", pdf)
    assert.matches("a title", pdf)
    assert.matches("Font", pdf)
  end)

  it("reads pixels that exist, of pictures that are whole", function()
    local picture = drawn(plot.figure {})
    assert.has_error(function() picture.pixel(picture.width, 0) end)
    assert.has_error(function() plot.read "/none/there.png" end)
    local file = assert(io.open(path, "rb"))
    local bytes = file:read "a"
    file:close()
    for _, n in ipairs { 0, 7, 8, 40, #bytes // 2, #bytes - 20 } do
      file = assert(io.open(path, "wb"))
      file:write(bytes:sub(1, n))
      file:close()
      local ok, message = pcall(plot.read, path)
      assert(not ok and message:find("is no picture that can be read", 1, true), tostring(message))
    end
  end)
end)

describe("plot, given anything", function()
  teardown(function() os.remove(path) end)
  local long = ("x"):rep(100000)
  local many = {}
  for i = 1, 100000 do many[i] = math.sin(i) end

  it("draws something", function()
    local figures = {
      empty = plot.figure {},
      ["empty lists"] = plot.figure {}:line { x = {}, y = {}, label = "l" }:scatter { x = {}, y = {} }:histogram { values = {} },
      ["NaN everywhere"] = plot.figure {}:line { x = { nan, nan }, y = { nan, nan }, low = { nan, nan }, high = { nan, nan }, marker = true }:hline { y = nan }:note { x = nan, y = nan, text = "t" },
      infinities = plot.figure {}:line { x = { 0, 1, 2 }, y = { inf, -inf, 1 }, marker = true }:hline { y = inf }:bars { labels = { "a" }, values = { inf }, errors = { nan } },
      ["one point"] = plot.figure {}:line { x = { 3 }, y = { 7 }, marker = true },
      ["equal values"] = plot.figure { y_scale = "log" }:line { x = { 1, 2 }, y = { 5, 5 } },
      ["zeros on symlog"] = plot.figure { y_scale = "symlog" }:line { x = { 1, 2 }, y = { 0, 0 } },
      ["negative on log"] = plot.figure { y_scale = "log", x_scale = "log" }:line { x = { -1, 2 }, y = { -5, -5 } }:bars { labels = { "a", "b" }, values = { -1, 10 } },
      ["the largest numbers"] = plot.figure {}:line { x = { 1, 2, 3 }, y = { -1.7e308, 0, 1.7e308 } },
      ["the smallest numbers"] = plot.figure { y_scale = "log", x_scale = "symlog" }:line { x = { -1e308, 0, 1e308 }, y = { 4e-324, 1, 1.7e308 } },
      ["numbers next to each other"] = plot.figure {}:line { x = { 1, 2 }, y = { 1, 1 + 2 ^ -52 } },
      ["huge labels"] = plot.figure { title = long, x_label = long, y_label = long }:bars { labels = { long, "b" }, values = { 1, 2 } }:line { x = { 1 }, y = { 1 }, label = long },
      ["100000 points"] = plot.figure {}:line { x = massact.arange(#many), y = many, label = "l" },
      ["one cell"] = plot.figure {}:heatmap { values = { { 3 } }, x_labels = { "a", "b", "c" }, y_labels = {} },
      ["no cell that is a number"] = plot.figure {}:heatmap { values = { { nan, -inf }, { nan } }, scale = "log" },
      ["rows of any length"] = plot.figure {}:heatmap { values = { { 1 }, { 1, inf, 3 }, {} } },
      ["bars of nothing"] = plot.figure {}:bars3d { values = { { nan, inf, -inf }, { 0 } }, z_label = long, x_labels = { long } },
      ["negative 3-D bars"] = plot.figure {}:bars3d { values = { { -7, 3 } } },
      tiny = plot.figure { width = 0.3, height = 0.3, title = "t", y_label = "y" }:line { x = { 1, 2 }, y = { 1, 2 }, label = "l" },
      ["a range far from the values"] = plot.figure { x_range = { 0, 1e-300 }, y_range = { 1e300, 1.1e300 } }:line { x = { 0, 1 }, y = { 0, 1 } },
      ["a range that falls"] = plot.figure { x_range = { 2, 1 } }:line { x = { 1, 2 }, y = { 1, 2 } },
    }
    local panels = {}
    for i = 1, 200 do panels[i] = plot.figure { title = "p" .. i }:line { x = { 1, 2 }, y = { 1, i }, label = "l" } end
    figures["200 panels"] = plot.grid(panels, { columns = 20, width = 20, height = 20, title = long, share_y = true })
    figures["a grid too small for its labels"] = plot.grid({ figures["huge labels"], figures["one cell"], figures["negative 3-D bars"] }, { width = 1, height = 1 })
    for name, figure in pairs(figures) do
      local ok, message = pcall(figure.save, figure, path, { dpi = 72 })
      assert(ok, ("%s: %s"):format(name, message))
      assert(#plot.read(path).bytes > 0, name)
    end
  end)

  it("or says in one line what is wrong", function()
    local function fig() return plot.figure {} end
    for message, wrong in pairs {
      ["figure: width is a number, not a string"] = function() plot.figure { width = "8" } end,
      ["a figure of 1e+09 x 5 inches is out of range: each is 0.2 to 1000"] = function() plot.figure { width = 1e9 }:save(path) end,
      ["a figure of -1 x 5 inches is out of range"] = function() plot.figure { width = -1 }:save(path) end,
      ["a picture of 0 x 0 pixels is out of range"] = function() fig():save(path, { dpi = 0 }) end,
      ["a picture of 28000 x 28000 pixels is too large"] = function() plot.figure { width = 28, height = 28 }:save(path, { dpi = 1000 }) end,
      ["'figure.jpg': a picture's name ends in .png, .svg or .pdf"] = function() fig():save "figure.jpg" end,
      ["cannot write '/none/there.svg': No such file or directory"] = function() fig():save "/none/there.svg" end,
      ["save: a path is wanted, not a nil"] = function() fig():save() end,
      ["save: metadata are texts by name"] = function() fig():save(path, { metadata = { "x" } }) end,
      ["line: there is no option 'colour'"] = function() fig():line { x = { 1 }, y = { 1 }, colour = "red" } end,
      ["line: no color 'blurple'; there are names such as blue, and #rrggbb"] = function() fig():line { x = { 1 }, y = { 1 }, color = "blurple" } end,
      ["line: style is one of: solid, dashed, dotted"] = function() fig():line { x = { 1 }, y = { 1 }, style = "wavy" } end,
      ["line: x has 3 values and y 2; they are of one length"] = function() fig():line { x = { 1, 2, 3 }, y = { 1, 2 } } end,
      ["line: x and y are wanted"] = function() fig():line { x = { 1 } } end,
      ["line: y is a list of numbers or a tensor of one dim"] = function() fig():line { x = { 1 }, y = massact.zeros(1, 1) } end,
      ["line: a band has both, low and high"] = function() fig():line { x = { 1 }, y = { 1 }, low = { 0 } } end,
      ["scatter: alpha is a number from 0 to 1"] = function() fig():scatter { x = { 1 }, y = { 1 }, alpha = 2 } end,
      ["bars: labels are wanted, one or more"] = function() fig():bars { values = { 1 } } end,
      ["histogram: bins is a number from 1 to 100000"] = function() fig():histogram { values = { 1 }, bins = 0 } end,
      ["histogram: a range goes from a low to a high number; this one is 5 .. 1"] = function() fig():histogram { values = { 1 }, range = { 5, 1 } } end,
      ["heatmap: values has no cells"] = function() fig():heatmap { values = {} } end,
      ["heatmap: values is a list of rows or a tensor of two dims"] = function() fig():heatmap { values = { 1, 2 } } end,
      ["heatmap: map is one of: YlGnBu, viridis, magma, cividis, coolwarm"] = function() fig():heatmap { values = { { 1 } }, map = "jet" } end,
      ["heatmap: a label is text or { text =, color =, bold = }, not a boolean"] = function() fig():heatmap { values = { { 1 } }, x_labels = { true } } end,
      ["figure: y_range is empty: { 5, 5 }"] = function() plot.figure { y_range = { 5, 5 } } end,
      ["figure: y_range is above 0 on a log scale"] = function() plot.figure { y_scale = "log", y_range = { 0, 1 } } end,
      ["figure: legend is one of: auto, none, above"] = function() plot.figure { legend = "somewhere" } end,
      ["hline: y is wanted, a number"] = function() fig():hline {} end,
      ["note: text is wanted"] = function() fig():note { x = 1, y = 1 } end,
      ["grid: a list of figures is wanted, one or more"] = function() plot.grid {} end,
      ["grid: item 2 is no figure"] = function() plot.grid { fig(), {} } end,
      ["grid: columns is a whole number, 1 or more"] = function() plot.grid({ fig() }, { columns = 0 }) end,
      ["texts: a figure or a grid is wanted"] = function() plot.texts {} end,
      ["token: a text is wanted, not a number"] = function() plot.token(3) end,
    } do
      local ok, said = pcall(wrong)
      assert(not ok, message)
      assert(said:find(message, 1, true), ("%s\nsaid: %s"):format(message, said))
      assert(not said:find "\n", said)
    end
  end)

  it("goes on after a mark that was wrong, without it", function()
    local fig = plot.figure { legend = "top left" }
    for _ = 1, 3 do pcall(fig.line, fig, { x = { 1, 2 }, y = { 1 }, label = "wrong" }) end
    fig:line { x = { 1, 2 }, y = { 1, 2 }, label = "right" }
    local texts = plot.texts(fig)
    assert(has(texts, "right") and not has(texts, "wrong"))
  end)
end)
