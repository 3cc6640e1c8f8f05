"""Training files of other tools, read into profiles: LLaMA-Factory's and Axolotl's YAML."""
