"""What dbwatch promises about pools, times and leaks, on real databases."""
