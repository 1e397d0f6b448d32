"""Look-alikes: choose a seed, contrast it, expand it to others who resemble it, and prove that it works."""
