-- experiments/published.lua: a run's results beside the paper's.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local published = require "massact.published"
local shell = require "shell"
local known = massact.json.load(massact.home .. "/experiments/published.json")

local function run(options)
  local status, printed, complained = shell.massact(("run %s/experiments/published.lua %s"):format(massact.home, options))
  return status, printed .. complained
end

describe("experiments/published.lua", function()
  local folder = shell.folder()
  teardown(function() os.execute("rm -r " .. folder) end)

  it("finds models by the names that people give them", function()
    local names = { gpt2 = "gpt2", ["openai-community/gpt2"] = "gpt2", ["gpt2-f16"] = "gpt2", ["meta-llama/Llama-2-7b-hf"] = "Llama-2-7b-hf",
      ["Mistral-7B-v0.3"] = "Mistral-7B-v0.3", ["gemma-3-1b-pt.Q8_0"] = "gemma-3-1b-pt", ["opt-6.7b"] = "opt-6.7b" }
    for name, key in pairs(names) do assert.equal(key, select(2, published.entry(known, name)), name) end
    assert.is_nil(published.entry(known, "SmolLM2-135M"))
  end)

  it("is at no difference from the published numbers themselves", function()
    for name, entry in pairs(known) do
      for bos, e in pairs(entry) do
        local results = { perplexity = e.perplexity, dims = e.tokens and e.tokens.dims, first_layer = e.tokens and e.tokens.first_layer,
          magnitude_at_first_layer = e.tokens and e.tokens.magnitude_at_first_layer_by_position }
        if e.existence then
          results.mean_max = {}
          for layer = 0, 80 do results.mean_max[layer + 1] = e.existence[tostring(layer)] or 0 end
        end
        local rows = published.rows(results, e)
        assert(#rows > 0 or name == "OLMo-2-1124-7B", name)
        for _, row in ipairs(rows) do
          local difference = published.difference(row)
          assert(difference == "same" or difference == "+0.00 %", ("%s %s: %s %s"):format(name, bos, row.what, difference))
        end
      end
    end
  end)

  it("prints, tabulates and draws measured, published and difference", function()
    massact.json.save(folder .. "/results.json", { model = "gpt2", dtype = "bf16", first_layer = 3, dims = { 447 },
      options = { add_bos_token = true, context_length = 512, windows = 4 },
      perplexity = { original = { ["wikitext-2-raw-test"] = 30.5 }, set_to_zero = { ["wikitext-2-raw-test"] = 33 } } })
    local code, text = run("--results " .. folder)
    assert.equal(0, code, text)
    assert.matches("| original, wikitext | 30.5 | 30.4241 | +0.25 % |", text, 1, true)
    assert.matches("| first layer | 3 | 2 | +1 |", text, 1, true)
    assert.matches("note: context length 512 here, 1024 there", text, 1, true)
    for _, file in ipairs { "published.md", "published.csv", "published.png" } do
      assert.is_true(massact.system.exists(folder .. "/" .. file), file)
    end
  end)

  it("says what it wants where it is asked amiss", function()
    local code, text = run ""
    assert.equal(2, code)
    assert.matches("^massact: %-%-results FILE wants", text)
    massact.json.save(folder .. "/results.json", { model = "nobody's" })
    code, text = run("--results " .. folder .. "/results.json")
    assert.equal(1, code)
    assert.matches("nothing is published for 'nobody's'; %-%-model takes one of Llama", text)
    code, text = run("--model gpt2 --results " .. folder .. "/results.json")
    assert.equal(1, code)
    assert.matches("holds nothing that is published for gpt2, BOS first", text)
  end)
end)
