"""Running `bhk` in forked processes, and letting their operations fail."""
