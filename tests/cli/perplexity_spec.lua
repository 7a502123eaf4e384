-- experiments/perplexity.lua from outside.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local shell = require "shell"

it("perplexity: each protocol's number, with BOS as asked", function()
  local folder = shell.folder()
  local status, out, err = shell.massact(("run %s/experiments/perplexity.lua --context_length 64 --windows 3 --add_bos_token false --save_dir %s"):format(
    massact.home, folder))
  assert.equal(0, status, err)
  local r = massact.json.load(folder .. "/model/model_layer_model.layers_self_attn_64_False_True_42/perplexity.json")
  os.execute("rm -r " .. folder)
  local model = massact.load(massact.home .. "/experiments/default/model")
  local text = massact.data.read(massact.home .. "/experiments/default/text.txt")
  for _, name in ipairs { "paper", "llama.cpp", "lm-eval" } do
    local want = require("massact.perplexity").of_text(model, text, { protocol = name, context_length = 64, windows = 3, bos = false })
    local got = r.texts[1].by_protocol[name].original
    assert.near(want.perplexity, got.perplexity, 1e-9)
    assert.equal(want.n_scored, got.n_scored)
    assert.same(want.first_ids, table.move(got.first_ids, 1, 16, 1, {}))
    assert.matches(("%s +original +perplexity %.5g over %d tokens"):format(name:gsub("%W", "%%%0"), want.perplexity, want.n_scored), out)
  end
  assert.is_nil(r.texts[1].by_protocol.paper.set_to_zero) -- without BOS nothing is massive in this model
end)
