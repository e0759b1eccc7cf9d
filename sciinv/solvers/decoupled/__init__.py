"""Decoupled data consistency: denoise, pull to the data, go on."""
