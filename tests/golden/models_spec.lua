-- Every golden model gives what transformers gives, to 1e-4 of each tensor's largest magnitude.
package.path = os.getenv "MASSACT_TESTS" .. "/golden/?.lua;" .. package.path
local massact = require "massact"
local golden = require "compare"

for _, folder in ipairs(golden.folders()) do
  describe("golden model " .. folder.name, function()
    local model = massact.load(folder.path)
    local expected = massact.safetensors.load(folder.path .. "/expected.safetensors")
    local ids = expected["short.input_ids"]

    it("has the logits, loss, hidden states, module outputs, scores and probabilities", function()
      for _, which in ipairs { "long", "short" } do
        local errors = expected[which .. ".input_ids"] and golden.errors(model, expected, which) or {}
        for _, e in ipairs(errors) do assert(e[3] <= 1e-4, ("%s: relative error %g"):format(e[2], e[3])) end
        if which == "short" then assert(#errors > 6 * model.n_layers, "hardly anything was compared") end
      end
    end)

    it("is the same with the config.json of transformers 5", function()
      local copy = os.tmpname()
      os.remove(copy)
      massact.system.make_folder(copy)
      assert(os.execute(("cp %s/model*.safetensors* %s/ && cp %s/config.v5.json %s/config.json"):format(folder.path, copy, folder.path, copy)))
      assert.is_true(massact.load(copy):forward(ids, { logits = true }).logits == model:forward(ids, { logits = true }).logits)
      os.execute("rm -r " .. copy)
    end)

    it("gives for one token, and for a few, what it gives for the first of many", function()
      local all = model:forward(ids, { logits = true }).logits[0]
      for n = 1, 3 do
        local some = model:forward(ids:narrow(0, 0, n), { logits = true }).logits[0]
        assert(golden.relative_error(some, all:narrow(0, 0, n)) <= 1e-5, n .. " tokens")
        local watched = model:forward(ids:narrow(0, 0, n), { logits = true, capture = "layers.*.attn.probs" }).logits[0]
        assert.is_true(watched == some)
      end
    end)

    it("gives the same however it is looked at", function()
      local plain = model:forward(ids, { logits = true }).logits
      for _, point in ipairs(model:point_names()) do
        local hook <close> = model:point(point):hook(function() end)
        assert.is_true(model:forward(ids, { logits = true }).logits == plain, point)
      end
    end)

    it("keeps the identities of its residual stream", function()
      local spec = model.spec
      local out = model:forward(ids, { capture = { "layers.*.in", "layers.*.out", "layers.*.attn.out", "layers.*.mlp.out" } })
      local mids = not spec.parallel and model:forward(ids, { capture = "layers.*.mid" })
      for l = 0, model.n_layers - 1 do
        local layer = "layers." .. l
        local after_attention = out[layer .. ".in"] + out[layer .. ".attn.out"]
        if spec.parallel then
          assert.is_true(after_attention + out[layer .. ".mlp.out"] == out[layer .. ".out"])
          assert.has_error(function() model:point(layer .. ".mid") end)
        elseif not spec.norm_sum then -- OPT-350m normalises the sums
          assert.is_true(after_attention == mids[layer .. ".mid"])
          assert.is_true(mids[layer .. ".mid"] + out[layer .. ".mlp.out"] == out[layer .. ".out"])
        end
      end
    end)
  end)
end
