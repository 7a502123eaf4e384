-- Texts from outside: the paper's names and packed files on the command line of an experiment.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local shell = require "shell"

describe("--data", function()
  local folder = shell.folder()
  local default = massact.home .. "/experiments/default/"
  teardown(function() os.execute("rm -r " .. folder) end)

  local function intervention(options)
    local status, _, err = shell.massact(("run %s/experiments/intervention.lua --windows 2 --calibration_windows 2 --mean_windows 2 "
      .. "--save_dir %s/out %s"):format(massact.home, folder, options))
    return status, err, status == 0 and massact.json.load(folder
      .. "/out/model/model_layer_model.layers_self_attn_256_True_True_42/results.json")
  end

  it("takes the paper's names, and says what to put where", function()
    local data = folder .. "/data"
    massact.system.make_folder(data)
    local status, err = intervention("--data wikitext --data_dir " .. data)
    assert.equal(2, status)
    assert.matches("^massact: no file for 'wikitext' in '.-/data': put wikitext%-2%-raw%-test.txt or [^\n]+\n$", err)

    local text = shell.slurp(default .. "text.txt")
    shell.spit(data .. "/wikitext-2-raw-test.txt", text)
    -- In two documents that are joined to the same text.
    local at = text:find("\n\n", #text // 2, true)
    shell.spit(data .. "/redpajama.jsonl", massact.json.text { body = text:sub(1, at - 1) } .. "\n" .. massact.json.text { body = text:sub(at + 2) })
    assert(os.execute("gzip " .. data .. "/redpajama.jsonl"))
    local named, plain
    status, err, named = intervention(("--data wikitext --calibration_data redpajama --field body --data_dir %s"):format(data))
    assert.equal(0, status, err)
    status, err, plain = intervention(("--data %stext.txt --calibration_data %stext.txt"):format(default, default))
    assert.equal(0, status, err)
    assert.equal(plain.perplexity.original.text, named.perplexity.original.wikitext)
    assert.same(plain.first_ids.calibration, named.first_ids.calibration)
    assert.equal(massact.system.sha256(data .. "/redpajama.jsonl.gz"), named.data_sha256[data .. "/redpajama.jsonl.gz"])
  end)
end)
