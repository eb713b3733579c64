"""The stages of the method, one file each, in the order of the pipeline."""
