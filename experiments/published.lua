-- A run's results beside what the paper's authors published for the same model: measured, published, difference.
local massact = require "massact"
local published = require "massact.published"

local opt = massact.options({
  results = { "texts", help = "results.json of a run, or its folder; several: FILE,FILE" },
  model = { "string", help = "published model to compare with; default: the one that the results' model is called like" },
  published = { "string", default = massact.home .. "/experiments/published.json", help = "the published numbers" },
}, "Results beside the paper's.  Writes published.md, .csv and .png beside each results.json.")
if not opt.results then require("massact.options").usage_error("--results FILE wants the results.json of a run") end

local known = massact.json.load(opt.published)
for _, path in ipairs(opt.results) do
  if massact.system.is_folder(path) then path = path:gsub("/$", "") .. "/results.json" end
  local results = massact.json.load(path)
  local entry, name = published.entry(known, opt.model or tostring(results.model))
  if not entry then
    error(("%s: nothing is published for '%s'; --model takes one of %s"):format(path, opt.model or tostring(results.model),
      table.concat(published.names(known), ", ")), 0)
  end
  local bos = not (results.options and results.options.add_bos_token == false)
  local rows = published.rows(results, entry[bos and "bos" or "no_bos"])
  local title = ("%s, %s"):format(name, bos and "BOS first" or "no BOS")
  if #rows == 0 then error(("%s: holds nothing that is published for %s"):format(path, title), 0) end

  print(title)
  io.write(published.markdown(rows))
  for _, note in ipairs(published.caveats(results, entry[bos and "bos" or "no_bos"])) do print("note: " .. note) end
  local beside = path:gsub("[^/]*$", "published")
  massact.system.write(beside .. ".md", published.markdown(rows))
  massact.system.write(beside .. ".csv", published.csv(rows))
  local figure = published.figure(rows, title)
  if figure then figure:save(beside .. ".png") end
end
