-- GPT-2's special initialisation (Radford et al. 2019, section 2.3): what writes into the residual stream begins with
-- std / sqrt(2 x layers).
return require("massact.mitigation").mitigation {
  name = "residual_init",
  init = function(slot, how, spec)
    if slot.is_linear and slot.name:find "%.proj%.weight$" then how.std = how.std / math.sqrt(2 * spec.n_layers) end
  end,
}
