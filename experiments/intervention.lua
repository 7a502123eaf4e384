-- Do massive activations matter?  Owen et al. 2025 (arXiv 2503.22329), section 4: at the output of the first massive
-- layer, set them to zero or to their mean, and see what happens to the perplexity.
local massact = require "massact"
local default = massact.home .. "/experiments/default/"

local opt = massact.options({
  pretrained = { "model", default = default .. "model", help = "Hugging Face folder, .gguf file or hub name" },
  module_name = { "string", default = "layer", help = "layer, or a module inside it: mlp, self_attn" },
  layer_path = { "string", default = "model.layers", help = "where the checkpoint keeps its layers" },
  attn_path = { "string", default = "self_attn", help = "where a layer keeps its attention" },
  show_logits = { "boolean", default = true, help = "kept for the folder's name" },
  dtype = { "dtype", default = "f32", help = "what the model computes in: f32, bf16 or f16 (or torch.bfloat16 ...)" },
  device = { "string", default = "auto", help = "auto or cpu" },
  add_bos_token = { "boolean", default = true, help = "begin every window with BOS" },
  context_length = { "integer", help = "tokens a window; default: the model's limit, at most 4096" },
  sentence = { "string", default = "Summer is warm. Winter is cold.", help = "for the other experiments" },
  save_dir = { "folder", default = "./massactivation_outputs", help = "where results go" },
  seed = { "integer", default = 42, help = "of whatever is drawn at random" },
  data = { "texts", default = { default .. "text.txt" }, help = "evaluation texts, FILE[,FILE...]" },
  calibration_data = { "texts", default = { default .. "calibration.txt" }, help = "texts to find massive activations in" },
  windows = { "integer", default = 0, help = "evaluation windows a text; 0: all" },
  calibration_windows = { "integer", default = 50, help = "windows to find layers, tokens and dims in; 0: all" },
  mean_windows = { "integer", default = 100, help = "windows to take means over; 0: all" },
}, "Perplexity with massive activations set to zero and to their mean.")

local intervention = require "massact.intervention"
local model = intervention.load(opt)
local run = massact.run(model, opt)

local calibration = intervention.calibration_windows(model, opt)
local found, sequences = run:timed("tokens_analysis", intervention.find, run, calibration)
intervention.write_tokens(run, found, sequences, calibration.tokens)

local means = found.first_layer and run:timed("means", intervention.means, run, calibration, sequences, found.dims) or {}
local planned = intervention.plan(found, means)
local results = run:timed("perplexity", intervention.evaluate, run, found, planned)
intervention.write_results(run, found, means, planned, results)
intervention.draw(run, found, sequences, planned, results)
run:finish()
intervention.report(run, found, planned, results)
