"""Benchmarks of geoae: each figure beside its floor or its peer, in one run of ``python -m benchmarks``."""
