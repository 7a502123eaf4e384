-- Models trained with attention KV bias, Dynamic Tanh or both give what a PyTorch implementation of these gives, to 1e-4 of each
-- tensor's largest magnitude; in the shared data also the hybrids.
package.path = os.getenv "MASSACT_TESTS" .. "/cli/?.lua;" .. package.path
local massact = require "massact"
local shell = require "shell"

local folders = {}
local function add(path, layout)
  for _, name in ipairs(massact.system.exists(path) and massact.system.list(path) or {}) do
    folders[#folders + 1] = { name = name, path = path .. "/" .. name, prefixes = layout }
  end
end
add(os.getenv "MASSACT_TESTS" .. "/golden/mitigations", { "long.", "short." })
local shared = os.getenv "MASSACT_SHARED"
if shared then
  add(shared .. "/golden/mitigations", { "long.", "short." })
  add(shared .. "/golden/more/mitigations", { "" })
end

local function near(what, got, expected)
  local error_of = (got - expected):abs():max():item() / expected:abs():max():item()
  assert(error_of <= 1e-4, ("%s: relative error %g"):format(what, error_of))
end

-- The lower triangle of [H, T, T + E] from column E on, packed as in the golden data: row q holds keys 0 .. q.
local function packed(t, extra)
  local rows = {}
  for q = 0, t:size(1) - 1 do rows[q + 1] = t:narrow(1, q, 1):narrow(2, extra, q + 1):reshape(t:size(0), q + 1) end
  return massact.cat(rows, 1)
end

-- What the extra column is compared with: [L, H, T].
local function extra_column(t) return t:narrow(2, 0, 1):reshape(t:size(0), t:size(1)) end

for _, folder in ipairs(folders) do
  describe("mitigated model " .. folder.name, function()
    local model, expected = massact.load(folder.path), massact.safetensors.load(folder.path .. "/expected.safetensors")
    local extra = model.spec.kv_bias and 1 or 0

    it("has the logits, loss, hidden states, module outputs and probabilities", function()
      for _, prefix in ipairs(folder.prefixes) do
        local function want(key) return expected[prefix .. key] end
        local out = model:forward(want "input_ids", { logits = true, loss = true,
          capture = { "layers.*.out", "layers.*.attn.proj", "layers.*.mlp.proj", "layers.*.attn.probs", "layers.*.attn.scores", "final.norm" } })
        near("logits", out.logits[0], want "logits")
        assert.near(want "loss":item(), out.loss, 1e-5)
        if want "final" then near("final.norm", out["final.norm"][0], want "final") end
        local n_compared = 0
        local function compare(key, got, there)
          if not there then return end
          near(key, got, there)
          n_compared = n_compared + 1
        end
        for l = 0, model.n_layers - 1 do
          local at = "layers." .. l
          local probs = out[at .. ".attn.probs"][0]
          compare(at .. ".out", out[at .. ".out"][0], want "hidden" and want "hidden"[l + 1] or want(at .. ".out"))
          compare(at .. ".attn.proj", out[at .. ".attn.proj"][0], want "attn_out" and want "attn_out"[l])
          compare(at .. ".mlp.proj", out[at .. ".mlp.proj"][0], want "mlp_out" and want "mlp_out"[l])
          compare(at .. ".attn.probs", probs, want(at .. ".attn.probs"))
          if want "probs" then compare(at .. ".attn.probs", packed(probs, extra), want "probs"[l]) end
          if want "bias_probs" then compare(at .. ", extra key", extra_column(probs), want "bias_probs"[l]) end
          if want "bias_scores" then compare(at .. ", extra score", extra_column(out[at .. ".attn.scores"][0]), want "bias_scores"[l]) end
        end
        assert(n_compared >= 2 * model.n_layers, "hardly anything was compared")
      end
    end)

    it("is not what it would be without", function()
      local config = massact.json.load(folder.path .. "/config.json")
      config.attention_kv_bias, config.norm_type = nil, nil
      local copy = os.tmpname()
      os.remove(copy)
      massact.system.make_folder(copy)
      assert(os.execute(("cp %s/model.safetensors %s/"):format(folder.path, copy)))
      massact.json.save(copy .. "/config.json", config)
      local fine, problem = pcall(massact.load, copy)
      assert.is_false(fine)
      assert.matches("is not a weight of family", problem)
      os.execute("rm -r " .. copy)
    end)
  end)
end

describe("massact.mitigation", function()
  it("takes a user's own, told by its keys in config.json", function()
    massact.mitigation { name = "halved", config = { halved_residual = true }, spec = function() return { residual_scale = 0.5 } end }
    local source = os.getenv "MASSACT_TESTS" .. "/golden/mitigations/gpt2-dyt"
    local config = massact.json.load(source .. "/config.json")
    config.halved_residual = true
    local copy = os.tmpname()
    os.remove(copy)
    massact.system.make_folder(copy)
    assert(os.execute(("cp %s/model.safetensors %s/"):format(source, copy)))
    massact.json.save(copy .. "/config.json", config)
    local status, _, complained = shell.massact(([[-e 'massact.mitigation { name = "halved", config = { halved_residual = true } } massact.load "%s"']]):format(copy))
    assert.same({ 0, "" }, { status, complained }) -- its key is known
    local model, plain = massact.load(copy), massact.load(source)
    assert.equal(0.5, model.spec.residual_scale)
    local seen = { capture = { "layers.0.mid", "layers.0.attn.proj", "layers.0.in" } }
    local half, whole = model:forward({ 1, 2, 3 }, seen), plain:forward({ 1, 2, 3 }, seen)
    local want = whole["layers.0.in"] + whole["layers.0.attn.proj"] * 0.5
    assert((half["layers.0.mid"] - want):abs():max():item() < 1e-6)
    os.execute("rm -r " .. copy)
  end)

  it("names the ones that there are", function()
    local fine, problem = pcall(require("massact.mitigation").named, "tvrr")
    assert.is_false(fine)
    assert.matches("there is no mitigation 'tvrr'; there are dyt, ", problem)
  end)
end)
