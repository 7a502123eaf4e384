-- Drawing.  A figure is two axes and a list of marks, a grid is figures side by side; both are drawn when they are saved.
-- Lists are Lua lists or tensors; NaN, nil and massact.null are gaps.  A label is text, or { text =, color =, bold = }.
-- Colours have names (steelblue, orange, green, red, purple, gray, black ...) or are "#rrggbb".
local core = require "massact.core"
local keyed = require "massact.keyed"
local token_text = require "massact.token_text"

local M = {}

---@alias massact.Numbers number[]|massact.Tensor
---@alias massact.Label string|number|{text: string, color?: string, bold?: boolean}

---@class massact.Figure
---@field handle userdata
---@field n_colored integer marks that took a colour of the palette
---@field cells? integer rows of a square heat map or of 3-D bars
local Figure = {}
Figure.__index = Figure

---@class massact.Grid
local Grid = {}
Grid.__index = Grid

local palette = { "steelblue", "orange", "green", "red", "purple", "gray", "teal", "brown", "navy", "pink", "olive", "gold" }

-- ---- checks: misspelt options are errors ----

local function set(words)
  local out = {}
  for word in words:gmatch "%S+" do out[word] = true end
  return out
end

local allowed = {
  figure = set "width height title x_label y_label x_scale y_scale x_range y_range x_ticks y_ticks integers legend",
  line = set "x y label color marker style width low high",
  scatter = set "x y label color size alpha",
  bars = set "labels values errors groups label color",
  ["bars: a group"] = set "label values errors color",
  histogram = set "values bins range label color alpha",
  heatmap = set "values x_labels y_labels map range scale colorbar square",
  bars3d = set "values x_labels y_labels z_label color",
  hline = set "y label color style",
  vline = set "x label color style",
  note = set "x y text color h",
  grid = set "columns title width height share_x share_y x_label y_label legend",
  save = set "dpi metadata",
  token = set "massive",
}

local function check(what, options)
  if type(options) ~= "table" then error(("%s: a table of options is wanted, not a %s"):format(what, type(options)), 3) end
  for key in pairs(options) do
    if not allowed[what][key] then error(("%s: there is no option '%s'"):format(what, tostring(key)), 3) end
  end
  return options
end

-- ---- figures ----

---A new figure.  Sizes are inches; the axes hold what the marks show unless a range says otherwise; symlog is a log scale
---on both sides of zero; integers: ticks of x at whole numbers; ticks: labels at 0, 1, ... or { place, label } each, instead
---of numbers; the legend goes where it hides least ("auto"), to a corner ("top right"), "above" the plot, or nowhere ("none").
---@param options? {width?: number, height?: number, title?: massact.Label, x_label?: massact.Label, y_label?: massact.Label, x_scale?: "linear"|"log"|"symlog", y_scale?: "linear"|"log"|"symlog", x_range?: number[], y_range?: number[], x_ticks?: table, y_ticks?: table, integers?: boolean, legend?: string}
---@return massact.Figure
function M.figure(options)
  return setmetatable({ handle = core.figure.new(check("figure", options or {})), n_colored = 0 }, Figure)
end

