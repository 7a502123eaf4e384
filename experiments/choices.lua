-- Which of several texts does the model find most likely, with and without its massive activations?  Items as LAMBADA (Paperno et al. 2016),
-- HellaSwag (Zellers et al. 2019) and BLiMP (Warstadt et al. 2020) have them, scored as by lm-evaluation-harness; massact.choices.
local choices = require "massact.choices"
local keyed = require "massact.keyed"
local massact = require "massact"
local paper = require "massact.paper"

local sets = massact.home .. "/experiments/default/choices/"
local opt = massact.options(paper.options {
  items = { "texts", default = { sets .. "agreement.jsonl", sets .. "endings.jsonl", sets .. "last_words.jsonl" },
    help = "files of JSON lines: {context, choices, answer}, {good, bad} or {text}, whose last word counts" },
  limit = { "integer", default = 0, help = "items of each file; 0: all" },
  set_to_zero = { "boolean", default = true, help = "measure with the massive activations at position 0 set to zero as well" },
}, "Multiple choice by likelihood, with and without the massive activations.")
local run = massact.run(opt)

local results = run:results(function(model)
  local found = opt.set_to_zero and massact.detect(model, run:calibration(), { label = "detection", journal = run.journal }) or {}
  local out = { first_layer = found.first_layer, dims = found.dims, sets = massact.json.array() }
  for i, path in ipairs(opt.items) do
    local items = choices.load(path, opt.limit)
    local set = { name = massact.data.stem(path), path = path, sha256 = massact.system.sha256(path) }
    local function measure(key)
      set[key] = choices.evaluate(model, items, { bos = opt.add_bos_token, journal = run.journal,
        label = ("%s %.8s, %s"):format(set.name, set.sha256, key) })
    end
    measure "original"
    if found.first_layer then
      local patch <close> = model:point(("layers.%d.out"):format(found.first_layer)):patch { positions = { 0 }, dims = found.dims, to = 0 }
      measure "set_to_zero"
    end
    out.sets[i] = set
  end
  return out
end)

local rows, items = {}, {}
for _, set in ipairs(results.sets) do
  for _, key in ipairs { "original", "set_to_zero" } do
    local seen = set[key]
    if seen then
      local function row(group, r)
        rows[#rows + 1] = { set.name, group, key, r.n, r.accuracy, r.accuracy_error, r.accuracy_norm, r.chance, r.mean_log_likelihood, r.perplexity }
      end
      run:say("%-14s %-12s %5.1f %% of %d right (normalised %.1f %%, guessing %.1f %%)%s", set.name, key, 100 * seen.accuracy, seen.n,
        100 * seen.accuracy_norm, 100 * seen.chance, seen.perplexity and (", perplexity of a last word %.4g"):format(seen.perplexity) or "")
      row("", seen)
      for _, group in ipairs(keyed.keys(seen.groups or {})) do row(group, seen.groups[group]) end
      for i, item in ipairs(seen.items) do
        for c, choice in ipairs(item.choices) do
          items[#items + 1] = { set.name, key, i, item.group, item.context, choice, tostring(c - 1 == item.answer), item.scores[c], item.n_tokens[c] }
        end
      end
    end
  end
end
run:csv("choices.csv", { "set", "group", "intervention", "items", "accuracy", "standard_error", "accuracy_normalised", "chance",
  "mean_log_likelihood", "perplexity" }, rows)
run:csv("choices_items.csv", { "set", "intervention", "item", "group", "context", "choice", "is_answer", "log_likelihood", "tokens" }, items)
run:finish()
