"""The bundle: one file that holds a trained classifier and all that the runtime must know of it."""
