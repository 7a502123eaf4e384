-- Every model under tests/golden/models gives what transformers gives, to 1e-4 of each tensor's largest magnitude.
local massact = require "massact"
local folder = os.getenv "MASSACT_TESTS" .. "/golden/models"

-- Largest difference over the largest magnitude; NaN where anything is.
local function relative_error(got, expected)
  return (got - expected):abs():max():item() / expected:abs():max():item()
end

local function check(what, got, expected)
  local e = relative_error(got, expected)
  assert(e <= 1e-4, ("%s: relative error %g"):format(what, e))
end

-- Packed lower triangles [H, T(T+1)/2] of expected probabilities against [H, T, T].
local function check_packed(what, got, packed)
  local heads, t = got:size(0), got:size(1)
  local largest = 0
  for h = 0, heads - 1 do
    for q = 0, t - 1 do
      local here, there = got[h][q]:narrow(0, 0, q + 1), packed[h]:narrow(0, q * (q + 1) // 2, q + 1)
      local e = (here - there):abs():max():item()
      assert(e == e, what .. ": NaN")
      largest = math.max(largest, e)
      if q + 1 < t then assert.equal(0, got[h][q]:narrow(0, q + 1, t - q - 1):abs():max():item()) end
    end
  end
  assert(largest <= 1e-4, ("%s: error %g"):format(what, largest))
end

for _, name in ipairs(massact.system.list(folder)) do
  describe("golden model " .. name, function()
    local model = massact.load(folder .. "/" .. name)
    local expected = massact.safetensors.load(folder .. "/" .. name .. "/expected.safetensors")
    for _, which in ipairs { "long", "short" } do
      local function e(key) return expected[which .. "." .. key] end
      local ids = e "input_ids"

      it("has the logits, loss and hidden states of the " .. which .. " sequence", function()
        local out = model:forward(ids, { logits = true, loss = true,
          capture = { "embed", "layers.*.out", "layers.*.attn.proj", "layers.*.mlp.proj", "final.norm" } })
        check("logits", out.logits[0], e "logits")
        assert(math.abs(out.loss - e "loss":get(0)) <= 1e-4)
        check("embed", out.embed[0], e "hidden"[0])
        for l = 0, model.n_layers - 1 do
          local layer = "layers." .. l
          check(layer .. ".out", out[layer .. ".out"][0], e "hidden"[l + 1])
          check(layer .. ".attn.proj", out[layer .. ".attn.proj"][0], e "attn_out"[l])
          check(layer .. ".mlp.proj", out[layer .. ".mlp.proj"][0], e "mlp_out"[l])
        end
        check("final.norm", out["final.norm"][0], e "final")
      end)

      it("has the attention probabilities of the " .. which .. " sequence", function()
        local out = model:forward(ids, { capture = "layers.*.attn.probs" })
        for l = 0, model.n_layers - 1 do
          check_packed("probs of layer " .. l, out["layers." .. l .. ".attn.probs"][0], e "probs"[l])
        end
      end)
    end

    it("is the same with the config.json of transformers 5", function()
      local copy = os.tmpname()
      os.remove(copy)
      massact.system.make_folder(copy)
      assert(os.execute(("cp %s/%s/*.safetensors %s/ && cp %s/%s/config.v5.json %s/config.json"):format(folder, name, copy, folder, name, copy)))
      local ids = expected["short.input_ids"]
      assert.is_true(massact.load(copy):forward(ids, { logits = true }).logits == model:forward(ids, { logits = true }).logits)
      os.execute("rm -r " .. copy)
    end)

    it("gives the same however it is looked at", function()
      local ids = expected["short.input_ids"]
      local plain = model:forward(ids, { logits = true }).logits
      for _, point in ipairs(model:point_names()) do
        local hook <close> = model:point(point):hook(function() end)
        assert.is_true(model:forward(ids, { logits = true }).logits == plain, point)
      end
    end)

    it("keeps the identities of its residual stream", function()
      local out = model:forward(expected["short.input_ids"],
        { capture = { "layers.*.in", "layers.*.mid", "layers.*.out", "layers.*.attn.out", "layers.*.mlp.out" } })
      for l = 0, model.n_layers - 1 do
        local layer = "layers." .. l
        assert.is_true(out[layer .. ".in"] + out[layer .. ".attn.out"] == out[layer .. ".mid"])
        assert.is_true(out[layer .. ".mid"] + out[layer .. ".mlp.out"] == out[layer .. ".out"])
      end
    end)
  end)
end