-- The colour asked for, or the next of the palette.
local function color_of(figure, color)
  if color then return color end
  figure.n_colored = figure.n_colored + 1
  return palette[(figure.n_colored - 1) % #palette + 1]
end

---A line through points; `low` and `high` make a band around it.
---@param options {x: massact.Numbers, y: massact.Numbers, label?: massact.Label, color?: string, marker?: boolean, style?: "solid"|"dashed"|"dotted", width?: number, low?: massact.Numbers, high?: massact.Numbers}
---@return massact.Figure
function Figure:line(options)
  check("line", options)
  core.figure.add(self.handle, "line", keyed.merged(options, { color = color_of(self, options.color) }))
  return self
end

---Points; `size` is their diameter in points, `alpha` 0 (clear) to 1.
---@param options {x: massact.Numbers, y: massact.Numbers, label?: massact.Label, color?: string, size?: number, alpha?: number}
---@return massact.Figure
function Figure:scatter(options)
  check("scatter", options)
  core.figure.add(self.handle, "scatter", keyed.merged(options, { color = color_of(self, options.color) }))
  return self
end

---Bars with their values written on them: one list of values, or groups side by side; `errors` are half lengths.
---@param options {labels: massact.Label[], values?: massact.Numbers, errors?: massact.Numbers, color?: string, groups?: {label: massact.Label, values: massact.Numbers, errors?: massact.Numbers, color?: string}[]}
---@return massact.Figure
function Figure:bars(options)
  check("bars", options)
  local groups = {}
  local one = { values = options.values, errors = options.errors, color = options.color, label = options.label }
  for i, group in ipairs(options.groups or { one }) do
    check("bars: a group", group)
    groups[i] = keyed.merged(group, { color = color_of(self, group.color) })
  end
  core.figure.add(self.handle, "bars", { labels = options.labels, groups = groups })
  return self
end

---How many of the values lie in each of `bins` bins of one width (of one ratio where x is on a log scale); counts on a log
---scale are the figure's y_scale.
---@param options {values: massact.Numbers, bins?: integer, range?: number[], label?: massact.Label, color?: string, alpha?: number}
---@return massact.Figure
function Figure:histogram(options)
  check("histogram", options)
  core.figure.add(self.handle, "histogram", keyed.merged(options, { color = color_of(self, options.color) }))
  return self
end

-- Rows and columns of a list of rows or a tensor.
local function size_of(values)
  if type(values) == "userdata" then return table.unpack(values:shape()) end
  return #values, type(values[1]) == "table" and #values[1] or 0
end

---A cell for each element, row 0 on top; NaN and minus infinity are masked.  Labels at 0, 1, ... or { place, label } each.
---The colours go from the least to the largest value (coolwarm: as far below zero as above) unless a range says otherwise;
---colorbar: true, its label, or false.  Cells are square where rows and columns are as many, unless `square` says otherwise.
---@param options {values: number[][]|massact.Tensor, x_labels?: table, y_labels?: table, map?: "YlGnBu"|"viridis"|"magma"|"cividis"|"coolwarm", range?: number[], scale?: "linear"|"log"|"symlog", colorbar?: boolean|massact.Label, square?: boolean}
---@return massact.Figure
function Figure:heatmap(options)
  check("heatmap", options)
  local square, bar = options.square, options.colorbar
  if square == nil and (type(options.values) == "table" or type(options.values) == "userdata") then
    local rows, columns = size_of(options.values)
    square = rows == columns
    self.cells = square and rows or nil
  end
  core.figure.add(self.handle, "heatmap", keyed.merged(options, { square = square, has_bar = bar ~= false,
    bar_label = type(bar) ~= "boolean" and bar or nil }))
  return self
end

---A bar for each element over a floor of rows (tokens, from the left) and columns (dims, into the picture); the height is
---marked at 0, half and maximum.  Labels at 0, 1, ... or { place, label } each, numbers where there are none.
---@param options {values: number[][]|massact.Tensor, x_labels?: table, y_labels?: table, z_label?: massact.Label, color?: string}
---@return massact.Figure
function Figure:bars3d(options)
  check("bars3d", options)
  self.cells = (type(options.values) == "table" or type(options.values) == "userdata") and #options.values or nil
  core.figure.add(self.handle, "bars3d", keyed.merged(options, { color = options.color or "royalblue" }))
  return self
end

---A line across the plot at a height.
---@param options {y: number, label?: massact.Label, color?: string, style?: "solid"|"dashed"|"dotted"}
---@return massact.Figure
function Figure:hline(options)
  check("hline", options)
  core.figure.add(self.handle, "rule", keyed.merged(options, { color = options.color or "gray", vertical = false }))
  return self
end

---A line up the plot.
---@param options {x: number, label?: massact.Label, color?: string, style?: "solid"|"dashed"|"dotted"}
---@return massact.Figure
function Figure:vline(options)
  check("vline", options)
  core.figure.add(self.handle, "rule", keyed.merged(options, { color = options.color or "gray", vertical = true }))
  return self
end

---Text at a point of the plot, which it begins at (h = "left"), is centred on ("center") or ends at ("right").
---@param options {x: number, y: number, text: massact.Label, color?: string, h?: "left"|"center"|"right"}
---@return massact.Figure
function Figure:note(options)
  core.figure.add(self.handle, "note", check("note", options))
  return self
end

-- ---- grids ----

-- Inches of a panel by itself: heat maps and 3-D bars as large as the labels of their rows need.
local function panel_size(figures)
  local cells
  for _, figure in ipairs(figures) do cells = math.max(cells or 0, figure.cells or 0) end
  if not cells or cells == 0 then return 3.2, 2.7 end
  local side = math.min(math.max(0.11 * cells + 1.2, 2.9), 7)
  return 1.08 * side, side
end

---Figures as panels of one page, row by row, their plots of one size; `share_x` and `share_y` give them one range and leave
---out the labels inside the grid; legend = "shared": one above all.
---@param figures massact.Figure[]
---@param options? {columns?: integer, title?: massact.Label, width?: number, height?: number, share_x?: boolean, share_y?: boolean, x_label?: massact.Label, y_label?: massact.Label, legend?: "shared"}
---@return massact.Grid
function M.grid(figures, options)
  options = check("grid", options or {})
  if type(figures) ~= "table" or #figures == 0 then error("grid: a list of figures is wanted, one or more", 2) end
  local handles = {}
  for i, figure in ipairs(figures) do
    if getmetatable(figure) ~= Figure then error(("grid: item %d is no figure"):format(i), 2) end
    handles[i] = figure.handle
  end
  local columns = options.columns or math.min(4, #figures)
  if math.type(columns) ~= "integer" or columns < 1 then error("grid: columns is a whole number, 1 or more", 2) end
  columns = math.min(columns, #figures)
  local width, height = panel_size(figures)
  return setmetatable({ page = keyed.merged(options, { figures = handles, columns = columns, width = options.width or width * columns,
    height = options.height or height * math.ceil(#figures / columns) + (options.title and 0.5 or 0) }) }, Grid)
end

-- ---- files ----

local function page_of(drawing, what)
  local class = getmetatable(drawing)
  if class == Grid then return drawing.page end
  if class ~= Figure then error(what .. ": a figure or a grid is wanted", 3) end
  return { figures = { drawing.handle } }
end

local function save(drawing, path, options)
  options = check("save", options or {})
  local keys, pairs_list = {}, {}
  for key, value in pairs(options.metadata or {}) do
    if type(key) ~= "string" or (type(value) ~= "string" and type(value) ~= "number") then
      error("save: metadata are texts by name", 3)
    end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    pairs_list[#pairs_list + 1] = key
    pairs_list[#pairs_list + 1] = tostring(options.metadata[key])
  end
  core.figure.save(path, page_of(drawing, "save"), options.dpi or 200, pairs_list)
end

---Draws the figure into a .png (of `dpi` dots an inch, 200), .svg or .pdf file; metadata go into a PNG's text chunks.
---@param path string
---@param options? {dpi?: number, metadata?: table<string, string>}
function Figure:save(path, options) save(self, path, options) end

---Draws the grid into a file, as a figure is.
---@param path string
---@param options? {dpi?: number, metadata?: table<string, string>}
function Grid:save(path, options) save(self, path, options) end

-- ---- tokens ----

-- White space and invisible characters, as a reader sees them.
local visible = { [" "] = "\u{2423}" }
for _, code in ipairs { 0xA0, 0xAD, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2028, 0x2029, 0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x2060, 0xFEFF } do
  visible[utf8.char(code)] = ("<U+%04X>"):format(code)
end

---A token's text as a label: spaces and line ends are visible, massive tokens are bold and red.
---@param text string
---@param options? {massive?: boolean}
---@return {text: string, color?: string, bold?: boolean}
function M.token(text, options)
  options = check("token", options or {})
  if type(text) ~= "string" then error("token: a text is wanted, not a " .. type(text), 2) end
  if text == "" then text = "<empty>" end
  local shown = utf8.len(text) and text:gsub(utf8.charpattern, visible) or text:gsub(" ", visible)
  return { text = token_text.escaped(shown), color = options.massive and "red" or nil, bold = options.massive and true or nil }
end

-- ---- for tests ----

---Every string that a figure or grid draws, in the order of drawing.
---@param drawing massact.Figure|massact.Grid
---@return string[]
function M.texts(drawing) return core.figure.texts(page_of(drawing, "texts")) end

---@class massact.Picture
---@field width integer pixels
---@field height integer
---@field metadata table<string, string>
---@field bytes string red, green, blue of each pixel, row by row
---@field pixel fun(x: integer, y: integer): integer, integer, integer red, green and blue, 0 to 255; x and y count from 0, from the top left

---A PNG as it was written.
---@param path string
---@return massact.Picture
function M.read(path)
  local width, height, bytes, metadata = core.figure.read(path)
  return { width = width, height = height, bytes = bytes, metadata = metadata, pixel = function(x, y)
    if x < 0 or y < 0 or x >= width or y >= height then error(("pixel (%d, %d): the picture has %d x %d"):format(x, y, width, height), 2) end
    return bytes:byte(3 * (y * width + x) + 1, 3 * (y * width + x) + 3)
  end }
end

return M
