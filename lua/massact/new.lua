-- massact new NAME: a commented script to start from.
local core = require "massact.core"
local options = require "massact.options"

local M = {}

local template = [==[
-- NAME: what does the model lose without the output of one layer's MLP?  (Change this line: massact list shows it.)
--
--   massact run NAME.lua --help
--   massact run NAME.lua --pretrained MODEL --data TEXT
local massact = require "massact"
local paper = require "massact.paper"
local plot = require "massact.plot"

-- Options: the ones that every experiment has (the model, texts, windows, where results go ...), and our own.
local opt = massact.options(paper.options {
  windows = { "integer", default = 4, help = "evaluation windows a text; 0: all" },
  scale = { "number", default = 0, help = "what each MLP's output is multiplied by" },
}, "Perplexity with one layer's MLP scaled, layer by layer.")

-- A run loads the model and makes the output folder.  What is measured goes into a table, which is saved with all that
-- made it; `massact run NAME.lua --redraw FOLDER` draws from it again, without the model.
local run = massact.run(opt)
local results = run:results(function(model)
  local text = run:texts()[1]
  local without = {}
  for layer = 0, model.n_layers - 1 do
    -- A point is a named place in the pass; `massact info MODEL` lists them.  A patch is a write described as data, here for
    -- all positions and dims; it ends with the block.
    local patch <close> = model:point(("layers.%d.mlp.out"):format(layer)):patch { scale = opt.scale }
    without[layer + 1] = massact.perplexity(model, text.windows)
  end
  -- A hook is a function that sees the live tensor [B T D] and may write to it.
  local largest = {}
  local hook <close> = model:point("layers.*.out"):hook(function(x, at) largest[at.layer + 1] = x:abs():max():item() end)
  local original = massact.perplexity(model, { text.windows[1] })
  return { text = text.name, perplexity = massact.perplexity(model, text.windows), first_window = original, without = without,
    largest = largest }
end)

-- From here on only `results` is used.
local labels, rows = {}, {}
for l, perplexity in ipairs(results.without) do
  labels[l], rows[l] = tostring(l - 1), { l - 1, perplexity, results.largest[l] }
end
run:say("perplexity %.4g; largest without one MLP %.4g", results.perplexity, math.max(table.unpack(results.without)))
run:csv("NAME.csv", { "layer", "perplexity", "largest_activation" }, rows)
local figure = plot.figure { title = results.model, x_label = "Layer without its MLP", y_label = "Perplexity", y_scale = "log" }
run:draw("NAME.png", figure:bars { labels = labels, values = results.without })
run:finish()
]==]

---The command.
function M.main(name, more)
  if name == "--help" or name == "-h" then return print "massact new NAME: writes NAME.lua, a commented script to start from" end
  if not name or more then options.usage_error("new wants one name") end
  local path = name:gsub("%.lua$", "") .. ".lua"
  local plain = path:match("([^/]*)%.lua$")
  if not plain:match "^[%w_][%w_%-]*$" then options.usage_error("new: '%s' is no name of letters, digits, _ and -", plain) end
  if core.system.exists(path) then error(("'%s' is there already; massact new writes over nothing"):format(path), 0) end
  core.system.write(path, (template:gsub("NAME", (plain:gsub("%%", "%%%%")))))
  print(("%s is written; try massact run %s"):format(path, path))
end

return M
