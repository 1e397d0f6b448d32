"""Value in a year: a shop too young to prove it on windows of a year gets BG/NBD x Gamma-Gamma, labelled so."""

from training.spending import spending

VALUE_365 = spending("value_365", days=365, extrapolates=True)
