"""Train a block-causal MambaMoE classifier with uncertainty-guided corrective learning."""
