"""What is not collected where an extra is not installed."""

from importlib.util import find_spec

# Modules are imported to collect their doctests.
collect_ignore = [] if find_spec("torch") else ["plugins/geoae_torch"]
