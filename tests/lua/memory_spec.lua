-- Memory is told before a pass as it is afterwards, and a pass in its steady state takes no more.
local massact = require "massact"
local memory = require "massact.memory"
local golden = os.getenv "MASSACT_TESTS" .. "/golden/models/"

describe("the memory of a pass", function()
  for _, name in ipairs { "gpt2", "llama-3", "gemma-3", "pythia", "falcon-11b", "mixtral", "olmo-2" } do
    it("is as estimated for " .. name, function()
      local model, ids = massact.load(golden .. name), {}
      for i = 1, 100 do
        ids[i] = {}
        for t = 1, 100 do ids[i][t] = (i * t) % 300 end
      end
      for _ = 1, 2 do model:forward(ids, { stop_at = "final.norm" }) end
      local estimate, taken = memory.estimate(model, 10000).pass, model:pass_bytes()
      -- Blocks of the first pass are not filled to the brim; experts are chosen unevenly.
      assert(taken > 0.75 * estimate and taken < 2 * estimate, ("%d of %d"):format(taken, estimate))
      for _ = 1, 3 do model:forward(ids, { stop_at = "final.norm" }) end
      assert.equal(taken, model:pass_bytes())
    end)
  end
end)
