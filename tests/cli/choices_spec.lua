-- experiments/choices.lua from outside.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local choices = require "massact.choices"
local massact = require "massact"
local shell = require "shell"

describe("experiments/choices.lua", function()
  local folder = shell.folder()
  teardown(function() os.execute("rm -r " .. folder) end)
  local script = massact.home .. "/experiments/choices.lua"
  local results_in = folder .. "/model/model_layer_model.layers_self_attn_64_True_True_42/"

  it("tells how many are right, with and without the massive activations", function()
    local status, out, err = shell.massact(("run %s --limit 5 --context_length 64 --calibration_windows 2 --save_dir %s"):format(script, folder))
    assert.equal(0, status, err)
    local r, model = massact.json.load(results_in .. "choices.json"), massact.load(massact.home .. "/experiments/default/model")
    assert.equal(1, r.first_layer)
    assert.same({ "agreement", "endings", "last_words" }, { r.sets[1].name, r.sets[2].name, r.sets[3].name })
    for _, set in ipairs(r.sets) do
      local items = choices.load(massact.home .. "/experiments/default/choices/" .. set.name .. ".jsonl", 5)
      local plain = choices.evaluate(model, items, { bos = true })
      local patch <close> = model:point "layers.1.out":patch { positions = { 0 }, dims = r.dims, to = 0 }
      for key, want in pairs { original = plain, set_to_zero = choices.evaluate(model, items, { bos = true }) } do
        assert.equal(5, set[key].n)
        assert.equal(want.accuracy, set[key].accuracy)
        assert.near(want.mean_log_likelihood, set[key].mean_log_likelihood, 1e-6)
        assert.same(want.items[5].ids, table.move(set[key].items[5].ids, 1, #want.items[5].ids, 1, {}))
        assert.matches(("%s +%s +%s %%%% of 5 right"):format(set.name, key, ("%.1f"):format(100 * want.accuracy):gsub("%.", "%%.")), out)
      end
      assert(set.original.mean_log_likelihood > set.set_to_zero.mean_log_likelihood + 1)
    end
    local csv = shell.slurp(results_in .. "choices.csv")
    assert.matches("\nendings,,original,5,", csv)
    assert.matches("\nagreement,[%w_]+,set_to_zero,%d,", csv)
    local _, n_lines = shell.slurp(results_in .. "choices_items.csv"):gsub("\n", "")
    assert.equal(1 + 2 * (5 * 2 + 5 * 4 + 5), n_lines)
    -- Again from what was saved, without the model.
    os.remove(results_in .. "choices.csv")
    local again, same = shell.massact(("run %s --redraw %s"):format(script, results_in))
    assert.equal(0, again)
    assert.equal(out:match "^(.-)[^\n]*/: ", same:match "^(.-)[^\n]*/: ")
    assert.equal(csv, shell.slurp(results_in .. "choices.csv"))
  end)

  it("takes a user's own files, and refuses bad ones in one line", function()
    shell.spit(folder .. "/own.jsonl", '{"good": "He sat down.", "bad": "He sat dwon."}\n')
    local status, out = shell.massact(("run %s --items %s/own.jsonl --set_to_zero false --context_length 64 --save_dir %s"):format(script, folder, folder))
    assert.equal(0, status)
    assert.matches("^own +original +100.0 %% of 1 right", out)
    assert.is_nil(out:find "set_to_zero")
    shell.spit(folder .. "/own.jsonl", '{"good": "He sat down."}\n')
    local failed, _, err = shell.massact(("run %s --items %s/own.jsonl --set_to_zero false --save_dir %s"):format(script, folder, folder))
    assert.equal(1, failed)
    assert.matches("^massact: choices '.-/own.jsonl', line 1: a pair is 'good' and 'bad', two texts\n$", err)
  end)
end)
