-- Drawing: a figure is a list of marks, drawn when it is saved.
local core = require "massact.core"

local M = {}

---@class massact.Figure
local Figure = {}
Figure.__index = Figure

local palette = { "steelblue", "orange", "green", "red", "purple", "gray" }

local function check_keys(what, options, allowed)
  for key in pairs(options) do
    if not allowed[key] then error(("%s: there is no option '%s'"):format(what, tostring(key)), 3) end
  end
end

-- A list of numbers, from a list or a tensor of one dim.
local function numbers(values, what)
  if type(values) == "userdata" then values = values:totable() end
  if type(values) ~= "table" then error(what .. ": a list of numbers or a tensor is wanted", 3) end
  return values
end

local figure_options = { width = true, height = true, title = true, x_label = true, y_label = true, y_scale = true, integers = true }

---A new figure.  Sizes in inches (8 x 5); y_scale "linear" or "log"; integers: x ticks at whole numbers.
---@param options? table
---@return massact.Figure
function M.figure(options)
  options = options or {}
  check_keys("figure", options, figure_options)
  local scale = options.y_scale or "linear"
  if scale ~= "linear" and scale ~= "log" then error("figure: y_scale is linear or log", 2) end
  return setmetatable({ width = options.width, height = options.height, title = options.title, x_label = options.x_label,
    y_label = options.y_label, is_log = scale == "log", integers = options.integers, lines = {} }, Figure)
end

---A line through points.
---@param options {x: table, y: table, label?: string, color?: string, marker?: boolean}
function Figure:line(options)
  check_keys("line", options, { x = true, y = true, label = true, color = true, marker = true })
  self.lines[#self.lines + 1] = { x = numbers(options.x, "line: x"), y = numbers(options.y, "line: y"), label = options.label,
    color = options.color or palette[#self.lines % #palette + 1], marker = options.marker and true or false }
  return self
end

---Bars with their values written above: one list of values, or groups side by side.
---@param options {labels: string[], values?: table, groups?: {label: string, values: table, color?: string}[]}
function Figure:bars(options)
  check_keys("bars", options, { labels = true, values = true, groups = true, color = true })
  local groups = options.groups or { { values = options.values, color = options.color } }
  self.labels, self.groups = options.labels, {}
  for i, group in ipairs(groups) do
    self.groups[i] = { label = group.label, values = numbers(group.values, "bars: values"),
      color = group.color or palette[(i - 1) % #palette + 1] }
  end
  return self
end

---Draws the figure into a .png, .svg or .pdf file.
---@param path string
---@param options? {dpi?: number, metadata?: table<string, string>}
function Figure:save(path, options)
  options = options or {}
  local keys, pairs_list = {}, {}
  for key in pairs(options.metadata or {}) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do
    pairs_list[#pairs_list + 1] = key
    pairs_list[#pairs_list + 1] = options.metadata[key]
  end
  core.figure.save(path, self, options.dpi or 200, pairs_list)
end

return M
