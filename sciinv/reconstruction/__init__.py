"""The main job: a scan in, posterior samples in physical units out."""
