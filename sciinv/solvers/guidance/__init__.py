"""Guidance methods: conditional denoisers and moment-matched transitions."""
