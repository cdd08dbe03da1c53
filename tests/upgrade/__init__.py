"""A version and the one before it on one schema, as real processes. The version before comes as a wheel, so that no history is needed."""
