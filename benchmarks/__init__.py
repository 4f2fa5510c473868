"""Each measure beside its baseline, as ratios from one run on one machine; README.md explains them."""
