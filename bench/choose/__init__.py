"""Which artifact of a model to ship to a device: planned, predicted, made and checked, cheapest first."""
