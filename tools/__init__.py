"""Programs for those who work on bhk; none of them is installed with the package."""
