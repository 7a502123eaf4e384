-- Layer Index Rescaling (Owen et al. 2025, arXiv 2503.17500): linear weights of layer l begin with std / sqrt(l), l from 1.
return require("massact.mitigation").mitigation {
  name = "lir",
  init = function(slot, how) if slot.is_linear then how.std = how.std / math.sqrt(slot.layer + 1) end end,
}
