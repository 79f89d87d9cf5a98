"""Training a LoRA adapter: token rows, batch order, objective, trainer, estimates, and the run folder."""
